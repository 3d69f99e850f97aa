//! Whether a policy is as sure of its preferences as it is right.

use prospect_runs::{Calibration, CalibrationBin, PairOutcome};

/// Bins between the confidences ½ and 1.
const BINS: usize = 10;

/// The calibration of the preferences that rewards imply: p(chosen over rejected) = σ(β·(log-ratio chosen − rejected)),
/// the Bradley-Terry model of DPO's equation 7. A policy is right where the preferred completion of the pair has the
/// larger reward, and its confidence is the larger of p and 1 − p. The error is the expected calibration error (arXiv
/// 1706.04599) over ten bins: the mean of |confidence − accuracy|, weighted by pairs.
///
/// None without pairs.
pub fn calibration<'a>(outcomes: impl IntoIterator<Item = (f64, &'a PairOutcome)>) -> Option<Calibration> {
    let mut bins: Vec<(usize, f64, f64)> = vec![(0, 0.0, 0.0); BINS];
    for (beta, outcome) in outcomes {
        let confidence = 1.0 / (1.0 + (-beta * (outcome.chosen - outcome.rejected).abs()).exp());
        let bin = (((confidence - 0.5) * 2.0 * BINS as f64) as usize).min(BINS - 1);
        let (pairs, confidences, accuracies) = &mut bins[bin];
        *pairs += 1;
        *confidences += confidence;
        *accuracies += outcome.accuracy();
    }
    let all: usize = bins.iter().map(|(pairs, ..)| pairs).sum();
    if all == 0 {
        return None;
    }
    let edge = |bin: usize| 0.5 + bin as f64 / (2 * BINS) as f64;
    let bin = |(index, (pairs, confidences, accuracies)): (usize, (usize, f64, f64))| {
        let mean = |sum: f64| sum / pairs as f64;
        (pairs > 0).then(|| CalibrationBin {
            low: edge(index),
            high: edge(index + 1),
            pairs,
            confidence: mean(confidences),
            accuracy: mean(accuracies),
        })
    };
    let bins: Vec<CalibrationBin> = bins.into_iter().enumerate().filter_map(bin).collect();
    let error = bins.iter().map(|bin| bin.pairs as f64 * (bin.confidence - bin.accuracy).abs()).sum::<f64>();
    Some(Calibration { error: error / all as f64, bins })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(margin: f64) -> PairOutcome {
        let text = String::new;
        PairOutcome {
            pair_id: text(),
            prompt_id: text(),
            source: text(),
            domain: text(),
            chosen: margin,
            rejected: 0.0,
        }
    }

    #[test]
    fn confidence_is_set_against_accuracy() {
        // σ(ln 3) = ¾: right in 3 of 4 pairs is calibrated, right in 1 of 4 is off by ½.
        let margins = |signs: [f64; 4]| signs.map(|sign| outcome(sign * 3.0_f64.ln() / 0.1));
        let of =
            |outcomes: &[PairOutcome]| calibration(outcomes.iter().map(|outcome| (0.1, outcome))).unwrap();
        let good = of(&margins([1.0, 1.0, 1.0, -1.0]));
        assert!(good.error < 1e-12, "{good:?}");
        assert_eq!(good.bins.iter().map(|bin| bin.pairs).sum::<usize>(), 4);
        assert!((of(&margins([-1.0, -1.0, 1.0, -1.0])).error - 0.5).abs() < 1e-12);
    }

    #[test]
    fn no_opinion_and_no_doubt_have_bins() {
        let outcomes = [outcome(0.0), outcome(1e6)];
        let calibration = calibration(outcomes.iter().map(|outcome| (1.0, outcome))).unwrap();
        let ends: Vec<_> = calibration.bins.iter().map(|bin| (bin.low, bin.high, bin.accuracy)).collect();
        assert_eq!(ends, [(0.5, 0.55, 0.5), (0.95, 1.0, 1.0)]);
        assert!(calibration.error < 1e-12);
        assert_eq!(super::calibration(std::iter::empty()), None);
    }
}
