//! An experiment file with command-line overrides.

use std::path::Path;

use prospect_core::config::{ConfigError, Document};

use super::ExperimentFile;
use crate::SweepError;

/// Experiment file with command-line overrides applied.
#[derive(Debug, Clone)]
pub struct LoadedExperiment {
    /// File name without its extension.
    pub name: String,
    /// Path or name of the file, for messages.
    pub file: String,
    /// Contents.
    pub raw: ExperimentFile,
    /// The document, for line numbers in messages and for the `train` and `sft` parts.
    pub(crate) document: Document,
}

impl LoadedExperiment {
    /// Reads an experiment and applies `overrides` (`KEY=VALUE`).
    ///
    /// Overrides of `data.…` and `model.…` apply to the recipes, others to the experiment file
    /// itself.
    pub fn read(path: &str, mut document: Document, overrides: &[String]) -> Result<Self, ConfigError> {
        let mut recipe_settings = Vec::new();
        for text in overrides {
            match text.split_once('=') {
                Some((key, value)) if key.starts_with("data.") || key.starts_with("model.") => {
                    recipe_settings.push((key, value));
                }
                _ => document.set_text(text)?,
            }
        }
        let mut raw: ExperimentFile = document.read()?;
        for (key, value) in recipe_settings {
            let value = Document::from_text("--set", value)?.read()?;
            raw.settings.insert(key.to_owned(), value);
        }
        let name = Path::new(path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, file: path.to_owned(), raw, document })
    }

    /// Returns an error with the file and the line of the key that `message` names.
    pub(crate) fn located_error(&self, message: &str) -> SweepError {
        SweepError::Setting(self.document.blame(message))
    }
}
