//! Scores imported from other tools: means by series and x, and differences from the baseline.

use std::collections::{BTreeMap, BTreeSet};

use prospect_runs::{ImportedScore, ScoreContrast, ScoreMean, Verdict};

use super::{
    contrasts::{SIGNIFICANT, SamplePair, adjust, no_verdict, pooled_differences, verdict_of},
    finished_runs::{CellKey, FinishedRun, RunKey},
    sweep_runs::SweepRuns,
};
use crate::{
    AnalysisError,
    stats::{Difference, Observation, Sample, Scale, pool_levels},
};

/// Scores of one task by judge.
struct Task<'a> {
    judge: &'a str,
    name: &'a str,
    scale: Scale,
    lower_is_better: bool,
    cells: Vec<CellScores<'a>>,
}

/// Scores of one series at one x.
struct CellScores<'a> {
    cell: &'a CellKey,
    /// Scores by question, for each run with scores.
    runs: BTreeMap<RunKey, BTreeMap<&'a str, f64>>,
}

impl<'a> CellScores<'a> {
    fn new(
        cell: &'a CellKey,
        runs: &'a [FinishedRun<'_>],
        averaged: &[&str],
        is_of_task: &dyn Fn(&ImportedScore) -> bool,
    ) -> Option<Self> {
        let mut scores: BTreeMap<RunKey, BTreeMap<&str, f64>> = BTreeMap::new();
        for run in runs {
            let key = run.key(averaged);
            for own in run.scores.iter().filter(|own| is_of_task(own)) {
                scores.entry(key.clone()).or_default().insert(&own.question, own.score);
            }
        }
        (!scores.is_empty()).then_some(Self { cell, runs: scores })
    }

    /// Questions with a score in all of these runs.
    fn questions(&self, keys: &[RunKey]) -> BTreeSet<&'a str> {
        let has = |question: &&str| {
            keys.iter().all(|key| self.runs.get(key).is_some_and(|own| own.contains_key(question)))
        };
        self.runs.values().flat_map(|own| own.keys().copied()).filter(has).collect()
    }

    fn sample(
        &self,
        keys: &[RunKey],
        questions: &BTreeSet<&str>,
        scale: Scale,
    ) -> Result<Option<Sample>, AnalysisError> {
        let of_run = |key: &RunKey| -> Vec<Observation<'_>> {
            let own = self.runs.get(key);
            let scores = questions.iter().filter_map(|id| Some((*id, *own?.get(id)?)));
            scores.map(|(id, value)| Observation { pair: id, prompt: id, value }).collect()
        };
        let values: Vec<_> = keys.iter().map(of_run).collect();
        (!questions.is_empty()).then(|| Ok(Sample::new(&values, scale)?)).transpose()
    }
}

impl<'a> Task<'a> {
    fn new(judge: &'a str, name: &'a str, sweep: &'a SweepRuns<'_>) -> Self {
        let is_of_task = |own: &ImportedScore| own.judge == judge && own.task == name;
        let runs = sweep.cells.values().flatten();
        let all: Vec<&ImportedScore> =
            runs.flat_map(|run| &run.scores).filter(|own| is_of_task(own)).collect();
        let scale = if all.iter().all(|own| [0.0, 0.5, 1.0].contains(&own.score)) {
            Scale::Share
        } else if all.iter().all(|own| (0.0..=1.0).contains(&own.score)) {
            Scale::Range { low: 0.0, high: 1.0 }
        } else {
            Scale::Unbounded
        };
        let averaged = sweep.experiment.averaged_settings();
        let cell = |(cell, runs): (&'a CellKey, &'a Vec<FinishedRun<'_>>)| {
            CellScores::new(cell, runs, &averaged, &is_of_task)
        };
        Self {
            judge,
            name,
            scale,
            lower_is_better: all.iter().any(|own| own.lower_is_better),
            cells: sweep.cells.iter().filter_map(cell).collect(),
        }
    }

    fn is_share(&self) -> bool {
        self.scale != Scale::Unbounded
    }

    /// Largest half-width of a difference's interval that allows a verdict.
    fn widest(&self) -> f64 {
        if self.is_share() { 0.25 } else { f64::INFINITY }
    }

    fn means(&self, sweep: &SweepRuns<'_>) -> Result<Vec<ScoreMean>, AnalysisError> {
        let mut samples = Vec::new();
        for scores in &self.cells {
            let keys: Vec<RunKey> = scores.runs.keys().cloned().collect();
            let questions = scores.questions(&keys);
            if let Some(sample) = scores.sample(&keys, &questions, self.scale)? {
                samples.push((scores.cell, sample, keys.len(), questions.len()));
            }
        }
        let levels =
            pool_levels(&samples.iter().map(|(_, sample, ..)| sample.run_means()).collect::<Vec<_>>());
        let mean = |((cell, sample, seeds, questions), level): (&(&CellKey, Sample, usize, usize), _)| {
            let mean = sample.estimate_with(level);
            ScoreMean {
                judge: self.judge.to_owned(),
                task: self.name.to_owned(),
                series: cell.series.clone(),
                x: sweep.xs.numbers[cell.x],
                mean: if self.is_share() { mean.clamped(0.0, 1.0) } else { mean },
                is_share: self.is_share(),
                lower_is_better: self.lower_is_better,
                seeds: *seeds,
                questions: *questions,
            }
        };
        Ok(samples.iter().zip(levels).map(mean).collect())
    }

    /// Differences from the baseline, with the number of questions of each.
    fn differences(
        &self,
        sweep: &SweepRuns<'_>,
    ) -> Result<Vec<(&'a CellKey, usize, Difference)>, AnalysisError> {
        let (mut pairs, mut cells) = (Vec::new(), Vec::new());
        for ours in &self.cells {
            let baseline = sweep.baseline_at(ours.cell.x);
            let theirs = self.cells.iter().find(|other| *other.cell == baseline);
            let Some(theirs) = theirs.filter(|theirs| theirs.cell != ours.cell) else { continue };
            let keys: Vec<RunKey> =
                ours.runs.keys().filter(|key| theirs.runs.contains_key(key)).cloned().collect();
            let questions: BTreeSet<&str> =
                ours.questions(&keys).intersection(&theirs.questions(&keys)).copied().collect();
            if keys.is_empty() {
                continue;
            }
            let samples = ours.sample(&keys, &questions, self.scale)?;
            if let Some((ours_sample, theirs_sample)) =
                samples.zip(theirs.sample(&keys, &questions, self.scale)?)
            {
                pairs.push(Some(SamplePair {
                    layout: ours.cell.x,
                    is_pooled: keys.len() == theirs.runs.len(),
                    ours: ours_sample.into(),
                    theirs: theirs_sample.into(),
                }));
                cells.push((ours.cell, questions.len()));
            }
        }
        let differences = pooled_differences(&pairs)?.into_iter().flatten();
        Ok(cells.into_iter().zip(differences).map(|((cell, n), difference)| (cell, n, difference)).collect())
    }
}

/// Returns the means of imported scores, and their differences from the baseline. P-values are
/// adjusted for all tasks and series of a judge.
pub(super) fn scores(sweep: &SweepRuns<'_>) -> Result<(Vec<ScoreMean>, Vec<ScoreContrast>), AnalysisError> {
    let all = sweep.cells.values().flatten().flat_map(|run| &run.scores);
    let mut tasks: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for own in all {
        tasks.entry(&own.judge).or_default().insert(&own.task);
    }
    let (mut means, mut contrasts) = (Vec::new(), Vec::new());
    for (judge, names) in tasks {
        let tasks: Vec<Task<'_>> = names.into_iter().map(|name| Task::new(judge, name, sweep)).collect();
        for task in &tasks {
            means.extend(task.means(sweep)?);
        }
        contrasts.extend(contrasts_of(sweep, &tasks)?);
    }
    Ok((means, contrasts))
}

/// Differences of one judge's tasks, with adjusted p-values.
fn contrasts_of(sweep: &SweepRuns<'_>, tasks: &[Task<'_>]) -> Result<Vec<ScoreContrast>, AnalysisError> {
    let mut compared = Vec::new();
    for task in tasks {
        compared.extend(task.differences(sweep)?.into_iter().map(|found| (task, found)));
    }
    let p: Vec<f64> = compared.iter().map(|(_, (.., difference))| difference.p_value()).collect();
    let family = (sweep.planned_comparisons() * tasks.len()).max(p.len()).max(1);
    let adjusted = adjust(&p, family);
    let contrast = |((task, (cell, questions, difference)), p_holm): ((&Task<'_>, _), f64)| {
        let (cell, questions, difference): (&CellKey, usize, Difference) = (cell, questions, difference);
        let sign = if task.lower_is_better { -1.0 } else { 1.0 };
        let lost = [sweep.lost(cell), sweep.lost(&sweep.baseline_at(cell.x))];
        let reason = no_verdict(&difference, task.widest(), lost);
        let verdict = verdict_of(sign * difference.mean(), p_holm, SIGNIFICANT);
        ScoreContrast {
            judge: task.judge.to_owned(),
            task: task.name.to_owned(),
            series: cell.series.clone(),
            baseline: sweep.experiment.baseline.clone(),
            x: sweep.xs.numbers[cell.x],
            difference: difference.estimate(),
            is_share: task.is_share(),
            p: difference.p_value(),
            p_holm,
            verdict: if reason.is_some() { Verdict::Inconclusive } else { verdict },
            detectable: difference.detectable(SIGNIFICANT / family as f64),
            seeds: difference.seeds(),
            questions,
        }
    };
    Ok(compared.into_iter().zip(adjusted).map(contrast).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::finished_runs::XValues;

    /// Score of a seed and a question.
    type ScoreOf<'a> = &'a dyn Fn(usize, usize) -> f64;

    /// Summary of runs whose scores are given by series.
    fn scored(series: &[(&str, ScoreOf<'_>)], lower_is_better: bool) -> (Vec<ScoreMean>, Vec<ScoreContrast>) {
        let planned: Vec<_> = (0..3_usize)
            .map(|seed| prospect_runs::PlannedRun {
                id: String::new(),
                settings: BTreeMap::new(),
                seed: seed as u64,
                data: 0,
            })
            .collect();
        let run = |score: &dyn Fn(usize, usize) -> f64, seed: usize| {
            let score = |question: usize| ImportedScore {
                judge: "tool".to_owned(),
                task: "arc".to_owned(),
                question: format!("{question:03}"),
                score: score(seed, question),
                lower_is_better,
                import: String::new(),
            };
            let mut run = FinishedRun::with_judgements(&planned[seed], Vec::new());
            // One question lacks a score under one seed.
            run.scores = (0..80).filter(|question| *question != 7 || seed != 1).map(score).collect();
            run
        };
        let experiment = crate::summary::tests::experiment("dpo");
        let cells = series
            .iter()
            .map(|(name, score)| {
                let runs = (0..3).map(|seed| run(*score, seed)).collect();
                (CellKey { series: (*name).to_owned(), x: 0 }, runs)
            })
            .collect();
        let xs = XValues { values: vec![0.5.into()], numbers: vec![0.5] };
        scores(&SweepRuns::new(&experiment, xs, cells, BTreeMap::new())).unwrap()
    }

    #[test]
    fn scores_are_paired_by_seed_and_question() {
        let hit = |is: bool| f64::from(u8::from(is));
        let dpo = |seed: usize, question: usize| hit((question * 7 + seed) % 10 < 4);
        let kto = |seed: usize, question: usize| hit((question * 7 + seed) % 10 < 7);
        let (means, contrasts) = scored(&[("dpo", &dpo), ("kto", &kto)], false);
        assert_eq!(means.len(), 2);
        for mean in &means {
            assert_eq!((mean.seeds, mean.questions, mean.is_share), (3, 79, true));
            assert!(mean.mean.low < mean.mean.value && mean.mean.value < mean.mean.high);
        }
        let [contrast] = contrasts.as_slice() else { panic!("{contrasts:?}") };
        assert!((contrast.difference.value - 0.3).abs() < 0.02, "{contrast:?}");
        assert_eq!((contrast.verdict, contrast.questions), (Verdict::Better, 79));
        assert!(contrast.detectable.unwrap() > 0.0);
        // The same numbers are worse where less is better.
        assert_eq!(scored(&[("dpo", &dpo), ("kto", &kto)], true).1[0].verdict, Verdict::Worse);
        // Equal series leave an interval around 0.
        let (_, equal) = scored(&[("dpo", &dpo), ("kto", &dpo)], false);
        assert!(equal[0].difference.low < 0.0 && equal[0].difference.high > 0.0, "{equal:?}");
        assert_eq!(equal[0].verdict, Verdict::Inconclusive);
    }

    #[test]
    fn ratings_have_no_bounds() {
        let rating = |seed: usize, question: usize| 1.0 + ((question + seed) % 5) as f64;
        let (means, _) = scored(&[("kto", &rating)], false);
        assert!(!means[0].is_share && (means[0].mean.value - 3.0).abs() < 0.1, "{means:?}");
    }
}
