//! Exact checks of the propositions in the KTO paper (arXiv 2402.01306, section 4) on worlds small
//! enough to enumerate.
//!
//! There is no model, no sampling and no seed. A policy is a table of probabilities over a few
//! completions. A loss is the population loss: every judgement weighted by its probability,
//! evaluated by the same functions as in training ([`prospect_objective`]). Optima are found by
//! gradient descent to the limits of double precision and compared with the closed form where one
//! exists.
//!
//! Numbers are those of the paper's version 4; the claims differ between versions.
//!
//! | paper | module | claim |
//! |---|---|---|
//! | figure 1 | [`values`] | value functions that objectives imply |
//! | definition 3.4, theorem 3.5 | [`halo`] | DPO, PPO-Clip and KTO are HALOs, SLiC and CSFT are not |
//! | proposition 4.1 (v1, v4, v5) | [`gradients`] | KTO's update vanishes as the reward tends to ±∞ |
//! | theorem 4.2 (v1, v4, v5) | [`utilities`] | equal preferences and optimum, but different human utility |
//! | theorem 4.3 (v1) | [`contradiction`] | p = ½: DPO may hurt both humans, KTO changes nothing |
//! | theorem 4.3 (v4) | [`majority`] | p > ½: neutral KTO's optimum favours the majority, DPO's may not |
//! | theorem 4.3 (v5) | [`updates`] | p > ½: KTO's default update favours the majority |
//!
//! ```
//! use prospect_theory::Theory;
//!
//! let findings = Theory::default().findings();
//! assert!(findings.gradients.holds && findings.utilities.holds && findings.majority.holds);
//! assert!(findings.halos.holds && findings.contradiction.holds && findings.updates.holds);
//! ```

mod clip;
pub mod contradiction;
pub mod gradients;
pub mod halo;
pub mod majority;
mod settings;
mod tabular;
pub mod updates;
pub mod utilities;
pub mod values;
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
    /// Theorem 4.3, version 4: optima under contradictory preferences.
    pub majority: majority::MajorityFinding,
    /// Theorem 4.3, version 1: equally frequent contradictory preferences.
    pub contradiction: contradiction::ContradictionFinding,
    /// Theorem 4.3, version 5: updates under contradictory preferences.
    pub updates: updates::UpdateFinding,
    /// Theorem 3.5: objectives that are HALOs.
    pub halos: halo::HaloFinding,
    /// Figure 1: implied value functions.
    pub values: Vec<values::ValueCurve>,
}

impl Theory {
    /// Evaluates all propositions.
    pub fn findings(&self) -> Findings {
        Findings {
            settings: self.clone(),
            gradients: gradients::check(self.beta),
            utilities: utilities::check(self.beta),
            majority: majority::check(self),
            contradiction: contradiction::check(self.beta),
            updates: updates::check(self),
            halos: halo::check(),
            values: values::curves(),
        }
    }
}
