//! Triage of a prepared dataset: which of its labels do policies dispute that never trained on
//! them?
//!
//! The prompts are dealt out to folds ([`prospect_data::write_folds`]). Each fold is the test split
//! of one dataset, and a sweep with one run for each of these datasets gives every judgement a
//! score under a policy that saw none of its prompt's rows. [`Triage::rank`] orders judgements by
//! how far their label is disputed.

mod experiment;
mod ranking;
mod scores;

use std::path::{Path, PathBuf};

use prospect_data::{Fold, TriageItem, mark, read_items, write_folds};
use prospect_runs::SweepDir;
use prospect_train::ObjectiveName;

use crate::{
    SweepError,
    config::RecipeSources,
    exec::{Execution, execute},
    plan::SweepPlan,
};
pub use ranking::{KindResults, RankedItem, Ranking};

/// Settings of the policies that judge a dataset.
#[derive(Debug, Clone)]
pub struct TriageOptions {
    /// Prepared dataset.
    pub dataset: PathBuf,
    /// Model recipe.
    pub model: String,
    /// Objective; None is DPO where all feedback is pairs, else KTO.
    pub objective: Option<ObjectiveName>,
    /// Number of folds, at least [`TriageOptions::LEAST_FOLDS`].
    pub folds: usize,
    /// Passes over the training data of a fold; None is 1, and 3 for random weights.
    pub epochs: Option<u64>,
    /// Completions per optimizer step.
    pub batch_size: usize,
    /// Peak learning rate; None takes that of the literature for adapters and full fine-tuning.
    pub learning_rate: Option<f64>,
    /// Maximum tokens of prompt and completion together; None is 512, or what the model allows.
    pub max_length: Option<usize>,
    /// Trains an SFT stage first. It always does so for random weights.
    pub sft: bool,
    /// Seed of the folds, the adapter and the data order.
    pub seed: u64,
    /// Further settings, `KEY=VALUE`, below `train.`, `sft.` or `model.`.
    pub settings: Vec<String>,
}

impl TriageOptions {
    /// Fewest folds: with two, policies train on half of the data only.
    pub const LEAST_FOLDS: usize = 3;
}

/// Judgements of a dataset, and the signals against their labels that need no model.
#[derive(Debug)]
pub struct Triage {
    items: Vec<TriageItem>,
}

/// Planned runs of a triage, one for each fold.
#[derive(Debug)]
pub struct TriagePlan {
    /// Runs.
    pub sweep: SweepPlan,
    folds: Vec<Fold>,
}

impl Triage {
    /// Reads a prepared dataset and marks its judgements.
    pub fn read(dataset: &Path) -> Result<Self, SweepError> {
        let mut items = read_items(dataset)?;
        mark(&mut items);
        Ok(Self { items })
    }

    /// Judgements: pairs, and thumbs outside of pairs.
    pub fn items(&self) -> &[TriageItem] {
        &self.items
    }

    /// Writes the folds below `out`, and plans their runs.
    pub fn plan(
        &self,
        options: &TriageOptions,
        sources: &RecipeSources<'_>,
        out: &Path,
    ) -> Result<TriagePlan, SweepError> {
        if options.folds < TriageOptions::LEAST_FOLDS {
            return Err(SweepError::Setting(format!(
                "--folds is {}: use {} or more, so that policies train on most of the data",
                options.folds,
                TriageOptions::LEAST_FOLDS
            )));
        }
        let folds = write_folds(&options.dataset, &out.join("folds"), options.folds, options.seed)?;
        let sweep = experiment::plan(&self.items, options, &folds, sources, out)?;
        Ok(TriagePlan { sweep, folds })
    }

    /// Ranks judgements by their signals alone.
    pub fn rank_by_signals(self) -> Ranking {
        Ranking::by_signals(self.items)
    }

    /// Trains the missing runs in `sweep`, and ranks judgements by how far they are disputed.
    pub fn rank(
        self,
        plan: &TriagePlan,
        sweep: &SweepDir,
        how: &Execution,
        command: &str,
    ) -> Result<Ranking, SweepError> {
        let executed = execute(&plan.sweep, sweep, how, &[command.to_owned()])?;
        if executed.failed + executed.left > 0 {
            return Err(SweepError::Setting(format!(
                "{} of {} runs failed or are not done; see `prospect sweep status {}`, then run the same command again",
                executed.failed + executed.left,
                executed.runs,
                sweep.path().display()
            )));
        }
        let scores = scores::read(plan, sweep)?;
        Ranking::by_disagreement(self.items, &plan.folds, &scores)
    }
}
