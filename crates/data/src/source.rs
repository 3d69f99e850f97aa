//! Where raw rows come from. A new source is one file that implements [`Source`] and one arm here and in
//! [`SourceFile`](crate::SourceFile).

use std::path::Path;

use serde::Serialize;

use crate::{DataError, hh::Hh, reading::Reading, synthetic::Synthetic};

/// Raw feedback that can be read row by row.
pub(crate) trait Source {
    /// What the `source` column says.
    fn name(&self) -> &'static str;
    /// What the `domain` column says.
    fn domain(&self) -> &str;
    /// Whether the source has a training and a test split of its own.
    fn has_splits(&self) -> bool;
    /// Reads every row in order. `dataset` is the directory being made, for a source that writes what it reads.
    fn read(&self, dataset: &Path, into: &mut Reading) -> Result<(), DataError>;
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
