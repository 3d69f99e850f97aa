//! One shard of an input, read and written.

use std::{
    io::{BufWriter, Write},
    path::Path,
};

use fs_err::File;
use prospect_core::{files::write_whole_at, progress::Progress};
use serde::Serialize;

use super::{Place, header, shard_file};
use crate::{
    DataError, Pipeline, ReadingCounts, Shard,
    raw::{RawRow, Remark, Sink},
    shard::BLOCK,
    survey::Survey,
};

/// Reads one shard of the input and keeps what it finds beside the dataset to be.
pub fn prepare_shard(pipeline: &Pipeline, dataset: &Path, shard: Shard) -> Result<ReadingCounts, DataError> {
    let (header, measure) = (header(pipeline, shard)?, pipeline.measure()?);
    write_whole_at(&shard_file(dataset, shard), |aside| {
        let mut saving = Saving {
            file: BufWriter::new(File::create(aside)?),
            shard,
            place: Place { source: 0, block: 0 },
            pending: Vec::new(),
            survey: Survey::new(Vec::new(), pipeline.strict, measure),
            counts: ReadingCounts::default(),
            progress: Progress::open_ended("reading", "rows"),
        };
        write_part(&mut saving.file, &encode(&header)?)?;
        for (index, source) in pipeline.source.as_slice().iter().enumerate() {
            if !source.is_generated() {
                saving.place = Place { source: index, block: shard.place().0 };
                source.read(dataset, shard, &mut saving)?;
                saving.end()?;
            }
        }
        saving.file.flush()?;
        Ok(saving.counts)
    })
}

/// Takes the rows of a shard and writes them in blocks.
struct Saving {
    file: BufWriter<File>,
    shard: Shard,
    /// Of the block at hand.
    place: Place,
    pending: Vec<RawRow>,
    survey: Survey<Vec<u8>>,
    counts: ReadingCounts,
    progress: Progress,
}

impl Saving {
    fn block(&mut self, rows: Vec<RawRow>) -> Result<(), DataError> {
        let read = rows.len() as u64;
        let groups = self.survey.take(rows)?;
        let found = self.survey.split_off();
        self.counts.add(&found.reading.counts);
        write_part(&mut self.file, &encode(&self.place)?)?;
        write_part(&mut self.file, &compress(&found)?)?;
        write_part(&mut self.file, &compress(&groups)?)?;
        self.place.block += self.shard.place().1;
        self.progress.advance(read, "");
        Ok(())
    }

    /// Writes what is left of a source.
    fn end(&mut self) -> Result<(), DataError> {
        let rows = std::mem::take(&mut self.pending);
        if rows.is_empty() && self.survey.reading.counts == ReadingCounts::default() {
            return Ok(());
        }
        self.block(rows)
    }
}

impl Sink for Saving {
    fn rows(&mut self, rows: Vec<RawRow>) -> Result<(), DataError> {
        self.pending.extend(rows);
        while self.pending.len() >= BLOCK as usize {
            let rest = self.pending.split_off(BLOCK as usize);
            let rows = std::mem::replace(&mut self.pending, rest);
            self.block(rows)?;
        }
        Ok(())
    }

    fn remark(&mut self, remark: Remark, times: u64) {
        self.survey.reading.remark(remark, times);
    }
}

fn encode(value: &impl Serialize) -> std::io::Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(std::io::Error::other)
}

fn compress(value: &impl Serialize) -> std::io::Result<Vec<u8>> {
    zstd::encode_all(encode(value)?.as_slice(), 1)
}

fn write_part(file: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    file.write_all(&(bytes.len() as u64).to_le_bytes())?;
    file.write_all(bytes)
}
