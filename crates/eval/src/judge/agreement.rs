//! Agreement of a reward model with people.

use prospect_analysis::stats::binomial_exact;

/// Pairs that a reward model has ranked, and those of them that it ranks as people did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Agreement {
    pub(super) correct: u64,
    pub(super) ranked: u64,
}

impl Agreement {
    /// Returns the share with its 95 % interval, in words; empty without pairs.
    pub(super) fn share(self) -> String {
        self.bounds().map_or_else(String::new, |[value, low, high]| {
            format!(" ({value:.0} %, 95 % interval {low:.0} to {high:.0})")
        })
    }

    /// Returns a sentence for a judge that is not shown to agree with people; otherwise nothing.
    pub(super) fn warning(self) -> &'static str {
        if self.bounds().is_some_and(|[_, low, _]| low > 50.0) {
            return "";
        }
        " Warning: this is not significantly better than chance, so its win rates are no evidence of what people prefer."
    }

    fn bounds(self) -> Option<[f64; 3]> {
        let share = binomial_exact(self.correct, self.ranked).ok()?;
        Some([share.value, share.low, share.high].map(|share| 100.0 * share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judge_at_chance_is_no_evidence() {
        // A reward model with 54 of 100 pairs gave a policy of garbage a win rate of 68 %.
        let chance = Agreement { correct: 54, ranked: 100 };
        assert_eq!(chance.share(), " (54 %, 95 % interval 44 to 64)");
        assert!(chance.warning().contains("not significantly better than chance"));
        assert_eq!(Agreement { correct: 70, ranked: 100 }.warning(), "");
        let none = Agreement { correct: 0, ranked: 0 };
        assert_eq!(none.share(), "");
        assert!(!none.warning().is_empty());
    }
}
