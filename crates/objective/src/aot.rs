//! Alignment via optimal transport (AOT, arXiv 2406.05882): the distribution of rewards of chosen
//! completions shall dominate that of rejected ones, whatever the pairs.

use crate::{
    BatchLoss, LogProb, PreferencePair, SmoothedDpo,
    math::{log_sigmoid, sigmoid},
    pair::{PairLoss, mean_over_pairs},
};

/// AOT on pairs: sorts log π(y_c) − log π(y_r) over the batch, and the same of the reference, and
/// takes DPO's loss with label smoothing of β times the differences of equal ranks.
///
/// A weight belongs to the pair whose policy log-probs have the rank.
pub fn aot(options: &SmoothedDpo, pairs: &[PreferencePair]) -> BatchLoss {
    let policy: Vec<f64> = pairs.iter().map(|pair| pair.chosen.policy - pair.rejected.policy).collect();
    let reference: Vec<f64> =
        pairs.iter().map(|pair| pair.chosen.reference - pair.rejected.reference).collect();
    let mut slopes = vec![RankTerm::default(); pairs.len()];
    for (of_policy, of_reference) in ranks(&policy).into_iter().zip(ranks(&reference)) {
        slopes[of_policy] = options.rank_term(policy[of_policy] - reference[of_reference]);
    }
    let mut terms = slopes.into_iter();
    mean_over(options, pairs, || {
        let RankTerm { loss, slope } = terms.next().unwrap_or_default();
        PairLoss { loss, chosen: slope, rejected: -slope }
    })
}

/// AOT on unpaired completions: sorts the log-ratios of chosen and of rejected completions, and
/// takes DPO's loss with label smoothing of β times the differences of equal ranks.
///
/// A weight belongs to the pair of the chosen completion.
pub fn aot_unpaired(options: &SmoothedDpo, pairs: &[PreferencePair]) -> BatchLoss {
    let chosen: Vec<f64> = pairs.iter().map(|pair| pair.chosen.ratio()).collect();
    let rejected: Vec<f64> = pairs.iter().map(|pair| pair.rejected.ratio()).collect();
    let mut chosen_terms = vec![RankTerm::default(); pairs.len()];
    let mut rejected_slopes = vec![0.0; pairs.len()];
    for (of_chosen, of_rejected) in ranks(&chosen).into_iter().zip(ranks(&rejected)) {
        let term = options.rank_term(chosen[of_chosen] - rejected[of_rejected]);
        rejected_slopes[of_rejected] = -pairs[of_chosen].weight * term.slope;
        chosen_terms[of_chosen] = term;
    }
    let mut terms = chosen_terms.into_iter();
    let mut evaluated = mean_over(options, pairs, || {
        let RankTerm { loss, slope } = terms.next().unwrap_or_default();
        PairLoss { loss, chosen: slope, rejected: 0.0 }
    });
    // The weight of a rejected completion is that of the pair it is compared with.
    let count = pairs.len() as f64;
    for (gradient, slope) in evaluated.gradient[pairs.len()..].iter_mut().zip(rejected_slopes) {
        *gradient = slope / count;
    }
    evaluated
}

/// Loss of one rank, and its derivative with respect to the difference.
#[derive(Debug, Clone, Copy, Default)]
struct RankTerm {
    loss: f64,
    slope: f64,
}

impl SmoothedDpo {
    fn rank_term(&self, difference: f64) -> RankTerm {
        let (x, epsilon) = (self.beta * difference, self.label_smoothing);
        RankTerm {
            loss: -(1.0 - epsilon) * log_sigmoid(x) - epsilon * log_sigmoid(-x),
            slope: self.beta * (epsilon * sigmoid(x) - (1.0 - epsilon) * sigmoid(-x)),
        }
    }
}

/// Returns indices in ascending order of their values; ties keep their order.
fn ranks(values: &[f64]) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..values.len()).collect();
    indices.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    indices
}

fn mean_over(
    options: &SmoothedDpo,
    pairs: &[PreferencePair],
    mut term: impl FnMut() -> PairLoss,
) -> BatchLoss {
    mean_over_pairs(pairs, |log_prob: LogProb| options.beta * log_prob.ratio(), |_| term())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Dpo, dpo,
        pair::tests::{assert_gradients, pairs},
    };

    fn options(label_smoothing: f64) -> SmoothedDpo {
        SmoothedDpo { beta: 0.1, label_smoothing }
    }

    #[test]
    fn pairs_are_compared_by_rank() {
        // Sorted chosen log-ratios are −1, 2, rejected ones 0.5, 3.
        let shuffled = pairs(&[2.0, -1.0, 0.5, 3.0]);
        let sorted = pairs(&[-1.0, 2.0, 0.5, 3.0]);
        let expected = dpo(&Dpo { beta: 0.1 }, &sorted);
        let found = aot_unpaired(&options(0.0), &shuffled);
        assert!((found.loss - expected.loss).abs() < 1e-15);
        let [first, second, third, fourth] = expected.gradient[..] else { panic!("four entries") };
        assert_eq!(found.gradient, [second, first, third, fourth]);
        // With a reference of 0, paired AOT is DPO.
        let (found, expected) = (aot(&options(0.0), &shuffled), dpo(&Dpo { beta: 0.1 }, &shuffled));
        assert!((found.loss - expected.loss).abs() < 1e-15);
        assert_eq!(found.gradient, expected.gradient);
    }

    #[test]
    fn no_pairs_have_no_loss() {
        assert_eq!(aot(&options(0.1), &[]).loss, 0.0);
        assert_eq!(aot_unpaired(&options(0.1), &[]).loss, 0.0);
    }

    #[test]
    fn gradients_are_derivatives() {
        for label_smoothing in [0.0, 0.2] {
            assert_gradients(|beta, pairs| aot(&SmoothedDpo { beta, label_smoothing }, pairs));
            assert_gradients(|beta, pairs| aot_unpaired(&SmoothedDpo { beta, label_smoothing }, pairs));
        }
    }
}
