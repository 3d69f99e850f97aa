//! Which settings of a training run fit into so much memory.

use prospect_model::{Architecture, BatchSize, Demand, Dtype, ModelSize, Place, Quantization, Recipe, Train};
use serde::Serialize;

use crate::{Examples, Objective, Settings};

/// Rows of a micro-batch beyond which a device is no faster.
const ENOUGH_ROWS: u64 = 8192;

/// What is to be trained, and how long its sequences are.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The shape of the model.
    pub architecture: &'a Architecture,
    /// What is trained of it.
    pub train: Train,
    /// The type of its weights.
    pub dtype: Dtype,
    /// How to train.
    pub settings: &'a Settings,
    /// Where.
    pub place: Place,
}

/// One way to train, and what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Way {
    /// How frozen matrices are kept, if not in the type of the weights.
    pub quantization: Option<Quantization>,
    /// Completions that pass through the model at once.
    pub micro_batch_size: usize,
    /// Blocks whose activations are computed again.
    pub recomputed: u64,
    /// What a step takes at most.
    pub demand: Demand,
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
        BatchSize {
            rows: prompts * prompt + (completions + mismatched) * rows,
            gradient_rows: prompts * prompt + completions * rows,
            scored: (completions + mismatched) * scored,
            gradient_scored: completions * scored,
            longest: self.max_length as u64,
        }
    }

    /// The fewest completions that a micro-batch can have.
    fn least_micro_batch(&self) -> usize {
        if self.objective.examples() == Examples::Paired { 2 } else { 1 }
    }
}

impl Wanted<'_> {
    /// The sizes of the model under a way to keep its frozen matrices.
    pub fn size(&self, quantization: Option<Quantization>) -> ModelSize<'_> {
        let recipe = (self.train, self.dtype, quantization);
        ModelSize::planned(self.architecture, recipe, self.place)
    }

    /// The ways to train within `bytes`, the best of each kind of weights first: with the largest micro-batch that is of
    /// use, and then as little computed again as fits. Kinds that do not fit have none.
    pub fn ways(&self, bytes: u64) -> Vec<Way> {
        self.kinds().into_iter().filter_map(|kind| self.way(kind, bytes)).collect()
    }

    /// The smallest way there is, whether it fits or not.
    pub fn smallest(&self) -> Option<Way> {
        let way = |kind| {
            let least = self.settings.least_micro_batch();
            let recomputed = self.architecture.layers as u64;
            Way {
                quantization: kind,
                micro_batch_size: least,
                recomputed,
                demand: self.demand(kind, least, recomputed),
            }
        };
        self.kinds().into_iter().map(way).min_by_key(|way| way.demand.total())
    }

    /// What a step takes.
    pub fn demand(&self, kind: Option<Quantization>, micro_batch_size: usize, recomputed: u64) -> Demand {
        let accumulates = micro_batch_size < self.settings.batch_size;
        self.size(kind).demand(&self.settings.longest_batch(micro_batch_size), recomputed, accumulates)
    }

    fn kinds(&self) -> Vec<Option<Quantization>> {
        match self.train {
            Train::Full => vec![None],
            Train::Lora(_) => vec![None, Some(Quantization::Q8_0), Some(Quantization::Q4K)],
        }
    }

    fn way(&self, kind: Option<Quantization>, bytes: u64) -> Option<Way> {
        let size = self.size(kind);
        let mut micro_batch_size = self.settings.batch_size.max(self.settings.least_micro_batch());
        loop {
            let batch = self.settings.longest_batch(micro_batch_size);
            let least = micro_batch_size <= self.settings.least_micro_batch();
            if batch.rows <= ENOUGH_ROWS || least {
                let accumulates = micro_batch_size < self.settings.batch_size;
                if let Some(recomputed) = size.recomputed_within(bytes, &batch, accumulates) {
                    let demand = size.demand(&batch, recomputed, accumulates);
                    return Some(Way { quantization: kind, micro_batch_size, recomputed, demand });
                }
            }
            if least {
                return None;
            }
            // Half as many, and an even number of them for pairs.
            let half = micro_batch_size / 2;
            micro_batch_size =
                (half - half % self.settings.least_micro_batch()).max(self.settings.least_micro_batch());
        }
    }
}

impl<'a> Wanted<'a> {
    /// What a recipe asks for.
    pub fn of(recipe: &Recipe, architecture: &'a Architecture, settings: &'a Settings, place: Place) -> Self {
        Self { architecture, train: recipe.train, dtype: recipe.dtype, settings, place }
    }
}
