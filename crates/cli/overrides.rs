//! `--set KEY=VALUE`: settings of a YAML file replaced on the command line.

use std::path::Path;

use prospect_core::config::{ConfigError, Document};

/// Replaces settings of the YAML file.
#[derive(Debug, clap::Args)]
pub(crate) struct Overrides {
    /// Replace a setting of the file: a dotted key and a YAML value, as in `--set noise.flip_desirable=0.1`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// `--memory`: the model recipe's `memory`.
#[derive(Debug, clap::Args)]
pub(crate) struct Memory {
    /// Memory for weights, optimizer and activations: as many activations are kept as fit, the others are computed again
    #[arg(long, value_name = "8GiB")]
    memory: Option<String>,
}

impl Memory {
    /// The setting that it stands for.
    pub(crate) fn setting(&self) -> Option<String> {
        self.memory.as_ref().map(|amount| format!("model.memory={amount:?}"))
    }
}

impl Overrides {
    /// The overrides as typed.
    pub(crate) fn given(&self) -> &[String] {
        &self.set
    }

    /// Opens a YAML file with the settings replaced.
    pub(crate) fn open(&self, path: &Path) -> Result<Document, ConfigError> {
        let mut document = Document::open(path)?;
        self.set.iter().try_for_each(|given| document.set_text(given))?;
        Ok(document)
    }
}
