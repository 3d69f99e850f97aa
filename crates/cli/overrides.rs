//! `--set KEY=VALUE`: overrides settings of a YAML file.

use std::path::Path;

use prospect_core::config::{ConfigError, Document};

use crate::locate::{self, open_data};

/// Overrides of settings in the YAML file.
#[derive(Debug, clap::Args)]
pub(crate) struct Overrides {
    /// Override a setting of the file, as in `--set noise.flip_desirable=0.1`
    ///
    /// KEY is a dotted path, VALUE is YAML.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// `--memory`: the `memory` setting of the model recipe.
#[derive(Debug, clap::Args)]
pub(crate) struct MemoryArgs {
    /// Memory for weights, optimizer and activations
    ///
    /// Keeps as many activations as fit and recomputes the others.
    #[arg(long, value_name = "8GiB")]
    memory: Option<String>,
}

impl MemoryArgs {
    /// Returns the setting that it stands for.
    pub(crate) fn setting(&self) -> Option<String> {
        self.memory.as_ref().map(|amount| format!("model.memory={amount:?}"))
    }
}

impl Overrides {
    /// Returns the overrides as typed.
    pub(crate) fn given(&self) -> &[String] {
        &self.set
    }

    /// Opens a model recipe and applies the overrides.
    pub(crate) fn open_model(&self, path: &Path) -> Result<Document, ConfigError> {
        self.apply(locate::model(&path.display().to_string())?)
    }

    /// Opens a data recipe, or the feedback at `path` (see [`open_data`]), and applies the
    /// overrides.
    pub(crate) fn open_data(&self, path: &Path) -> Result<Document, ConfigError> {
        self.apply(open_data(path)?)
    }

    fn apply(&self, mut document: Document) -> Result<Document, ConfigError> {
        self.set.iter().try_for_each(|given| document.set_text(given))?;
        Ok(document)
    }
}
