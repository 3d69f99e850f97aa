//! Labels that look wrong: how far policies that never trained on a judgement dispute it, and the
//! share of labels that are flipped.
//!
//! A judgement has a score under the policy of its fold: the margin of a pair, or the log-ratio of
//! a thumb. With a true label that follows the score x as σ(a + b·x), and a label that is flipped
//! with probability ρ whatever its score, the observed label agrees with probability
//!
//! ```text
//! P(agree) = ρ + (1 − 2ρ)·σ(±(a + b·x))
//! ```
//!
//! where a is 0 for pairs, and x is in units of the spread of its fold. ρ is the share of disputes
//! that remains where policies are surest: hard judgements are disputed at small scores, flipped
//! ones at all scores. The estimate is that of maximum likelihood; its interval is that of the
//! profile likelihood, widened for judgements of one prompt. This is the model of label smoothing in
//! cDPO and robust DPO (Mitchell 2023; Chowdhury et al. 2024), with a rate that is estimated
//! instead of assumed, and a parametric form of confident learning (Northcutt et al. 2021).
//!
//! Assumptions: flips do not depend on the score, and policies are right where they are surest. If
//! they are surely wrong, ρ is too large: policies of a tiny model on synthetic thumbs with 20 %
//! flips gave 28 to 37 %. So only the upper end is worth showing.

mod curve;
mod profile;

use prospect_runs::Estimate;

use crate::{
    stats::{Observation, Scale, StatsError, binomial_exact, estimate},
    thumbs::auc_terms,
};
use curve::{AgreementCurve, UnitScores, by_fold};

/// A judgement with its score under the policy of its fold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoredJudgement<'a> {
    /// Id of the prompt; judgements of one prompt are one draw.
    pub prompt: &'a str,
    /// Index of the fold.
    pub fold: usize,
    /// Margin of a pair, chosen minus rejected, or log-ratio of a thumb; in nats.
    pub score: f64,
    /// Label of a thumb; true for a pair.
    pub label: bool,
}

/// Kind of the judgements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JudgementKind {
    /// Pairs: a margin of 0 favours neither side.
    Pairs,
    /// Thumbs: both the zero of the score and the share of thumbs up are unknown.
    Thumbs,
}

/// Estimate of the share of flipped labels, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FlippedShare {
    /// Share with its 95 % interval.
    Estimated(Estimate),
    /// The policies are not shown to rank held-out judgements better than chance.
    AtChance,
    /// The policies are nowhere sure enough to tell flipped labels from hard judgements: the
    /// interval has no upper end below one half.
    Unbounded,
}

/// Agreement of held-out policies with labels, and flipped labels.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelErrors {
    /// Share of pairs that held-out policies rank as labelled, or their AUC on thumbs within folds.
    pub agreement: Estimate,
    /// Share of flipped labels.
    pub flipped: FlippedShare,
    /// Probability of the opposite label for each judgement, in the order given: the share of
    /// labels that are disputed at such a score.
    pub disagreement: Vec<f64>,
}

/// Estimates the share of flipped labels, and calibrates how far each label is disputed.
///
/// # Errors
/// Without judgements, without both labels of thumbs, or if a score is not finite.
pub fn label_errors(
    judgements: &[ScoredJudgement<'_>],
    kind: JudgementKind,
) -> Result<LabelErrors, StatsError> {
    let agreement = agreement(judgements, kind)?;
    let scores = UnitScores::new(judgements, kind);
    let is_above_chance = agreement.low > 0.5;
    let flipped =
        if is_above_chance { profile::flipped_share(judgements, &scores) } else { FlippedShare::AtChance };
    let rate = match flipped {
        FlippedShare::Estimated(share) => share.value,
        FlippedShare::AtChance | FlippedShare::Unbounded => 0.0,
    };
    let curve = AgreementCurve::fit(&scores, rate, AgreementCurve::default());
    let disagreement = scores.scores.iter().map(|score| 1.0 - curve.agreement(*score, rate)).collect();
    Ok(LabelErrors { agreement, flipped, disagreement })
}

/// Share of pairs with a positive margin, or AUC of thumbs within folds.
fn agreement(judgements: &[ScoredJudgement<'_>], kind: JudgementKind) -> Result<Estimate, StatsError> {
    let mut values = vec![0.0; judgements.len()];
    match kind {
        JudgementKind::Pairs => {
            for (value, judgement) in values.iter_mut().zip(judgements) {
                *value = match judgement.score {
                    score if !score.is_finite() => f64::NAN,
                    score if score > 0.0 => 1.0,
                    score => f64::from(u8::from(score == 0.0)) / 2.0,
                };
            }
            clustered(judgements, &values, Scale::Share)
        }
        JudgementKind::Thumbs => {
            for fold in by_fold(judgements) {
                let scored: Vec<(f64, bool)> =
                    fold.iter().map(|index| (judgements[*index].score, judgements[*index].label)).collect();
                let terms = auc_terms(&scored).ok_or(StatsError::Without("both labels in every fold"))?;
                for (index, term) in fold.into_iter().zip(terms) {
                    values[index] = term;
                }
            }
            let range = Scale::Range { low: 0.0, high: 1.0 };
            Ok(clustered(judgements, &values, range)?.clamped(0.0, 1.0))
        }
    }
}

/// Mean of one value for each judgement, clustered by prompt.
fn clustered(
    judgements: &[ScoredJudgement<'_>],
    values: &[f64],
    scale: Scale,
) -> Result<Estimate, StatsError> {
    let ids: Vec<String> = (0..values.len()).map(|index| index.to_string()).collect();
    let observations = ids.iter().zip(judgements).zip(values);
    let observations = observations.map(|((pair, judgement), value)| Observation {
        pair,
        prompt: judgement.prompt,
        value: *value,
    });
    estimate(&[observations.collect()], scale)
}

/// Success of a ranking in finding labels that are known to be flipped.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownFlips {
    /// Number of flipped labels.
    pub flipped: usize,
    /// Number of all labels.
    pub all: usize,
    /// AUC: the probability that a flipped label is disputed more than another one.
    pub auc: Estimate,
    /// Share of flipped labels among the k most disputed ones, with k.
    pub precision: Vec<(usize, Estimate)>,
}

/// Shares of the labels among which the precision is measured.
const TOP: [f64; 4] = [0.01, 0.05, 0.1, 0.2];

/// Measures a ranking by known flips. `judged` holds the prompt, the disagreement and whether the
/// label is flipped. None unless there are labels of both kinds.
pub fn known_flips(judged: &[(&str, f64, bool)]) -> Option<KnownFlips> {
    let scored: Vec<(f64, bool)> = judged.iter().map(|(_, score, flipped)| (*score, *flipped)).collect();
    let terms = auc_terms(&scored)?;
    let judgements: Vec<ScoredJudgement<'_>> = judged
        .iter()
        .map(|(prompt, score, label)| ScoredJudgement { prompt, fold: 0, score: *score, label: *label })
        .collect();
    let auc = clustered(&judgements, &terms, Scale::Range { low: 0.0, high: 1.0 }).ok()?.clamped(0.0, 1.0);
    let mut ranked = scored;
    // Ties in favour of labels that are not flipped, so that order flatters nothing.
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut counts: Vec<usize> =
        TOP.iter().map(|share| ((share * ranked.len() as f64).round() as usize).max(1)).collect();
    counts.dedup();
    let precision = counts.into_iter().filter_map(|count| {
        let found = ranked.iter().take(count).filter(|(_, flipped)| *flipped).count();
        Some((count, binomial_exact(found as u64, count as u64).ok()?))
    });
    let flipped = ranked.iter().filter(|(_, flipped)| *flipped).count();
    Some(KnownFlips { flipped, all: ranked.len(), auc, precision: precision.collect() })
}

#[cfg(test)]
mod tests;
