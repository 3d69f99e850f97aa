//! Completions that noise gives to other rows, kept in a file while the dataset is written.

use std::{
    collections::HashMap,
    io::{BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use fs_err::File;

use crate::{
    DataError, Message,
    feedback::Feedback,
    raw::{RawGroup, Texts},
};

/// Completions by the index of their row.
pub(crate) struct Donors {
    path: PathBuf,
    file: Mutex<File>,
    places: HashMap<u32, (u64, usize)>,
}

impl Donors {
    /// The completion of a row.
    pub(crate) fn get(&self, row: u32) -> Result<Vec<Message>, DataError> {
        let (place, length) = *self.places.get(&row).ok_or(DataError::InputChanged)?;
        let mut bytes = vec![0; length];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(place))?;
        file.read_exact(&mut bytes)?;
        drop(file);
        Ok(serde_json::from_slice(&bytes).map_err(std::io::Error::from)?)
    }

    /// Removes the file.
    pub(crate) fn remove(self) -> Result<(), DataError> {
        Ok(fs_err::remove_file(self.path)?)
    }
}

/// Takes the rows of a source to keep the completions that are given away.
pub(crate) struct Collecting<'a> {
    feedback: &'a Feedback,
    path: PathBuf,
    file: BufWriter<File>,
    /// Rows whose completion is wanted, in order.
    wanted: Vec<u32>,
    places: HashMap<u32, (u64, usize)>,
    end: u64,
    /// The group that comes next.
    next: usize,
}

impl<'a> Collecting<'a> {
    /// Keeps completions in a file of `folder`.
    pub(crate) fn new(folder: &Path, feedback: &'a Feedback) -> Result<Self, DataError> {
        let mut wanted: Vec<u32> = feedback.donors.iter().map(|(_, donor)| *donor).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let path = folder.join(".completions");
        let file = BufWriter::new(File::create(&path)?);
        Ok(Self { feedback, path, file, wanted, places: HashMap::new(), end: 0, next: 0 })
    }

    /// What was kept.
    pub(crate) fn finish(self) -> Result<Donors, DataError> {
        self.file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        let file = Mutex::new(File::open(&self.path)?);
        Ok(Donors { path: self.path, file, places: self.places })
    }
}

impl Texts for Collecting<'_> {
    fn groups(&mut self, groups: Vec<RawGroup>) -> Result<(), DataError> {
        for group in &groups {
            if self.next >= self.feedback.groups.len() || !self.feedback.fits(self.next, group) {
                return Err(DataError::InputChanged);
            }
            let range = self.feedback.rows_of(self.next);
            let start = self.wanted.partition_point(|row| (*row as usize) < range.start);
            for row in self.wanted[start..].iter().take_while(|row| (**row as usize) < range.end) {
                let completion = self.feedback.rows[*row as usize].completion as usize;
                let bytes = serde_json::to_vec(&group.completions[completion].messages)
                    .map_err(std::io::Error::from)?;
                self.file.write_all(&bytes)?;
                self.places.insert(*row, (self.end, bytes.len()));
                self.end += bytes.len() as u64;
            }
            self.next += 1;
        }
        Ok(())
    }
}
