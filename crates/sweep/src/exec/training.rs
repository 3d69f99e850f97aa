//! One training job, from a dataset to a policy and the files of its run directory.

use std::{ops::ControlFlow, path::Path, time::Instant};

use prospect_core::progress::Progress;
use prospect_dist::{Collective, ZeroStage};
use prospect_model::{Activations, Decoder, Model, Recipe};
use prospect_runs::{Claim, RecordedSettings, RunConfig, RunDir, State, Status};
use prospect_train::{
    Checkpoints, Encoder, EncodingCache, EncodingCounts, Length, ReferenceCache, Settings, TrainContext,
    TrainError, TrainOutcome, TrainState, TrainingSet, observe_untrained, train,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    observer::{EvaluationSets, RunObserver},
    parallel::parallel_map,
};
use crate::{
    SweepError,
    config::{CheckpointsFile, StopFile},
};

/// Training of one run or stage.
pub(super) struct Training<'a> {
    /// Model to start from.
    pub(super) model: &'a Model,
    pub(super) recipe: &'a Recipe,
    pub(super) activations: Activations,
    pub(super) settings: &'a Settings,
    pub(super) dataset: &'a Path,
    pub(super) seed: u64,
    pub(super) checkpoints: CheckpointsFile,
    pub(super) evaluate_every: Option<u64>,
    pub(super) sample_every: Option<u64>,
    pub(super) stop: Option<StopFile>,
    /// Tokens of the data, shared by all runs.
    pub(super) encodings: &'a EncodingCache,
    /// State of full training that is sharded over the ranks.
    pub(super) zero: Option<ZeroStage>,
    /// Ranks that train it together.
    pub(super) group: &'a dyn Collective,
}

impl Training<'_> {
    /// Trains on rank 0, which evaluates and writes into `directory`. Stages have no `evaluation`.
    pub(super) fn run(
        &self,
        directory: &RunDir,
        claim: &Claim,
        evaluation: Option<&EvaluationSets<'_>>,
        progress: &Progress,
        label: &str,
        cache: &ReferenceCache,
    ) -> Result<TrainOutcome, SweepError> {
        let encoder = self.encoder();
        let (examples, encoding) =
            TrainingSet::read_counted(self.dataset, &self.settings.objective, &encoder)?;
        let config = self.config(&examples, &encoding, evaluation)?;
        let checkpoints = self.checkpoints_in(directory);
        match checkpoints.latest()? {
            Some(TrainState { step, seconds, tokens, .. }) => {
                directory.resume(step, seconds, tokens)?;
                progress.advance(step, label);
            }
            None => directory.begin(&config)?,
        }
        let mut observer = self.observer(directory, claim, evaluation, (progress, label))?;
        let context = self.context(&examples, &encoder, Some(&checkpoints));
        let trained = match train(&context, cache, &mut observer)? {
            TrainOutcome::Completed(trained) => trained,
            stopped @ TrainOutcome::Stopped(_) => return Ok(stopped),
        };
        observer.write_outcomes()?;
        directory.set_status(&Status {
            state: State::Running,
            seconds: trained.seconds,
            tokens: trained.tokens,
            reason: None,
        })?;
        Ok(TrainOutcome::Completed(trained))
    }

    /// Evaluates a policy instead of training one, and writes into `directory`. Without a `policy`,
    /// it is the model to start from.
    pub(super) fn evaluate(
        &self,
        directory: &RunDir,
        claim: &Claim,
        evaluation: &EvaluationSets<'_>,
        policy: Option<&Decoder>,
        (progress, label): (&Progress, &str),
        cache: &ReferenceCache,
    ) -> Result<(), SweepError> {
        let started = Instant::now();
        let encoder = self.encoder();
        let (examples, encoding) =
            TrainingSet::read_counted(self.dataset, &self.settings.objective, &encoder)?;
        directory.begin(&self.config(&examples, &encoding, Some(evaluation))?)?;
        let observer = self.observer(directory, claim, Some(evaluation), (progress, label))?;
        // Samples along training measure the distance from the start, where there is no training.
        let mut observer =
            RunObserver { is_start: policy.is_none(), sample_every: None, stop: None, ..observer };
        let context = self.context(&examples, &encoder, None);
        if let ControlFlow::Break(reason) = observe_untrained(&context, policy, cache, &mut observer)? {
            return Err(TrainError::Incomplete(reason).into());
        }
        observer.write_outcomes()?;
        let seconds = started.elapsed().as_secs_f64();
        Ok(directory.set_status(&Status { state: State::Running, seconds, tokens: 0, reason: None })?)
    }

    fn observer<'b>(
        &self,
        directory: &'b RunDir,
        claim: &'b Claim,
        evaluation: Option<&'b EvaluationSets<'b>>,
        (progress, label): (&'b Progress, &str),
    ) -> Result<RunObserver<'b>, SweepError> {
        Ok(RunObserver {
            metrics: directory.metrics_writer()?,
            claim,
            evaluation,
            evaluate_every: self.evaluate_every,
            sample_every: self.sample_every,
            is_start: true,
            directory,
            stop: self.stop,
            seed: self.seed,
            progress,
            label: label.to_owned(),
            outcomes: Vec::new(),
            thumbs: Vec::new(),
            generations: Vec::new(),
            questions: Vec::new(),
        })
    }

    fn encoder(&self) -> Encoder<'_> {
        Encoder::new(self.model, self.settings.max_length, self.settings.max_prompt_length)
            .with_cache(self.model, self.encodings)
    }

    /// Resolved settings and inputs of the run.
    fn config(
        &self,
        examples: &TrainingSet,
        encoding: &EncodingCounts,
        evaluation: Option<&EvaluationSets<'_>>,
    ) -> Result<RunConfig, SweepError> {
        let architecture = self.model.decoder.architecture();
        let counts = examples.class_counts();
        Ok(RunConfig {
            settings: RecordedSettings::deserialize(json(self.settings)?).map_err(std::io::Error::from)?,
            model: json(self.recipe)?,
            model_fingerprint: self.model.fingerprint.clone(),
            kernels: Some(self.model.decoder.kernels().to_owned()),
            family: json(&architecture.family)?.as_str().map(str::to_owned),
            parameters: Some(architecture.parameter_count()? as u64),
            dataset: self.dataset.to_owned(),
            seed: self.seed,
            examples: examples.len(),
            steps: Some(self.settings.steps(examples.completions())),
            class_counts: (counts.desirable, counts.undesirable),
            class_weights: json(&self.settings.objective.class_weights(counts))?,
            encoding: json(encoding)?,
            held_out_pairs: evaluation.map(|evaluation| evaluation.held_out.pairs()),
            held_out_thumbs: evaluation.map(|evaluation| evaluation.held_out.thumbs()),
        })
    }

    /// Returns the seconds in which `copies` of the run take `steps` optimizer steps at the same
    /// time. Writes nothing.
    pub(super) fn seconds_of_steps(&self, copies: usize, steps: u64) -> Result<f64, SweepError> {
        let encoder = self.encoder();
        let examples = TrainingSet::read(self.dataset, &self.settings.objective, &encoder)?;
        let settings = Settings { length: Length::Steps(steps), ..self.settings.clone() };
        let context = TrainContext { settings: &settings, ..self.context(&examples, &encoder, None) };
        let train_copy = |_: &usize| -> Result<(), SweepError> {
            // An empty cache that is never saved, as for the first run with these batches.
            let cache = ReferenceCache::new(Path::new(""));
            train(&context, &cache, &mut ())?;
            Ok(())
        };
        let started = Instant::now();
        parallel_map(copies, &(0..copies).collect::<Vec<_>>(), train_copy)?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Trains with rank 0, and writes nothing. Keep the outcome until rank 0 has written the model:
    /// it may need this rank's shards.
    pub(super) fn run_as_peer(
        &self,
        directory: &RunDir,
        cache: &ReferenceCache,
    ) -> Result<TrainOutcome, SweepError> {
        let encoder = self.encoder();
        let examples = TrainingSet::read(self.dataset, &self.settings.objective, &encoder)?;
        let checkpoints = self.checkpoints_in(directory);
        Ok(train(&self.context(&examples, &encoder, Some(&checkpoints)), cache, &mut ())?)
    }

    fn checkpoints_in(&self, directory: &RunDir) -> Checkpoints {
        let CheckpointsFile { every, keep } = self.checkpoints;
        Checkpoints::new(directory.checkpoints(), every, keep, directory.id())
    }

    fn context<'b>(
        &'b self,
        examples: &'b TrainingSet,
        encoder: &'b Encoder<'b>,
        checkpoints: Option<&'b Checkpoints>,
    ) -> TrainContext<'b> {
        TrainContext {
            model: self.model,
            train: self.recipe.train,
            activations: self.activations,
            settings: self.settings,
            examples,
            encoder,
            seed: self.seed,
            checkpoints,
            zero: self.zero,
            group: self.group,
        }
    }
}

fn json(value: &impl Serialize) -> Result<Value, SweepError> {
    Ok(serde_json::to_value(value).map_err(std::io::Error::from)?)
}

#[cfg(test)]
mod tests {
    use prospect_core::config::Document;
    use prospect_train::{ObjectiveName, TrainFile};
    use strum::VariantArray;

    use super::*;

    #[test]
    fn settings_of_every_objective_are_recorded_as_they_serialise() {
        for objective in ObjectiveName::VARIANTS {
            let text =
                format!("objective: {objective}\nlearning_rate: 1e-4\nbatch_size: 8\nmax_length: 64\n");
            let file: TrainFile = Document::from_text("train.yaml", &text).unwrap().read().unwrap();
            let settings = file.resolve().unwrap();
            let serialised = json(&settings).unwrap();
            let recorded = RecordedSettings::deserialize(&serialised).unwrap();
            assert_eq!(serde_json::to_string(&recorded).unwrap(), serialised.to_string());
            let config = RunConfig { settings: recorded, ..RunConfig::default() };
            assert_eq!(config.beta().unwrap_or(1.0), settings.objective.beta(), "{objective}");
        }
    }
}
