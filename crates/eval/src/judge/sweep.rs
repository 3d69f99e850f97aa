//! Judging of a sweep's runs.

use std::collections::BTreeMap;

use prospect_core::progress::Progress;
use prospect_runs::{
    Experiment, Generation, JudgeNote, Judgement, Opponent, PlannedRun, SweepDir, series_name,
};

use super::{CompletionPair, Judge, JudgeError, question::whole_sentences};

/// Number of judged comparisons.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JudgedCounts {
    /// All comparisons.
    pub comparisons: usize,
    /// Comparisons whose answer cannot be read.
    pub unread: usize,
}

/// Compares the generations of a sweep's finished runs with `opponent`. Writes the judgements to
/// the run directories, replacing those of the same judge about the same opponent.
pub fn judge_sweep(
    sweep: &SweepDir,
    judge: &mut dyn Judge,
    opponent: &Opponent,
) -> Result<JudgedCounts, JudgeError> {
    let experiment = sweep.experiment()?;
    let generations = generations_by_run(sweep, &experiment)?;
    let mut rounds = Vec::new();
    for run in &experiment.runs {
        let Some(own) = generations.get(run.id.as_str()) else { continue };
        let others = match opponent {
            Opponent::Target => None,
            Opponent::Run(id) if *id == run.id => continue,
            Opponent::Run(id) => Some(generations.get(id.as_str()).ok_or_else(|| no_run(sweep, id))?),
            Opponent::Baseline => match baseline(&experiment, run).and_then(|id| generations.get(id)) {
                Some(others) => Some(others),
                None => continue,
            },
        };
        rounds.push((run, comparisons(own, others)));
    }
    let total = rounds.iter().map(|(_, comparisons)| comparisons.len()).sum::<usize>();
    if total == 0 {
        return Err(JudgeError::Unusable(format!(
            "{}: no finished run has generations to compare; add `evaluate: {{ generations: … }}` to the experiment",
            sweep.path().display()
        )));
    }
    let progress = Progress::new("judging", "comparisons", total as u64);
    let mut counts = JudgedCounts::default();
    for (run, comparisons) in rounds {
        let dataset = experiment.data.get(run.data).map(|data| data.path.as_path());
        let scores = judge.judge(dataset.unwrap_or(sweep.path()), &comparisons)?;
        counts.comparisons += scores.len();
        counts.unread += scores.iter().filter(|score| score.is_none()).count();
        let directory = sweep.run(&run.id);
        let mut judgements = directory.judgements()?;
        judgements.retain(|judgement| judgement.judge != judge.name() || judgement.opponent != *opponent);
        judgements.extend(comparisons.iter().zip(scores).map(|(comparison, score)| Judgement {
            judge: judge.name().to_owned(),
            opponent: opponent.clone(),
            prompt_id: comparison.prompt_id.clone(),
            score,
        }));
        directory.write_judgements(&judgements)?;
        progress.advance(comparisons.len() as u64, "");
    }
    let mut judges = sweep.judges()?;
    judges.retain(|note| note.name != judge.name());
    judges.push(JudgeNote { name: judge.name().to_owned(), about: judge.about() });
    judges.sort_by(|a, b| a.name.cmp(&b.name));
    sweep.write_judges(&judges)?;
    Ok(counts)
}

fn no_run(sweep: &SweepDir, id: &str) -> JudgeError {
    JudgeError::Unusable(format!("{}: no finished run {id} has generations", sweep.path().display()))
}

/// Generations of the finished runs, by run id.
fn generations_by_run<'a>(
    sweep: &SweepDir,
    experiment: &'a Experiment,
) -> Result<BTreeMap<&'a str, Vec<Generation>>, JudgeError> {
    let mut generations = BTreeMap::new();
    for run in &experiment.runs {
        let directory = sweep.run(&run.id);
        if directory.is_finished() {
            generations.insert(run.id.as_str(), directory.generations()?);
        }
    }
    Ok(generations)
}

/// Returns the id of the baseline run with the same seed and other settings as `run`; None for a
/// run of the baseline itself.
fn baseline<'a>(experiment: &'a Experiment, run: &PlannedRun) -> Option<&'a str> {
    let series = |run: &PlannedRun| run.settings.get(&experiment.series.key).map(series_name);
    let other_settings = |run: &PlannedRun| {
        let mut settings = run.settings.clone();
        settings.remove(&experiment.series.key);
        settings
    };
    let is_counterpart = |other: &&PlannedRun| {
        series(other).as_ref() == Some(&experiment.baseline)
            && other.seed == run.seed
            && other_settings(other) == other_settings(run)
    };
    let found = experiment.runs.iter().find(is_counterpart)?;
    (found.id != run.id).then_some(found.id.as_str())
}

/// Pairs a run's generations with another run's for the same prompts, or with the preferred
/// completions.
fn comparisons(own: &[Generation], others: Option<&Vec<Generation>>) -> Vec<CompletionPair> {
    let comparison = |own: &Generation| {
        let other = match others {
            None => own.chosen.clone()?,
            Some(others) => judged_text(others.iter().find(|other| other.prompt_id == own.prompt_id)?),
        };
        Some(CompletionPair {
            prompt_id: own.prompt_id.clone(),
            prompt: own.prompt.clone(),
            completion: judged_text(own),
            other,
        })
    };
    own.iter().filter_map(comparison).collect()
}

/// Completion as judges see it: truncated after the last complete sentence if it reached the token
/// limit.
fn judged_text(generation: &Generation) -> String {
    let Generation { completion, ended, .. } = generation;
    if *ended { completion.clone() } else { whole_sentences(completion).to_owned() }
}
