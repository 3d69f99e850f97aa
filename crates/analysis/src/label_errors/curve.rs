//! The curve of agreement by standardised scores.

use std::collections::BTreeMap;

use super::{JudgementKind, ScoredJudgement};

/// Steps of Fisher scoring; the fit converges in about ten.
const STEPS: usize = 60;

/// Halvings of a step before the fit gives up.
const HALVINGS: i32 = 30;

/// Scores of all judgements, in units of the spread of their fold.
pub(super) struct UnitScores {
    /// Scores in the order of the judgements.
    pub(super) scores: Vec<UnitScore>,
    /// False for pairs, whose curve passes one half at a margin of 0.
    has_intercept: bool,
}

/// A score in units of the spread of its fold, and the sign of the label.
#[derive(Clone, Copy)]
pub(super) struct UnitScore {
    score: f64,
    sign: f64,
}

impl UnitScores {
    /// Standardises the scores within each fold; the margins of pairs keep their zero.
    pub(super) fn new(judgements: &[ScoredJudgement<'_>], kind: JudgementKind) -> Self {
        let has_intercept = kind == JudgementKind::Thumbs;
        let mut scores = vec![UnitScore { score: 0.0, sign: 1.0 }; judgements.len()];
        for own in by_fold(judgements) {
            let count = own.len().max(1) as f64;
            let sum: f64 = own.iter().map(|index| judgements[*index].score).sum();
            let center = if has_intercept { sum / count } else { 0.0 };
            let square =
                own.iter().map(|index| (judgements[*index].score - center).powi(2)).sum::<f64>() / count;
            let spread = if square > 0.0 { square.sqrt() } else { 1.0 };
            for index in own {
                let ScoredJudgement { score, label, .. } = judgements[index];
                let sign = if label { 1.0 } else { -1.0 };
                scores[index] = UnitScore { score: (score - center) / spread, sign };
            }
        }
        Self { scores, has_intercept }
    }
}

/// Returns the indices of the judgements of each fold that has any.
pub(super) fn by_fold(judgements: &[ScoredJudgement<'_>]) -> impl Iterator<Item = Vec<usize>> {
    let mut folds: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, judgement) in judgements.iter().enumerate() {
        folds.entry(judgement.fold).or_default().push(index);
    }
    folds.into_values()
}

/// Log-odds of the true label by unit score: intercept + slope · score.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct AgreementCurve {
    slope: f64,
    intercept: f64,
}

/// Derivatives of the log-probability of a judgement.
pub(super) struct Terms {
    /// By the flip rate.
    pub(super) by_rate: f64,
    /// By slope and intercept.
    pub(super) by_curve: [f64; 2],
    /// Expected information about the log-odds.
    information: f64,
}

impl AgreementCurve {
    /// Fits the curve given the flip `rate`, by maximum likelihood from the curve `start`.
    pub(super) fn fit(scores: &UnitScores, rate: f64, start: Self) -> Self {
        let (mut curve, mut value) = (start, start.log_likelihood(scores, rate));
        for _ in 0..STEPS {
            let Some([slope, intercept]) = curve.step(scores, rate) else { break };
            let halved = (0..HALVINGS).map(|halvings| {
                let factor = 0.5_f64.powi(halvings);
                let next = Self {
                    slope: curve.slope + factor * slope,
                    intercept: curve.intercept + factor * intercept,
                };
                (next, next.log_likelihood(scores, rate))
            });
            let Some((next, next_value)) = halved.into_iter().find(|(_, next)| *next > value) else { break };
            let gain = next_value - value;
            (curve, value) = (next, next_value);
            if gain < 1e-10 {
                break;
            }
        }
        curve
    }

    /// Probability that the observed label is the given one.
    pub(super) fn agreement(self, score: UnitScore, rate: f64) -> f64 {
        rate + (1.0 - 2.0 * rate) * sigmoid(self.log_odds(score))
    }

    fn log_odds(self, score: UnitScore) -> f64 {
        score.sign * (self.intercept + self.slope * score.score)
    }

    pub(super) fn log_likelihood(self, scores: &UnitScores, rate: f64) -> f64 {
        scores.scores.iter().map(|score| self.agreement(*score, rate).max(f64::MIN_POSITIVE).ln()).sum()
    }

    /// Derivatives at a score.
    pub(super) fn terms(self, scores: &UnitScores, score: UnitScore, rate: f64) -> Terms {
        let probability = sigmoid(self.log_odds(score));
        let agreement = (rate + (1.0 - 2.0 * rate) * probability).clamp(1e-300, 1.0 - 1e-16);
        let density = (1.0 - 2.0 * rate) * probability * (1.0 - probability);
        let by_log_odds = score.sign * density / agreement;
        let intercept = if scores.has_intercept { by_log_odds } else { 0.0 };
        Terms {
            by_rate: (1.0 - 2.0 * probability) / agreement,
            by_curve: [by_log_odds * score.score, intercept],
            information: density * density / (agreement * (1.0 - agreement)),
        }
    }

    /// Returns the step of Fisher scoring; None where the information is singular.
    fn step(self, scores: &UnitScores, rate: f64) -> Option<[f64; 2]> {
        const DAMPING: f64 = 1e-9;
        let (mut gradient, mut information) = ([0.0; 2], [DAMPING, 0.0, DAMPING]);
        for score in &scores.scores {
            let terms = self.terms(scores, *score, rate);
            for (sum, term) in gradient.iter_mut().zip(terms.by_curve) {
                *sum += term;
            }
            information[0] += terms.information * score.score * score.score;
            if scores.has_intercept {
                information[1] += terms.information * score.score;
                information[2] += terms.information;
            }
        }
        let step = solve(information, gradient)?;
        step.iter().all(|value| value.is_finite()).then_some(step)
    }
}

/// Solves a symmetric system of two equations, given as [aa, ab, bb].
pub(super) fn solve([aa, ab, bb]: [f64; 3], [a, b]: [f64; 2]) -> Option<[f64; 2]> {
    let determinant = aa * bb - ab * ab;
    (determinant > 0.0).then(|| [(bb * a - ab * b) / determinant, (aa * b - ab * a) / determinant])
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
