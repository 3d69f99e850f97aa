//! Layers: small structs with a `forward` and a hand-written `backward`.
//!
//! `forward` returns its result and the tensors saved for `backward`. `backward` takes these and d
//! loss / d result, adds the gradients of the layer's trainable weights and returns d loss / d
//! input.

mod attention;
mod block;
mod head;
mod linear;
mod mlp;
mod norm;

pub(crate) use attention::{Attention, HeadNorms};
pub(crate) use block::{BlockContext, BlockModules, DecoderBlock, LayerContext, PostNorms, SavedBlock};
pub(crate) use head::{Head, SavedHead};
pub(crate) use linear::{Linear, LoraAdapter, WeightMut};
pub(crate) use norm::Norm;

#[cfg(test)]
mod tests;
