//! Blocks of a pass over a sharded model.

use std::borrow::Cow;

use candle_core::Result;

use crate::{layers::DecoderBlock, weights::BlockGather};

/// Iterates over the blocks of a pass with whole matrices. Sharded ones are gathered while the
/// block before computes, so that two blocks exist at a time.
pub(super) fn gathered<'a>(
    mut blocks: impl Iterator<Item = &'a DecoderBlock>,
) -> impl Iterator<Item = Result<Cow<'a, DecoderBlock>>> {
    let start = |block: &'a DecoderBlock| (block, block.start_gather());
    let mut next: Option<(&DecoderBlock, Option<BlockGather>)> = blocks.next().map(start);
    std::iter::from_fn(move || {
        let (block, pending) = next.take()?;
        let whole = match pending {
            Some(pending) => block.gathered(pending).map(Cow::Owned),
            None => Ok(Cow::Borrowed(block)),
        };
        // After an error there is no next block.
        next = if whole.is_ok() { blocks.next().map(start) } else { None };
        Some(whole)
    })
}
