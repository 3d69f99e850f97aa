//! Profile likelihood of the flip rate.

use std::collections::BTreeMap;

use prospect_runs::Estimate;

use super::{
    FlippedShare, ScoredJudgement,
    curve::{AgreementCurve, UnitScores, solve},
};
use crate::stats::critical_value;

/// Rates on which the likelihood is evaluated: 0 to 0.49.
const RATES: usize = 50;

/// Distance of the rates.
const STEP: f64 = 0.01;

/// Halvings of a distance in the search for the maximum and the ends.
const HALVINGS: usize = 20;

/// Returns the share of flipped labels with its interval.
pub(super) fn flipped_share(judgements: &[ScoredJudgement<'_>], scores: &UnitScores) -> FlippedShare {
    let profile = Profile { scores };
    let mut curve = AgreementCurve::default();
    let mut grid = Vec::with_capacity(RATES);
    for index in 0..RATES {
        let rate = STEP * index as f64;
        let value = profile.maximise(rate, &mut curve);
        grid.push((rate, value, curve));
    }
    let Some(best) = grid.iter().max_by(|a, b| a.1.total_cmp(&b.1)) else { return FlippedShare::Unbounded };
    let (rate, top, curve) = profile.refine(*best);
    let prompts: BTreeMap<&str, usize> =
        judgements.iter().map(|judgement| judgement.prompt).zip(0..).collect();
    let degrees = (prompts.len() as f64 - 1.0).max(1.0);
    let inflation = profile.design_effect(judgements, rate, curve).max(1.0);
    let least = top - inflation * critical_value(degrees).powi(2) / 2.0;
    let is_inside = |value: f64| value >= least;
    let Some(first) = grid.iter().position(|(_, value, _)| is_inside(*value)) else {
        // Narrower than the grid: the maximum lies between two rates.
        return profile.narrow(rate, least, curve);
    };
    let Some(last) = grid.iter().rposition(|(_, value, _)| is_inside(*value)) else {
        return FlippedShare::Unbounded;
    };
    if last + 1 == RATES {
        return FlippedShare::Unbounded;
    }
    let low = match first {
        0 => 0.0,
        first => profile.end(grid[first].0.min(rate), grid[first - 1].0, least, grid[first].2),
    };
    let high = profile.end(grid[last].0.max(rate), grid[last + 1].0, least, grid[last].2);
    FlippedShare::Estimated(Estimate { value: rate, low: low.min(rate), high: high.max(rate) })
}

/// Likelihood of the flip rate, maximised over the curve.
struct Profile<'a> {
    scores: &'a UnitScores,
}

impl Profile<'_> {
    /// Fits the curve at a rate, from the one given, and returns the log-likelihood.
    fn maximise(&self, rate: f64, curve: &mut AgreementCurve) -> f64 {
        *curve = AgreementCurve::fit(self.scores, rate, *curve);
        curve.log_likelihood(self.scores, rate)
    }

    /// Returns the maximum near a rate of the grid, with its value and curve.
    fn refine(&self, best: (f64, f64, AgreementCurve)) -> (f64, f64, AgreementCurve) {
        let (mut rate, mut top, mut curve) = best;
        let mut distance = STEP / 2.0;
        for _ in 0..HALVINGS {
            for candidate in [rate - distance, rate + distance] {
                if (0.0..0.5).contains(&candidate) {
                    let mut other = curve;
                    let value = self.maximise(candidate, &mut other);
                    if value > top {
                        (rate, top, curve) = (candidate, value, other);
                    }
                }
            }
            distance /= 2.0;
        }
        (rate, top, curve)
    }

    /// Returns the rate between one inside and one outside at which the likelihood is `least`.
    fn end(&self, mut inside: f64, mut outside: f64, least: f64, curve: AgreementCurve) -> f64 {
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(inside, outside);
            if self.maximise(middle, &mut { curve }) >= least {
                inside = middle;
            } else {
                outside = middle;
            }
        }
        // The outer one, so that the interval is never empty.
        outside
    }

    /// Returns an interval that holds no rate of the grid.
    fn narrow(&self, rate: f64, least: f64, curve: AgreementCurve) -> FlippedShare {
        let low = self.end(rate, (rate - STEP).max(0.0), least, curve);
        let high = self.end(rate, rate + STEP, least, curve);
        FlippedShare::Estimated(Estimate { value: rate, low, high })
    }

    /// Returns the design effect: the variance of the sum of the efficient scores of the rate over
    /// prompts, relative to that over independent judgements.
    fn design_effect(&self, judgements: &[ScoredJudgement<'_>], rate: f64, curve: AgreementCurve) -> f64 {
        let terms: Vec<_> =
            self.scores.scores.iter().map(|score| curve.terms(self.scores, *score, rate)).collect();
        let (mut own, mut cross) = ([1e-12, 0.0, 1e-12], [0.0; 2]);
        for term in &terms {
            let [slope, intercept] = term.by_curve;
            own = [own[0] + slope * slope, own[1] + slope * intercept, own[2] + intercept * intercept];
            cross = [cross[0] + term.by_rate * slope, cross[1] + term.by_rate * intercept];
        }
        let projection = solve(own, cross).unwrap_or_default();
        let mut by_prompt: BTreeMap<&str, f64> = BTreeMap::new();
        let mut squares = 0.0;
        for (term, judgement) in terms.iter().zip(judgements) {
            let [slope, intercept] = term.by_curve;
            let score = term.by_rate - projection[0] * slope - projection[1] * intercept;
            squares += score * score;
            *by_prompt.entry(judgement.prompt).or_default() += score;
        }
        let clustered: f64 = by_prompt.values().map(|sum| sum * sum).sum();
        if squares > 0.0 { clustered / squares } else { 1.0 }
    }
}
