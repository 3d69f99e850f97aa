//! The best design of a comparison for a budget.

use super::{call_alpha, look_levels};
use crate::stats::Variation;

/// Seeds of every method at the first look.
pub const SCREENING_SEEDS: usize = 3;

/// Lengths of a run that are considered, in optimizer steps.
const STEPS: [u64; 16] = [10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800, 1200, 1600];

/// Numbers of held-out pairs that are considered, besides all of them.
const PAIRS: [usize; 10] = [50, 75, 100, 150, 200, 300, 500, 1000, 2000, 4000];

/// Seeds of the finalists at the last look that are considered.
const SEEDS: [usize; 9] = [3, 4, 5, 6, 8, 10, 12, 16, 20];

/// Steps after which a difference between methods has reached 1 − 1/e of its final size. A design
/// assumes it, to weigh longer runs against more of them.
const LEARNING_STEPS: f64 = 100.0;

/// Cost of the runs of one method, in seconds or in optimizer steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunCost {
    /// Cost of a run besides its steps and its held-out pairs.
    pub run: f64,
    /// Cost of an optimizer step.
    pub step: f64,
    /// Cost of evaluating one held-out pair, or two thumbs.
    pub pair: f64,
}

/// Constraints of a design.
#[derive(Debug, Clone, PartialEq)]
pub struct DesignRequest {
    /// Costs of each method, the baseline first.
    pub costs: Vec<RunCost>,
    /// Cost of what all runs share, such as an SFT stage.
    pub shared: f64,
    /// Cost of what the runs of one seed share: an SFT stage on data that every seed draws.
    pub per_seed: f64,
    /// Available held-out pairs; two thumbs count as one.
    pub held_out: usize,
    /// Steps after which further training is pointless.
    pub most_steps: u64,
    /// Methods that continue beside the baseline after the first look.
    pub finalists: usize,
    /// Most that the comparison may cost.
    pub budget: f64,
}

/// Design of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Design {
    /// Optimizer steps of every run.
    pub steps: u64,
    /// Held-out pairs that every run is evaluated on; two thumbs count as one.
    pub pairs: usize,
    /// Seeds at each look, cumulated.
    pub looks: Vec<usize>,
    /// Difference that the last look detects with 80 % power, as a share.
    pub detectable: f64,
    /// Cost if no look ends the comparison early.
    pub cost: f64,
}

/// Returns the design with the smallest detectable difference that the budget allows; None if it
/// allows none.
///
/// Longer runs differ more, so differences are compared by their size after long training: the
/// detectable difference divided by the part of it that runs of this length show.
pub fn design(request: &DesignRequest) -> Option<Design> {
    let pairs = || PAIRS.into_iter().filter(|pairs| *pairs < request.held_out).chain([request.held_out]);
    let steps = || {
        let most = request.most_steps;
        STEPS.into_iter().filter(move |steps| *steps < most).chain([most.min(STEPS[STEPS.len() - 1])])
    };
    let mut best: Option<(f64, Design)> = None;
    for seeds in SEEDS {
        for pairs in pairs() {
            for steps in steps() {
                let looks = looks(seeds);
                let cost = cost(request, steps, pairs, &looks);
                if cost > request.budget {
                    continue;
                }
                let detectable = detectable(request.costs.len(), pairs, &looks);
                let learnt = 1.0 - (-(steps as f64) / LEARNING_STEPS).exp();
                let objective = detectable / learnt;
                if best.as_ref().is_none_or(|(least, _)| objective < *least) {
                    best = Some((objective, Design { steps, pairs, looks, detectable, cost }));
                }
            }
        }
    }
    best.map(|(_, design)| design)
}

/// Returns the looks of a comparison that ends with this many seeds.
fn looks(seeds: usize) -> Vec<usize> {
    match seeds {
        ..=SCREENING_SEEDS => vec![seeds],
        4..=6 => vec![SCREENING_SEEDS, seeds],
        _ => vec![SCREENING_SEEDS, (SCREENING_SEEDS + seeds).div_ceil(2), seeds],
    }
}

/// Cost of all looks: every method at the first one, then the baseline and the most expensive
/// finalists.
fn cost(request: &DesignRequest, steps: u64, pairs: usize, looks: &[usize]) -> f64 {
    let of_method = |cost: &RunCost| cost.run + steps as f64 * cost.step + pairs as f64 * cost.pair;
    let costs: Vec<f64> = request.costs.iter().map(of_method).collect();
    let (first, last) = (looks.first().copied().unwrap_or(0), looks.last().copied().unwrap_or(0));
    let mut others: Vec<f64> = costs.iter().skip(1).copied().collect();
    others.sort_by(|a, b| b.total_cmp(a));
    let finalists: f64 = costs.iter().take(1).chain(others.iter().take(request.finalists)).sum();
    let shared = request.shared + last as f64 * request.per_seed;
    shared + first as f64 * costs.iter().sum::<f64>() + (last - first) as f64 * finalists
}

/// Difference that the last look detects with 80 % power.
fn detectable(methods: usize, pairs: usize, looks: &[usize]) -> f64 {
    let comparisons = methods.saturating_sub(1).max(1);
    let level = look_levels(call_alpha(0.05, 0), looks).last().copied().unwrap_or(0.0);
    let seeds = looks.last().copied().unwrap_or(0);
    Variation::ASSUMED.detectable(seeds, pairs, comparisons, level / comparisons as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(budget: f64) -> DesignRequest {
        let cost = RunCost { run: 0.0, step: 1.0, pair: 0.04 };
        DesignRequest {
            costs: vec![cost; 2],
            shared: 0.0,
            per_seed: 0.0,
            held_out: 400,
            most_steps: 400,
            finalists: 2,
            budget,
        }
    }

    #[test]
    fn more_budget_detects_smaller_differences() {
        let mut before = f64::INFINITY;
        for budget in [300.0, 1000.0, 3000.0, 10_000.0] {
            let design = design(&request(budget)).unwrap();
            assert!(design.cost <= budget, "{design:?}");
            let detectable = design.detectable / (1.0 - (-(design.steps as f64) / 100.0).exp());
            assert!(detectable < before, "{design:?}");
            before = detectable;
        }
        assert_eq!(design(&request(50.0)), None);
    }

    #[test]
    fn further_methods_leave_less_for_each() {
        let two = design(&request(2000.0)).unwrap();
        let four = DesignRequest { costs: vec![request(0.0).costs[0]; 4], ..request(2000.0) };
        let four = design(&four).unwrap();
        assert!(four.detectable > two.detectable, "{two:?} {four:?}");
        assert!(four.steps as usize * four.looks.len() <= two.steps as usize * two.looks.len());
    }

    #[test]
    fn the_limits_of_the_data_are_kept() {
        let design = design(&DesignRequest { held_out: 30, most_steps: 25, ..request(1e6) }).unwrap();
        assert_eq!((design.pairs, design.steps, design.looks), (30, 25, vec![3, 12, 20]));
    }

    #[test]
    fn expensive_finalists_are_counted() {
        let costs = [1.0, 1.0, 5.0, 2.0].map(|step| RunCost { run: 1.0, step, pair: 0.0 }).to_vec();
        let request = DesignRequest { costs, finalists: 2, shared: 7.0, per_seed: 10.0, ..request(0.0) };
        // Three seeds of all methods (94 a seed at 10 steps), then two of the baseline and the two
        // most expensive others.
        assert_eq!(cost(&request, 10, 9, &[3, 5]), 57.0 + 3.0 * 94.0 + 2.0 * (11.0 + 51.0 + 21.0));
    }
}
