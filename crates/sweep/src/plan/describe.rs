//! The plan as text.

use std::collections::{BTreeMap, BTreeSet};

use prospect_model::WeightsSource;
use prospect_runs::{SweepDir, averaged_settings, describe_settings, series_name};
use prospect_train::Settings;
use serde::Serialize;
use serde_json::Value;

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

/// A run of the plan with its state.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedState<'a> {
    /// Name of its directory.
    pub id: &'a str,
    /// The swept settings.
    pub settings: &'a BTreeMap<String, Value>,
    /// Random seed.
    pub seed: u64,
    /// State.
    pub state: RunState,
}

/// Returns the function from the id of a run or stage to its state.
fn states_in(sweep: &SweepDir) -> impl Fn(&str) -> RunState {
    let held = sweep.claims().held().unwrap_or_default();
    move |id| {
        let status = sweep.run(id).status().ok().flatten();
        RunState::from_status(status.as_ref(), held.contains_key(id))
    }
}

/// Groups of runs from which on a plan is a grid instead of a list.
const GRID: usize = 8;

/// Describes runs that differ only in their seed.
fn describe_group(group: &[PlannedState<'_>]) -> String {
    let settings = group.first().map(|run| describe_settings(run.settings)).unwrap_or_default();
    match group {
        [run] => format!("  {}  {settings}, seed {}  {}", run.id, run.seed, run.state),
        _ => format!("  {settings}, seeds {}  {}", seeds(group), states(group)),
    }
}

/// Most consecutive seeds that are listed one by one.
const FEW_SEEDS: usize = 16;

/// Lists seeds, as a range if they are many and consecutive.
fn seeds(group: &[PlannedState<'_>]) -> String {
    let are_consecutive = group.windows(2).all(|pair| pair[0].seed.checked_add(1) == Some(pair[1].seed));
    match group {
        [first, .., last] if are_consecutive && group.len() > FEW_SEEDS => {
            format!("{} to {}", first.seed, last.seed)
        }
        _ => group.iter().map(|run| run.seed.to_string()).collect::<Vec<_>>().join(", "),
    }
}

fn states(group: &[PlannedState<'_>]) -> String {
    count(&group.iter().map(|run| run.state.to_string()).collect::<Vec<_>>())
}

impl SweepPlan {
    /// Returns the runs that `filter` selects, with their states in `sweep`; with a search, those
    /// of the first rung.
    pub fn planned_runs(&self, sweep: &SweepDir, filter: &RunFilter) -> Vec<PlannedState<'_>> {
        let selected = self.runs.iter().filter(|run| filter.matches(run));
        let state = states_in(sweep);
        let planned = selected.map(|run| PlannedState {
            id: &run.id,
            settings: &run.settings,
            seed: run.seed,
            state: state(&run.id),
        });
        planned.collect()
    }

    /// Formats many groups as a grid: the x axis across, all other settings down, and the state of
    /// the seeds in each cell. Returns None for few groups, or if they differ in their seeds.
    fn grid(&self, groups: &[&[PlannedState<'_>]]) -> Option<Vec<String>> {
        let [x_axis, _] = &self.axes;
        let first = groups.first().filter(|_| groups.len() >= GRID)?;
        let mut columns: Vec<String> = Vec::new();
        let mut rows: Vec<(String, Vec<(String, String)>)> = Vec::new();
        for group in groups.iter().filter(|group| !group.is_empty()) {
            if seeds(group) != seeds(first) {
                return None;
            }
            let mut settings = group[0].settings.clone();
            let x = series_name(&settings.remove(&x_axis.key)?);
            let (row, cell) = (describe_settings(&settings), (x.clone(), states(group)));
            if !columns.contains(&x) {
                columns.push(x);
            }
            match rows.iter_mut().find(|(name, _)| *name == row) {
                Some((_, cells)) if cells.iter().any(|(at, _)| *at == cell.0) => return None,
                Some((_, cells)) => cells.push(cell),
                None => rows.push((row, vec![cell])),
            }
        }
        let head = std::iter::once(String::new()).chain(columns.iter().cloned()).collect();
        let body = rows.into_iter().map(|(name, cells)| {
            let cell = |x: &String| cells.iter().find(|(at, _)| at == x).map(|(_, state)| state.clone());
            std::iter::once(name).chain(columns.iter().map(|x| cell(x).unwrap_or_default())).collect()
        });
        let table: Vec<Vec<String>> = std::iter::once(head).chain(body).collect();
        let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..=columns.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            format!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end())
        };
        let title = format!("  runs by {} (across), seeds {} each:", x_axis.key, seeds(first));
        Some(std::iter::once(title).chain(table.iter().map(line)).collect())
    }

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
        data.chain(weights).chain(self.tests.missing().iter().cloned()).collect()
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
                "{} over {} and {}; shared stages: {}",
                counted(self.expected_runs().len(), "run"),
                counted(self.datasets.len(), "dataset"),
                counted(self.models.len(), "model"),
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
        let state = states_in(sweep);
        if let [_, _, _, ..] = self.sft[..] {
            let states: Vec<String> = self.sft.iter().map(|sft| state(&sft.id).to_string()).collect();
            lines.push(format!("  {} SFT stages, shared  {}", self.sft.len(), count(&states)));
        } else {
            for sft in &self.sft {
                lines.push(format!("  {}  sft, shared  {}", sft.id, state(&sft.id)));
            }
        }
        let planned = self.planned_runs(sweep, filter);
        let groups: Vec<&[PlannedState<'_>]> = planned.chunk_by(|a, b| a.settings == b.settings).collect();
        match self.grid(&groups) {
            Some(grid) => lines.extend(grid),
            None => lines.extend(groups.iter().map(|group| describe_group(group))),
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
        lines.extend(self.tests.describe().map(|line| format!("  {line}")));
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

/// Returns a number with its noun: `1 run`, `2 runs`.
fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
