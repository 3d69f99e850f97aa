//! Reliability of probabilities of a thumb up.

use prospect_runs::{ReliabilityBin, ThumbOutcome};

/// Bins between the probabilities 0 and 1.
const BINS: usize = 10;

/// Returns the nonempty bins of equal width by rising probability; empty without probabilities.
///
/// Probabilities are reliable if, in every bin, the share of thumbs up is the mean probability.
pub fn reliability<'a>(thumbs: impl IntoIterator<Item = &'a ThumbOutcome>) -> Vec<ReliabilityBin> {
    let edge = |bin: usize| bin as f64 / BINS as f64;
    let mut bins: Vec<ReliabilityBin> = (0..BINS)
        .map(|bin| ReliabilityBin { low: edge(bin), high: edge(bin + 1), ..ReliabilityBin::default() })
        .collect();
    for thumb in thumbs {
        let Some(probability) = thumb.probability else { continue };
        let bin = &mut bins[((probability * BINS as f64) as usize).min(BINS - 1)];
        bin.thumbs += 1;
        bin.probability += probability;
        bin.desirable += f64::from(u8::from(thumb.desirable));
    }
    bins.retain(|bin| bin.thumbs > 0);
    for bin in &mut bins {
        bin.probability /= bin.thumbs as f64;
        bin.desirable /= bin.thumbs as f64;
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::{super::thumb, *};

    #[test]
    fn bins_hold_counts_and_means() {
        let with = |probability: f64, desirable| ThumbOutcome {
            probability: Some(probability),
            ..thumb("t", "p", 0.0, desirable)
        };
        let thumbs = [with(0.05, false), with(0.0, true), with(1.0, true), thumb("t", "p", 0.0, true)];
        let bins = reliability(&thumbs);
        assert_eq!(bins.iter().map(|bin| bin.thumbs).collect::<Vec<_>>(), [2, 1]);
        assert_eq!((bins[0].low, bins[0].high, bins[0].desirable), (0.0, 0.1, 0.5));
        assert!((bins[0].probability - 0.025).abs() < 1e-12);
        assert_eq!((bins[1].low, bins[1].probability, bins[1].desirable), (0.9, 1.0, 1.0));
    }
}
