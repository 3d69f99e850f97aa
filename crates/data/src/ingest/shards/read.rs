//! Reading shards: their blocks, in the order of the records.

use std::{
    io::{BufReader, Read, Write},
    path::{Path, PathBuf},
};

use fs_err::File;
use prospect_core::checksums::record_hash;
use serde::de::DeserializeOwned;

use super::{BlockPosition, ShardHeader};
use crate::{
    DataError,
    ingest::{blocks::GroupBlocks, first_pass::FirstPass, raw::RawGroup},
};

/// Blocks of all shards in the order of their records.
pub(crate) struct OrderedBlocks {
    pub(super) readers: Vec<ShardReader>,
}

impl OrderedBlocks {
    /// Returns the shard with the next block of a source.
    fn next(&mut self, source: usize) -> Option<&mut ShardReader> {
        let has_source =
            |reader: &&mut ShardReader| reader.next.is_some_and(|position| position.source == source);
        self.readers.iter_mut().filter(has_source).min_by_key(|reader| reader.next)
    }

    /// Appends the first-pass result of a source.
    pub(crate) fn first_pass<W: Write>(
        &mut self,
        source: usize,
        into: &mut FirstPass<W>,
    ) -> Result<(), DataError> {
        while let Some(reader) = self.next(source) {
            let block: FirstPass<Vec<u8>> = reader.compressed()?;
            reader.skip()?;
            reader.advance()?;
            into.tally.append(&block.tally)?;
            into.feedback.append(block.feedback)?;
        }
        Ok(())
    }

    /// Reads the groups of a source.
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

/// Reader of one shard.
pub(super) struct ShardReader {
    path: PathBuf,
    file: BufReader<File>,
    /// Bytes that remain to be read.
    left: u64,
    /// Position of the next block; None at the end.
    next: Option<BlockPosition>,
}

impl ShardReader {
    pub(super) fn open(path: &Path) -> Result<(ShardHeader, Self), DataError> {
        let file = File::open(path)?;
        let left = file.metadata()?.len();
        let mut reader = Self { path: path.to_owned(), file: BufReader::new(file), left, next: None };
        let bytes = reader.chunk()?;
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

    /// Reads the position of the next block.
    fn advance(&mut self) -> Result<(), DataError> {
        let bytes = self.chunk()?;
        self.next = self.decode(&bytes)?;
        if self.next.is_none() && self.left > 0 { Err(self.damaged()) } else { Ok(()) }
    }

    /// Reads the length of the next chunk. Its content and hash must be read or skipped next.
    fn chunk_length(&mut self) -> Result<u64, DataError> {
        let mut length = [0; 8];
        let left = self.left.checked_sub(2 * 8).ok_or_else(|| self.damaged())?;
        self.file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        self.left = left.checked_sub(length).ok_or_else(|| self.damaged())?;
        Ok(length)
    }

    /// Reads and checks the next chunk, and returns its content.
    fn chunk(&mut self) -> Result<Vec<u8>, DataError> {
        let length = self.chunk_length()?;
        let mut bytes = vec![0; 8 + length as usize];
        let (start, content) = bytes.split_at_mut(8);
        start.copy_from_slice(&length.to_le_bytes());
        self.file.read_exact(content)?;
        let mut hash = [0; 8];
        self.file.read_exact(&mut hash)?;
        if hash != record_hash(&bytes) {
            return Err(self.damaged());
        }
        Ok(bytes.split_off(8))
    }

    fn skip(&mut self) -> Result<(), DataError> {
        let length = self.chunk_length()?;
        // Unlike `seek`, this keeps the buffer where possible.
        Ok(self.file.seek_relative(length.cast_signed() + 8)?)
    }

    fn compressed<T: DeserializeOwned>(&mut self) -> Result<T, DataError> {
        let bytes = self.chunk()?;
        let bytes = zstd::decode_all(bytes.as_slice()).map_err(|_| self.damaged())?;
        self.decode(&bytes)
    }
}
