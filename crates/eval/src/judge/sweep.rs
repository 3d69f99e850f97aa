//! A judge's rounds through a sweep.

use std::collections::BTreeMap;

use prospect_core::progress::Progress;
use prospect_runs::{
    Experiment, Generation, JudgeNote, Judgement, Opponent, PlannedRun, SweepDir, series_name,
};

use super::{Comparison, Judge, JudgeError, question::whole_sentences};

/// What a judge has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Judged {
    /// Comparisons.
    pub comparisons: usize,
    /// Those among them whose answer cannot be read.
    pub unread: usize,
}

/// Has `judge` compare what the finished runs of a sweep say with `opponent`, and keeps what it says with the runs, in
/// place of what it said of the same opponent before.
pub fn judge_sweep(
    sweep: &SweepDir,
    judge: &mut dyn Judge,
    opponent: &Opponent,
) -> Result<Judged, JudgeError> {
    let experiment = sweep.experiment()?;
    let said = said(sweep, &experiment)?;
    let mut rounds = Vec::new();
    for run in &experiment.runs {
        let Some(own) = said.get(run.id.as_str()) else { continue };
        let others = match opponent {
            Opponent::Target => None,
            Opponent::Run(id) if *id == run.id => continue,
            Opponent::Run(id) => Some(said.get(id.as_str()).ok_or_else(|| no_run(sweep, id))?),
            Opponent::Baseline => match baseline(&experiment, run).and_then(|id| said.get(id)) {
                Some(others) => Some(others),
                None => continue,
            },
        };
        rounds.push((run, comparisons(own, others)));
    }
    let total = rounds.iter().map(|(_, comparisons)| comparisons.len()).sum::<usize>();
    if total == 0 {
        return Err(JudgeError::Nothing(format!(
            "{}: there is nothing to compare; finished runs have generations where the experiment has \
             `evaluate: {{ generations: … }}`",
            sweep.path().display()
        )));
    }
    let progress = Progress::new("judging", "comparisons", total as u64);
    let mut judged = Judged::default();
    for (run, comparisons) in rounds {
        let dataset = experiment.data.get(run.data).map(|data| data.path.as_path());
        let scores = judge.judge(dataset.unwrap_or(sweep.path()), &comparisons)?;
        judged.comparisons += scores.len();
        judged.unread += scores.iter().filter(|score| score.is_none()).count();
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
    Ok(judged)
}

fn no_run(sweep: &SweepDir, id: &str) -> JudgeError {
    JudgeError::Nothing(format!("{}: no finished run {id} has generations", sweep.path().display()))
}

/// What finished runs say, by run.
fn said<'a>(
    sweep: &SweepDir,
    experiment: &'a Experiment,
) -> Result<BTreeMap<&'a str, Vec<Generation>>, JudgeError> {
    let mut said = BTreeMap::new();
    for run in &experiment.runs {
        let directory = sweep.run(&run.id);
        if directory.is_finished() {
            said.insert(run.id.as_str(), directory.generations()?);
        }
    }
    Ok(said)
}

/// The run that differs from `run` in its series alone, which is the baseline. None for the baseline itself.
fn baseline<'a>(experiment: &'a Experiment, run: &PlannedRun) -> Option<&'a str> {
    let series = |run: &PlannedRun| run.settings.get(&experiment.series.key).map(series_name);
    let others = |run: &PlannedRun| {
        let mut settings = run.settings.clone();
        settings.remove(&experiment.series.key);
        settings
    };
    let is_it = |other: &&PlannedRun| {
        series(other).as_ref() == Some(&experiment.baseline)
            && other.seed == run.seed
            && others(other) == others(run)
    };
    let found = experiment.runs.iter().find(is_it)?;
    (found.id != run.id).then_some(found.id.as_str())
}

/// What a run says beside what another says to the same prompts, or beside the preferred completions.
fn comparisons(own: &[Generation], others: Option<&Vec<Generation>>) -> Vec<Comparison> {
    let comparison = |said: &Generation| {
        let other = match others {
            None => said.chosen.clone(),
            Some(others) => heard(others.iter().find(|other| other.prompt_id == said.prompt_id)?),
        };
        Some(Comparison {
            prompt_id: said.prompt_id.clone(),
            prompt: said.prompt.clone(),
            completion: heard(said),
            other,
        })
    };
    own.iter().filter_map(comparison).collect()
}

/// A completion as judges see it: one that the limit of tokens has cut goes up to its last whole sentence.
fn heard(said: &Generation) -> String {
    if said.ended { said.completion.clone() } else { whole_sentences(&said.completion).to_owned() }
}
