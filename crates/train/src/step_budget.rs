//! Memory settings of a step, and how they shrink when the device runs out of memory.

use prospect_model::Activations;

use crate::{FeedbackFormat, Settings, settings::Z0};

/// Micro-batch size and activation checkpointing of the next step.
///
/// Neither changes the step's result, except for rounding: the objective is evaluated on the global
/// batch. So a step that runs out of memory is repeated with a smaller budget, which the rest of
/// the run keeps.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StepBudget {
    pub(crate) settings: Settings,
    pub(crate) activations: Activations,
    layers: usize,
}

impl StepBudget {
    /// Starts with the configured settings of a model of `layers` blocks.
    pub(crate) fn new(settings: &Settings, activations: Activations, layers: usize) -> Self {
        Self { settings: settings.clone(), activations, layers }
    }

    /// Recomputes more blocks, or else halves the micro-batch. Returns false if neither is
    /// possible.
    pub(crate) fn shrink(&mut self) -> bool {
        match self.activations {
            Activations::Keep if self.layers > 1 => {
                self.activations = Activations::RecomputeFirst(self.layers / 2);
            }
            Activations::Keep | Activations::Within(_) => self.activations = Activations::Recompute,
            Activations::RecomputeFirst(blocks) if blocks < self.layers => {
                self.activations = Activations::Recompute;
            }
            Activations::RecomputeFirst(_) | Activations::Recompute => {
                let smallest = self.smallest_micro_batch();
                let half = (self.settings.micro_batch_size / 2 / smallest * smallest).max(smallest);
                if half >= self.settings.micro_batch_size {
                    return false;
                }
                self.settings.micro_batch_size = half;
            }
        }
        true
    }

    /// Returns the completions that cannot be divided further.
    fn smallest_micro_batch(&self) -> usize {
        let objective = &self.settings.objective;
        match objective.feedback_format() {
            // The micro-batch is part of the method.
            _ if matches!(objective.z0(), Some(Z0::MicroBatch)) => self.settings.micro_batch_size.max(1),
            FeedbackFormat::Paired => 2,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use prospect_core::config::Document;

    use super::*;
    use crate::TrainFile;

    fn budget(objective: &str, micro_batch_size: usize, activations: Activations) -> StepBudget {
        let text = format!(
            "learning_rate: 1e-3\nmax_steps: 2\nbatch_size: 16\nmicro_batch_size: {micro_batch_size}\nmax_length: 64\nobjective: {objective}"
        );
        let file: TrainFile = Document::from_text("train.yaml", &text).unwrap().read().unwrap();
        StepBudget::new(&file.resolve().unwrap(), activations, 4)
    }

    /// Returns the budgets until none is left.
    fn ladder(mut budget: StepBudget) -> Vec<(Activations, usize)> {
        let mut all = Vec::new();
        while budget.shrink() {
            all.push((budget.activations, budget.settings.micro_batch_size));
        }
        all
    }

    #[test]
    fn more_blocks_are_recomputed_before_the_micro_batch_shrinks() {
        let all = Activations::Recompute;
        let keep = ladder(budget("kto", 8, Activations::Keep));
        assert_eq!(keep, [(Activations::RecomputeFirst(2), 8), (all, 8), (all, 4), (all, 2), (all, 1)]);
        assert_eq!(ladder(budget("kto", 3, Activations::Within(1))), [(all, 3), (all, 1)]);
        // A pair stays whole, and TRL's reference point depends on the micro-batch.
        assert_eq!(ladder(budget("dpo", 6, all)), [(all, 2)]);
        assert_eq!(ladder(budget("kto\nz0: micro_batch", 8, all)), []);
    }
}
