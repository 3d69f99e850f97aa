//! Comparison of methods in stages: the results are looked at after more and more seeds.
//!
//! All methods are compared with one of them, the baseline. After a first look at a few seeds, only
//! the baseline and a few finalists continue. The comparison ends as soon as it is clear, or when
//! its budget is spent. Three things keep the probability of a wrong recommendation below α:
//!
//! * [`look_levels`] spends α over the looks. The levels add up to α, so no assumption about the
//!   joint distribution of the looks is needed: all of them share the held-out prompts.
//! * At each look, the differences are adjusted for all methods of the comparison (Holm), also
//!   those that have been set aside. The choice of the finalists therefore costs nothing.
//! * [`call_alpha`] leaves a part of α for calls that extend the comparison later.
//!
//! [`design`] chooses the length of the runs, the held-out pairs and the seeds for a budget.
//!
//! ```
//! use prospect_analysis::sequential::{Decision, MethodResult, decide, look_levels};
//! use prospect_runs::Verdict;
//!
//! let levels = look_levels(0.05, &[3, 5, 8]);
//! assert!(levels[0] < 0.002 && (levels.iter().sum::<f64>() - 0.05).abs() < 1e-6);
//!
//! let kto = MethodResult { method: "kto".to_owned(), difference: 0.06, verdict: Verdict::Better };
//! assert_eq!(decide(&[kto]), Decision::Better("kto".to_owned()));
//! ```

mod design;
mod spending;

use prospect_runs::Verdict;

pub use self::{
    design::{Design, DesignRequest, RunCost, SCREENING_SEEDS, design},
    spending::{call_alpha, look_levels},
};

/// Result of one method at one look, compared with the baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodResult {
    /// Name of the method.
    pub method: String,
    /// Value of the method minus that of the baseline.
    pub difference: f64,
    /// Conclusion at the level of this look, or of an earlier one.
    pub verdict: Verdict,
}

/// State of a comparison after a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// This method is the best of those that are better than the baseline.
    Better(String),
    /// Every other method is worse than the baseline.
    Baseline,
    /// Neither holds yet.
    Open,
}

/// Returns the state of the comparison, given the results of all methods but the baseline.
pub fn decide(results: &[MethodResult]) -> Decision {
    let better = results.iter().filter(|result| result.verdict == Verdict::Better);
    match better.max_by(|a, b| a.difference.total_cmp(&b.difference)) {
        Some(best) => Decision::Better(best.method.clone()),
        None if results.iter().all(|result| result.verdict == Verdict::Worse) && !results.is_empty() => {
            Decision::Baseline
        }
        None => Decision::Open,
    }
}

/// Returns the methods that continue beside the baseline: of those that are not worse than it, the
/// `most` with the largest difference. They are in the order given.
pub fn finalists(results: &[MethodResult], most: usize) -> Vec<String> {
    let mut ranked: Vec<&MethodResult> =
        results.iter().filter(|result| result.verdict != Verdict::Worse).collect();
    ranked.sort_by(|a, b| b.difference.total_cmp(&a.difference));
    ranked.truncate(most);
    let continues = |result: &&MethodResult| ranked.iter().any(|kept| kept.method == result.method);
    results.iter().filter(continues).map(|result| result.method.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(all: &[(&str, f64, Verdict)]) -> Vec<MethodResult> {
        let result = |(method, difference, verdict): &(&str, f64, Verdict)| MethodResult {
            method: (*method).to_owned(),
            difference: *difference,
            verdict: *verdict,
        };
        all.iter().map(result).collect()
    }

    #[test]
    fn the_best_of_the_better_methods_is_recommended() {
        use Verdict::{Better, Inconclusive, Worse};
        let all = results(&[("a", 0.05, Better), ("b", 0.07, Better), ("c", 0.09, Inconclusive)]);
        assert_eq!(decide(&all), Decision::Better("b".to_owned()));
        assert_eq!(decide(&results(&[("a", -0.1, Worse), ("b", -0.2, Worse)])), Decision::Baseline);
        assert_eq!(decide(&results(&[("a", -0.1, Worse), ("b", 0.0, Inconclusive)])), Decision::Open);
        assert_eq!(decide(&[]), Decision::Open);
    }

    #[test]
    fn the_best_methods_that_are_not_worse_continue() {
        use Verdict::{Inconclusive, Worse};
        let all = results(&[
            ("a", -0.03, Inconclusive),
            ("b", 0.01, Inconclusive),
            ("c", -0.2, Worse),
            ("d", -0.01, Inconclusive),
        ]);
        assert_eq!(finalists(&all, 2), ["b", "d"]);
        assert_eq!(finalists(&all, 9), ["a", "b", "d"]);
        assert!(finalists(&all[2..3], 2).is_empty());
    }
}
