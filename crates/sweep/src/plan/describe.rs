//! The plan as text.

use std::collections::BTreeSet;

use prospect_model::WeightsSource;
use prospect_runs::{SweepDir, averaged_settings, describe_settings};
use prospect_train::Settings;

use super::{DatasetSource, ResolvedRun, RunFilter, SweepPlan};
use crate::{search::RUNG, status::RunState};

/// Describes states of runs: the one of all, or how many runs have each.
fn count(states: &[String]) -> String {
    let kinds: BTreeSet<&String> = states.iter().collect();
    if let [all] = kinds.iter().collect::<Vec<_>>()[..] {
        return (*all).clone();
    }
    let of = |kind: &&String| format!("{} {kind}", states.iter().filter(|state| state == kind).count());
    kinds.iter().map(of).collect::<Vec<_>>().join(", ")
}

impl SweepPlan {
    /// Returns the addresses of data and weights that are not on this machine.
    pub fn not_fetched(&self) -> BTreeSet<String> {
        let data = self.datasets.iter().filter_map(|dataset| match &dataset.source {
            DatasetSource::NotFetched { missing, .. } => Some(missing.0.clone()),
            DatasetSource::Recipe(_) | DatasetSource::Prepared { .. } => None,
        });
        let weights = self.models.iter().filter_map(|model| match &model.weights {
            WeightsSource::NotFetched(address) => Some(address.clone()),
            _ => None,
        });
        data.chain(weights).collect()
    }

    fn is_retrained(&self, run: &ResolvedRun) -> bool {
        self.retrained.iter().any(|other| other.id == run.id)
    }

    /// Formats the plan: stages, the runs that `filter` selects, and their states in `sweep`. Runs
    /// that differ only in their seed are one line.
    pub fn describe(&self, sweep: &SweepDir, filter: &RunFilter) -> String {
        let mut lines = vec![
            self.question.clone(),
            format!(
                "{} runs over {} datasets and {} models; shared stages: {}",
                self.expected_runs().len(),
                self.datasets.len(),
                self.models.len(),
                if self.sft.is_empty() { "none".to_owned() } else { format!("{} SFT", self.sft.len()) },
            ),
        ];
        lines.extend(self.trained_starts().iter().map(|start| {
            format!(
                "warning: the question is about base models, but runs start from {start}; the verdict says so"
            )
        }));
        let compared = if self.search.is_some() { &[] } else { self.runs.as_slice() };
        let averaged = averaged_settings(compared.iter().map(|run| &run.settings), self.axes.each_ref());
        lines.extend(averaged.into_iter().map(|setting| {
            format!(
                "warning: `{setting}` is neither `report.x` nor `report.series`; the report averages over it, and says so"
            )
        }));
        let held = sweep.claims().held().unwrap_or_default();
        let state = |id: &str| {
            let status = sweep.run(id).status().ok().flatten();
            RunState::from_status(status.as_ref(), held.contains_key(id))
        };
        if let [_, _, _, ..] = self.sft[..] {
            let states: Vec<String> = self.sft.iter().map(|sft| state(&sft.id).to_string()).collect();
            lines.push(format!("  {} SFT stages, shared  {}", self.sft.len(), count(&states)));
        } else {
            for sft in &self.sft {
                lines.push(format!("  {}  sft, shared  {}", sft.id, state(&sft.id)));
            }
        }
        let runs: Vec<&ResolvedRun> = self.runs.iter().filter(|run| filter.matches(run)).collect();
        for group in runs.chunk_by(|a, b| a.settings == b.settings) {
            let seeds: Vec<String> = group.iter().map(|run| run.seed.to_string()).collect();
            let states: Vec<String> = group.iter().map(|run| state(&run.id).to_string()).collect();
            let settings = group.first().map(|run| describe_settings(&run.settings)).unwrap_or_default();
            lines.push(match group {
                [run] => format!("  {}  {settings}, seed {}  {}", run.id, run.seed, states.concat()),
                _ => format!("  {settings}, seeds {}  {}", seeds.join(", "), count(&states)),
            });
        }
        for (runs, rung) in self.later_rungs.iter().zip(2..) {
            let trials = self.search.map_or(0, |search| search.trials_in(rung - 1));
            let cells = runs.iter().filter_map(|run| run.trial).map(|trial| trial.cell);
            let cells = cells.collect::<BTreeSet<_>>().len();
            let is_in_rung = |run: &&&ResolvedRun| run.settings.get(RUNG) == Some(&rung.into());
            let runs = self.expected_runs().iter().filter(is_in_rung).count();
            lines.push(format!(
                "  then rung {rung}: {runs} runs, of the best {trials} trials in each of {cells} cells (series and x)"
            ));
        }
        let retrained: Vec<_> =
            self.expected_runs().into_iter().filter(|run| self.is_retrained(run)).collect();
        if !retrained.is_empty() {
            let seeds: BTreeSet<u64> = retrained.iter().map(|run| run.seed).collect();
            let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
            let (runs, seeds) = (retrained.len(), seeds.join(", "));
            lines.push(format!("  then the winners again: {runs} runs, under fresh seeds ({seeds})"));
        }
        lines.extend(self.describe_presets().into_iter().map(|line| format!("  {line}")));
        lines.join("\n")
    }

    /// Describes the different settings that presets resolved to, of stages and runs.
    pub fn describe_presets(&self) -> Vec<String> {
        let stages = self.sft.iter().map(|stage| &stage.settings);
        let all = stages.chain(self.runs.iter().map(|run| &run.train));
        let mut described = Vec::new();
        for line in all.filter_map(Settings::describe_preset) {
            if !described.contains(&line) {
                described.push(line);
            }
        }
        described
    }
}
