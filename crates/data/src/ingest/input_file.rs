//! Input files as the manifest records them.

use serde::{Deserialize, Serialize};

use crate::Split;

/// Input file of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputFile {
    /// File name, without folders.
    pub name: String,
    /// Split of its rows, if the source has splits of its own.
    pub split: Option<Split>,
    /// BLAKE3 hash of its bytes.
    pub blake3: String,
    /// `hf://` address at the commit that was read, if the file is from the Hugging Face Hub.
    pub address: Option<String>,
}
