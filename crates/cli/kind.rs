//! Kinds of YAML files, and their detection.

use std::path::Path;

use prospect_core::config::Document;
use prospect_data::PipelineFile;
use prospect_model::ModelFile;
use prospect_sweep::{ExperimentFile, PricesFile, SlurmProfileFile};
use prospect_theory::TheoryFile;
use schemars::{Schema, schema_for};
use strum::{Display, VariantArray};

/// Kind of a YAML file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum FileKind {
    /// Data recipe: how feedback becomes a dataset.
    Pipeline,
    /// Model recipe: a model and the weights to train.
    Model,
    /// Experiment: a question and the runs that answer it.
    Experiment,
    /// Theory experiment: a question answered by computation instead of runs.
    Theory,
    /// Slurm profile: the resources of a job.
    Slurm,
    /// Prices of devices.
    Prices,
}

impl FileKind {
    /// Returns the JSON Schema of the file, generated from the type that reads it.
    pub(crate) fn schema(self) -> Schema {
        match self {
            Self::Pipeline => schema_for!(PipelineFile),
            Self::Model => schema_for!(ModelFile),
            Self::Experiment => schema_for!(ExperimentFile),
            Self::Theory => schema_for!(TheoryFile),
            Self::Slurm => schema_for!(SlurmProfileFile),
            Self::Prices => schema_for!(PricesFile),
        }
    }

    /// Counts the top-level keys of the document that a file of this kind may have.
    fn keys_in(self, document: &Document) -> usize {
        let schema = self.schema();
        let known = |key: &&str| schema.get("properties").and_then(|keys| keys.get(key)).is_some();
        document.keys().filter(known).count()
    }

    /// Detects the kind of a file from its keys or, if they fit several kinds equally, its folder.
    /// Also returns which of the two decided.
    pub(crate) fn detect(path: &Path, document: &Document) -> Option<(Self, &'static str)> {
        let kinds = || Self::VARIANTS.iter().copied();
        let most = kinds().map(|kind| kind.keys_in(document)).max().filter(|most| *most > 0);
        let fitting: Vec<Self> = kinds().filter(|kind| Some(kind.keys_in(document)) == most).collect();
        if let [kind] = fitting[..] {
            return Some((kind, "by its keys"));
        }
        let folder = std::path::absolute(path).ok()?.parent()?.file_name()?.to_str()?.to_owned();
        let named = kinds().find(|kind| folder == format!("{kind}s"));
        named.map(|kind| (kind, "by its folder"))
    }
}
