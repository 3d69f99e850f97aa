//! Alignment objectives as pure functions of sequence log-probabilities.
//!
//! KTO, DPO and related objectives see a language model only through two numbers per completion:
//! log π(y|x), summed over completion tokens in nats, and the number of those tokens. So this crate
//! needs no tensors. Log-probs go in; the loss, d loss / d log π of every sequence, and metrics
//! come out.
//!
//! Everything that couples the examples of a batch is explicit and computed here over the whole
//! batch: KTO's reference point, BCO's shift, means over tokens.
//!
//! | training data | functions |
//! |---|---|
//! | [`Unpaired`] completions | [`kto`], [`apo_zero_unpaired`], [`bco`], [`ppo`] |
//! | [`PreferencePair`]s and a reference | [`dpo`], [`cdpo`], [`robust_dpo`], [`hinge`], [`ipo`], [`apo_zero`], [`apo_down`], [`exo_pair`], [`nca_pair`], [`sppo_hard`], [`aot`], [`aot_unpaired`] |
//! | [`PreferencePair`]s alone | [`simpo`], [`orpo`], [`slic`] |
//! | [`Supervised`] completions | [`sft`] (also for conditional SFT) |
//!
//! ```
//! use prospect_objective::{Kto, LogProb, Unpaired, kto, reference_point};
//!
//! let log_prob = |policy, reference| LogProb { policy, reference, tokens: 8 };
//! let batch = [
//!     Unpaired { log_prob: log_prob(-10.0, -12.0), desirable: true, weight: 1.0 },
//!     Unpaired { log_prob: log_prob(-9.0, -9.5), desirable: false, weight: 1.0 },
//! ];
//! let z0 = reference_point(&[log_prob(-40.0, -40.5)]);
//! let evaluated = kto(&Kto::default(), &[(&batch, z0)]);
//! assert!(evaluated.gradient[0] < 0.0, "a desirable completion becomes likelier");
//! assert!(evaluated.gradient[1] > 0.0, "an undesirable one less likely");
//! ```
//!
//! A new objective needs one file here with its golden values, and one arm in the trainer.

mod aot;
mod apo;
mod bco;
mod dpo;
mod exo;
mod humanline;
mod ipo;
mod kto;
mod log_prob;
mod math;
mod metrics;
mod nca;
mod orpo;
mod pair;
mod ppo;
mod sft;
mod simpo;
mod slic;
mod sppo;
mod weights;

pub use aot::{aot, aot_unpaired};
pub use apo::{apo_down, apo_zero};
pub use bco::{Bco, RunningMean, bco};
pub use dpo::{Dpo, Hinge, SmoothedDpo, cdpo, dpo, hinge, robust_dpo};
pub use exo::{Exo, exo_pair};
pub use humanline::Humanline;
pub use ipo::{Ipo, ipo};
pub use kto::{
    Kto, KtoValue, Unpaired, apo_zero_unpaired, entropy_point, kto, kto_with_value, mean_log_ratio,
    reference_point,
};
pub use log_prob::LogProb;
pub use metrics::Metrics;
pub use nca::nca_pair;
pub use orpo::{Orpo, orpo};
pub use pair::PreferencePair;
pub use ppo::{Ppo, Surrogate, Whitening, ppo};
pub use sft::{Supervised, sft};
pub use simpo::{Simpo, simpo};
pub use slic::{Slic, slic};
pub use sppo::sppo_hard;
pub use weights::{Auto, ClassCounts, ClassWeight, ClassWeights, class_balance};

/// Value of an objective on a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchLoss {
    /// Loss to minimise.
    pub loss: f64,
    /// Gradient d loss / d log π of every sequence, in input order (for pairs: all chosen, then all
    /// rejected). For [`ppo`], with respect to the surrogate of every sequence.
    pub gradient: Vec<f64>,
    /// Metrics to log.
    pub metrics: Metrics,
}

#[cfg(test)]
mod golden;
