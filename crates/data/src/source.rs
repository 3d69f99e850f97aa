//! Where raw rows come from. A new source is one file that implements [`Source`] and one arm here and in
//! [`SourceFile`](crate::SourceFile).

use std::path::Path;

use serde::Serialize;

use crate::{DataError, InputFile, hh::Hh, raw::Sink, synthetic::Synthetic};

/// Raw feedback that can be read row by row, any number of times.
pub(crate) trait Source {
    /// Whether the source has a training and a test split of its own.
    fn has_splits(&self) -> bool;
    /// Reads every row in order. `dataset` is the directory being made, for a source that writes what it reads.
    fn read(&self, dataset: &Path, into: &mut dyn Sink) -> Result<(), DataError>;
    /// The files that [`read`](Self::read) reads, once it has read them.
    fn inputs(&self, dataset: &Path) -> Result<Vec<InputFile>, DataError>;
}

/// A source whose inputs have been found and hashed.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ResolvedSource {
    /// Transcripts in the format of Anthropic's HH.
    Hh(Hh),
    /// Generated feedback whose true utility is known.
    Synthetic(Synthetic),
}

impl ResolvedSource {
    pub(crate) fn source(&self) -> &dyn Source {
        match self {
            Self::Hh(hh) => hh,
            Self::Synthetic(synthetic) => synthetic,
        }
    }
}
