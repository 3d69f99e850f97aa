//! Search for training settings that fit a memory budget.

use prospect_dist::ZeroStage;
use prospect_model::{
    Activations, Architecture, BatchSize, DeviceKind, Dtype, Footprint, MemoryDemand, ModelError,
    Quantization, Recipe, Train,
};
use serde::Serialize;

use crate::{FeedbackFormat, Settings};

/// Rows in a micro-batch above which throughput no longer grows.
const MAX_USEFUL_ROWS: u64 = 8192;

/// Inputs of the memory planner: model, settings and devices.
#[derive(Debug, Clone)]
pub struct PlanRequest<'a> {
    /// Architecture of the model.
    pub architecture: &'a Architecture,
    /// Trained parameters: all, or an adapter.
    pub train: Train,
    /// Element type of the weights.
    pub dtype: Dtype,
    /// Training settings.
    pub settings: &'a Settings,
    /// Kind of device.
    pub place: DeviceKind,
    /// Number of ranks; each runs a part of every batch.
    pub ranks: usize,
    /// State that is sharded over the ranks.
    pub zero: Option<ZeroStage>,
}

/// Training settings with their peak memory.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TrainPlan {
    /// Quantization of frozen matrices; `None` keeps the element type of the weights.
    pub quantization: Option<Quantization>,
    /// Completions per forward pass.
    pub micro_batch_size: usize,
    /// Blocks whose activations are recomputed in the backward pass.
    pub recomputed: u64,
    /// Peak memory of a step.
    pub demand: MemoryDemand,
}

impl Settings {
    /// Size of a micro-batch of `completions` completions, with every sequence at its maximum
    /// length.
    pub fn longest_batch(&self, completions: usize) -> BatchSize {
        let completions = completions as u64;
        let prompt = self.max_prompt_length as u64;
        let completion = (self.max_length - self.max_prompt_length) as u64;
        // The last token of a completion is predicted but not run.
        let (rows, scored) = (completion - 1, completion);
        let mismatched = completions * self.objective.kl_partners() as u64;
        let prompts = match self.objective.feedback_format() {
            FeedbackFormat::Paired => completions.div_ceil(2),
            FeedbackFormat::Unpaired | FeedbackFormat::Desirable | FeedbackFormat::All => completions,
        };
        // Row i of a prompt attends to i + 1 rows; rows of a completion attend to the prompt as
        // well.
        let attended_by_prompts = prompts * prompt * (prompt + 1) / 2;
        let attended_by_completion = rows * prompt + rows * (rows + 1) / 2;
        BatchSize {
            rows: prompts * prompt + (completions + mismatched) * rows,
            gradient_rows: prompts * prompt + completions * rows,
            scored: (completions + mismatched) * scored,
            gradient_scored: completions * scored,
            longest: self.max_length as u64,
            attended: attended_by_prompts + (completions + mismatched) * attended_by_completion,
            gradient_attended: attended_by_prompts + completions * attended_by_completion,
        }
    }

    /// Adds the memory of the optimizer and of the reference to a footprint.
    #[must_use]
    pub fn with_optimizer_memory<'a>(&self, footprint: Footprint<'a>) -> Footprint<'a> {
        let copy = if self.sync.is_some() { footprint.trained.bytes() } else { 0 };
        Footprint {
            moments: self.optimizer.moments(),
            frozen: footprint.frozen + copy,
            reference_pass: self.objective.needs_reference(),
            ..footprint
        }
    }

    /// Smallest micro-batch: a pair, or one completion.
    fn min_micro_batch(&self) -> usize {
        if self.objective.feedback_format() == FeedbackFormat::Paired { 2 } else { 1 }
    }
}

impl<'a> PlanRequest<'a> {
    /// Plans for a model recipe on a single device.
    pub fn from_recipe(
        recipe: &Recipe,
        architecture: &'a Architecture,
        settings: &'a Settings,
        place: DeviceKind,
    ) -> Self {
        let Recipe { train, dtype, .. } = *recipe;
        Self { architecture, train, dtype, settings, place, ranks: 1, zero: None }
    }

    /// Memory footprint of the model, with frozen matrices in `quantization`.
    pub fn footprint(&self, quantization: Option<Quantization>) -> Result<Footprint<'a>, ModelError> {
        let Self { architecture, train, dtype, ranks, zero, place, .. } = *self;
        let footprint =
            Footprint::planned(architecture, train, dtype, quantization, ranks as u64, zero, place)?;
        Ok(self.settings.with_optimizer_memory(footprint))
    }

    /// Finds plans within `bytes`: at most one per quantization, the most precise first.
    ///
    /// Each has the largest micro-batch that is useful, and then as few recomputed blocks as fit.
    pub fn plans_within(&self, bytes: u64) -> Result<Vec<TrainPlan>, ModelError> {
        let plans = self.quantizations().iter().map(|quantization| self.plan_within(*quantization, bytes));
        plans.filter_map(Result::transpose).collect()
    }

    /// Returns the plan with the least memory, without a budget.
    pub fn smallest_plan(&self) -> Result<Option<TrainPlan>, ModelError> {
        let (micro_batch_size, recomputed) =
            (self.settings.min_micro_batch(), self.architecture.layers as u64);
        let plan = |quantization: &Option<Quantization>| {
            let demand = self.demand(&self.footprint(*quantization)?, micro_batch_size, recomputed);
            Ok(TrainPlan { quantization: *quantization, micro_batch_size, recomputed, demand })
        };
        let all: Vec<TrainPlan> = self.quantizations().iter().map(plan).collect::<Result<_, ModelError>>()?;
        Ok(all.into_iter().min_by_key(|plan| plan.demand.total()))
    }

    /// Returns the plan of the settings as they are, with every sequence at its maximum length.
    pub fn plan_as_set(
        &self,
        quantization: Option<Quantization>,
        activations: Activations,
    ) -> Result<TrainPlan, ModelError> {
        let footprint = self.footprint(quantization)?;
        let micro_batch_size = self.settings.micro_batch_size;
        let layers = self.architecture.layers as u64;
        let recomputed = match activations {
            Activations::Keep => 0,
            Activations::Recompute => layers,
            Activations::RecomputeFirst(blocks) => (blocks as u64).min(layers),
            Activations::Within(bytes) => {
                let batch = self.settings.longest_batch(micro_batch_size);
                let within = footprint.recomputed_within(bytes, &batch, self.accumulates(micro_batch_size));
                within.unwrap_or(layers)
            }
        };
        let demand = self.demand(&footprint, micro_batch_size, recomputed);
        Ok(TrainPlan { quantization, micro_batch_size, recomputed, demand })
    }

    fn demand(&self, footprint: &Footprint<'_>, micro_batch_size: usize, recomputed: u64) -> MemoryDemand {
        let batch = self.settings.longest_batch(micro_batch_size);
        footprint.demand(&batch, recomputed, self.accumulates(micro_batch_size))
    }

    /// Returns true if a rank accumulates gradients over several micro-batches.
    fn accumulates(&self, micro_batch_size: usize) -> bool {
        micro_batch_size * self.ranks < self.settings.batch_size
    }

    fn quantizations(&self) -> &'static [Option<Quantization>] {
        match self.train {
            Train::Full => &[None],
            Train::Lora(_) => &[None, Some(Quantization::Q8_0), Some(Quantization::Q4K)],
        }
    }

    /// Micro-batch sizes to try: a rank's part of the batch, then half of the size before. Pairs
    /// stay whole.
    fn micro_batch_sizes(&self) -> impl Iterator<Item = usize> {
        let min = self.settings.min_micro_batch();
        let even = move |size: usize| (size - size % min).max(min);
        let all = even(self.settings.batch_size / self.ranks);
        std::iter::successors(Some(all), move |size| (*size > min).then(|| even(size / 2)))
    }

    fn plan_within(
        &self,
        quantization: Option<Quantization>,
        bytes: u64,
    ) -> Result<Option<TrainPlan>, ModelError> {
        let footprint = self.footprint(quantization)?;
        let min = self.settings.min_micro_batch();
        Ok(self.micro_batch_sizes().find_map(|micro_batch_size| {
            let batch = self.settings.longest_batch(micro_batch_size);
            if batch.rows > MAX_USEFUL_ROWS && micro_batch_size > min {
                return None;
            }
            let accumulates = self.accumulates(micro_batch_size);
            let recomputed = footprint.recomputed_within(bytes, &batch, accumulates)?;
            let demand = self.demand(&footprint, micro_batch_size, recomputed);
            Some(TrainPlan { quantization, micro_batch_size, recomputed, demand })
        }))
    }
}
