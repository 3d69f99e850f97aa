//! Which settings of a training run fit into so much memory.

use prospect_model::{
    Activations, Architecture, BatchSize, DeviceKind, Dtype, Footprint, MemoryDemand, ModelError,
    Quantization, Recipe, Train,
};
use serde::Serialize;

use crate::{Examples, Objective, Settings};

/// Rows of a micro-batch beyond which a device is no faster.
const ENOUGH_ROWS: u64 = 8192;

/// What is to be trained, and how long its sequences are.
#[derive(Debug, Clone)]
pub struct PlanRequest<'a> {
    /// The shape of the model.
    pub architecture: &'a Architecture,
    /// What is trained of it.
    pub train: Train,
    /// The type of its weights.
    pub dtype: Dtype,
    /// How to train.
    pub settings: &'a Settings,
    /// Where.
    pub place: DeviceKind,
    /// Number of ranks, each of which runs its part of a batch.
    pub ranks: usize,
    /// Whether each rank keeps its part only of the frozen matrices.
    pub sharded: bool,
}

/// One way to train, and what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TrainPlan {
    /// How frozen matrices are kept, if not in the type of the weights.
    pub quantization: Option<Quantization>,
    /// Completions that pass through the model at once.
    pub micro_batch_size: usize,
    /// Blocks whose activations are computed again.
    pub recomputed: u64,
    /// What a step takes at most.
    pub demand: MemoryDemand,
}

impl Settings {
    /// The micro-batch of `completions` completions whose sequences are all as long as they may be.
    pub fn longest_batch(&self, completions: usize) -> BatchSize {
        let completions = completions as u64;
        let prompt = self.max_prompt_length as u64;
        let completion = (self.max_length - self.max_prompt_length) as u64;
        // A completion's last token has no row.
        let (rows, scored) = (completion - 1, completion);
        let (prompts, mismatched) = match &self.objective {
            Objective::Kto { kl_partners, .. } => (completions, completions * *kl_partners as u64),
            objective if objective.examples() == Examples::Paired => (completions.div_ceil(2), 0),
            _ => (completions, 0),
        };
        // Row i of a prompt attends to i + 1 rows, and one of a completion to the prompt's as well.
        let of_prompts = prompts * prompt * (prompt + 1) / 2;
        let of_completion = rows * prompt + rows * (rows + 1) / 2;
        BatchSize {
            rows: prompts * prompt + (completions + mismatched) * rows,
            gradient_rows: prompts * prompt + completions * rows,
            scored: (completions + mismatched) * scored,
            gradient_scored: completions * scored,
            longest: self.max_length as u64,
            attended: of_prompts + (completions + mismatched) * of_completion,
            gradient_attended: of_prompts + completions * of_completion,
        }
    }

    /// The fewest completions that a micro-batch can have.
    fn least_micro_batch(&self) -> usize {
        if self.objective.examples() == Examples::Paired { 2 } else { 1 }
    }
}

impl<'a> PlanRequest<'a> {
    /// What a recipe asks for.
    pub fn of(
        recipe: &Recipe,
        architecture: &'a Architecture,
        settings: &'a Settings,
        place: DeviceKind,
    ) -> Self {
        let Recipe { train, dtype, .. } = *recipe;
        Self { architecture, train, dtype, settings, place, ranks: 1, sharded: false }
    }

    /// The footprint of the model under a way to keep its frozen matrices.
    pub fn footprint(&self, quantization: Option<Quantization>) -> Result<Footprint<'a>, ModelError> {
        let shards = if self.sharded { self.ranks as u64 } else { 1 };
        Footprint::planned(self.architecture, self.train, self.dtype, quantization, shards, self.place)
    }

    /// The ways to train within `bytes`, one for each kind of frozen matrices, the widest first: with the largest micro-batch
    /// that is of use, and then as little computed again as fits. Kinds that do not fit have none.
    pub fn ways(&self, bytes: u64) -> Result<Vec<TrainPlan>, ModelError> {
        let ways = self.kinds().iter().map(|kind| self.way(*kind, bytes));
        ways.filter_map(Result::transpose).collect()
    }

    /// The smallest way there is, whether it fits or not.
    pub fn smallest(&self) -> Result<Option<TrainPlan>, ModelError> {
        let (micro_batch_size, recomputed) =
            (self.settings.least_micro_batch(), self.architecture.layers as u64);
        let way = |kind: &Option<Quantization>| {
            let demand = self.demand(&self.footprint(*kind)?, micro_batch_size, recomputed);
            Ok(TrainPlan { quantization: *kind, micro_batch_size, recomputed, demand })
        };
        let all: Vec<TrainPlan> = self.kinds().iter().map(way).collect::<Result<_, ModelError>>()?;
        Ok(all.into_iter().min_by_key(|way| way.demand.total()))
    }

    /// What the settings as they are take, with sequences that are all as long as they may be.
    pub fn as_set(
        &self,
        kind: Option<Quantization>,
        activations: Activations,
    ) -> Result<TrainPlan, ModelError> {
        let footprint = self.footprint(kind)?;
        let micro_batch_size = self.settings.micro_batch_size;
        let layers = self.architecture.layers as u64;
        let recomputed = match activations {
            Activations::Keep => 0,
            Activations::Recompute => layers,
            Activations::Within(bytes) => {
                let batch = self.settings.longest_batch(micro_batch_size);
                let within = footprint.recomputed_within(bytes, &batch, self.accumulates(micro_batch_size));
                within.unwrap_or(layers)
            }
        };
        let demand = self.demand(&footprint, micro_batch_size, recomputed);
        Ok(TrainPlan { quantization: kind, micro_batch_size, recomputed, demand })
    }

    fn demand(&self, footprint: &Footprint<'_>, micro_batch_size: usize, recomputed: u64) -> MemoryDemand {
        let batch = self.settings.longest_batch(micro_batch_size);
        footprint.demand(&batch, recomputed, self.accumulates(micro_batch_size))
    }

    fn accumulates(&self, micro_batch_size: usize) -> bool {
        micro_batch_size * self.ranks < self.settings.batch_size
    }

    fn kinds(&self) -> &'static [Option<Quantization>] {
        match self.train {
            Train::Full => &[None],
            Train::Lora(_) => &[None, Some(Quantization::Q8_0), Some(Quantization::Q4K)],
        }
    }

    /// Micro-batches from a rank's part of the batch down, each half of the one before, and an even number of completions for
    /// pairs.
    fn micro_batches(&self) -> impl Iterator<Item = usize> {
        let least = self.settings.least_micro_batch();
        let even = move |size: usize| (size - size % least).max(least);
        let all = even(self.settings.batch_size / self.ranks);
        std::iter::successors(Some(all), move |size| (*size > least).then(|| even(size / 2)))
    }

    fn way(&self, kind: Option<Quantization>, bytes: u64) -> Result<Option<TrainPlan>, ModelError> {
        let footprint = self.footprint(kind)?;
        let least = self.settings.least_micro_batch();
        Ok(self.micro_batches().find_map(|micro_batch_size| {
            let batch = self.settings.longest_batch(micro_batch_size);
            if batch.rows > ENOUGH_ROWS && micro_batch_size > least {
                return None;
            }
            let accumulates = self.accumulates(micro_batch_size);
            let recomputed = footprint.recomputed_within(bytes, &batch, accumulates)?;
            let demand = self.demand(&footprint, micro_batch_size, recomputed);
            Some(TrainPlan { quantization: kind, micro_batch_size, recomputed, demand })
        }))
    }
}
