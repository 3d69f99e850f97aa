//! The finished runs of a sweep by series and x, and what they made of held-out pairs and prompts.

use std::collections::BTreeMap;

use prospect_eval::{is_validation, stats::Outcome};
use prospect_runs::{
    Experiment, Generation, Judgement, Kind, PairOutcome, PlannedRun, SweepDir, series_name,
};
use serde_json::Value;

use crate::{SweepError, win_rates::by_utility};

/// A finished run with what it made of the held-out pairs.
pub(crate) struct Judged<'a> {
    pub(super) run: &'a PlannedRun,
    pub(super) pairs: Vec<PairOutcome>,
    generations: Vec<Generation>,
    pub(crate) judgements: Vec<Judgement>,
    pub(super) beta: f64,
    pub(super) steps: u64,
}

#[cfg(test)]
impl<'a> Judged<'a> {
    /// A run of which only the judgements matter.
    pub(crate) fn with(run: &'a PlannedRun, judgements: Vec<Judgement>) -> Self {
        Self { run, pairs: Vec::new(), generations: Vec::new(), judgements, beta: 1.0, steps: 0 }
    }
}

/// Runs of one series at one x, by seed.
pub(crate) type Cells<'a> = BTreeMap<(String, usize), Vec<Judged<'a>>>;

/// Reads the finished runs.
pub(super) fn cells<'a>(
    sweep: &SweepDir,
    experiment: &'a Experiment,
    xs: &Xs,
) -> Result<Cells<'a>, SweepError> {
    let mut cells: Cells<'_> = BTreeMap::new();
    for run in &experiment.runs {
        let directory = sweep.run(&run.id);
        if !directory.is_finished() {
            continue;
        }
        let metrics = directory.metrics()?;
        let steps = metrics.iter().filter(|record| record.kind == Kind::Train).count() as u64;
        let beta = directory.beta()?.unwrap_or(1.0);
        let series = run.settings.get(&experiment.series.key).map(series_name).unwrap_or_default();
        let x = run.settings.get(&experiment.x.key).map_or(0, |value| xs.index(value));
        let (mut pairs, mut generations) = (directory.pairs()?, directory.generations()?);
        let mut judgements = directory.judgements()?;
        // The other prompts have chosen the settings.
        let is_compared = |prompt_id: &str| experiment.search.is_none() || !is_validation(prompt_id);
        pairs.retain(|pair| is_compared(&pair.prompt_id));
        generations.retain(|generation| is_compared(&generation.prompt_id));
        judgements.retain(|judgement| is_compared(&judgement.prompt_id));
        judgements.extend(by_utility(&generations));
        cells.entry((series, x)).or_default().push(Judged {
            run,
            pairs,
            generations,
            judgements,
            beta,
            steps,
        });
    }
    for runs in cells.values_mut() {
        runs.sort_by_key(|judged| judged.run.seed);
    }
    Ok(cells)
}

/// The x axis: numbers as they are, anything else by its place in the plan.
pub(super) struct Xs {
    pub(super) values: Vec<Value>,
    pub(super) numbers: Vec<f64>,
}

impl Xs {
    pub(super) fn index(&self, value: &Value) -> usize {
        self.values.iter().position(|other| other == value).unwrap_or(0)
    }
}

pub(super) fn x_values(experiment: &Experiment) -> Xs {
    let mut values: Vec<Value> = Vec::new();
    for value in experiment.runs.iter().filter_map(|run| run.settings.get(&experiment.x.key)) {
        if !values.contains(value) {
            values.push(value.clone());
        }
    }
    let numbers: Option<Vec<f64>> = values.iter().map(Value::as_f64).collect();
    let numbers = numbers.unwrap_or_else(|| (0..values.len()).map(|index| index as f64).collect());
    Xs { values, numbers }
}

/// A value of every held-out pair, by run.
pub(super) fn outcomes<'a>(
    runs: &[&'a Judged<'_>],
    value: impl Fn(f64, &PairOutcome) -> f64,
) -> Vec<Vec<Outcome<'a>>> {
    runs.iter()
        .map(|judged| {
            judged
                .pairs
                .iter()
                .map(|pair| Outcome {
                    pair: &pair.pair_id,
                    prompt: &pair.prompt_id,
                    value: value(judged.beta, pair),
                })
                .collect()
        })
        .collect()
}

/// The true utilities of what each run said, if all of them know it.
pub(super) fn utilities<'a>(runs: &[&'a Judged<'_>]) -> Option<Vec<Vec<Outcome<'a>>>> {
    let of_run = |judged: &&'a Judged<'_>| {
        let known: Option<Vec<_>> =
            judged.generations.iter().map(|said| Some((said, said.utility?))).collect();
        let outcome = |(said, value): (&'a Generation, f64)| Outcome {
            pair: said.prompt_id.as_str(),
            prompt: said.prompt_id.as_str(),
            value,
        };
        let outcomes: Vec<_> = known?.into_iter().map(outcome).collect();
        (!outcomes.is_empty()).then_some(outcomes)
    };
    runs.iter().map(of_run).collect()
}
