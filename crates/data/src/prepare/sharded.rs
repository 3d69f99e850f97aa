//! Preparation by several processes: each reads a shard of the input, and one merges the shards.

use std::{io::BufWriter, path::Path};

use fs_err::File;

use crate::{
    DataError, Pipeline, ReadingCounts, Shard,
    ingest::{
        blocks::GroupBlocks,
        first_pass::FirstPass,
        shards::{ShardHeader, ShardSet, shard_file, write_shard},
        sources::ResolvedSources,
    },
    prepare::input::FeedbackInput,
};

/// Reads one shard of the input and writes the result to [`shard_file`].
pub fn prepare_shard(pipeline: &Pipeline, dataset: &Path, shard: Shard) -> Result<ReadingCounts, DataError> {
    let header = ShardHeader::new(&pipeline.fingerprint()?, shard);
    let first_pass = FirstPass::new(Vec::new(), pipeline.strict, pipeline.digest_options()?);
    write_shard(&header, &pipeline.source, first_pass, dataset, shard)
}

/// Returns whether the shard of this recipe and these inputs exists.
pub fn is_shard_prepared(pipeline: &Pipeline, dataset: &Path, shard: Shard) -> Result<bool, DataError> {
    let header = ShardHeader::new(&pipeline.fingerprint()?, shard);
    Ok(header.matches_file(&shard_file(dataset, shard)))
}

/// Shards in place of the sources that they were read from. Generated sources are read again.
pub(super) struct ShardedInput<'a> {
    sources: &'a ResolvedSources,
    shards: ShardSet,
}

impl<'a> ShardedInput<'a> {
    /// Finds the shards next to the dataset `out`.
    pub(super) fn find(pipeline: &'a Pipeline, out: &Path) -> Result<Self, DataError> {
        Ok(Self { sources: &pipeline.source, shards: ShardSet::find(&pipeline.fingerprint()?, out)? })
    }
}

impl FeedbackInput for ShardedInput<'_> {
    fn first_pass(&self, dataset: &Path, into: &mut FirstPass<BufWriter<File>>) -> Result<(), DataError> {
        let mut blocks = self.shards.open()?;
        self.sources.as_slice().iter().enumerate().try_for_each(|(index, source)| {
            if source.is_generated() {
                source.read(dataset, Shard::WHOLE, into)
            } else {
                blocks.first_pass(index, into)
            }
        })
    }

    fn groups(&self, dataset: &Path, into: &mut GroupBlocks<'_>) -> Result<(), DataError> {
        let mut blocks = self.shards.open()?;
        self.sources.as_slice().iter().enumerate().try_for_each(|(index, source)| {
            if source.is_generated() {
                source.read(dataset, Shard::WHOLE, into)
            } else {
                blocks.groups(index, into)
            }
        })
    }
}
