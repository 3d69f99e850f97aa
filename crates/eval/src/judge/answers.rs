//! Answers that have been paid for, on disk.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    sync::{Mutex, PoisonError},
};

use fs_err::{File, OpenOptions};
use serde::{Deserialize, Serialize};

/// Answers by the hash of all that they depend on.
#[derive(Debug)]
pub(super) struct Answers {
    known: Mutex<(HashMap<String, String>, File)>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    question: String,
    answer: String,
}

impl Answers {
    /// The answers in a file, which need not exist. A last line that was cut short is left out and mended.
    pub(super) fn at(path: &Path) -> std::io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let mut known = HashMap::new();
        let mut whole = true;
        for line in BufReader::new(&mut file).split(b'\n') {
            match serde_json::from_slice(&line?) {
                Ok(Line { question, answer }) => {
                    known.insert(question, answer);
                    whole = true;
                }
                Err(_) => whole = false,
            }
        }
        if !whole {
            file.write_all(b"\n")?;
        }
        Ok(Self { known: Mutex::new((known, file)) })
    }

    /// The answer to the question of this hash.
    pub(super) fn get(&self, question: &str) -> Option<String> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).0.get(question).cloned()
    }

    /// Keeps an answer, on disk before this returns.
    pub(super) fn put(&self, question: String, answer: String) -> std::io::Result<()> {
        let line = Line { question, answer };
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
    fn a_cut_line_costs_one_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers.jsonl");
        let answers = Answers::at(&path).unwrap();
        answers.put("a".to_owned(), "Response 1".to_owned()).unwrap();
        answers.put("b".to_owned(), "Response 2".to_owned()).unwrap();
        drop(answers);
        let text = fs_err::read(&path).unwrap();
        fs_err::write(&path, &text[..text.len() - 5]).unwrap();
        let answers = Answers::at(&path).unwrap();
        assert_eq!(answers.get("a").as_deref(), Some("Response 1"));
        assert_eq!(answers.get("b"), None);
        answers.put("b".to_owned(), "2".to_owned()).unwrap();
        drop(answers);
        assert_eq!(Answers::at(&path).unwrap().get("b").as_deref(), Some("2"));
    }
}
