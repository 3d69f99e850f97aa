//! Finished runs of a sweep by series and x, with their results on held-out feedback and prompts.

use std::collections::BTreeMap;

use prospect_runs::{
    Experiment, Generation, ImportedScore, Judgement, Opponent, PairOutcome, PlannedRun, PolicySample,
    QuestionOutcome, RecordKind, SweepDir, ThumbOutcome, preference, series_name,
};
use serde_json::Value;

use crate::{AnalysisError, stats::Observation, validation::is_validation};

/// Name of the judge that compares true utilities, in data that has them.
const TRUE_UTILITY: &str = "true utility";

/// A finished run with its results on held-out feedback and prompts.
pub(super) struct FinishedRun<'a> {
    pub(super) planned: &'a PlannedRun,
    pub(super) pairs: Vec<PairOutcome>,
    pub(super) thumbs: Vec<ThumbOutcome>,
    generations: Vec<Generation>,
    /// Judgements of the generations.
    pub(super) judgements: Vec<Judgement>,
    /// Answers to the questions of capability tests.
    pub(super) questions: Vec<QuestionOutcome>,
    /// Scores imported from other tools.
    pub(super) scores: Vec<ImportedScore>,
    /// Completions sampled during training.
    pub(super) samples: Vec<PolicySample>,
    /// Judgements of the samples against the preferred completions.
    pub(super) sample_judgements: Vec<Judgement>,
    /// β of the objective, or 1.
    pub(super) beta: f64,
    /// Training rows: pairs or completions.
    pub(super) examples: usize,
    /// Optimizer steps.
    pub(super) steps: u64,
    /// Values of the last evaluation.
    pub(super) last_evaluation: BTreeMap<String, f64>,
}

/// Preference accuracy of a run on every held-out pair.
pub(super) fn accuracies(run: &FinishedRun<'_>) -> Vec<f64> {
    run.pairs.iter().map(PairOutcome::accuracy).collect()
}

/// Preference accuracy on every held-out pair by the score that the objective ranks by; None if
/// that is the log-ratio.
pub(super) fn own_accuracies(run: &FinishedRun<'_>) -> Option<Vec<f64>> {
    run.pairs.iter().map(PairOutcome::own_accuracy).collect()
}

/// Reward margin of every held-out pair.
pub(super) fn margins(run: &FinishedRun<'_>) -> Vec<f64> {
    run.pairs.iter().map(|pair| run.beta * (pair.chosen - pair.rejected)).collect()
}

/// Seed and values of averaged settings: runs of two series with the same key are compared.
pub(super) type RunKey = (u64, Vec<String>);

impl FinishedRun<'_> {
    /// Returns the run's key for these averaged settings.
    pub(super) fn key(&self, averaged: &[&str]) -> RunKey {
        let setting = |key: &&str| self.planned.settings.get(*key).map(ToString::to_string);
        (self.planned.seed, averaged.iter().filter_map(setting).collect())
    }
}

#[cfg(test)]
impl<'a> FinishedRun<'a> {
    /// A run that has judgements only.
    pub(super) fn with_judgements(planned: &'a PlannedRun, judgements: Vec<Judgement>) -> Self {
        Self {
            planned,
            pairs: Vec::new(),
            thumbs: Vec::new(),
            generations: Vec::new(),
            judgements,
            questions: Vec::new(),
            scores: Vec::new(),
            samples: Vec::new(),
            sample_judgements: Vec::new(),
            beta: 1.0,
            examples: 0,
            steps: 0,
            last_evaluation: BTreeMap::new(),
        }
    }

    /// A run that has margins on pairs of different prompts only.
    pub(super) fn with_margins(planned: &'a PlannedRun, margins: &[f64], steps: u64) -> Self {
        let pair = |(index, margin): (usize, &f64)| PairOutcome {
            pair_id: format!("{index:04}"),
            prompt_id: format!("{index:04}"),
            source: String::new(),
            domain: String::new(),
            group: None,
            chosen: *margin,
            rejected: 0.0,
            own_scores: None,
        };
        let pairs = margins.iter().enumerate().map(pair).collect();
        Self { pairs, steps, ..Self::with_judgements(planned, Vec::new()) }
    }
}

/// One series at one value of x.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CellKey {
    pub(super) series: String,
    /// Index of the value on the [`XValues`].
    pub(super) x: usize,
}

/// Finished runs by cell, ordered by seed.
pub(super) type RunsByCell<'a> = BTreeMap<CellKey, Vec<FinishedRun<'a>>>;

/// Planned runs of a cell, and those of them that failed or were stopped early.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RunCounts {
    pub(super) planned: usize,
    pub(super) lost: usize,
}

/// Counts of runs by cell, unfinished ones included.
pub(super) fn count_runs(
    sweep: &SweepDir,
    experiment: &Experiment,
    x_values: &XValues,
) -> BTreeMap<CellKey, RunCounts> {
    let mut counts: BTreeMap<CellKey, RunCounts> = BTreeMap::new();
    for planned in &experiment.runs {
        let directory = sweep.run(&planned.id);
        let cell = counts.entry(CellKey::new(experiment, x_values, planned)).or_default();
        cell.planned += 1;
        cell.lost += usize::from(directory.has_failed() || directory.is_stopped());
    }
    counts
}

impl CellKey {
    fn new(experiment: &Experiment, x_values: &XValues, run: &PlannedRun) -> Self {
        Self {
            series: run.settings.get(&experiment.series.key).map(series_name).unwrap_or_default(),
            x: run.settings.get(&experiment.x.key).map_or(0, |value| x_values.index(value)),
        }
    }
}

/// Reads the finished runs. In a search, prompts that settings were selected on are left out.
pub(super) fn read_cells<'a>(
    sweep: &SweepDir,
    experiment: &'a Experiment,
    x_values: &XValues,
) -> Result<RunsByCell<'a>, AnalysisError> {
    let mut cells: RunsByCell<'_> = BTreeMap::new();
    for planned in &experiment.runs {
        let directory = sweep.run(&planned.id);
        if !directory.is_finished() {
            continue;
        }
        let metrics = directory.metrics()?;
        let steps = metrics.iter().filter(|record| record.kind == RecordKind::Train).count() as u64;
        let beta = directory.beta()?.unwrap_or(1.0);
        let last_evaluation = metrics.into_iter().rev().find(|record| record.kind == RecordKind::Eval);
        let last_evaluation = last_evaluation.map(|record| record.values).unwrap_or_default();
        let (mut pairs, mut generations) = (directory.pairs()?, directory.generations()?);
        let mut thumbs = directory.thumbs()?;
        let mut samples = directory.samples()?;
        let mut judgements = directory.judgements()?;
        let is_compared = |prompt_id: &str| experiment.search.is_none() || !is_validation(prompt_id);
        pairs.retain(|pair| is_compared(&pair.prompt_id));
        thumbs.retain(|thumb| is_compared(&thumb.prompt_id));
        generations.retain(|generation| is_compared(&generation.prompt_id));
        judgements.retain(|judgement| is_compared(&judgement.prompt_id));
        samples.retain(|sample| is_compared(&sample.prompt_id));
        let (sample_judgements, mut judgements): (Vec<_>, Vec<_>) =
            judgements.into_iter().partition(|judgement| judgement.step.is_some());
        judgements.extend(judgements_by_utility(&generations));
        let run = FinishedRun {
            planned,
            pairs,
            thumbs,
            generations,
            judgements,
            questions: directory.questions()?,
            scores: directory.scores()?,
            samples,
            sample_judgements,
            beta,
            examples: directory.config()?.examples,
            steps,
            last_evaluation,
        };
        cells.entry(CellKey::new(experiment, x_values, planned)).or_default().push(run);
    }
    for runs in cells.values_mut() {
        runs.sort_by_key(|run| run.planned.seed);
    }
    Ok(cells)
}

/// Compares the true utility of generations with that of the preferred completions, where the data
/// has both.
fn judgements_by_utility(generations: &[Generation]) -> impl Iterator<Item = Judgement> {
    generations.iter().filter_map(|generation| {
        Some(Judgement {
            judge: TRUE_UTILITY.to_owned(),
            opponent: Opponent::Target,
            prompt_id: generation.prompt_id.clone(),
            step: None,
            reward: None,
            characters: generation.chosen.as_ref().map(|chosen| characters([&generation.completion, chosen])),
            score: Some(preference(generation.utility?, generation.chosen_utility?)),
            import: None,
        })
    })
}

fn characters(texts: [&String; 2]) -> [usize; 2] {
    texts.map(|text| text.chars().count())
}

/// Values of the x axis.
pub(super) struct XValues {
    /// Values in the order of the plan.
    pub(super) values: Vec<Value>,
    /// Values as numbers; their indices if one of them is not a number.
    pub(super) numbers: Vec<f64>,
}

impl XValues {
    pub(super) fn new(experiment: &Experiment) -> Self {
        let mut values: Vec<Value> = Vec::new();
        for value in experiment.runs.iter().filter_map(|run| run.settings.get(&experiment.x.key)) {
            if !values.contains(value) {
                values.push(value.clone());
            }
        }
        let numbers: Option<Vec<f64>> = values.iter().map(Value::as_f64).collect();
        let numbers = numbers.unwrap_or_else(|| (0..values.len()).map(|index| index as f64).collect());
        Self { values, numbers }
    }

    /// Index of a value; 0 if the plan lacks it.
    pub(super) fn index(&self, value: &Value) -> usize {
        self.values.iter().position(|other| other == value).unwrap_or(0)
    }
}

/// True utilities of each run's generations; None unless all of them are known.
pub(super) fn utilities<'a>(runs: &[&'a FinishedRun<'_>]) -> Option<Vec<Vec<Observation<'a>>>> {
    let observations = |run: &&'a FinishedRun<'_>| {
        let observation = |generation: &'a Generation| {
            let prompt = generation.prompt_id.as_str();
            Some(Observation { pair: prompt, prompt, value: generation.utility? })
        };
        let observations: Vec<_> = run.generations.iter().map(observation).collect::<Option<_>>()?;
        (!observations.is_empty()).then_some(observations)
    };
    runs.iter().map(observations).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn true_utility_judges_where_it_is_known() {
        let generation = |utility: Option<f64>, chosen_utility| Generation {
            prompt_id: "p".to_owned(),
            prompt: String::new(),
            completion: String::new(),
            tokens: 0,
            ended: true,
            mode: prospect_runs::GenerationMode::Greedy,
            chosen: None,
            utility,
            chosen_utility,
        };
        let all =
            [generation(Some(1.0), Some(0.5)), generation(Some(0.1), Some(0.5)), generation(None, Some(1.0))];
        let scores: Vec<_> = judgements_by_utility(&all).map(|judgement| judgement.score).collect();
        assert_eq!(scores, [Some(1.0), Some(0.0)]);
    }
}
