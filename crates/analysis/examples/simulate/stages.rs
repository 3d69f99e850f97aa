//! Simulated comparisons in stages, and how often their recommendations are right.

use prospect_analysis::{
    sequential::{Decision, MethodResult, call_alpha, decide, finalists, look_levels},
    stats::{Difference, Sample, holm},
};
use prospect_runs::Verdict;

use super::study::{Normal, World, accuracy_sample, differences, quantile};

/// Finalists beside the baseline.
const FINALISTS: usize = 2;

/// A comparison of methods with these accuracies, the baseline first.
#[derive(Debug, Clone)]
pub(crate) struct Comparison<'a> {
    pub(crate) world: World,
    pub(crate) accuracies: &'a [f64],
    /// Cumulated seeds at the looks of each call.
    pub(crate) calls: &'a [&'a [usize]],
}

/// Outcomes of simulated comparisons.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Outcomes {
    pub(crate) comparisons: u64,
    /// The recommended method is better than the baseline, or is the baseline and better than all.
    pub(crate) right: u64,
    /// It is not.
    pub(crate) wrong: u64,
    pub(crate) open: u64,
    /// Trained runs, and runs of all methods at the last look.
    pub(crate) runs: u64,
    pub(crate) full_runs: u64,
}

impl Outcomes {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.comparisons += other.comparisons;
        self.right += other.right;
        self.wrong += other.wrong;
        self.open += other.open;
        self.runs += other.runs;
        self.full_runs += other.full_runs;
    }

    pub(crate) fn share(&self, count: u64) -> f64 {
        count as f64 / self.comparisons as f64
    }
}

/// Simulates `count` comparisons. The same `seed` gives the same ones.
pub(crate) fn simulate_stages(comparison: &Comparison<'_>, count: u64, seed: u64) -> Outcomes {
    let seeds = comparison.calls.last().and_then(|looks| looks.last()).copied().unwrap_or(0);
    let world = World { methods: comparison.accuracies.len(), seeds, accuracy: 0.5, ..comparison.world };
    let mut random = Normal::new(seed);
    let ids: Vec<String> = (0..world.prompts).map(|prompt| format!("{prompt:05}")).collect();
    let mut outcomes = Outcomes::default();
    for _ in 0..count {
        let mut margins = world.draw(&mut random).swap_remove(0);
        for (method, accuracy) in margins.iter_mut().zip(comparison.accuracies) {
            method.iter_mut().flatten().for_each(|margin| *margin += quantile(*accuracy));
        }
        outcomes.comparisons += 1;
        outcomes.full_runs += (world.methods * seeds) as u64;
        let decision = Stages::new(&margins, &ids).run(comparison, &mut outcomes.runs);
        let best = |than: f64| comparison.accuracies.iter().skip(1).all(|accuracy| *accuracy < than);
        let is_right = match &decision {
            Decision::Open => None,
            Decision::Baseline => Some(best(comparison.accuracies[0])),
            Decision::Better(method) => {
                let index = (1..world.methods).find(|index| name(*index) == *method);
                index.map(|index| comparison.accuracies[index] > comparison.accuracies[0])
            }
        };
        match is_right {
            None => outcomes.open += 1,
            Some(true) => outcomes.right += 1,
            Some(false) => outcomes.wrong += 1,
        }
    }
    outcomes
}

fn name(method: usize) -> String {
    format!("method {method}")
}

/// One simulated comparison.
struct Stages<'a> {
    margins: &'a [Vec<Vec<f64>>],
    ids: &'a [String],
    results: Vec<MethodResult>,
    /// P-value of each method at its last look.
    p: Vec<f64>,
    /// Indices of the methods that still train.
    active: Vec<usize>,
}

impl<'a> Stages<'a> {
    fn new(margins: &'a [Vec<Vec<f64>>], ids: &'a [String]) -> Self {
        let others = 1..margins.len();
        let result =
            |method| MethodResult { method: name(method), difference: 0.0, verdict: Verdict::Inconclusive };
        Self {
            margins,
            ids,
            results: others.clone().map(result).collect(),
            p: vec![1.0; margins.len() - 1],
            active: others.collect(),
        }
    }

    /// Looks until the comparison is clear or spent, and counts the trained runs.
    fn run(mut self, comparison: &Comparison<'_>, runs: &mut u64) -> Decision {
        let mut before = 0;
        for (call, looks) in comparison.calls.iter().enumerate() {
            let own: Vec<usize> = looks.iter().map(|seeds| seeds - before).collect();
            let levels = look_levels(call_alpha(0.05, call), &own);
            for (seeds, level) in looks.iter().zip(levels) {
                *runs += ((seeds - before) * (1 + self.active.len())) as u64;
                before = *seeds;
                self.look(*seeds, level);
                let decision = decide(&self.results);
                if decision != Decision::Open {
                    return decision;
                }
                let continuing = finalists(&self.results, FINALISTS);
                self.active.retain(|method| continuing.contains(&name(*method)));
            }
        }
        Decision::Open
    }

    fn look(&mut self, seeds: usize, level: f64) {
        let sample = |method: usize| -> Sample { accuracy_sample(&self.margins[method][..seeds], self.ids) };
        let methods: Vec<Sample> = [0].iter().chain(&self.active).map(|method| sample(*method)).collect();
        let differences: Vec<Difference> = differences(&[methods]).swap_remove(0);
        for (method, difference) in self.active.iter().zip(&differences) {
            self.p[method - 1] = difference.p_value();
            self.results[method - 1].difference = difference.mean();
        }
        for (result, p) in self.results.iter_mut().zip(holm(&self.p)) {
            if p < level {
                result.verdict = if result.difference > 0.0 { Verdict::Better } else { Verdict::Worse };
            }
        }
    }
}
