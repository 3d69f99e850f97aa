//! Runs and stages as the estimate sees them, and the reference work that they share.

use prospect_model::DeviceKind;
use prospect_runs::GenerationMode;
use prospect_train::{FeedbackFormat, Length, Settings};
use serde::Serialize;
use strum::IntoStaticStr;

use crate::{
    estimate::evaluation::CachedStart,
    plan::{ResolvedRun, SftStage},
};

/// Weights that a run starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStart {
    /// The run is itself a shared SFT stage.
    #[strum(serialize = "shared stage")]
    Stage,
    /// The result of an SFT stage.
    #[strum(serialize = "sft")]
    AfterSft,
    /// The base model.
    #[strum(serialize = "base")]
    Base,
}

/// A run or a stage.
pub(super) struct SampleRun<'a> {
    pub(super) model: usize,
    pub(super) sft: Option<usize>,
    pub(super) start: RunStart,
    pub(super) settings: &'a Settings,
    pub(super) dataset: usize,
    seed: u64,
}

impl<'a> SampleRun<'a> {
    pub(super) fn from_stage(sft: &'a SftStage) -> Self {
        let SftStage { model, dataset, settings, .. } = sft;
        let (model, dataset) = (*model, *dataset);
        Self { model, sft: None, start: RunStart::Stage, settings, dataset, seed: 0 }
    }

    pub(super) fn from_run(run: &'a ResolvedRun) -> Self {
        Self {
            model: run.model,
            sft: run.sft,
            start: if run.sft.is_some() { RunStart::AfterSft } else { RunStart::Base },
            settings: &run.train,
            dataset: run.dataset,
            seed: run.seed,
        }
    }

    /// Returns what the objective asks of the model: the form of examples, the number of mismatched
    /// completions per example, and whether it needs reference log-probabilities.
    ///
    /// The loss itself takes negligible time.
    fn model_work(&self) -> (FeedbackFormat, usize, bool) {
        let objective = &self.settings.objective;
        (objective.feedback_format(), objective.kl_partners(), objective.needs_reference())
    }

    /// Returns true if this run needs reference log-probs of the same sequences as `earlier`.
    fn needs_reference_of(&self, earlier: &Self) -> bool {
        // Mismatched completions depend on the batches, and on a GPU so do log-probabilities. An
        // epoch has all sequences, in any order.
        let whole_epoch = matches!(earlier.settings.length, Length::Epochs(epochs) if epochs >= 1.0);
        let any_order = whole_epoch && DeviceKind::detect() == DeviceKind::Cpu;
        let sequences = |run: &Self| {
            let Settings { batch_size, micro_batch_size, max_length, max_prompt_length, .. } = *run.settings;
            let (examples, mismatched, needs_reference) = run.model_work();
            let order = (mismatched > 0 || !any_order).then_some((batch_size, micro_batch_size, run.seed));
            let texts = (run.dataset, max_length, max_prompt_length, order);
            // Log-probs of a reference that moves are never cached.
            (needs_reference && run.settings.sync.is_none())
                .then_some((run.model, run.sft, texts, examples, mismatched))
        };
        sequences(self).is_some() && sequences(self) == sequences(earlier)
    }

    /// Returns true if both runs score the same held-out feedback with the same reference.
    fn has_same_held_out(&self, other: &Self) -> bool {
        let scores = |run: &Self| HeldOutScores::new(run.model, run.sft, run.dataset, run.settings);
        scores(self) == scores(other)
    }

    /// Returns true if a step of both runs takes the same time, apart from text lengths.
    pub(super) fn costs_the_same_as(&self, other: &Self) -> bool {
        let shape = |run: &Self| {
            let Settings { batch_size, micro_batch_size, max_length, humanline, sync, .. } = run.settings;
            (
                run.model,
                run.sft,
                *batch_size,
                *micro_batch_size,
                *max_length,
                humanline.is_some(),
                sync.is_some(),
            )
        };
        self.model_work() == other.model_work() && shape(self) == shape(other)
    }
}

/// Everything that the reference log-probabilities of held-out feedback depend on.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::estimate) struct HeldOutScores {
    model: usize,
    sft: Option<usize>,
    dataset: usize,
    lengths: (usize, usize),
    /// Text before the prompt.
    control: String,
}

impl HeldOutScores {
    fn new(model: usize, sft: Option<usize>, dataset: usize, settings: &Settings) -> Self {
        let lengths = (settings.max_length, settings.max_prompt_length);
        Self { model, sft, dataset, lengths, control: settings.objective.control(true).to_owned() }
    }

    pub(in crate::estimate) fn of(run: &ResolvedRun) -> Self {
        Self::new(run.model, run.sft, run.dataset, &run.train)
    }
}

/// Work of a run that earlier runs have cached.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ReferenceReuse {
    /// Log-probabilities of its training sequences are cached.
    pub(super) batches: bool,
    /// What its evaluation at the start needs.
    pub(super) start: CachedStart,
    /// Answers of its start to capability tests.
    pub(super) same_start: bool,
}

impl ReferenceReuse {
    /// Compares a run with `earlier` runs; `mode` is how they continue held-out prompts.
    pub(super) fn new(run: &SampleRun<'_>, earlier: &[SampleRun<'_>], mode: Option<GenerationMode>) -> Self {
        let same_start = || earlier.iter().filter(|other| run.has_same_held_out(other));
        Self {
            batches: earlier.iter().any(|other| run.needs_reference_of(other)),
            start: CachedStart::new(same_start().map(|other| other.seed), run.seed, mode),
            same_start: earlier.iter().any(|other| (run.model, run.sft) == (other.model, other.sft)),
        }
    }
}
