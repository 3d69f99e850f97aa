//! Calibration of the preferences that rewards imply.

use prospect_runs::{Calibration, CalibrationBin, PairOutcome};

/// Bins between the confidences ½ and 1.
const BINS: usize = 10;

/// Sums over the pairs of one bin.
#[derive(Debug, Clone, Copy, Default)]
struct BinSums {
    pairs: usize,
    confidence: f64,
    accuracy: f64,
}

/// Returns the calibration of a policy's preferences over held-out pairs, each given with its β;
/// None without pairs.
///
/// The policy's probability of preferring the chosen completion is p = σ(β·(log-ratio chosen −
/// log-ratio rejected)), the Bradley–Terry model of equation 7 of the DPO paper. It is correct
/// where the chosen completion has the larger reward, and its confidence is max(p, 1 − p). The
/// error is the expected calibration error (arXiv 1706.04599) over ten bins: the mean of
/// |confidence − accuracy|, weighted by pairs.
pub fn calibration<'a>(outcomes: impl IntoIterator<Item = (f64, &'a PairOutcome)>) -> Option<Calibration> {
    let mut sums = [BinSums::default(); BINS];
    for (beta, outcome) in outcomes {
        let confidence = 1.0 / (1.0 + (-beta * (outcome.chosen - outcome.rejected).abs()).exp());
        let bin = (((confidence - 0.5) * 2.0 * BINS as f64) as usize).min(BINS - 1);
        sums[bin].pairs += 1;
        sums[bin].confidence += confidence;
        sums[bin].accuracy += outcome.accuracy();
    }
    let total: usize = sums.iter().map(|bin| bin.pairs).sum();
    if total == 0 {
        return None;
    }
    let edge = |bin: usize| 0.5 + bin as f64 / (2 * BINS) as f64;
    let bin = |(index, sums): (usize, BinSums)| {
        let BinSums { pairs, confidence, accuracy } = sums;
        (pairs > 0).then(|| CalibrationBin {
            low: edge(index),
            high: edge(index + 1),
            pairs,
            confidence: confidence / pairs as f64,
            accuracy: accuracy / pairs as f64,
        })
    };
    let bins: Vec<CalibrationBin> = sums.into_iter().enumerate().filter_map(bin).collect();
    let error = bins.iter().map(|bin| bin.pairs as f64 * (bin.confidence - bin.accuracy).abs()).sum::<f64>();
    Some(Calibration { error: error / total as f64, bins })
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
            group: None,
            chosen: margin,
            rejected: 0.0,
            own_scores: None,
        }
    }

    #[test]
    fn confidence_is_compared_with_accuracy() {
        // σ(ln 3) = ¾: 3 correct of 4 pairs is calibrated, 1 of 4 is off by ½.
        let margins = |signs: [f64; 4]| signs.map(|sign| outcome(sign * 3.0_f64.ln() / 0.1));
        let calibrate =
            |outcomes: &[PairOutcome]| calibration(outcomes.iter().map(|outcome| (0.1, outcome))).unwrap();
        let calibrated = calibrate(&margins([1.0, 1.0, 1.0, -1.0]));
        assert!(calibrated.error < 1e-12, "{calibrated:?}");
        assert_eq!(calibrated.bins.iter().map(|bin| bin.pairs).sum::<usize>(), 4);
        assert!((calibrate(&margins([-1.0, -1.0, 1.0, -1.0])).error - 0.5).abs() < 1e-12);
    }

    #[test]
    fn the_smallest_and_the_largest_confidence_have_bins() {
        let outcomes = [outcome(0.0), outcome(1e6)];
        let calibration = calibration(outcomes.iter().map(|outcome| (1.0, outcome))).unwrap();
        let ends: Vec<_> = calibration.bins.iter().map(|bin| (bin.low, bin.high, bin.accuracy)).collect();
        assert_eq!(ends, [(0.5, 0.55, 0.5), (0.95, 1.0, 1.0)]);
        assert!(calibration.error < 1e-12);
        assert_eq!(super::calibration(std::iter::empty()), None);
    }
}
