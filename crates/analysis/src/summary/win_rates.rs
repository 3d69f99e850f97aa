//! Win rates of generations according to judges.

use std::collections::{BTreeMap, BTreeSet};

use prospect_runs::{Opponent, Verdict, WinRate};

use super::{
    contrasts::verdict_of,
    finished_runs::{FinishedRun, RunsByCell},
};
use crate::{
    AnalysisError,
    stats::{Observation, binomial_exact, contrast, estimate, holm},
};

/// Returns the win rates by judge, opponent, series and x. P-values are adjusted for all rates of a
/// judge against an opponent.
pub(super) fn win_rates(cells: &RunsByCell<'_>, xs: &[f64]) -> Result<Vec<WinRate>, AnalysisError> {
    let judgements = cells.values().flatten().flat_map(|run| &run.judgements);
    let judges: BTreeSet<(&str, &Opponent)> =
        judgements.map(|judgement| (judgement.judge.as_str(), &judgement.opponent)).collect();
    let mut all_rates = Vec::new();
    for (judge, opponent) in judges {
        let mut rates = Vec::new();
        for (cell, runs) in cells {
            rates.extend(win_rate(judge, opponent, &cell.series, xs[cell.x], runs)?);
        }
        let adjusted = holm(&rates.iter().map(|rate| rate.p).collect::<Vec<_>>());
        for (rate, p_holm) in rates.iter_mut().zip(adjusted) {
            rate.p_holm = p_holm;
            rate.verdict = verdict_of(rate.rate.value - 0.5, p_holm);
        }
        all_rates.extend(rates);
    }
    Ok(all_rates)
}

/// Win rate of one series at one x; None without a prompt that all seeds have a score for.
fn win_rate(
    judge: &str,
    opponent: &Opponent,
    series: &str,
    x: f64,
    runs: &[FinishedRun<'_>],
) -> Result<Option<WinRate>, AnalysisError> {
    let scores_of_run = |run: &'_ FinishedRun<'_>| -> BTreeMap<String, Option<f64>> {
        let judgements = run.judgements.iter().filter(|own| own.judge == judge && own.opponent == *opponent);
        judgements.map(|judgement| (judgement.prompt_id.clone(), judgement.score)).collect()
    };
    let seeds: Vec<_> = runs.iter().map(scores_of_run).filter(|seed| !seed.is_empty()).collect();
    let scores: Vec<f64> = seeds.iter().flat_map(|seed| seed.values()).copied().flatten().collect();
    let Some(first) = seeds.first() else { return Ok(None) };
    // Seeds are paired by prompt, so a prompt needs a score under every seed.
    let score = |seed: &BTreeMap<String, Option<f64>>, prompt: &str| seed.get(prompt).copied().flatten();
    let prompts: Vec<&str> = first
        .keys()
        .map(String::as_str)
        .filter(|prompt| seeds.iter().all(|seed| score(seed, prompt).is_some()))
        .collect();
    if prompts.is_empty() {
        return Ok(None);
    }
    let observations = |value: &dyn Fn(f64) -> f64| -> Vec<Vec<Observation<'_>>> {
        let of_seed = |seed| {
            let known = prompts.iter().filter_map(|prompt| Some((*prompt, score(seed, prompt)?)));
            known.map(|(id, score)| Observation { pair: id, prompt: id, value: value(score) }).collect()
        };
        seeds.iter().map(of_seed).collect()
    };
    let count = |wanted: &dyn Fn(f64) -> bool| scores.iter().filter(|score| wanted(**score)).count() as u64;
    let (wins, losses) = (count(&|score| score > 0.5), count(&|score| score < 0.5));
    Ok(Some(WinRate {
        judge: judge.to_owned(),
        opponent: opponent.clone(),
        series: series.to_owned(),
        x,
        rate: estimate(&observations(&|score| score))?.clamped(0.0, 1.0),
        decided: binomial_exact(wins, wins + losses).ok(),
        wins,
        ties: scores.len() as u64 - wins - losses,
        losses,
        unread: seeds.iter().flat_map(|seed| seed.values()).filter(|score| score.is_none()).count() as u64,
        p: contrast(&observations(&|score| score), &observations(&|_| 0.5))?.p_value(),
        p_holm: 1.0,
        verdict: Verdict::CannotTell,
    }))
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
            score,
        }
    }

    fn rates(seeds: &[Vec<Judgement>]) -> Vec<WinRate> {
        let planned =
            prospect_runs::PlannedRun { id: String::new(), settings: BTreeMap::new(), seed: 0, data: 0 };
        let runs = seeds
            .iter()
            .map(|judgements| FinishedRun::with_judgements(&planned, judgements.clone()))
            .collect();
        let cell = CellKey { series: "kto".to_owned(), x: 0 };
        win_rates(&[(cell, runs)].into(), &[0.5]).unwrap()
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
        // 37 prompts have a score under every seed: 3 × 37 scores.
        assert!((rate.rate.value - 0.625).abs() < 0.02, "{rate:?}");
        assert!(rate.rate.low < rate.rate.value && rate.rate.value < rate.rate.high);
        let decided = rate.decided.unwrap();
        assert_eq!(decided.value, rate.wins as f64 / (rate.wins + rate.losses) as f64);
        assert_eq!(rate.p, rate.p_holm);
    }

    #[test]
    fn only_a_rate_above_one_half_is_ahead() {
        let always =
            |score| vec![(0..30).map(|prompt| judgement(prompt, Some(score))).collect::<Vec<_>>(); 3];
        assert_eq!(rates(&always(0.5))[0].verdict, Verdict::CannotTell);
        let mut nearly = always(1.0);
        nearly[1][4].score = Some(0.0);
        assert_eq!(rates(&nearly)[0].verdict, Verdict::Ahead);
        assert!(rates(&[vec![judgement(0, None)]]).is_empty());
    }
}
