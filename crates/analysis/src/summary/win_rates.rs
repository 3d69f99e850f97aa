//! Win rates of generations according to judges.

use std::collections::{BTreeMap, BTreeSet};

use prospect_core::sample::mean;
use prospect_runs::{Estimate, JudgeNote, Opponent, Verdict, WinRate, WinRateContrast};

use super::{
    contrasts::{SIGNIFICANT, SamplePair, adjust, no_verdict, pooled_differences, verdict_of},
    finished_runs::{CellKey, FinishedRun, RunKey},
    length_control::{Comparison, length_controlled},
    quantity::Quantity,
    sweep_runs::SweepRuns,
};
use crate::{
    AnalysisError,
    stats::{Difference, Observation, Sample, Scale, binomial_exact_at, pool_levels},
};

/// One minus the level of the KTO paper's intervals, 90 %.
const PAPER_ALPHA: f64 = 0.1;

/// Scores of one series at one x by one judge against one opponent.
struct Scores<'a> {
    cell: &'a CellKey,
    /// Scores by prompt, for each run with judgements; None for an answer that cannot be read.
    runs: BTreeMap<RunKey, BTreeMap<&'a str, Option<f64>>>,
    /// Characters of both sides by run and prompt, where they are known.
    characters: BTreeMap<(RunKey, &'a str), [usize; 2]>,
}

impl<'a> Scores<'a> {
    /// Reads the scores; None without any.
    fn read(
        judge: &str,
        opponent: &Opponent,
        cell: &'a CellKey,
        runs: &'a [FinishedRun<'_>],
        averaged: &[&str],
    ) -> Option<Self> {
        let scores_of_run = |run: &'a FinishedRun<'_>| {
            let own = run.judgements.iter().filter(|own| own.judge == judge && own.opponent == *opponent);
            let scores: BTreeMap<_, _> =
                own.map(|judgement| (judgement.prompt_id.as_str(), judgement.score)).collect();
            (run.key(averaged), scores)
        };
        let characters_of_run = |run: &'a FinishedRun<'_>| {
            let own = run.judgements.iter().filter(|own| own.judge == judge && own.opponent == *opponent);
            own.filter_map(|own| Some(((run.key(averaged), own.prompt_id.as_str()), own.characters?)))
        };
        let characters = runs.iter().flat_map(characters_of_run).collect();
        let runs: BTreeMap<_, _> =
            runs.iter().map(scores_of_run).filter(|(_, scores)| !scores.is_empty()).collect();
        (!runs.is_empty()).then_some(Self { cell, runs, characters })
    }

    /// Prompts with a score in all of these runs: runs are paired by prompt.
    fn prompts(&self, keys: &[RunKey]) -> BTreeSet<&'a str> {
        let has_score = |prompt: &&str| keys.iter().all(|key| self.score(key, prompt).is_some());
        self.runs.values().flat_map(|scores| scores.keys().copied()).filter(has_score).collect()
    }

    fn score(&self, key: &RunKey, prompt: &str) -> Option<f64> {
        self.runs.get(key)?.get(prompt).copied().flatten()
    }

    /// Returns `value` of every score; None without prompts.
    fn sample(
        &self,
        keys: &[RunKey],
        prompts: &BTreeSet<&str>,
        value: impl Fn(f64) -> f64,
    ) -> Result<Option<Sample>, AnalysisError> {
        let of_run = |key: &RunKey| -> Vec<Observation<'_>> {
            let known = prompts.iter().filter_map(|prompt| Some((*prompt, self.score(key, prompt)?)));
            known.map(|(id, score)| Observation { pair: id, prompt: id, value: value(score) }).collect()
        };
        let values: Vec<_> = keys.iter().map(of_run).collect();
        (!prompts.is_empty()).then(|| Ok(Sample::new(&values, Scale::Share)?)).transpose()
    }

    fn keys(&self) -> Vec<RunKey> {
        self.runs.keys().cloned().collect()
    }

    /// Returns wins as a share of wins and losses: a ratio of two means, linearised, so that its
    /// interval covers seeds and prompts like that of any other mean.
    fn decided(&self) -> Result<Option<Sample>, AnalysisError> {
        let keys = self.keys();
        let is_decided =
            |prompt: &str| keys.iter().any(|key| self.score(key, prompt).is_some_and(|score| score != 0.5));
        let prompts: BTreeSet<&str> =
            self.prompts(&keys).into_iter().filter(|prompt| is_decided(prompt)).collect();
        let scores =
            || keys.iter().flat_map(|key| prompts.iter().filter_map(move |prompt| self.score(key, prompt)));
        let share_of = |wanted: &dyn Fn(f64) -> bool| {
            scores().filter(|score| wanted(*score)).count() as f64 / scores().count().max(1) as f64
        };
        let (won, decided) = (share_of(&|score| score > 0.5), share_of(&|score| score != 0.5));
        let ratio = won / decided;
        self.sample(&keys, &prompts, |score| {
            let [is_won, is_decided] = [score > 0.5, score != 0.5].map(|is| f64::from(u8::from(is)));
            ratio + (is_won - ratio * is_decided) / decided
        })
    }
}

impl Scores<'_> {
    /// Returns the length-controlled win rate; None if lengths are unknown or do not overlap.
    fn length_controlled(&self) -> Result<Option<Sample>, AnalysisError> {
        let keys = self.keys();
        let prompts = self.prompts(&keys);
        let comparison = |key: &RunKey, prompt: &str| {
            let [own, other] = *self.characters.get(&(key.clone(), prompt))?;
            Some(Comparison { score: self.score(key, prompt)?, longer: own as f64 - other as f64 })
        };
        let comparisons: Option<Vec<Comparison>> =
            keys.iter().flat_map(|key| prompts.iter().map(move |prompt| comparison(key, prompt))).collect();
        let Some(values) = comparisons.as_deref().and_then(length_controlled) else { return Ok(None) };
        let of_seed = |values: &[f64]| -> Vec<Observation<'_>> {
            let values = prompts.iter().zip(values);
            values.map(|(prompt, value)| Observation { pair: prompt, prompt, value: *value }).collect()
        };
        let observations: Vec<_> = values.chunks(prompts.len().max(1)).map(of_seed).collect();
        Ok(Some(Sample::new(&observations, Scale::Range { low: 0.0, high: 1.0 })?))
    }

    /// Mean characters of both sides.
    fn mean_characters(&self) -> Option<[f64; 2]> {
        let side = |side: usize| mean(self.characters.values().map(|characters| characters[side] as f64));
        Some([side(0)?, side(1)?])
    }
}

/// Returns the length-controlled win rates of all series, with the variance between seeds pooled
/// over them.
fn length_controlled_rates(all: &[&Scores<'_>]) -> Result<Vec<Option<Estimate>>, AnalysisError> {
    let samples: Vec<Option<Sample>> =
        all.iter().map(|scores| scores.length_controlled()).collect::<Result<_, _>>()?;
    let means: Vec<Vec<f64>> = samples.iter().flatten().map(Sample::run_means).collect();
    let mut levels = pool_levels(&means).into_iter();
    let estimate = |sample: &Option<Sample>| {
        let sample = sample.as_ref()?;
        Some(sample.estimate_with(levels.next().flatten()).clamped(0.0, 1.0))
    };
    Ok(samples.iter().map(estimate).collect())
}

/// Returns the win rates by judge, opponent, series and x, and their differences from the baseline
/// where both were compared with the same completions. P-values are adjusted for all rates, and for
/// all differences, of a judge against an opponent.
pub(super) fn win_rates(
    sweep: &SweepRuns<'_>,
) -> Result<(Vec<WinRate>, Vec<WinRateContrast>), AnalysisError> {
    let judgements = sweep.cells.values().flatten().flat_map(|run| &run.judgements);
    let matchups: BTreeSet<(&str, &Opponent)> =
        judgements.map(|judgement| (judgement.judge.as_str(), &judgement.opponent)).collect();
    let averaged = sweep.experiment.averaged_settings();
    let (mut rates, mut contrasts) = (Vec::new(), Vec::new());
    for (judge, opponent) in matchups {
        let cells = sweep.cells.iter();
        let scores: Vec<Scores<'_>> =
            cells.filter_map(|(cell, runs)| Scores::read(judge, opponent, cell, runs, &averaged)).collect();
        rates.extend(rates_of(sweep, judge, opponent, &scores)?);
        if *opponent != Opponent::Baseline {
            contrasts.extend(contrasts_of(sweep, judge, opponent, &scores)?);
        }
    }
    Ok((rates, contrasts))
}

/// Withholds the verdicts of judges that are not shown to agree with people.
pub(super) fn withhold_at_chance(
    judges: &[JudgeNote],
    rates: &mut [WinRate],
    contrasts: &mut [WinRateContrast],
) {
    let verdicts = (rates.iter_mut().map(|rate| (&rate.judge, &mut rate.verdict)))
        .chain(contrasts.iter_mut().map(|contrast| (&contrast.judge, &mut contrast.verdict)));
    for (judge, verdict) in verdicts {
        if judges.iter().any(|note| note.at_chance && note.name == *judge) {
            *verdict = Verdict::Inconclusive;
        }
    }
}

/// Win rates of a judge against an opponent.
fn rates_of(
    sweep: &SweepRuns<'_>,
    judge: &str,
    opponent: &Opponent,
    scores: &[Scores<'_>],
) -> Result<Vec<WinRate>, AnalysisError> {
    let mut samples = Vec::new();
    for scores in scores {
        let keys = scores.keys();
        if let Some(sample) = scores.sample(&keys, &scores.prompts(&keys), |score| score)? {
            samples.push((scores, sample));
        }
    }
    let levels = pool_levels(&samples.iter().map(|(_, sample)| sample.run_means()).collect::<Vec<_>>());
    let controlled = length_controlled_rates(&samples.iter().map(|(scores, _)| *scores).collect::<Vec<_>>())?;
    let mut rates = Vec::new();
    for (((scores, sample), seeds), length_controlled) in samples.iter().zip(levels).zip(controlled) {
        let all: Vec<Option<f64>> = scores.runs.values().flat_map(|run| run.values()).copied().collect();
        let count = |wanted: &dyn Fn(f64) -> bool| {
            all.iter().flatten().filter(|score| wanted(**score)).count() as u64
        };
        rates.push(WinRate {
            judge: judge.to_owned(),
            opponent: opponent.clone(),
            series: scores.cell.series.clone(),
            x: sweep.xs.numbers[scores.cell.x],
            rate: sample.estimate_with(seeds),
            decided: scores.decided()?.map(|decided| decided.estimate()),
            wins_of_all: binomial_exact_at(PAPER_ALPHA, count(&|score| score > 0.5), all.len() as u64).ok(),
            length_controlled,
            characters: scores.mean_characters(),
            wins: count(&|score| score > 0.5),
            ties: count(&|score| score == 0.5),
            losses: count(&|score| score < 0.5),
            unread: all.iter().filter(|score| score.is_none()).count() as u64,
            p: sample.p_value_against(0.5, seeds),
            p_holm: 1.0,
            verdict: Verdict::Inconclusive,
        });
    }
    let is_repeated = |index: usize| sweep.identical.contains_key(samples[index].0.cell);
    let distinct: Vec<usize> = (0..rates.len()).filter(|index| !is_repeated(*index)).collect();
    let p: Vec<f64> = distinct.iter().map(|index| rates[*index].p).collect();
    // Against the baseline itself, a planned rate is a planned comparison.
    let planned = match opponent {
        Opponent::Baseline => sweep.planned_comparisons(),
        _ => sweep.counts.keys().filter(|cell| !sweep.identical.contains_key(*cell)).count(),
    };
    for (index, p_holm) in distinct.into_iter().zip(adjust(&p, planned)) {
        let (rate, cell) = (&mut rates[index], samples[index].0.cell);
        let better = rate.rate.value > 0.5;
        let lost = if better { sweep.lost(cell) } else { lost_by_opponent(sweep, opponent, cell) };
        rate.p_holm = p_holm;
        rate.verdict = if lost > 0 {
            Verdict::Inconclusive
        } else {
            verdict_of(rate.rate.value - 0.5, p_holm, SIGNIFICANT)
        };
    }
    for index in (0..rates.len()).filter(|index| is_repeated(*index)) {
        let twin = sweep.identical.get(samples[index].0.cell);
        let twin = rates.iter().find(|rate| Some(&rate.series) == twin && rate.x == rates[index].x);
        if let Some((p_holm, verdict)) = twin.map(|twin| (twin.p_holm, twin.verdict)) {
            rates[index].p_holm = p_holm;
            rates[index].verdict = verdict;
        }
    }
    Ok(rates)
}

fn lost_by_opponent(sweep: &SweepRuns<'_>, opponent: &Opponent, cell: &CellKey) -> usize {
    if *opponent == Opponent::Baseline { sweep.lost(&sweep.baseline_at(cell.x)) } else { 0 }
}

/// Differences of win rates from the baseline's, of a judge against an opponent.
fn contrasts_of(
    sweep: &SweepRuns<'_>,
    judge: &str,
    opponent: &Opponent,
    scores: &[Scores<'_>],
) -> Result<Vec<WinRateContrast>, AnalysisError> {
    let (mut pairs, mut cells) = (Vec::new(), Vec::new());
    for ours in scores {
        let baseline = sweep.baseline_at(ours.cell.x);
        let theirs = scores.iter().find(|other| *other.cell == baseline);
        let Some(theirs) =
            theirs.filter(|_| *ours.cell != baseline && !sweep.identical.contains_key(ours.cell))
        else {
            continue;
        };
        let keys: Vec<RunKey> = ours.keys().into_iter().filter(|key| theirs.runs.contains_key(key)).collect();
        let prompts: BTreeSet<&str> =
            ours.prompts(&keys).intersection(&theirs.prompts(&keys)).copied().collect();
        let samples = ours.sample(&keys, &prompts, |score| score)?;
        let samples = samples.zip(theirs.sample(&keys, &prompts, |score| score)?);
        if let Some((ours_sample, theirs_sample)) = samples {
            let is_pooled = keys.len() == theirs.runs.len();
            pairs.push(Some(SamplePair {
                layout: ours.cell.x,
                is_pooled,
                ours: ours_sample.into(),
                theirs: theirs_sample.into(),
            }));
            cells.push((ours.cell, prompts.len()));
        }
    }
    let differences: Vec<_> = pooled_differences(&pairs)?.into_iter().flatten().collect();
    let p: Vec<f64> = differences.iter().map(Difference::p_value).collect();
    let p_holm = adjust(&p, sweep.planned_comparisons());
    let contrast = |(((cell, prompts), difference), p_holm): (((&CellKey, usize), Difference), f64)| {
        let lost = [sweep.lost(cell), sweep.lost(&sweep.baseline_at(cell.x))];
        let reason = no_verdict(&difference, Quantity::ACCURACY.widest(), lost);
        let verdict = verdict_of(difference.mean(), p_holm, SIGNIFICANT);
        WinRateContrast {
            judge: judge.to_owned(),
            opponent: opponent.clone(),
            series: cell.series.clone(),
            baseline: sweep.experiment.baseline.clone(),
            x: sweep.xs.numbers[cell.x],
            difference: difference.estimate(),
            p: difference.p_value(),
            p_holm,
            verdict: if reason.is_some() { Verdict::Inconclusive } else { verdict },
            seeds: difference.seeds(),
            prompts,
        }
    };
    Ok(cells.into_iter().zip(differences).zip(p_holm).map(contrast).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prospect_runs::Judgement;

    use crate::summary::finished_runs::CellKey;

    fn judgement(prompt: usize, score: Option<f64>) -> Judgement {
        Judgement {
            judge: "j".to_owned(),
            opponent: Opponent::Target,
            prompt_id: format!("p{prompt}"),
            step: None,
            score,
            reward: None,
            characters: None,
            import: None,
        }
    }

    /// Rates and differences of series whose judgements are given by seed.
    fn judged(series: &[(&str, &[Vec<Judgement>])]) -> (Vec<WinRate>, Vec<WinRateContrast>) {
        let planned = |seed: usize| prospect_runs::PlannedRun {
            id: String::new(),
            settings: BTreeMap::new(),
            seed: seed as u64,
            data: 0,
        };
        let experiment = crate::summary::tests::experiment("dpo");
        let seeds: Vec<_> = (0..8).map(planned).collect();
        let runs = |judgements: &[Vec<Judgement>]| -> Vec<FinishedRun<'_>> {
            let runs = judgements.iter().zip(&seeds);
            runs.map(|(judgements, planned)| FinishedRun::with_judgements(planned, judgements.clone()))
                .collect()
        };
        let cells = series
            .iter()
            .map(|(name, judgements)| (CellKey { series: (*name).to_owned(), x: 0 }, runs(judgements)))
            .collect();
        let xs = crate::summary::finished_runs::XValues { values: vec![0.5.into()], numbers: vec![0.5] };
        win_rates(&SweepRuns::new(&experiment, xs, cells, BTreeMap::new())).unwrap()
    }

    #[test]
    fn runs_that_differ_in_an_averaged_setting_all_count() {
        let planned = |seed: u64, beta: u64| prospect_runs::PlannedRun {
            id: String::new(),
            settings: [("beta".to_owned(), beta.into())].into(),
            seed,
            data: 0,
        };
        let runs = vec![planned(0, 1), planned(0, 2), planned(1, 1), planned(1, 2)];
        let experiment =
            prospect_runs::Experiment { runs: runs.clone(), ..crate::summary::tests::experiment("dpo") };
        // With the first value every prompt is won, with the second one none.
        let judged = |run| {
            let won = f64::from(u8::from(run == &runs[0] || run == &runs[2]));
            FinishedRun::with_judgements(run, (0..40).map(|prompt| judgement(prompt, Some(won))).collect())
        };
        let cell = CellKey { series: "kto".to_owned(), x: 0 };
        let cells = [(cell, runs.iter().map(judged).collect())].into();
        let xs = crate::summary::finished_runs::XValues { values: vec![0.5.into()], numbers: vec![0.5] };
        let (rates, _) = win_rates(&SweepRuns::new(&experiment, xs, cells, BTreeMap::new())).unwrap();
        assert_eq!((rates[0].wins, rates[0].losses, rates[0].rate.value), (80, 80, 0.5));
    }

    fn rates(seeds: &[Vec<Judgement>]) -> Vec<WinRate> {
        judged(&[("kto", seeds)]).0
    }

    #[test]
    fn wins_ties_losses_and_unreadable_answers_are_counted() {
        let seed = |shift: usize| -> Vec<Judgement> {
            let score = |prompt| match (prompt + shift) % 4 {
                0 | 1 => Some(1.0),
                2 => Some(0.5),
                _ => Some(0.0),
            };
            let mut all: Vec<_> = (0..40).map(|prompt| judgement(prompt, score(prompt))).collect();
            all[shift].score = None;
            all
        };
        let rates = rates(&[seed(0), seed(1), seed(2)]);
        let [rate] = rates.as_slice() else { panic!("one rate") };
        assert_eq!((rate.wins + rate.ties + rate.losses, rate.unread), (117, 3));
        // The paper counts unreadable answers among the comparisons, and ties as no wins.
        let of_all = rate.wins_of_all.unwrap();
        assert_eq!(of_all.value, rate.wins as f64 / 120.0);
        assert!(of_all.low < of_all.value && of_all.value < of_all.high && of_all.value < rate.rate.value);
        // 37 prompts have a score under every seed: 3 × 37 scores.
        assert!((rate.rate.value - 0.625).abs() < 0.02, "{rate:?}");
        assert!(rate.rate.low < rate.rate.value && rate.rate.value < rate.rate.high);
        let decided = rate.decided.unwrap();
        let of_all = rate.wins as f64 / (rate.wins + rate.losses) as f64;
        assert!((decided.value - of_all).abs() < 0.02, "{decided:?}");
        assert!(decided.low < decided.value && decided.value < decided.high);
        assert_eq!(rate.p, rate.p_holm);
    }

    #[test]
    fn only_a_rate_above_one_half_is_better() {
        let always =
            |score| vec![(0..30).map(|prompt| judgement(prompt, Some(score))).collect::<Vec<_>>(); 3];
        assert_eq!(rates(&always(0.5))[0].verdict, Verdict::Inconclusive);
        let mut nearly = always(1.0);
        nearly[1][4].score = Some(0.0);
        assert_eq!(rates(&nearly)[0].verdict, Verdict::Better);
        assert_eq!(rates(&nearly[..1])[0].verdict, Verdict::Inconclusive, "one seed");
        assert!(rates(&[vec![judgement(0, None)]]).is_empty());
    }

    #[test]
    fn a_judge_at_chance_has_no_verdict() {
        let mut nearly = vec![(0..30).map(|prompt| judgement(prompt, Some(1.0))).collect::<Vec<_>>(); 3];
        nearly[1][4].score = Some(0.0);
        for (at_chance, verdict) in [(false, Verdict::Better), (true, Verdict::Inconclusive)] {
            let note =
                JudgeNote { name: "j".to_owned(), about: String::new(), at_chance, imports: Vec::new() };
            let mut rates = rates(&nearly);
            withhold_at_chance(&[note], &mut rates, &mut []);
            assert_eq!(rates[0].verdict, verdict);
        }
    }

    #[test]
    fn seeds_that_agree_on_a_prompt_are_one_draw() {
        let won = |prompt: usize| Some(f64::from(u8::from(prompt % 5 < 3)));
        let run: Vec<_> = (0..40).map(|prompt| judgement(prompt, won(prompt))).collect();
        let [few, many] = [2, 8].map(|seeds| rates(&vec![run.clone(); seeds])[0].decided.unwrap());
        // 24 of 40 prompts, however many seeds.
        let one = crate::stats::binomial_exact(24, 40).unwrap();
        for share in [few, many] {
            assert!((share.value - 0.6).abs() < 1e-12, "{share:?}");
            let width = (share.high - share.low) / (one.high - one.low);
            assert!((0.98..1.1).contains(&width), "{width}");
        }
    }

    #[test]
    fn series_are_compared_by_their_win_rates_on_the_same_prompts() {
        let run = |wins: usize, seed: usize| -> Vec<Judgement> {
            let score = |prompt| f64::from(u8::from((prompt + seed) % 40 < wins || prompt % 8 == seed % 8));
            (0..80).map(|prompt| judgement(prompt, Some(score(prompt)))).collect()
        };
        let series = |wins: usize| -> Vec<Vec<Judgement>> { (0..4).map(|seed| run(wins, seed)).collect() };
        let (dpo, kto) = (series(10), series(30));
        let (_, contrasts) = judged(&[("dpo", &dpo), ("kto", &kto)]);
        let [contrast] = contrasts.as_slice() else { panic!("one contrast: {contrasts:?}") };
        assert_eq!((contrast.series.as_str(), contrast.baseline.as_str()), ("kto", "dpo"));
        assert_eq!((contrast.seeds, contrast.prompts), (4, 80));
        assert!(contrast.difference.value > 0.3 && contrast.verdict == Verdict::Better, "{contrast:?}");
        let (_, same) = judged(&[("dpo", &dpo), ("kto", &dpo)]);
        assert_eq!((same[0].p, same[0].verdict), (1.0, Verdict::Inconclusive));
        assert!(same[0].difference.low < 0.0);
    }
}
