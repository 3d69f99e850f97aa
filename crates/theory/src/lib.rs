//! Exact checks of the propositions in the KTO paper (arXiv 2402.01306, section 4) on worlds small
//! enough to enumerate.
//!
//! There is no model, no sampling and no seed. A policy is a table of probabilities over a few
//! completions. A loss is the population loss: every judgement weighted by its probability,
//! evaluated by the same functions as in training ([`prospect_objective`]). Optima are found by
//! gradient descent to the limits of double precision and compared with the closed form where one
//! exists.
//!
//! | paper | module | claim |
//! |---|---|---|
//! | proposition 4.1 | [`gradients`] | KTO's gradient vanishes as the reward tends to ±∞ |
//! | theorem 4.2 | [`utilities`] | equal preferences and optimum, but different human utility |
//! | theorem 4.3 | [`majority`] | contradictions: neutral KTO favours the majority, DPO may not |
//!
//! ```
//! use prospect_theory::Theory;
//!
//! let findings = Theory::default().findings();
//! assert!(findings.gradients.holds && findings.utilities.holds && findings.majority.holds);
//! ```

pub mod gradients;
pub mod majority;
mod settings;
mod tabular;
pub mod utilities;
mod verdicts;

use serde::{Deserialize, Serialize};

pub use settings::{Theory, TheoryError, TheoryFile, TheorySettingsFile};

/// Results for all propositions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// Settings of the computation.
    pub settings: Theory,
    /// Proposition 4.1: gradients at extreme rewards.
    pub gradients: gradients::GradientFinding,
    /// Theorem 4.2: utilities of equivalent rewards.
    pub utilities: utilities::UtilityFinding,
    /// Theorem 4.3: contradictory preferences.
    pub majority: majority::MajorityFinding,
}

impl Theory {
    /// Evaluates all propositions.
    pub fn findings(&self) -> Findings {
        Findings {
            settings: self.clone(),
            gradients: gradients::check(self.beta),
            utilities: utilities::check(self.beta),
            majority: majority::check(self),
        }
    }
}
