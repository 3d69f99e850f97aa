//! Input of a preparation: sources, or shards that were read from them.

use std::{io::BufWriter, path::Path};

use fs_err::File;

use crate::{
    DataError,
    ingest::{
        blocks::{GroupBlocks, RowBlocks},
        first_pass::FirstPass,
        sources::ResolvedSources,
    },
};

/// Feedback that can be read twice: first to decide which rows stay, then to write them. Both
/// passes give the same groups in the same order. `dataset` is the directory in preparation.
pub(super) trait FeedbackInput {
    fn first_pass(&self, dataset: &Path, into: &mut FirstPass<BufWriter<File>>) -> Result<(), DataError>;
    fn groups(&self, dataset: &Path, into: &mut GroupBlocks<'_>) -> Result<(), DataError>;
}

impl FeedbackInput for ResolvedSources {
    fn first_pass(&self, dataset: &Path, into: &mut FirstPass<BufWriter<File>>) -> Result<(), DataError> {
        let mut blocks = RowBlocks::new(into);
        self.read(dataset, &mut blocks)?;
        blocks.finish()
    }

    fn groups(&self, dataset: &Path, into: &mut GroupBlocks<'_>) -> Result<(), DataError> {
        self.read(dataset, into)
    }
}
