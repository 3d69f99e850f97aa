//! Cache of an endpoint's answers on disk.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    sync::{Mutex, PoisonError},
};

use fs_err::{File, OpenOptions};
use serde::{Deserialize, Serialize};

/// Answers by the hash of the request.
#[derive(Debug)]
pub(super) struct AnswerCache {
    known: Mutex<(HashMap<String, String>, File)>,
}

#[derive(Serialize, Deserialize)]
struct CachedAnswer {
    question: String,
    answer: String,
}

impl AnswerCache {
    /// Opens the cache file at `path`, and creates it if it does not exist. An incomplete last line
    /// is ignored and terminated.
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let mut known = HashMap::new();
        let mut is_terminated = true;
        for line in BufReader::new(&mut file).split(b'\n') {
            match serde_json::from_slice(&line?) {
                Ok(CachedAnswer { question, answer }) => {
                    known.insert(question, answer);
                    is_terminated = true;
                }
                Err(_) => is_terminated = false,
            }
        }
        if !is_terminated {
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
        let line = CachedAnswer { question, answer };
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
}
