//! The propositions of the KTO paper (arXiv 2402.01306, section 4), exactly, on worlds small enough to enumerate.
//!
//! There is no model, no sampling and no seed: a policy is a table of probabilities over a few completions, a loss is the
//! population's (every judgement with its probability for a weight), and both are evaluated by the functions that training
//! uses ([`prospect_objective`]). Optima are found by descent to the limits of double precision, and, where there is a
//! closed form, compared with it.
//!
//! | paper | module | claim |
//! |---|---|---|
//! | proposition 4.1 | [`gradients`] | KTO's update tends to 0 as the reward tends to either infinity |
//! | theorem 4.2 | [`utilities`] | rewards with the same preferences and optimum may have different human utility |
//! | theorem 4.3 | [`majority`] | under contradictory preferences, KTO with λ_D = λ_U serves the majority; DPO may not |
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

use serde::{Deserialize, Serialize};

pub use settings::{Theory, TheoryError, TheoryFile, TheorySettingsFile};

/// What was found of each proposition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// With which settings.
    pub settings: Theory,
    /// Proposition 4.1.
    pub gradients: gradients::Gradients,
    /// Theorem 4.2.
    pub utilities: utilities::Utilities,
    /// Theorem 4.3.
    pub majority: majority::Majority,
}

impl Theory {
    /// Works everything out.
    pub fn findings(&self) -> Findings {
        Findings {
            settings: self.clone(),
            gradients: gradients::find(self.beta),
            utilities: utilities::find(self.beta),
            majority: majority::find(self),
        }
    }
}
