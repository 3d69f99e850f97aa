//! Lengths that an Arrow file claims, checked before a library allocates memory for them.
//!
//! Irregularities of any other kind are left to the library, which reports them.

use std::{
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use arrow_ipc::{reader::read_footer_length, root_as_footer, root_as_message};
use fs_err::File;

use super::arrow::damaged;
use crate::DataError;

/// Largest ratio of a buffer to its compressed form. Zstandard writes 128 KiB of one byte as four
/// bytes.
const MAX_RATIO: u64 = 1 << 16;

/// Bytes before a message: a mark, and the length of its metadata.
const PREFIX: u64 = 8;

/// Position of a message: its metadata with their prefix, and the body behind them.
struct Block {
    start: u64,
    metadata: u64,
    body: u64,
}

/// A file, and the errors of its claims.
struct Claims<'a> {
    path: &'a Path,
    file: BufReader<File>,
    length: u64,
}

impl Claims<'_> {
    fn open(path: &Path) -> Result<Claims<'_>, DataError> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Claims { path, file: BufReader::new(file), length })
    }

    /// Reads a part of the file; None if it is not there.
    fn read(&mut self, start: u64, length: u64) -> Result<Option<Vec<u8>>, DataError> {
        if start.checked_add(length).is_none_or(|end| end > self.length) {
            return Ok(None);
        }
        self.file.seek(SeekFrom::Start(start))?;
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Checks a message, and that it lies within the file.
    fn check(&mut self, block: &Block) -> Result<(), DataError> {
        let Block { start, metadata, body } = *block;
        let end = start.checked_add(metadata).and_then(|body_start| body_start.checked_add(body));
        let within = end.is_some_and(|end| end <= self.length) && metadata >= PREFIX;
        let Some(bytes) = (if within { self.read(start + PREFIX, metadata - PREFIX)? } else { None }) else {
            return Err(damaged(self.path));
        };
        let Ok(message) = root_as_message(&bytes) else { return Ok(()) };
        let dictionary = || message.header_as_dictionary_batch()?.data();
        let Some(batch) = message.header_as_record_batch().or_else(dictionary) else { return Ok(()) };
        if batch.compression().is_none() {
            return Ok(());
        }
        for buffer in batch.buffers().into_iter().flatten() {
            let (offset, length) = (buffer.offset() as u64, buffer.length() as u64);
            if length < 8 {
                continue;
            }
            let claim = match offset.checked_add(length).filter(|end| *end <= body) {
                Some(_) => self.read(start + metadata + offset, 8)?,
                None => None,
            };
            let claim = claim.and_then(|bytes| Some(i64::from_le_bytes(bytes.try_into().ok()?)));
            // −1 stands for a buffer that is not compressed.
            let most = length.saturating_mul(MAX_RATIO);
            if claim.is_none_or(|claim| claim < -1 || (claim > 0 && claim as u64 > most)) {
                return Err(damaged(self.path));
            }
        }
        Ok(())
    }
}

/// Checks the messages that the footer of a file lists.
pub(super) fn check_file(path: &Path) -> Result<(), DataError> {
    let mut claims = Claims::open(path)?;
    let Some(tail) = claims.length.checked_sub(10) else { return Ok(()) };
    let Some(Ok(end)) = claims.read(tail, 10)?.map(TryInto::try_into) else { return Ok(()) };
    let Ok(length) = read_footer_length(end) else { return Ok(()) };
    let Some(start) = tail.checked_sub(length as u64) else { return Err(damaged(path)) };
    let Some(bytes) = claims.read(start, length as u64)? else { return Ok(()) };
    let Ok(footer) = root_as_footer(&bytes) else { return Ok(()) };
    let blocks =
        footer.dictionaries().into_iter().flatten().chain(footer.recordBatches().into_iter().flatten());
    for block in blocks {
        // Negative numbers become huge.
        let (start, metadata, body) =
            (block.offset() as u64, i64::from(block.metaDataLength()) as u64, block.bodyLength() as u64);
        claims.check(&Block { start, metadata, body })?;
    }
    Ok(())
}

/// Checks the messages of a stream, one after the other.
pub(super) fn check_stream(path: &Path) -> Result<(), DataError> {
    let mut claims = Claims::open(path)?;
    let mut start = 0;
    while let Some(prefix) = claims.read(start, PREFIX)? {
        let (mark, length) = prefix.split_at(4);
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
        // Streams of versions before 0.15 have no mark, and no compression.
        if mark != [0xff; 4] || length == 0 {
            break;
        }
        let metadata = PREFIX + u64::from(length);
        let Some(bytes) = claims.read(start + PREFIX, u64::from(length))? else { break };
        let Ok(message) = root_as_message(&bytes) else { break };
        let block = Block { start, metadata, body: message.bodyLength() as u64 };
        claims.check(&block)?;
        start += block.metadata + block.body;
    }
    Ok(())
}
