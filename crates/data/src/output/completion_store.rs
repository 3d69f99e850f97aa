//! Completions that shuffle noise assigns to other rows, in a temporary file.

use std::{
    collections::HashMap,
    io::{BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use fs_err::File;

use crate::{
    DataError, Message,
    ingest::{
        digest::matches_table,
        raw::{GroupSink, RawGroup},
    },
    table::feedback::Feedback,
};

/// Bytes of a completion within the file.
#[derive(Debug, Clone, Copy)]
struct FileRange {
    start: u64,
    length: usize,
}

/// Completions by row index.
pub(crate) struct CompletionStore {
    path: PathBuf,
    file: Mutex<File>,
    ranges: HashMap<u32, FileRange>,
}

impl CompletionStore {
    /// Reads the completion of a row.
    pub(crate) fn get(&self, row: u32) -> Result<Vec<Message>, DataError> {
        let FileRange { start, length } = *self.ranges.get(&row).ok_or(DataError::InputChanged)?;
        let mut bytes = vec![0; length];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut bytes)?;
        drop(file);
        Ok(serde_json::from_slice(&bytes).map_err(std::io::Error::from)?)
    }

    /// Removes the file.
    pub(crate) fn remove(self) -> Result<(), DataError> {
        Ok(fs_err::remove_file(self.path)?)
    }
}

/// Collects the completions of all donor rows in a pass over the input.
pub(crate) struct CompletionCollector<'a> {
    feedback: &'a Feedback,
    path: PathBuf,
    file: BufWriter<File>,
    /// Donor rows, sorted.
    wanted: Vec<u32>,
    ranges: HashMap<u32, FileRange>,
    /// Bytes written so far.
    end: u64,
    /// Index of the next group.
    next: usize,
}

impl<'a> CompletionCollector<'a> {
    /// Creates the file in `folder`.
    pub(crate) fn new(folder: &Path, feedback: &'a Feedback) -> Result<Self, DataError> {
        let mut wanted: Vec<u32> = feedback.donors.iter().map(|(_, donor)| *donor).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let path = folder.join(".completions");
        let file = BufWriter::new(File::create(&path)?);
        Ok(Self { feedback, path, file, wanted, ranges: HashMap::new(), end: 0, next: 0 })
    }

    /// Flushes the file and opens it for reading.
    pub(crate) fn finish(self) -> Result<CompletionStore, DataError> {
        self.file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        let file = Mutex::new(File::open(&self.path)?);
        Ok(CompletionStore { path: self.path, file, ranges: self.ranges })
    }
}

impl GroupSink for CompletionCollector<'_> {
    fn groups(&mut self, groups: Vec<RawGroup>) -> Result<(), DataError> {
        for group in &groups {
            if self.next >= self.feedback.groups.len() || !matches_table(self.feedback, self.next, group) {
                return Err(DataError::InputChanged);
            }
            let range = self.feedback.group_rows(self.next);
            let start = self.wanted.partition_point(|row| (*row as usize) < range.start);
            for row in self.wanted[start..].iter().take_while(|row| (**row as usize) < range.end) {
                let completion = self.feedback.rows[*row as usize].completion as usize;
                let bytes = serde_json::to_vec(&group.completions[completion].messages)
                    .map_err(std::io::Error::from)?;
                self.file.write_all(&bytes)?;
                self.ranges.insert(*row, FileRange { start: self.end, length: bytes.len() });
                self.end += bytes.len() as u64;
            }
            self.next += 1;
        }
        Ok(())
    }
}
