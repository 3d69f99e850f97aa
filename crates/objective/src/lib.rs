//! Alignment objectives as pure functions of sequence log-probabilities.
//!
//! KTO, DPO and their relatives see a language model only through log π(y|x) of whole completions (sums over
//! completion tokens, in nats) and the number of those tokens. So there are no tensors here: log-probs go in; the loss,
//! d loss / d log π of every sequence and the metrics come out. Everything that couples the examples of a batch (KTO's
//! reference point, BCO's shift, a mean over tokens) is explicit and computed here, over the whole batch it is given.
//!
//! | trained on | functions |
//! |---|---|
//! | [`Unpaired`] completions | [`kto`], [`apo_zero_unpaired`], [`bco`] |
//! | [`Pair`]s and a reference | [`dpo`], [`cdpo`], [`robust_dpo`], [`hinge`], [`ipo`] |
//! | [`Pair`]s alone | [`simpo`], [`orpo`], [`slic`] |
//! | [`Supervised`] completions | [`sft`] (and conditional SFT, which differs in what the model reads) |
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
//! A new objective is one file here with its golden values, and one arm where the trainer chooses.

mod bco;
mod dpo;
mod humanline;
mod ipo;
mod kto;
mod log_prob;
mod math;
mod metrics;
mod orpo;
mod pair;
mod sft;
mod simpo;
mod slic;
mod weights;

pub use bco::{Bco, RunningMean, bco};
pub use dpo::{Dpo, Hinge, SmoothedDpo, cdpo, dpo, hinge, robust_dpo};
pub use humanline::Humanline;
pub use ipo::{Ipo, ipo};
pub use kto::{Kto, Unpaired, apo_zero_unpaired, kto, reference_point};
pub use log_prob::LogProb;
pub use metrics::Metrics;
pub use orpo::{Orpo, orpo};
pub use pair::Pair;
pub use sft::{Supervised, sft};
pub use simpo::{Simpo, simpo};
pub use slic::{Slic, slic};
pub use weights::{Auto, ClassWeights, Weight, class_balance};

/// What an objective says of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluated {
    /// The loss to minimise.
    pub loss: f64,
    /// d loss / d log π of every sequence, in the order given (for pairs: all chosen, then all rejected).
    pub gradient: Vec<f64>,
    /// What to log.
    pub metrics: Metrics,
}

#[cfg(test)]
mod golden;
