//! Sliding-window attention.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sliding window of some or all blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Number of positions that a row attends to, itself included.
    pub positions: usize,
    /// Attention of each block.
    pub layers: Vec<LayerAttention>,
}

impl SlidingWindow {
    /// Makes a window of `positions` for the blocks that `slides` marks; None if it is true
    /// of none.
    pub(super) fn new(positions: usize, layers: usize, slides: impl Fn(usize) -> bool) -> Option<Self> {
        let kind = |layer| if slides(layer) { LayerAttention::Sliding } else { LayerAttention::Full };
        Self { positions, layers: (0..layers).map(kind).collect() }.if_any()
    }

    /// Makes a window for all blocks but every `pattern`th.
    pub(crate) fn with_pattern(positions: usize, layers: usize, pattern: usize) -> Option<Self> {
        Self::new(positions, layers, |layer| !(layer + 1).is_multiple_of(pattern))
    }

    /// Returns the window; None if no block has it.
    pub(super) fn if_any(self) -> Option<Self> {
        self.layers.contains(&LayerAttention::Sliding).then_some(self)
    }
}

/// Rows that a row of a block attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LayerAttention {
    /// All earlier rows and itself.
    #[serde(rename = "full_attention")]
    Full,
    /// Positions in the sliding window.
    #[serde(rename = "sliding_attention")]
    Sliding,
}
