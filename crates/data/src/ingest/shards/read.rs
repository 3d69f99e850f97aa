//! Shards read back, block after block in the order of the records.

use std::{
    io::{BufReader, Read, Write},
    path::{Path, PathBuf},
};

use fs_err::File;
use serde::de::DeserializeOwned;

use super::{Header, Place};
use crate::{
    DataError,
    raw::{GroupBlocks, RawGroup},
    survey::Survey,
};

/// The blocks of all shards in the order of their records.
pub(crate) struct InOrder {
    pub(super) readers: Vec<Reader>,
}

impl InOrder {
    /// The shard that has the next block of a source.
    fn next(&mut self, source: usize) -> Option<&mut Reader> {
        let of_source = |reader: &&mut Reader| reader.next.is_some_and(|place| place.source == source);
        self.readers.iter_mut().filter(of_source).min_by_key(|reader| reader.next)
    }

    /// What was found in the records of a source.
    pub(crate) fn survey<W: Write>(&mut self, source: usize, into: &mut Survey<W>) -> Result<(), DataError> {
        while let Some(reader) = self.next(source) {
            let found: Survey<Vec<u8>> = reader.compressed()?;
            reader.skip()?;
            reader.advance()?;
            into.reading.append(&found.reading)?;
            into.feedback.append(found.feedback)?;
        }
        Ok(())
    }

    /// The groups of a source.
    pub(crate) fn groups(&mut self, source: usize, into: &mut GroupBlocks<'_>) -> Result<(), DataError> {
        while let Some(reader) = self.next(source) {
            reader.skip()?;
            let groups: Vec<RawGroup> = reader.compressed()?;
            reader.advance()?;
            into.add(groups)?;
        }
        Ok(())
    }
}

/// One shard while it is read.
pub(super) struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    /// Bytes from here to the end.
    left: u64,
    next: Option<Place>,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<(Header, Self), DataError> {
        let file = File::open(path)?;
        let left = file.metadata()?.len();
        let mut reader = Self { path: path.to_owned(), file: BufReader::new(file), left, next: None };
        let bytes = reader.part()?;
        let header = reader.decode(&bytes)?;
        reader.advance()?;
        Ok((header, reader))
    }

    fn damaged(&self) -> DataError {
        DataError::Shard(self.path.clone())
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, DataError> {
        postcard::from_bytes(bytes).map_err(|_| self.damaged())
    }

    /// Finds the next block.
    fn advance(&mut self) -> Result<(), DataError> {
        self.next = if self.left == 0 {
            None
        } else {
            let bytes = self.part()?;
            Some(self.decode(&bytes)?)
        };
        Ok(())
    }

    fn length(&mut self) -> Result<u64, DataError> {
        let mut length = [0; 8];
        let left = self.left.checked_sub(8).ok_or_else(|| self.damaged())?;
        self.file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        self.left = left.checked_sub(length).ok_or_else(|| self.damaged())?;
        Ok(length)
    }

    fn part(&mut self) -> Result<Vec<u8>, DataError> {
        let mut bytes = vec![0; self.length()? as usize];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self) -> Result<(), DataError> {
        let length = self.length()?;
        // Within the buffer where possible.
        Ok(self.file.seek_relative(length.cast_signed())?)
    }

    fn compressed<T: DeserializeOwned>(&mut self) -> Result<T, DataError> {
        let bytes = self.part()?;
        let bytes = zstd::decode_all(bytes.as_slice()).map_err(|_| self.damaged())?;
        self.decode(&bytes)
    }
}
