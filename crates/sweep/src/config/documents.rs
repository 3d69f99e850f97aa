//! Recipes and training settings of one combination, as YAML documents with every setting applied.

use prospect_core::config::{ConfigError, Document};
use prospect_data::PipelineFile;
use prospect_model::ModelFile;
use prospect_runs::Resample;
use prospect_train::{Settings, TrainFile};
use serde_json::Value;

use super::{Choice, LoadedExperiment, RecipeSources, recipes::is_prepared};
use crate::{SweepError, plan::check_base_model};

/// Keys that replace a whole recipe or leave a stage out, instead of setting one value.
const WHOLE_RECIPES: [&str; 3] = ["data", "model", "sft"];

/// Opens a document by its path.
type Open<'a> = dyn Fn(&str) -> Result<Document, ConfigError> + 'a;

/// Key of a data recipe with the seed that draws its training prompts.
const TRAIN_SEED: &str = "select.train_seed";

/// Documents of one run, with every setting applied.
pub(crate) struct RunDocuments<'a> {
    experiment: &'a LoadedExperiment,
    pub(crate) data: Document,
    pub(crate) model: Document,
    train: Document,
    sft: Option<SftDocuments>,
}

/// Documents of the shared SFT stage.
struct SftDocuments {
    data: Document,
    train: Document,
}

impl<'a> RunDocuments<'a> {
    /// Applies the settings that all runs share, then those of `choices`, to recipes and training
    /// settings.
    ///
    /// `seed` becomes the seed of imbalance and noise, and of the training prompts if seeds
    /// resample them.
    pub(crate) fn new(
        experiment: &'a LoadedExperiment,
        sources: &RecipeSources<'_>,
        choices: &[Choice],
        seed: u64,
    ) -> Result<Self, SweepError> {
        let raw = &experiment.raw;
        let chosen = || choices.iter().flat_map(|choice| &choice.settings);
        let recipe = |key: &str, default: &str, open: &Open<'_>| match chosen().find(|(name, _)| *name == key)
        {
            None => Ok(open(default)?),
            Some((_, Value::String(path))) => Ok(open(path)?),
            Some((_, other)) => {
                Err(experiment.located_error(&format!("`{key}` is {other}, but it is a recipe: a path")))
            }
        };
        let mut data = recipe("data", &raw.data, sources.data)?;
        if !is_prepared(&data) {
            for seeded in ["imbalance.seed", "noise.seed"] {
                data.set(seeded, seed.into())?;
            }
        }
        let model = recipe("model", &raw.model, sources.recipe)?;
        let mut documents =
            Self { experiment, data, model, train: experiment.document.part("train"), sft: None };
        for (key, value) in &raw.settings {
            documents.set(key, value)?;
        }
        if let Some((_, given)) = chosen().find(|(key, value)| *key == "sft" && !value.is_null()) {
            let message = format!("`sft` is {given}; for a run it can be null, which skips the SFT stage");
            return Err(experiment.located_error(&message));
        }
        let without_sft = chosen().any(|(key, _)| key == "sft");
        if raw.sft.is_some() && !without_sft {
            let mut train = experiment.document.part("sft");
            if !train.keys().any(|key| key == "objective") {
                train.set("objective", "sft".into())?;
            }
            // All runs share the stage: swept settings and the runs' training settings do not apply
            // to it.
            documents.sft = Some(SftDocuments { data: documents.data.clone(), train });
        }
        for (key, value) in chosen().filter(|(key, _)| !WHOLE_RECIPES.contains(&key.as_str())) {
            documents.set(key, value)?;
        }
        let sets = |key: &str| raw.settings.contains_key(key) || chosen().any(|(name, _)| name == key);
        if sets("model.weights") && !sets("model.stage") {
            // The stage in the recipe is that of the recipe's own weights.
            for key in ["stage", "stage_source"] {
                documents.model.set(key, serde_yaml::Value::Null)?;
            }
        }
        if raw.seeds.resamples(Resample::Prompts) {
            documents.resample_prompts(seed)?;
        }
        Ok(documents)
    }

    /// Draws the training prompts by `seed`, also those of an SFT stage that every seed trains.
    fn resample_prompts(&mut self, seed: u64) -> Result<(), SweepError> {
        if is_prepared(&self.data) || !self.data.read::<PipelineFile>()?.draws_training_prompts() {
            return Err(self.experiment.located_error(
                "`seeds.resample` has `prompts`, but runs train on all prompts of the data recipe, so there is nothing \
                 to draw: set `data.select.train_prompts` in `settings`",
            ));
        }
        self.data.set(TRAIN_SEED, seed.into())?;
        if let Some(sft) = self.sft.as_mut().filter(|_| self.experiment.raw.seeds.resamples(Resample::Sft))
            && sft.data.read::<PipelineFile>()?.draws_training_prompts()
        {
            sft.data.set(TRAIN_SEED, seed.into())?;
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), SweepError> {
        if key.starts_with("data.") && is_prepared(&self.data) {
            let message = format!(
                "`{key}` has no effect: {} is a prepared dataset; use its recipe or its raw feedback instead",
                self.data.name()
            );
            return Err(self.experiment.located_error(&message));
        }
        let (document, key) = match key.split_once('.') {
            Some(("data", key)) => (&mut self.data, key),
            Some(("model", key)) => (&mut self.model, key),
            Some(("train", key)) => (&mut self.train, key),
            Some(("sft", key)) => match &mut self.sft {
                Some(sft) => (&mut sft.train, key),
                None if self.experiment.raw.sft.is_some() => return Ok(()),
                None => {
                    let message = format!("`sft.{key}` has no effect: the experiment has no `sft`");
                    return Err(self.experiment.located_error(&message));
                }
            },
            _ => {
                let message = format!("`{key}`: settings start with data., model., train. or sft.");
                return Err(self.experiment.located_error(&message));
            }
        };
        let value = serde_yaml::to_value(value).map_err(std::io::Error::other)?;
        Ok(document.set(key, value)?)
    }

    /// Returns the training settings.
    pub(crate) fn settings(&self) -> Result<Settings, SweepError> {
        self.resolve("train", &self.train)
    }

    /// Returns the training settings and the data recipe of the shared SFT stage.
    pub(crate) fn sft(&self) -> Result<Option<(Settings, &Document)>, SweepError> {
        let resolved = |sft: &'_ SftDocuments| self.resolve("sft", &sft.train);
        self.sft.as_ref().map(|sft| Ok((resolved(sft)?, &sft.data))).transpose()
    }

    fn resolve(&self, root: &str, document: &Document) -> Result<Settings, SweepError> {
        document.read::<TrainFile>()?.resolve().map_err(|error| self.blame(root, document, &error))
    }

    /// Checks everything that needs neither inputs nor weights.
    pub(crate) fn check(&self) -> Result<(), SweepError> {
        self.settings()?;
        for data in self.sft()?.map(|(_, data)| data).into_iter().chain([&self.data]) {
            if is_prepared(data) {
                continue;
            }
            data.read::<PipelineFile>()?.check().map_err(|error| self.blame("data", data, &error))?;
        }
        self.check_model()
    }

    /// Checks the model recipe, and refuses a model that is no base model where the experiment
    /// requires one.
    pub(crate) fn check_model(&self) -> Result<(), SweepError> {
        let recipe = self.model.read::<ModelFile>()?.resolve(&|address| Ok(address.into()));
        let recipe = recipe.map_err(|error| self.blame("model", &self.model, &error))?;
        check_base_model(self.experiment.raw.base_model, &recipe)
            .map_err(|message| self.experiment.located_error(&message))
    }

    /// Returns an error with file and line of the key it names: in the experiment, else in
    /// `document`.
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
