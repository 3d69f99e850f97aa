//! Observations of several runs, clustered by prompt and by group.

use prospect_runs::{Estimate, PairOutcome, ThumbOutcome};

use super::finished_runs::FinishedRun;
use crate::stats::{Difference, Observation, Sample, Scale, SeedVariance, StatsError};

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

    /// Observations of held-out pairs: one value for each pair of a run; None if a run has no
    /// pairs.
    pub(super) fn pairs(
        runs: &[&'a FinishedRun<'_>],
        values: impl Fn(&FinishedRun<'_>) -> Vec<f64>,
    ) -> Option<Self> {
        let items = |run: &&'a FinishedRun<'_>| {
            let item = |(pair, value): (&'a PairOutcome, f64)| Item {
                id: &pair.pair_id,
                prompt: &pair.prompt_id,
                group: pair.group.as_deref(),
                value,
            };
            run.pairs.iter().zip(values(run)).map(item).collect()
        };
        let has_pairs = runs.iter().all(|run| !run.pairs.is_empty());
        has_pairs.then(|| Self::new(&runs.iter().map(items).collect::<Vec<_>>()))
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

    /// Observations that have no groups.
    pub(super) fn by_prompt(by_prompt: Vec<Vec<Observation<'a>>>) -> Self {
        Self { by_prompt, by_group: None }
    }

    /// Aligns the observations of all runs.
    pub(super) fn sample(&self, scale: Scale) -> Result<ClusteredSample, StatsError> {
        let by_group = self.by_group.as_ref().map(|by_group| Sample::new(by_group, scale)).transpose()?;
        Ok(ClusteredSample { by_prompt: Sample::new(&self.by_prompt, scale)?, by_group })
    }
}

/// Observations of the runs of one series, in each clustering.
#[derive(Debug, Clone)]
pub(super) struct ClusteredSample {
    by_prompt: Sample,
    by_group: Option<Sample>,
}

impl From<Sample> for ClusteredSample {
    fn from(by_prompt: Sample) -> Self {
        Self { by_prompt, by_group: None }
    }
}

impl ClusteredSample {
    /// Value of each prompt, by run.
    pub(super) fn by_prompt(&self) -> Vec<Vec<f64>> {
        self.by_prompt.by_prompt()
    }

    /// Mean of each run.
    pub(super) fn run_means(&self) -> Vec<f64> {
        self.by_prompt.run_means()
    }

    /// Mean with its interval over seeds and clusters, given the variance between seeds; None
    /// estimates it from these runs.
    pub(super) fn estimate(&self, seeds: Option<SeedVariance>) -> Estimate {
        let by_prompt = self.by_prompt.estimate_with(seeds);
        let by_group = self.by_group.as_ref().map(|by_group| by_group.estimate_with(seeds));
        let width = |estimate: &Estimate| estimate.high - estimate.low;
        by_group.filter(|by_group| width(by_group) > width(&by_prompt)).unwrap_or(by_prompt)
    }

    /// Difference from other runs with the same observations, paired by seed and observation.
    /// `seeds` returns the variance between seeds, given the difference's own.
    pub(super) fn minus(
        &self,
        other: &Self,
        seeds: impl Fn(Option<SeedVariance>) -> Option<SeedVariance>,
    ) -> Result<Difference, StatsError> {
        let difference = |ours: &Sample, theirs: &Sample| -> Result<Difference, StatsError> {
            let difference = ours.minus(theirs)?;
            Ok(difference.with_seed_variance(seeds(difference.own_seed_variance())))
        };
        let by_prompt = difference(&self.by_prompt, &other.by_prompt)?;
        let (Some(ours), Some(theirs)) = (&self.by_group, &other.by_group) else { return Ok(by_prompt) };
        let by_group = difference(ours, theirs)?;
        let width = |difference: &Difference| difference.estimate().high - difference.estimate().low;
        Ok(if width(&by_group) > width(&by_prompt) { by_group } else { by_prompt })
    }
}
