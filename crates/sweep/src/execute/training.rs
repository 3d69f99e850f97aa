//! One training stage, from a dataset to a policy and the files that tell of it.

use std::path::Path;

use prospect_core::progress::Progress;
use prospect_dist::Collective;
use prospect_model::{Activations, Model, Recipe};
use prospect_runs::{Claim, RunDir, State, Status};
use prospect_train::{
    Checkpoints, Encoder, ReferenceCache, Settings, TrainContext, TrainOutcome, TrainState, TrainingSet,
    train,
};
use serde_json::json;

use crate::{
    CheckpointsFile, StopFile, SweepError,
    observe::{Judges, RunObserver},
};

/// One training stage.
pub(super) struct Training<'a> {
    /// What it starts from.
    pub(super) model: &'a Model,
    pub(super) recipe: &'a Recipe,
    pub(super) activations: Activations,
    pub(super) settings: &'a Settings,
    pub(super) dataset: &'a Path,
    pub(super) seed: u64,
    pub(super) checkpoints: CheckpointsFile,
    pub(super) evaluate_every: Option<u64>,
    pub(super) stop: Option<StopFile>,
    /// Who trains it together.
    pub(super) group: &'a dyn Collective,
}

impl Training<'_> {
    pub(super) fn run(
        &self,
        directory: &RunDir,
        claim: &Claim,
        judges: Option<&Judges<'_>>,
        progress: &Progress,
        label: &str,
        cache: &ReferenceCache,
    ) -> Result<TrainOutcome, SweepError> {
        let encoder = Encoder::new(self.model, self.settings.max_length, self.settings.max_prompt_length);
        let (examples, encoding_counts) =
            TrainingSet::read_counted(self.dataset, &self.settings.objective, &encoder)?;
        let architecture = self.model.decoder.architecture();
        let config = json!({
            "settings": self.settings,
            "model": self.recipe,
            "model_fingerprint": self.model.fingerprint,
            "family": architecture.family,
            "parameters": architecture.parameter_count()?,
            "dataset": self.dataset,
            "seed": self.seed,
            "examples": examples.len(),
            "steps": self.settings.steps(examples.completions()),
            "class_counts": examples.class_counts(),
            "class_weights": self.settings.objective.class_weights(examples.class_counts()),
            "encoding": encoding_counts,
            "held_out_pairs": judges.map(|judges| judges.held_out.pairs()),
        });
        let checkpoints = self.checkpoints_in(directory);
        match checkpoints.latest()? {
            Some(TrainState { step, seconds, tokens, .. }) => {
                directory.go_on(step, seconds, tokens)?;
                progress.advance(step, label);
            }
            None => directory.begin(&config)?,
        }
        let mut observer = RunObserver {
            metrics: directory.metrics_writer()?,
            claim,
            judges,
            every: self.evaluate_every,
            stop: self.stop,
            seed: self.seed,
            progress,
            label: label.to_owned(),
            outcomes: Vec::new(),
            generations: Vec::new(),
        };
        let context = self.context(&examples, &encoder, &checkpoints);
        let trained = match train(&context, cache, &mut observer)? {
            TrainOutcome::Completed(trained) => trained,
            stopped @ TrainOutcome::Stopped(_) => return Ok(stopped),
        };
        directory.write_pairs(&observer.outcomes)?;
        if judges.is_some_and(|judges| judges.generations.is_some()) {
            directory.write_generations(&observer.generations)?;
        }
        directory.set_status(&Status {
            state: State::Running,
            seconds: trained.seconds,
            tokens: trained.tokens,
            reason: None,
        })?;
        Ok(TrainOutcome::Completed(trained))
    }

    /// Trains together with rank 0, and writes nothing.
    pub(super) fn take_part(&self, directory: &RunDir, cache: &ReferenceCache) -> Result<(), SweepError> {
        let encoder = Encoder::new(self.model, self.settings.max_length, self.settings.max_prompt_length);
        let examples = TrainingSet::read(self.dataset, &self.settings.objective, &encoder)?;
        let checkpoints = self.checkpoints_in(directory);
        // Only rank 0 evaluates and writes.
        train(&self.context(&examples, &encoder, &checkpoints), cache, &mut ())?;
        Ok(())
    }

    fn checkpoints_in(&self, directory: &RunDir) -> Checkpoints {
        let CheckpointsFile { every, keep } = self.checkpoints;
        Checkpoints::new(directory.checkpoints(), every, keep, directory.id())
    }

    fn context<'b>(
        &'b self,
        examples: &'b TrainingSet,
        encoder: &'b Encoder<'b>,
        checkpoints: &'b Checkpoints,
    ) -> TrainContext<'b> {
        TrainContext {
            model: self.model,
            train: self.recipe.train,
            activations: self.activations,
            settings: self.settings,
            examples,
            encoder,
            seed: self.seed,
            checkpoints: Some(checkpoints),
            group: self.group,
        }
    }
}
