//! One combination of an experiment's settings: the recipes and the training settings that it comes to.

use std::collections::BTreeMap;

use prospect_core::config::Document;
use prospect_data::PipelineFile;
use prospect_model::ModelFile;
use prospect_train::{Settings, TrainFile};
use serde_json::Value;

use crate::{Experiment, ExperimentFile, Sources, SweepError, exclude::exclude};

/// The settings that differ between runs: one value (a name or a value) and the settings it stands for, by axis.
pub(crate) type Choice = (String, Value, BTreeMap<String, Value>);

/// Every combination of the choices on every axis but those that are left out, the last axis changing fastest.
pub(crate) fn combinations(experiment: &Experiment) -> Result<Vec<Vec<Choice>>, SweepError> {
    let raw = &experiment.raw;
    exclude(raw, all_combinations(raw)).map_err(|message| experiment.complaint(&message))
}

pub(crate) fn all_combinations(raw: &ExperimentFile) -> Vec<Vec<Choice>> {
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

/// What a run may differ in beside single settings.
const WHOLE: [&str; 3] = ["data", "model", "sft"];

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
        let chosen = || choices.iter().flat_map(|(_, _, settings)| settings);
        let recipe = |key: &str, usual: &str| match chosen().find(|(name, _)| *name == key) {
            None => Ok((sources.recipe)(usual)?),
            Some((_, Value::String(path))) => Ok((sources.recipe)(path)?),
            Some((_, other)) => {
                Err(experiment.complaint(&format!("`{key}` is {other}, but it is a recipe: a path")))
            }
        };
        let mut data = recipe("data", &raw.data)?;
        for seeded in ["imbalance.seed", "noise.seed"] {
            data.set(seeded, seed.into())?;
        }
        let model = recipe("model", &raw.model)?;
        let mut documents =
            Self { experiment, data, model, train: experiment.document.part("train"), sft: None };
        for (key, value) in &raw.settings {
            documents.set(key, value)?;
        }
        if let Some((_, given)) = chosen().find(|(key, value)| *key == "sft" && !value.is_null()) {
            return Err(experiment.complaint(&format!(
                "`sft` is {given}; for a run it can be null, which leaves the stage out"
            )));
        }
        let without_sft = chosen().any(|(key, _)| key == "sft");
        if raw.sft.is_some() && !without_sft {
            let mut train = experiment.document.part("sft");
            if !train.keys().any(|key| key == "objective") {
                train.set("objective", "sft".into())?;
            }
            // The stage sees neither swept settings nor the runs' training settings.
            documents.sft = Some(SftDocuments { data: documents.data.clone(), train });
        }
        for (key, value) in chosen().filter(|(key, _)| !WHOLE.contains(&key.as_str())) {
            documents.set(key, value)?;
        }
        Ok(documents)
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), SweepError> {
        let (document, key) = match key.split_once('.') {
            Some(("data", key)) => (&mut self.data, key),
            Some(("model", key)) => (&mut self.model, key),
            Some(("train", key)) => (&mut self.train, key),
            Some(("sft", key)) => match &mut self.sft {
                Some(sft) => (&mut sft.train, key),
                None if self.experiment.raw.sft.is_some() => return Ok(()),
                None => {
                    let message = format!("`sft.{key}` has no effect: the experiment has no `sft`");
                    return Err(self.experiment.complaint(&message));
                }
            },
            _ => {
                let message = format!("`{key}`: settings start with data., model., train. or sft.");
                return Err(self.experiment.complaint(&message));
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
