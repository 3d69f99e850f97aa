//! Weights of which every member of a group keeps a part.

use std::sync::Arc;

use candle_core::Tensor;
use prospect_dist::ShardedStore;

use super::Weights;
use crate::{
    ModelError,
    matrix::{Matrix, Sharded},
};

/// The weights of `source`, with this member's part of the matrices of linear layers. They are read one by one, so that no
/// member ever has them all.
pub(crate) struct Sharding<'a> {
    pub(crate) source: &'a mut dyn Weights,
    pub(crate) sharing: &'a Arc<ShardedStore>,
}

impl Weights for Sharding<'_> {
    fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        self.source.get(name, shape)
    }

    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<Matrix, ModelError> {
        let whole = self.source.matrix(name, shape)?;
        let part = Sharded::of(&whole, self.sharing)
            .map_err(|error| ModelError::Recipe(format!("tensor `{name}`: {error}")))?;
        Ok(Matrix::Sharded(part))
    }
}
