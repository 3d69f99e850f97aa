//! Shapes of attention and MLP, generic over what stands for a linear layer: the layer itself or
//! its name in a checkpoint.

use super::GeluKind;

/// Shape of attention; `query` is a multiple of `key`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AttentionHeads {
    /// Number of query heads.
    pub(crate) query: usize,
    /// Number of key and value heads.
    pub(crate) key: usize,
    /// Dimensions of a head.
    pub(crate) dim: usize,
    /// Factor of the scores.
    pub(crate) scale: f64,
    /// Number of positions that a row attends to, itself included; None for all.
    pub(crate) window: Option<usize>,
}

impl AttentionHeads {
    /// Makes the shape of full attention with scores divided by √dim.
    pub(crate) fn new(query: usize, key: usize, dim: usize) -> Self {
        Self { query, key, dim, scale: (dim as f64).sqrt().recip(), window: None }
    }
}

/// Query, key and value projections.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Projections<T> {
    /// One layer each for queries, keys and values.
    Separate([T; 3]),
    /// One layer whose output holds query, key and value of each head in turn.
    Fused(T),
}

impl<T> Projections<T> {
    pub(crate) fn as_slice(&self) -> &[T] {
        match self {
            Self::Separate(projections) => projections,
            Self::Fused(projection) => std::slice::from_ref(projection),
        }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Self::Separate(projections) => projections,
            Self::Fused(projection) => std::slice::from_mut(projection),
        }
    }
}

/// Activation of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateKind {
    /// x·σ(x): SwiGLU.
    Silu,
    /// gelu(x): GeGLU.
    Gelu(GeluKind),
}

/// Linear layers of an MLP.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mlp<T> {
    /// Gate, up and down projection of down(act(gate(x))·up(x)).
    Gated([T; 3], GateKind),
    /// Up and down projection of down(gelu(up(x))).
    Plain([T; 2], GeluKind),
}

impl<T> Mlp<T> {
    pub(crate) fn as_slice(&self) -> &[T] {
        match self {
            Self::Gated(linears, _) => linears,
            Self::Plain(linears, _) => linears,
        }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Self::Gated(linears, _) => linears,
            Self::Plain(linears, _) => linears,
        }
    }
}
