//! How often judges prefer what policies say.

use std::collections::{BTreeMap, BTreeSet};

use prospect_eval::stats::{Outcome, binomial_exact, contrast, estimate, holm};
use prospect_runs::{Generation, Judgement, Opponent, Verdict, WinRate, preference};

use crate::{
    SweepError,
    summary::{Cells, Judged, reading, share},
};

/// The judge of worlds whose truth is known.
const TRUE_UTILITY: &str = "true utility";

/// What true utility says of generations beside the preferred completions, where the data knows it.
pub(crate) fn by_utility(generations: &[Generation]) -> impl Iterator<Item = Judgement> {
    generations.iter().filter_map(|said| {
        Some(Judgement {
            judge: TRUE_UTILITY.to_owned(),
            opponent: Opponent::Target,
            prompt_id: said.prompt_id.clone(),
            score: Some(preference(said.utility?, said.chosen_utility?)),
        })
    })
}

/// The rates of every judge, opponent, series and x; p-values are adjusted for all rates of a judge against an opponent.
pub(crate) fn win_rates(cells: &Cells<'_>, xs: &[f64]) -> Result<Vec<WinRate>, SweepError> {
    let all = cells.values().flatten().flat_map(|judged| &judged.judgements);
    let judges: BTreeSet<(&str, &Opponent)> =
        all.map(|judgement| (judgement.judge.as_str(), &judgement.opponent)).collect();
    let mut rates = Vec::new();
    for (judge, opponent) in judges {
        let mut own = Vec::new();
        for ((series, x), runs) in cells {
            if let Some(rate) = win_rate(judge, opponent, series, xs[*x], runs)? {
                own.push(rate);
            }
        }
        let adjusted = holm(&own.iter().map(|rate| rate.p).collect::<Vec<_>>());
        for (rate, p_holm) in own.iter_mut().zip(adjusted) {
            rate.p_holm = p_holm;
            rate.verdict = reading(rate.rate.value - 0.5, p_holm);
        }
        rates.extend(own);
    }
    Ok(rates)
}

/// One rate; None if nothing was judged.
fn win_rate(
    judge: &str,
    opponent: &Opponent,
    series: &str,
    x: f64,
    runs: &[Judged<'_>],
) -> Result<Option<WinRate>, SweepError> {
    let of_run = |judged: &'_ Judged<'_>| -> BTreeMap<String, Option<f64>> {
        let own = judged.judgements.iter().filter(|own| own.judge == judge && own.opponent == *opponent);
        own.map(|judgement| (judgement.prompt_id.clone(), judgement.score)).collect()
    };
    let seeds: Vec<_> = runs.iter().map(of_run).filter(|seed| !seed.is_empty()).collect();
    let scores: Vec<f64> = seeds.iter().flat_map(|seed| seed.values()).copied().flatten().collect();
    let Some(first) = seeds.first() else { return Ok(None) };
    // Seeds are paired by prompt: a prompt counts if every seed has a score of it.
    let score = |seed: &BTreeMap<String, Option<f64>>, prompt: &str| seed.get(prompt).copied().flatten();
    let prompts: Vec<&str> = first
        .keys()
        .map(String::as_str)
        .filter(|prompt| seeds.iter().all(|seed| score(seed, prompt).is_some()))
        .collect();
    if prompts.is_empty() {
        return Ok(None);
    }
    let outcomes = |value: &dyn Fn(f64) -> f64| -> Vec<Vec<Outcome<'_>>> {
        let of_seed = |seed| {
            let known = prompts.iter().filter_map(|prompt| Some((*prompt, score(seed, prompt)?)));
            known.map(|(id, score)| Outcome { pair: id, prompt: id, value: value(score) }).collect()
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
        rate: share(estimate(&outcomes(&|score| score))?),
        decided: binomial_exact(wins, wins + losses).ok(),
        wins,
        ties: scores.len() as u64 - wins - losses,
        losses,
        unread: seeds.iter().flat_map(|seed| seed.values()).filter(|score| score.is_none()).count() as u64,
        p: contrast(&outcomes(&|score| score), &outcomes(&|_| 0.5))?.p_value(),
        p_holm: 1.0,
        verdict: Verdict::CannotTell,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let runs = seeds.iter().map(|judgements| Judged::with(&planned, judgements.clone())).collect();
        win_rates(&[(("kto".to_owned(), 0), runs)].into(), &[0.5]).unwrap()
    }

    #[test]
    fn wins_ties_losses_and_the_unread_are_counted_apart() {
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
    fn always_winning_is_ahead_and_half_is_not() {
        let always =
            |score| vec![(0..30).map(|prompt| judgement(prompt, Some(score))).collect::<Vec<_>>(); 3];
        assert_eq!(rates(&always(0.5))[0].verdict, Verdict::CannotTell);
        let mut nearly = always(1.0);
        nearly[1][4].score = Some(0.0);
        assert_eq!(rates(&nearly)[0].verdict, Verdict::Ahead);
        assert!(rates(&[vec![judgement(0, None)]]).is_empty());
    }

    #[test]
    fn utility_judges_where_it_is_known() {
        let said = |utility: Option<f64>, chosen_utility| Generation {
            prompt_id: "p".to_owned(),
            prompt: String::new(),
            completion: String::new(),
            tokens: 0,
            ended: true,
            mode: prospect_runs::GenerationMode::Greedy,
            chosen: String::new(),
            utility,
            chosen_utility,
        };
        let all = [said(Some(1.0), Some(0.5)), said(Some(0.1), Some(0.5)), said(None, Some(1.0))];
        let scores: Vec<_> = by_utility(&all).map(|judgement| judgement.score).collect();
        assert_eq!(scores, [Some(1.0), Some(0.0)]);
    }
}
