//! Alignment objectives as pure functions of sequence log-probabilities.
//!
//! KTO, DPO and their relatives see a language model only through log π(y|x) of whole completions (sums over
//! completion tokens, in nats). So there are no tensors here: log-probs go in; the loss, d loss / d log π of every
//! sequence and the metrics come out. Everything that couples the examples of a batch (KTO's reference point, a
//! mean over tokens) is computed here, over the whole batch it is given.
//!
//! ```
//! use prospect_objective::{Kto, LogProb, Unpaired, kto};
//!
//! let batch = [
//!     Unpaired { log_prob: LogProb { policy: -10.0, reference: -12.0 }, desirable: true, weight: 1.0 },
//!     Unpaired { log_prob: LogProb { policy: -9.0, reference: -9.5 }, desirable: false, weight: 1.0 },
//! ];
//! let mismatched = [LogProb { policy: -40.0, reference: -40.5 }];
//! let evaluated = kto(&Kto::default(), &batch, &mismatched);
//! assert!(evaluated.gradient[0] < 0.0, "a desirable completion becomes likelier");
//! assert!(evaluated.gradient[1] > 0.0, "an undesirable one less likely");
//! ```
//!
//! A new objective is one file here with its golden values, and one arm where the trainer chooses.

mod dpo;
mod kto;
mod math;
mod metrics;
mod sft;
mod weights;

pub use dpo::{Dpo, Pair, dpo};
pub use kto::{Kto, Unpaired, kto, reference_point};
pub use metrics::Metrics;
pub use sft::{Supervised, sft};
pub use weights::{Auto, ClassWeights, Weight, class_balance};

/// log π(y|x) of one completion, summed over its tokens, in nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogProb {
    /// Under the policy that is trained.
    pub policy: f64,
    /// Under the reference.
    pub reference: f64,
}

impl LogProb {
    /// log π/π_ref, in nats.
    pub fn ratio(self) -> f64 {
        self.policy - self.reference
    }
}

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
