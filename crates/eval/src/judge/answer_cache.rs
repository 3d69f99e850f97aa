//! Cache of a judge's answers on disk: of an endpoint, or scores of a reward model.

use std::{
    collections::HashMap,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use fs_err::File;
use prospect_core::files::{fingerprint, open_to_append, write_whole};
use serde::{Deserialize, Serialize};

/// Answers by the hash of the request.
#[derive(Debug)]
pub(super) struct AnswerCache {
    known: Mutex<(HashMap<String, String>, File)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CachedAnswer {
    question: String,
    answer: String,
    /// Hash of both. Answers of earlier versions have none.
    #[serde(default)]
    hash: Option<String>,
}

impl CachedAnswer {
    fn new(question: String, answer: String) -> std::io::Result<Self> {
        let hash = Some(fingerprint(&(&question, &answer))?);
        Ok(Self { question, answer, hash })
    }

    /// Parses a line; None if it is damaged or incomplete.
    fn parse(line: &[u8]) -> Option<Self> {
        let found: Self = serde_json::from_slice(line).ok()?;
        match &found.hash {
            Some(hash) if *hash != fingerprint(&(&found.question, &found.answer)).ok()? => None,
            _ => Some(found),
        }
    }
}

/// Folder of a sweep with the answers of endpoints, a file for each model.
const ANSWERS: &str = "judges";

/// Folder beside sweeps with the scores of reward models, a file for each model.
const SCORES: &str = ".rewards";

/// File of an endpoint's answers in a sweep's directory. `model` may have any characters.
pub fn answers_file(sweep: &Path, model: &str) -> PathBuf {
    let portable = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    sweep.join(ANSWERS).join(format!("{}.jsonl", model.chars().map(portable).collect::<String>()))
}

/// File of a reward model's scores, shared by all sweeps in the folder `sweeps`.
pub(super) fn scores_file(sweeps: &Path, fingerprint: &str) -> PathBuf {
    sweeps.join(SCORES).join(format!("{fingerprint}.jsonl"))
}

/// Whether this is a file of answers in the directory of a `sweep`, or of scores, by its name.
#[must_use]
pub fn is_answers_file(path: &Path, sweep: Option<&Path>) -> bool {
    let Some(folder) = path.parent() else { return false };
    let is_known = folder.ends_with(SCORES) || sweep.is_some_and(|sweep| folder == sweep.join(ANSWERS));
    is_known && path.extension().is_some_and(|extension| extension == "jsonl")
}

/// Describes the damaged and incomplete lines of a file of answers; None if all are intact.
pub fn damaged_answers(path: &Path) -> std::io::Result<Option<String>> {
    let bytes = fs_err::read(path)?;
    let damaged: Vec<usize> = lines(&bytes)
        .filter(|(_, line)| CachedAnswer::parse(line).is_none())
        .map(|(number, _)| number)
        .collect();
    Ok(damaged.first().map(|first| {
        let answers = if damaged.len() == 1 { "answer is" } else { "answers are" };
        format!("{} {answers} damaged or incomplete, the first in line {first}", damaged.len())
    }))
}

/// Removes damaged and incomplete lines from a file of answers, which no process may be using.
pub fn remove_damaged_answers(path: &Path) -> std::io::Result<()> {
    let bytes = fs_err::read(path)?;
    let intact = lines(&bytes).filter(|(_, line)| CachedAnswer::parse(line).is_some());
    write_whole(path, |file| {
        intact.into_iter().try_for_each(|(_, line)| file.write_all(&[line, b"\n"].concat()))
    })
}

/// Lists the lines that are not empty with their numbers, from 1.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    lines.filter(|(_, line)| !line.is_empty()).map(|(index, line)| (index + 1, line))
}

impl AnswerCache {
    /// Opens the cache file at `path`, and creates it if it does not exist. Damaged and incomplete
    /// lines are reported and left out, so these answers are requested again.
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let mut file = open_to_append(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut known = HashMap::new();
        let mut damaged = Vec::new();
        for (number, line) in lines(&bytes) {
            match CachedAnswer::parse(line) {
                Some(CachedAnswer { question, answer, .. }) => {
                    known.insert(question, answer);
                }
                None => damaged.push(number),
            }
        }
        if let Some(first) = damaged.first() {
            tracing::warn!(
                "{}:{first}: damaged or incomplete; {} stored answers of the judge are requested again if needed",
                path.display(),
                damaged.len()
            );
        }
        if bytes.last().is_some_and(|last| *last != b'\n') {
            file.write_all(b"\n")?;
        }
        Ok(Self { known: Mutex::new((known, file)) })
    }

    /// Returns the answer to the request with this hash.
    pub(super) fn get(&self, question: &str) -> Option<String> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).0.get(question).cloned()
    }

    /// Stores an answer; it is on disk when this returns.
    pub(super) fn put(&self, question: String, answer: String) -> std::io::Result<()> {
        let line = CachedAnswer::new(question, answer)?;
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        let (known, file) = &mut *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&text)?;
        known.insert(line.question, line.answer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_line_loses_one_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers.jsonl");
        let answers = AnswerCache::open(&path).unwrap();
        answers.put("a".to_owned(), "Response 1".to_owned()).unwrap();
        answers.put("b".to_owned(), "Response 2".to_owned()).unwrap();
        drop(answers);
        let text = fs_err::read(&path).unwrap();
        fs_err::write(&path, &text[..text.len() - 5]).unwrap();
        let answers = AnswerCache::open(&path).unwrap();
        assert_eq!(answers.get("a").as_deref(), Some("Response 1"));
        assert_eq!(answers.get("b"), None);
        answers.put("b".to_owned(), "2".to_owned()).unwrap();
        drop(answers);
        assert_eq!(AnswerCache::open(&path).unwrap().get("b").as_deref(), Some("2"));
    }

    #[test]
    fn a_changed_byte_loses_answers_but_changes_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers.jsonl");
        let expected = [("a", "Response 1"), ("b", "Response 2")];
        let answers = AnswerCache::open(&path).unwrap();
        for (question, answer) in expected {
            answers.put(question.to_owned(), answer.to_owned()).unwrap();
        }
        drop(answers);
        let whole = fs_err::read(&path).unwrap();
        // Without its last byte, the line is still whole.
        assert_eq!(damaged_answers(&path).unwrap(), None);
        for (position, damaged) in prospect_testkit::flipped(&whole[..whole.len() - 1], whole.len()) {
            fs_err::write(&path, &damaged).unwrap();
            assert!(damaged_answers(&path).unwrap().is_some(), "byte {position}");
            remove_damaged_answers(&path).unwrap();
            assert_eq!(damaged_answers(&path).unwrap(), None, "byte {position}");
            let repaired = AnswerCache::open(&path).unwrap();
            fs_err::write(&path, damaged).unwrap();
            let answers = AnswerCache::open(&path).unwrap();
            let found = expected.map(|(question, _)| answers.get(question));
            assert_eq!(found, expected.map(|(question, _)| repaired.get(question)));
            assert!(found.iter().any(Option::is_none), "byte {position}");
            for (found, (_, expected)) in found.iter().zip(expected) {
                assert!(found.as_deref().is_none_or(|found| found == expected), "byte {position}");
            }
            answers.put("c".to_owned(), "3".to_owned()).unwrap();
            drop(answers);
            assert_eq!(AnswerCache::open(&path).unwrap().get("c").as_deref(), Some("3"), "byte {position}");
        }
        fs_err::write(&path, "{\"question\": \"a\", \"answer\": \"of an earlier version\"}").unwrap();
        let answers = AnswerCache::open(&path).unwrap();
        assert_eq!(answers.get("a").as_deref(), Some("of an earlier version"));
        answers.put("b".to_owned(), "2".to_owned()).unwrap();
        drop(answers);
        assert_eq!(AnswerCache::open(&path).unwrap().get("b").as_deref(), Some("2"));
    }
}
