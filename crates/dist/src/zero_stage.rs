//! Stages of ZeRO.

use std::fmt;

/// Stage of ZeRO (arXiv 1910.02054): the training state that ranks shard.
///
/// Both stages shard the frozen matrices of the blocks, which each pass gathers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ZeroStage {
    /// Shards gradients, moments and master weights of full training.
    Two,
    /// Shards the trained matrices of the blocks as well.
    Three,
}

impl fmt::Display for ZeroStage {
    /// Writes the number of the stage.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Two => "2",
            Self::Three => "3",
        })
    }
}
