//! What goes from device to device, where members have a way for that.

use std::fmt;

use candle_core::Tensor;

use crate::CollectiveError;

/// A member's hold on the devices of its group. Like those of a [`Collective`](crate::Collective), its calls are made by all members
/// in the same order.
pub trait Devices: Send + Sync + fmt::Debug {
    /// The sums over all members of tensors of one shape, in f32; the same bits on all of them, though added in any order.
    fn all_reduce(&self, own: &Tensor) -> Result<Tensor, CollectiveError>;

    /// The `rows` rows of a matrix, of which each member gives its [part](crate::Collective::part).
    fn all_gather(&self, own: &Tensor, rows: usize) -> Result<Tensor, CollectiveError>;
}
