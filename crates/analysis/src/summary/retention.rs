//! Capability retention: changes of scores on capability tests during training.
//!
//! Every run has the answers of the weights that it started from, so a change is paired by question
//! and by seed. Weights that all seeds share add no variance between seeds; it comes from training
//! alone, and is pooled over the series of a sweep.

use std::collections::{BTreeMap, BTreeSet};

use prospect_core::sample::unique;
use prospect_runs::{CapabilityTest, Estimate, QuestionAnswer, QuestionOutcome, Retention, Verdict};

use super::{
    clustered::{Clustered, ClusteredSample},
    contrasts::{SIGNIFICANT, adjust, no_verdict, step_levels, verdict_of},
    finished_runs::{CellKey, FinishedRun},
    quantity::WIDEST_SHARE,
    sweep_runs::SweepRuns,
};
use crate::{
    AnalysisError,
    stats::{Difference, Observation, Scale, pool_levels},
};

mod words;

pub(super) use words::verdict;

/// A score of one cell: the answers of the starts and of the trained policies.
struct CellScores {
    start: ClusteredSample,
    /// The same without repetitions: starts that all seeds share count once.
    distinct_start: ClusteredSample,
    trained: ClusteredSample,
    /// Mean change of each seed.
    changes: Vec<f64>,
}

/// Returns the changes of every score, by test, score, x and series.
pub(super) fn retention(sweep: &SweepRuns<'_>) -> Result<Vec<Retention>, AnalysisError> {
    let mut changes: Vec<(Retention, Difference)> = Vec::new();
    for test in &sweep.experiment.capabilities {
        for score in score_names(sweep, test) {
            changes.extend(changes_of(sweep, test, &score)?);
        }
    }
    conclude(sweep, &mut changes);
    let mut all: Vec<Retention> = changes.into_iter().map(|(retention, _)| retention).collect();
    repeat_for_identical_series(sweep, &mut all);
    for retention in &mut all {
        retention.words = words::describe(sweep, retention);
    }
    Ok(all)
}

/// Returns the names of a test's scores, the headline first.
fn score_names(sweep: &SweepRuns<'_>, test: &CapabilityTest) -> Vec<String> {
    let questions = sweep.cells.values().flatten().flat_map(|run| &run.questions);
    let names: BTreeSet<&String> = questions
        .filter(|question| question.test == test.name)
        .flat_map(|question| question.policy.scores.keys())
        .collect();
    let headline = names.contains(&test.headline).then(|| test.headline.clone());
    unique(headline.into_iter().chain(names.into_iter().cloned()))
}

/// Returns the changes of one score in all cells that do not repeat others, with the variance
/// between seeds pooled over them.
fn changes_of(
    sweep: &SweepRuns<'_>,
    test: &CapabilityTest,
    score: &str,
) -> Result<Vec<(Retention, Difference)>, AnalysisError> {
    let mut cells: Vec<(&CellKey, CellScores)> = Vec::new();
    for (cell, runs) in &sweep.cells {
        if !sweep.identical.contains_key(cell)
            && let Some(scores) = cell_scores(runs, &test.name, score)?
        {
            cells.push((cell, scores));
        }
    }
    let pool = |means: &dyn Fn(&CellScores) -> Vec<f64>| {
        pool_levels(&cells.iter().map(|(_, scores)| means(scores)).collect::<Vec<_>>())
    };
    let of_changes = pool(&|scores| scores.changes.clone());
    let of_levels = pool(&|scores| scores.trained.run_means());
    let mut changes = Vec::new();
    for (((cell, scores), seeds), level_seeds) in cells.iter().zip(of_changes).zip(of_levels) {
        let difference = scores.trained.minus(&scores.start, |_| seeds)?;
        let share = |estimate: Estimate| estimate.clamped(0.0, 1.0);
        changes.push((
            Retention {
                test: test.name.clone(),
                score: score.to_owned(),
                is_headline: score == test.headline,
                series: cell.series.clone(),
                x: sweep.xs.numbers[cell.x],
                start: share(scores.distinct_start.estimate(None)),
                trained: share(scores.trained.estimate(level_seeds)),
                change: difference.estimate().clamped(-1.0, 1.0),
                adjusted: None,
                p: difference.p_value(),
                p_holm: None,
                verdict: Verdict::Inconclusive,
                no_verdict: None,
                detectable: None,
                words: String::new(),
                seeds: difference.seeds(),
                questions: difference.pairs(),
            },
            difference,
        ));
    }
    Ok(changes)
}

/// Returns the observations of a score; None if a run of the cell has no answer.
fn cell_scores(
    runs: &[FinishedRun<'_>],
    test: &str,
    score: &str,
) -> Result<Option<CellScores>, AnalysisError> {
    let starts = observations_of(runs, test, score, |question| &question.start);
    let trained = observations_of(runs, test, score, |question| &question.policy);
    let Some((starts, trained)) = starts.zip(trained) else { return Ok(None) };
    let mut values = starts.iter().chain(&trained).flatten().map(|observation| observation.value);
    let is_share = values.all(|value| value == 0.0 || value == 1.0);
    let scale = if is_share { Scale::Share } else { Scale::Range { low: 0.0, high: 1.0 } };
    let distinct_start = Clustered::by_prompt(unique(starts.clone())).sample(scale)?;
    let start = Clustered::by_prompt(starts).sample(scale)?;
    let trained = Clustered::by_prompt(trained).sample(scale)?;
    let seeds = trained.run_means().into_iter().zip(start.run_means());
    let changes = seeds.map(|(after, before)| after - before).collect();
    Ok(Some(CellScores { start, distinct_start, trained, changes }))
}

/// Returns the values of a score by run; None if a run has none.
fn observations_of<'r>(
    runs: &'r [FinishedRun<'_>],
    test: &str,
    score: &str,
    answer: fn(&QuestionOutcome) -> &QuestionAnswer,
) -> Option<Vec<Vec<Observation<'r>>>> {
    let mut all = Vec::new();
    for run in runs {
        let mut own = Vec::new();
        for question in run.questions.iter().filter(|question| question.test == test) {
            let value = *answer(question).scores.get(score)?;
            own.push(Observation { pair: &question.id, prompt: &question.text_id, value });
        }
        if own.is_empty() {
            return None;
        }
        all.push(own);
    }
    Some(all)
}

/// Adjusts the p-values of headline scores for all that the sweep plans, and sets the verdicts.
fn conclude(sweep: &SweepRuns<'_>, changes: &mut [(Retention, Difference)]) {
    let level = sweep.experiment.level.unwrap_or(SIGNIFICANT);
    let cells = sweep.counts.keys().filter(|cell| !sweep.identical.contains_key(*cell)).count();
    let family = (cells * sweep.experiment.capabilities.len()).max(1);
    let p: Vec<f64> =
        changes.iter().filter(|(change, _)| change.is_headline).map(|(change, _)| change.p).collect();
    let (adjusted, levels) = (adjust(&p, family), step_levels(&p, family, level));
    let headlines = changes.iter_mut().filter(|(change, _)| change.is_headline);
    for ((change, difference), (p_holm, own_level)) in headlines.zip(adjusted.into_iter().zip(levels)) {
        let cell = sweep
            .counts
            .iter()
            .find(|(cell, _)| cell.series == change.series && sweep.xs.numbers[cell.x] == change.x);
        // The start loses no runs.
        let lost = [cell.map_or(0, |(_, counts)| counts.lost), 0];
        change.p_holm = Some(p_holm);
        change.detectable = difference.detectable(level / family as f64);
        change.adjusted =
            (difference.seeds() > 1).then(|| difference.estimate_at(own_level).clamped(-1.0, 1.0));
        change.no_verdict = no_verdict(difference, WIDEST_SHARE, lost);
        if change.no_verdict.is_none() {
            change.verdict = verdict_of(change.change.value, p_holm, level);
        }
    }
}

/// Repeats the changes of a series for every other series with the same results.
fn repeat_for_identical_series(sweep: &SweepRuns<'_>, changes: &mut Vec<Retention>) {
    let twins: BTreeMap<&CellKey, &String> = sweep.identical.iter().collect();
    for (cell, twin) in twins {
        let x = sweep.xs.numbers[cell.x];
        let own = changes.iter().filter(|change| change.series == *twin && change.x == x);
        let repeated: Vec<Retention> =
            own.map(|change| Retention { series: cell.series.clone(), ..change.clone() }).collect();
        changes.extend(repeated);
    }
    let test =
        |change: &Retention| sweep.experiment.capabilities.iter().position(|test| test.name == change.test);
    changes.sort_by(|a, b| {
        let by_test = test(a).cmp(&test(b)).then(b.is_headline.cmp(&a.is_headline));
        by_test.then(a.score.cmp(&b.score)).then(a.x.total_cmp(&b.x)).then(a.series.cmp(&b.series))
    });
}

#[cfg(test)]
mod tests;
