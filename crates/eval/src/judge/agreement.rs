//! Agreement of a reward model with people.

use prospect_analysis::stats::binomial_exact;

/// Pairs that a reward model has ranked, and those of them that it ranks as people did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Agreement {
    pub(super) correct: u64,
    pub(super) ranked: u64,
}

impl Agreement {
    /// Counts preferences for people's preferred completions: 1, ½ or 0 each.
    pub(super) fn new(preferences: impl Iterator<Item = f64>) -> Self {
        let mut agreement = Self { correct: 0, ranked: 0 };
        for preference in preferences {
            agreement.correct += u64::from(preference == 1.0);
            agreement.ranked += 1;
        }
        agreement
    }

    /// Returns the share with its 95 % interval, in words; empty without pairs.
    pub(super) fn share(self) -> String {
        self.bounds().map_or_else(String::new, |[value, low, high]| {
            format!(" ({value:.0} %, 95 % interval {low:.0} to {high:.0})")
        })
    }

    /// True if the judge is not shown to agree with people.
    pub(super) fn is_at_chance(self) -> bool {
        self.bounds().is_none_or(|[_, low, _]| low <= 50.0)
    }

    /// Returns a sentence for a judge at chance; otherwise nothing.
    pub(super) fn warning(self) -> &'static str {
        if self.is_at_chance() {
            " Warning: this is not significantly better than chance, so its win rates are no evidence of what people prefer."
        } else {
            ""
        }
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
        assert!(chance.is_at_chance() && chance.warning().contains("not significantly better than chance"));
        let good = Agreement { correct: 70, ranked: 100 };
        assert!(!good.is_at_chance() && good.warning().is_empty());
        let none = Agreement::new(std::iter::empty());
        assert_eq!(none.share(), "");
        assert!(none.is_at_chance());
        let counted = Agreement::new([1.0, 0.5, 0.0].into_iter());
        assert_eq!((counted.correct, counted.ranked), (1, 3));
    }
}
