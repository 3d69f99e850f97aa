//! Judging of a sweep's runs.

use std::collections::BTreeMap;

use prospect_core::{config::did_you_mean, progress::Progress};
use prospect_runs::{
    Experiment, Generation, JudgeNote, Judgement, Opponent, PlannedRun, PolicySample, SweepDir, series_name,
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

/// Comparisons of one run's completions.
struct Round<'a> {
    run: &'a PlannedRun,
    /// Optimizer steps after which the completions were sampled; None for the generations.
    step: Option<u64>,
    comparisons: Vec<CompletionPair>,
}

/// Compares the generations of a sweep's finished runs with `opponent`. With `samples`, it also
/// compares the completions that were sampled during training with the preferred ones. Writes the
/// judgements to the run directories, replacing those of the same judge about the same opponent.
pub fn judge_sweep(
    sweep: &SweepDir,
    judge: &mut dyn Judge,
    opponent: &Opponent,
    samples: bool,
) -> Result<JudgedCounts, JudgeError> {
    let experiment = sweep.experiment()?;
    let generations = generations_by_run(sweep, &experiment)?;
    let mut rounds: BTreeMap<&str, Vec<Round<'_>>> = BTreeMap::new();
    for run in &experiment.runs {
        let Some(own) = generations.get(run.id.as_str()) else { continue };
        let others = match opponent {
            Opponent::Target => None,
            Opponent::Model(name) => {
                return Err(JudgeError::Unusable(format!(
                    "completions of {name} are not in the sweep; compare with `target`, `baseline` or a run"
                )));
            }
            Opponent::Run(id) if *id == run.id => continue,
            Opponent::Run(id) => {
                Some(generations.get(id.as_str()).ok_or_else(|| no_run(sweep, id, &generations))?)
            }
            Opponent::Baseline => match baseline(&experiment, run).and_then(|id| generations.get(id)) {
                Some(others) => Some(others),
                None => continue,
            },
        };
        let mut own_rounds = vec![Round { run, step: None, comparisons: comparisons(own, others) }];
        if samples {
            own_rounds.extend(sample_rounds(run, own, &sweep.run(&run.id).samples()?));
        }
        rounds.insert(&run.id, own_rounds);
    }
    let all = || rounds.values().flatten();
    let total = all().map(|round| round.comparisons.len()).sum::<usize>();
    if total == 0 {
        return Err(unusable(
            sweep,
            "has generations to compare; add `evaluate: { generations: … }` to the experiment",
        ));
    }
    if samples && all().all(|round| round.step.is_none()) {
        return Err(unusable(
            sweep,
            "has samples to compare; add `every` to `evaluate.generations`, or leave out --samples",
        ));
    }
    refuse_imported(sweep, judge.name())?;
    let progress = Progress::new("judging", "comparisons", total as u64);
    let mut counts = JudgedCounts::default();
    for rounds in rounds.into_values() {
        judge_run(sweep, &experiment, judge, opponent, rounds, (&progress, &mut counts))?;
    }
    let mut judges = sweep.judges()?;
    judges.retain(|note| note.name != judge.name());
    let name = judge.name().to_owned();
    judges.push(JudgeNote { name, about: judge.about(), at_chance: judge.at_chance(), imports: Vec::new() });
    judges.sort_by(|a, b| a.name.cmp(&b.name));
    sweep.write_judges(&judges)?;
    Ok(counts)
}

/// Judges the rounds of one run, and writes its judgements.
fn judge_run(
    sweep: &SweepDir,
    experiment: &Experiment,
    judge: &mut dyn Judge,
    opponent: &Opponent,
    rounds: Vec<Round<'_>>,
    (progress, counts): (&Progress, &mut JudgedCounts),
) -> Result<(), JudgeError> {
    let Some(Round { run, .. }) = rounds.first() else { return Ok(()) };
    let dataset = experiment.data.get(run.data).map_or(sweep.path(), |data| data.path.as_path());
    let directory = sweep.run(&run.id);
    let mut judgements = directory.judgements()?;
    judgements.retain(|judgement| judgement.judge != judge.name() || judgement.opponent != *opponent);
    for Round { step, comparisons, .. } in rounds {
        let preferences = judge.judge(dataset, &comparisons)?;
        counts.comparisons += preferences.len();
        counts.unread += preferences.iter().filter(|preference| preference.is_none()).count();
        judgements.extend(comparisons.iter().zip(preferences).map(|(comparison, preference)| Judgement {
            judge: judge.name().to_owned(),
            opponent: opponent.clone(),
            prompt_id: comparison.prompt_id.clone(),
            step,
            score: preference.map(|preference| preference.score),
            reward: preference.and_then(|preference| preference.reward),
            characters: Some([&comparison.completion, &comparison.other].map(|text| text.chars().count())),
            import: None,
        }));
        progress.advance(comparisons.len() as u64, "");
    }
    Ok(directory.write_judgements(&judgements)?)
}

/// Compares the samples of each step of a run with the preferred completions of its generations.
fn sample_rounds<'a>(
    run: &'a PlannedRun,
    generations: &[Generation],
    samples: &[PolicySample],
) -> Vec<Round<'a>> {
    let by_prompt: BTreeMap<&str, &Generation> =
        generations.iter().map(|generation| (generation.prompt_id.as_str(), generation)).collect();
    let mut by_step: BTreeMap<u64, Vec<CompletionPair>> = BTreeMap::new();
    for sample in samples {
        let Some(generation) = by_prompt.get(sample.prompt_id.as_str()) else { continue };
        let Some(other) = generation.chosen.clone() else { continue };
        by_step.entry(sample.step).or_default().push(CompletionPair {
            prompt_id: sample.prompt_id.clone(),
            prompt: generation.prompt.clone(),
            completion: judged_text(&sample.completion, sample.ended),
            other,
        });
    }
    by_step.into_iter().map(|(step, comparisons)| Round { run, step: Some(step), comparisons }).collect()
}

/// Fails if the judge's name is that of imported judgements, which would be mixed with its own.
fn refuse_imported(sweep: &SweepDir, name: &str) -> Result<(), JudgeError> {
    let is_imported = |note: &JudgeNote| note.name == name && !note.imports.is_empty();
    if sweep.judges()?.iter().any(is_imported) {
        return Err(JudgeError::Unusable(format!(
            "judgements by {name} were imported into {}; import them under another --name first",
            sweep.path().display()
        )));
    }
    Ok(())
}

fn unusable(sweep: &SweepDir, what: &str) -> JudgeError {
    JudgeError::Unusable(format!("{}: no finished run {what}", sweep.path().display()))
}

fn no_run(sweep: &SweepDir, id: &str, known: &BTreeMap<&str, Vec<Generation>>) -> JudgeError {
    let nearest = did_you_mean(id, known.keys().copied());
    JudgeError::Unusable(format!(
        "{}: no finished run {id} has generations; `prospect sweep status` lists the runs{nearest}",
        sweep.path().display()
    ))
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
pub(crate) fn baseline<'a>(experiment: &'a Experiment, run: &PlannedRun) -> Option<&'a str> {
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
            Some(others) => {
                let other = others.iter().find(|other| other.prompt_id == own.prompt_id)?;
                judged_text(&other.completion, other.ended)
            }
        };
        Some(CompletionPair {
            prompt_id: own.prompt_id.clone(),
            prompt: own.prompt.clone(),
            completion: judged_text(&own.completion, own.ended),
            other,
        })
    };
    own.iter().filter_map(comparison).collect()
}

/// Completion as judges see it: truncated after the last complete sentence if it reached the token
/// limit.
fn judged_text(completion: &str, ended: bool) -> String {
    if ended { completion.to_owned() } else { whole_sentences(completion).to_owned() }
}
