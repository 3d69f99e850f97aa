//! Held-out preference metrics and the statistics of comparing methods.
//!
//! [`HeldOut`] is a fixed set of true pairs, packed once; [`HeldOut::evaluate`] says how a policy ranks them:
//! preference accuracy, reward margin, KL estimate and the objective's own loss. [`stats`] turns the outcomes of many
//! runs into estimates and differences with intervals.

mod held_out;
pub mod stats;

pub use held_out::{Evaluation, HeldOut};
