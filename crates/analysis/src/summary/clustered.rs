//! Observations of several runs, clustered by prompt and by group.

use prospect_runs::{Estimate, PairOutcome, ThumbOutcome};

use super::finished_runs::FinishedRun;
use crate::stats::{Difference, Observation, StatsError, contrast, estimate};

/// Observations of several runs, in each clustering that the data allows.
///
/// Thumbs of one user, or of one conversation, resemble each other as those of one prompt do. A
/// user has many prompts, and a prompt may have many users, so neither clustering contains the
/// other: the wider interval counts.
pub(super) struct Clustered<'a> {
    by_prompt: Vec<Vec<Observation<'a>>>,
    by_group: Option<Vec<Vec<Observation<'a>>>>,
}

/// One observation, with the clusters that it belongs to.
struct Item<'a> {
    id: &'a str,
    prompt: &'a str,
    group: Option<&'a str>,
    value: f64,
}

impl<'a> Clustered<'a> {
    fn new(runs: &[Vec<Item<'a>>]) -> Self {
        let cluster = |key: fn(&Item<'a>) -> &'a str| -> Vec<Vec<Observation<'a>>> {
            let observation =
                |item: &Item<'a>| Observation { pair: item.id, prompt: key(item), value: item.value };
            runs.iter().map(|run| run.iter().map(observation).collect()).collect()
        };
        let has_groups = runs.iter().flatten().any(|item| item.group.is_some());
        Self {
            by_prompt: cluster(|item| item.prompt),
            by_group: has_groups.then(|| cluster(|item| item.group.unwrap_or(item.prompt))),
        }
    }

    /// Observations of held-out pairs: `value` of β and pair.
    pub(super) fn pairs(runs: &[&'a FinishedRun<'_>], value: impl Fn(f64, &PairOutcome) -> f64) -> Self {
        let items = |run: &&'a FinishedRun<'_>| {
            let item = |pair: &'a PairOutcome| Item {
                id: &pair.pair_id,
                prompt: &pair.prompt_id,
                group: pair.group.as_deref(),
                value: value(run.beta, pair),
            };
            run.pairs.iter().map(item).collect()
        };
        Self::new(&runs.iter().map(items).collect::<Vec<_>>())
    }

    /// Observations of held-out thumbs: the terms of a measure (see [`crate::thumbs`]), one for
    /// each thumb; None if a run has none.
    pub(super) fn thumbs(
        runs: &[&'a FinishedRun<'_>],
        terms: impl Fn(&FinishedRun<'_>) -> Option<Vec<f64>>,
    ) -> Option<Self> {
        let items = |run: &&'a FinishedRun<'_>| -> Option<Vec<Item<'a>>> {
            let item = |(thumb, value): (&'a ThumbOutcome, f64)| Item {
                id: &thumb.id,
                prompt: &thumb.prompt_id,
                group: thumb.group.as_deref(),
                value,
            };
            Some(run.thumbs.iter().zip(terms(run)?).map(item).collect())
        };
        Some(Self::new(&runs.iter().map(items).collect::<Option<Vec<_>>>()?))
    }

    /// Mean with its interval over seeds and clusters.
    pub(super) fn estimate(&self) -> Result<Estimate, StatsError> {
        let width = |estimate: &Estimate| estimate.high - estimate.low;
        let by_prompt = estimate(&self.by_prompt)?;
        match &self.by_group {
            None => Ok(by_prompt),
            Some(by_group) => Ok([by_prompt, estimate(by_group)?]
                .into_iter()
                .max_by(|a, b| width(a).total_cmp(&width(b)))
                .unwrap_or(by_prompt)),
        }
    }

    /// Difference from other runs with the same observations, paired by seed and observation.
    pub(super) fn minus(&self, other: &Self) -> Result<Difference, StatsError> {
        let by_prompt = contrast(&self.by_prompt, &other.by_prompt)?;
        let (Some(ours), Some(theirs)) = (&self.by_group, &other.by_group) else { return Ok(by_prompt) };
        let by_group = contrast(ours, theirs)?;
        let width = |difference: &Difference| difference.estimate().high - difference.estimate().low;
        Ok(if width(&by_group) > width(&by_prompt) { by_group } else { by_prompt })
    }

    /// Number of observations of each run.
    pub(super) fn len(&self) -> usize {
        self.by_prompt.first().map_or(0, Vec::len)
    }
}
