//! One combination of an experiment's settings: the recipes and the training settings that it comes to.

use std::collections::BTreeMap;

use prospect_core::config::Document;
use prospect_data::PipelineFile;
use prospect_model::ModelFile;
use prospect_train::{Settings, TrainFile};
use serde_json::Value;

use crate::{Experiment, ExperimentFile, Sources, SweepError};

/// The settings that differ between runs: one value (a name or a value) and the settings it stands for, by axis.
pub(crate) type Choice = (String, Value, BTreeMap<String, Value>);

/// Every combination of the choices on every axis, the last axis changing fastest.
pub(crate) fn combinations(raw: &ExperimentFile) -> Vec<Vec<Choice>> {
    let linked = raw.linked.iter().map(|(axis, groups)| -> Vec<Choice> {
        groups.iter().map(|(name, settings)| (axis.clone(), name.clone().into(), settings.clone())).collect()
    });
    let matrix = raw.matrix.iter().map(|(key, values)| -> Vec<Choice> {
        values
            .iter()
            .map(|value| (key.clone(), value.clone(), [(key.clone(), value.clone())].into()))
            .collect()
    });
    linked.chain(matrix).fold(vec![Vec::new()], |sofar, axis| {
        sofar
            .iter()
            .flat_map(|chosen| {
                axis.iter().map(move |choice| [&chosen[..], std::slice::from_ref(choice)].concat())
            })
            .collect()
    })
}

/// What a run is made of, as documents with every setting in place.
pub(crate) struct Documents<'a> {
    experiment: &'a Experiment,
    pub(crate) data: Document,
    pub(crate) model: Document,
    train: Document,
    sft: Option<SftDocuments>,
}

/// What the shared stage is made of.
struct SftDocuments {
    data: Document,
    train: Document,
}

impl<'a> Documents<'a> {
    /// Puts the settings of all runs, then those of `choices`, into the recipes and the training settings.
    pub(crate) fn new(
        experiment: &'a Experiment,
        sources: &Sources<'_>,
        choices: &[Choice],
        seed: u64,
    ) -> Result<Self, SweepError> {
        let raw = &experiment.raw;
        let mut data = (sources.recipe)(&raw.data)?;
        for seeded in ["imbalance.seed", "noise.seed"] {
            data.set(seeded, seed.into())?;
        }
        let model = (sources.recipe)(&raw.model)?;
        let mut documents =
            Self { experiment, data, model, train: experiment.document.part("train"), sft: None };
        for (key, value) in &raw.settings {
            documents.set(key, value)?;
        }
        if raw.sft.is_some() {
            let mut train = experiment.document.part("sft");
            if !train.keys().any(|key| key == "objective") {
                train.set("objective", "sft".into())?;
            }
            // The stage sees neither swept settings nor the runs' training settings.
            documents.sft = Some(SftDocuments { data: documents.data.clone(), train });
        }
        for (key, value) in choices.iter().flat_map(|(_, _, settings)| settings) {
            documents.set(key, value)?;
        }
        Ok(documents)
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), SweepError> {
        let (document, key) = match key.split_once('.') {
            Some(("data", key)) => (&mut self.data, key),
            Some(("model", key)) => (&mut self.model, key),
            Some(("train", key)) => (&mut self.train, key),
            _ => {
                return Err(SweepError::Experiment {
                    file: self.experiment.file.clone(),
                    message: format!("`{key}`: settings start with data., model. or train."),
                });
            }
        };
        let value = serde_yaml::to_value(value).map_err(std::io::Error::other)?;
        Ok(document.set(key, value)?)
    }

    /// The training settings.
    pub(crate) fn settings(&self) -> Result<Settings, SweepError> {
        self.resolve("train", &self.train)
    }

    /// The training settings and the data recipe of the shared stage.
    pub(crate) fn sft(&self) -> Result<Option<(Settings, &Document)>, SweepError> {
        let resolved = |sft: &'_ SftDocuments| self.resolve("sft", &sft.train);
        self.sft.as_ref().map(|sft| Ok((resolved(sft)?, &sft.data))).transpose()
    }

    fn resolve(&self, root: &str, document: &Document) -> Result<Settings, SweepError> {
        document.read::<TrainFile>()?.resolve().map_err(|error| self.blame(root, document, &error))
    }

    /// Checks all that can be told without looking for inputs and weights.
    pub(crate) fn check(&self) -> Result<(), SweepError> {
        self.settings()?;
        for data in self.sft()?.map(|(_, data)| data).into_iter().chain([&self.data]) {
            data.read::<PipelineFile>()?.check().map_err(|error| self.blame("data", data, &error))?;
        }
        let recipe = self.model.read::<ModelFile>()?.resolve(&|address| Ok(address.into()));
        recipe.map_err(|error| self.blame("model", &self.model, &error))?;
        Ok(())
    }

    /// An error behind file and line of what it names: where the experiment sets it, else in `document`.
    fn blame(&self, root: &str, document: &Document, error: &dyn std::error::Error) -> SweepError {
        let message = error.to_string();
        let place = &self.experiment.document;
        let line = place.part(root).line_of_named(&message);
        SweepError::Setting(match line {
            Some(line) => format!("{}:{line}: {message}", place.name()),
            None => document.blame(&message),
        })
    }
}
