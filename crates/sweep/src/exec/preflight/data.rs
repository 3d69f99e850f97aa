//! Counts of a dataset against the needs of an objective and of the evaluation.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use prospect_data::{Manifest, Split, SplitCounts, read_binary};
use prospect_train::{FeedbackFormat, Objective, needs_pairs};

use crate::{SweepError, estimate::completions_per_epoch, plan::SweepPlan};

/// Checks datasets by the counts in their manifests.
pub(super) struct DataCheck<'a> {
    plan: &'a SweepPlan,
    manifests: &'a [Manifest],
    /// Fewest completions of other prompts that a prompt has, by dataset.
    other_completions: BTreeMap<usize, usize>,
    /// Datasets that a warning has named.
    warned: BTreeSet<usize>,
}

impl<'a> DataCheck<'a> {
    pub(super) fn new(plan: &'a SweepPlan, manifests: &'a [Manifest]) -> Self {
        Self { plan, manifests, other_completions: BTreeMap::new(), warned: BTreeSet::new() }
    }

    /// Returns the reason why `objective` cannot train on a dataset, if any.
    pub(super) fn training_problem(
        &mut self,
        dataset: usize,
        objective: &Objective,
    ) -> Result<Option<String>, SweepError> {
        let counts = self.manifests[dataset].train;
        let path = &self.plan.datasets[dataset].path;
        if completions_per_epoch(counts, objective) == 0 {
            return Ok(Some(no_examples(path, &self.manifests[dataset], objective)));
        }
        let kl_partners = objective.kl_partners();
        // Every other prompt has at least one completion, so only few prompts need a closer look.
        if kl_partners == 0 || counts.prompts as usize > kl_partners {
            return Ok(None);
        }
        let others = match self.other_completions.get(&dataset) {
            Some(others) => *others,
            None => fewest_other_completions(path)?,
        };
        self.other_completions.insert(dataset, others);
        Ok((others < kl_partners).then(|| {
            format!(
                "KTO needs {kl_partners} completions of other prompts for each prompt, but a prompt of {} has \
                 only {others}: add prompts, lower train.kl_partners, or set train.objective to \
                 apo_zero_unpaired, which needs none",
                path.display()
            )
        }))
    }

    /// Returns the reason why runs cannot be evaluated on a dataset, if any. Warns, once, where
    /// they cannot be ranked.
    pub(super) fn held_out_problem(&mut self, dataset: usize) -> Option<String> {
        let path = self.plan.datasets[dataset].path.display();
        let SplitCounts { pairs, n_desirable, n_undesirable, .. } = self.manifests[dataset].test;
        if pairs > 0 || n_desirable.min(n_undesirable) > 0 {
            return None;
        }
        if n_desirable + n_undesirable > 0 {
            if self.warned.insert(dataset) {
                tracing::warn!(
                    "the held-out thumbs of {path} are all of one kind ({n_desirable} up, {n_undesirable} down), so \
                     rewards cannot be ranked: raise split.test_fraction in the data recipe to compare runs"
                );
            }
            return None;
        }
        Some(format!(
            "{path} has no held-out feedback, on which every run is evaluated: raise split.test_fraction in the \
             data recipe"
        ))
    }
}

fn no_examples(path: &Path, manifest: &Manifest, objective: &Objective) -> String {
    let (name, path) = (objective.name(), path.display());
    let SplitCounts { n_desirable, n_undesirable, .. } = manifest.train;
    match objective.feedback_format() {
        FeedbackFormat::Paired if manifest.reading.pairs > 0 => format!(
            "{name} trains on pairs, but {path} has none left ({n_desirable} desirable and {n_undesirable} undesirable \
             completions): keep both completions of some prompts, or set train.objective to one for binary \
             feedback, such as kto"
        ),
        FeedbackFormat::Paired => format!(
            "{path} has {n_desirable} desirable and {n_undesirable} undesirable completions but no pairs: {}",
            needs_pairs(name)
        ),
        FeedbackFormat::Desirable => format!(
            "{name} trains on desirable completions, but {path} has none ({n_undesirable} undesirable ones): keep \
             some of them"
        ),
        FeedbackFormat::Unpaired | FeedbackFormat::All => {
            format!("{path} has no training rows: keep more data, or lower split.test_fraction")
        }
    }
}

/// Returns the fewest completions of other prompts that any prompt of the training split has.
fn fewest_other_completions(dataset: &Path) -> Result<usize, SweepError> {
    let rows = read_binary(dataset, Split::Train)?;
    let mut by_prompt: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &rows {
        *by_prompt.entry(&row.prompt_id).or_default() += 1;
    }
    Ok(rows.len() - by_prompt.values().max().copied().unwrap_or(0))
}
