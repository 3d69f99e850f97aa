//! Writing a shard: a first pass over part of the input.

use std::{
    io::{BufWriter, Write},
    path::Path,
};

use fs_err::File;
use prospect_core::{checksums::record_hash, files::write_whole_at, progress::Progress};
use serde::Serialize;

use super::{BlockPosition, ShardHeader, shard_file};
use crate::{
    DataError,
    ingest::{
        first_pass::FirstPass,
        raw::{RawRow, Remark, RowSink},
        rejections::ReadingCounts,
        shard::{BLOCK_RECORDS, Shard},
        sources::ResolvedSources,
    },
};

/// Reads one shard of the sources and writes the result next to the dataset. Generated sources are
/// left out: generating them again is cheaper than storing them.
pub(crate) fn write_shard(
    header: &ShardHeader,
    sources: &ResolvedSources,
    first_pass: FirstPass<Vec<u8>>,
    dataset: &Path,
    shard: Shard,
) -> Result<ReadingCounts, DataError> {
    write_whole_at(&shard_file(dataset, shard), |temporary| {
        let mut writer = ShardWriter {
            file: BufWriter::new(File::create(temporary)?),
            shard,
            position: BlockPosition { source: 0, block: 0 },
            pending: Vec::new(),
            first_pass,
            counts: ReadingCounts::default(),
            progress: Progress::open_ended("reading", "rows"),
        };
        write_chunk(&mut writer.file, &encode(&header)?)?;
        for (index, source) in sources.as_slice().iter().enumerate() {
            if !source.is_generated() {
                writer.position = BlockPosition { source: index, block: shard.index() };
                source.read(dataset, shard, &mut writer)?;
                writer.finish_source()?;
            }
        }
        write_chunk(&mut writer.file, &encode(&None::<BlockPosition>)?)?;
        writer.file.flush()?;
        Ok(writer.counts)
    })
}

/// Writes the rows of a shard in blocks.
struct ShardWriter {
    file: BufWriter<File>,
    shard: Shard,
    /// Position of the current block.
    position: BlockPosition,
    /// Rows of the current block.
    pending: Vec<RawRow>,
    first_pass: FirstPass<Vec<u8>>,
    counts: ReadingCounts,
    progress: Progress,
}

impl ShardWriter {
    fn write_block(&mut self, rows: Vec<RawRow>) -> Result<(), DataError> {
        let read = rows.len() as u64;
        let groups = self.first_pass.take(rows)?;
        let block = self.first_pass.split_off();
        self.counts.add(&block.tally.counts);
        write_chunk(&mut self.file, &encode(&Some(self.position))?)?;
        write_chunk(&mut self.file, &compress(&block)?)?;
        write_chunk(&mut self.file, &compress(&groups)?)?;
        self.position.block += self.shard.count();
        self.progress.advance(read, "");
        Ok(())
    }

    /// Writes the last, partial block of a source.
    fn finish_source(&mut self) -> Result<(), DataError> {
        let rows = std::mem::take(&mut self.pending);
        if rows.is_empty() && self.first_pass.tally.counts == ReadingCounts::default() {
            return Ok(());
        }
        self.write_block(rows)
    }
}

impl RowSink for ShardWriter {
    fn rows(&mut self, rows: Vec<RawRow>) -> Result<(), DataError> {
        self.pending.extend(rows);
        while self.pending.len() >= BLOCK_RECORDS as usize {
            let rest = self.pending.split_off(BLOCK_RECORDS as usize);
            let rows = std::mem::replace(&mut self.pending, rest);
            self.write_block(rows)?;
        }
        Ok(())
    }

    fn remark(&mut self, remark: Remark, times: u64) {
        self.first_pass.tally.remark(remark, times);
    }
}

fn encode(value: &impl Serialize) -> std::io::Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(std::io::Error::other)
}

fn compress(value: &impl Serialize) -> std::io::Result<Vec<u8>> {
    zstd::encode_all(encode(value)?.as_slice(), 1)
}

fn write_chunk(file: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    let chunk = [&(bytes.len() as u64).to_le_bytes(), bytes].concat();
    file.write_all(&chunk)?;
    file.write_all(&record_hash(&chunk))
}
