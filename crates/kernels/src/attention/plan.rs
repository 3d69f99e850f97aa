//! Attention mask of prompt trees as tiles: the rows that one thread block processes.

use std::ops::Range;

use crate::{
    KernelError, Launch,
    launch::{WARP, size},
};

/// Rows of a prompt and its completions in a packed batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttentionTree {
    /// Rows of the prompt.
    pub prompt: Range<usize>,
    /// Rows of each completion, after the prompt's. May be empty.
    pub branches: Vec<Range<usize>>,
}

/// Number and width of attention heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadCounts {
    /// Number of query heads, a multiple of the key heads. Neighbouring query heads share a key
    /// head (GQA).
    pub query: usize,
    /// Number of key and value heads.
    pub key: usize,
    /// Head dimension, 1 to 256.
    pub dim: usize,
}

/// Rows of a tile per warp: `ROWS` in `attention.cu`.
const ROWS: u32 = 4;

impl HeadCounts {
    /// Returns the warps of a block: `WARPS` in `attention.cu`.
    fn warps(self) -> u32 {
        match self.dim {
            0..=64 => 8,
            65..=128 => 4,
            _ => 1,
        }
    }

    /// Returns the bytes of shared memory for `own` matrices of the tile's rows, the streamed rows,
    /// and `weights` floats for each pair of a tile row and a streamed row.
    fn shared_bytes(self, own: u32, weights: u32) -> u32 {
        let (dim, rows) = (self.dim as u32, self.warps() * ROWS);
        4 * (own * rows * dim + WARP * (dim | 1) + weights * rows * WARP)
    }
}

/// Tiles of the attention kernels. Rows outside all trees are neither read nor written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TilePlan {
    heads: HeadCounts,
    query_tiles: Vec<u32>,
    key_tiles: Vec<u32>,
    spans: Vec<u32>,
}

impl TilePlan {
    /// Builds the tiles of prompt trees.
    ///
    /// # Errors
    /// Fails if ranges overlap, a branch starts before the end of its prompt, or the heads are
    /// unsupported.
    pub fn new(trees: &[AttentionTree], heads: HeadCounts) -> Result<Self, KernelError> {
        let HeadCounts { query, key, dim } = heads;
        if key == 0 || query == 0 || !query.is_multiple_of(key) || !(1..=256).contains(&dim) || query > 0xffff
        {
            return Err(KernelError::Heads { query, key, dim });
        }
        check_ranges(trees)?;
        let mut plan = Self { heads, query_tiles: Vec::new(), key_tiles: Vec::new(), spans: Vec::new() };
        for AttentionTree { prompt, branches } in trees {
            plan.add(prompt, &(prompt.start..prompt.start), branches);
            for branch in branches {
                plan.add(branch, prompt, &[]);
            }
        }
        Ok(plan)
    }

    /// Adds the tiles of `rows`, which attend to the rows `before` and causally to each other. The
    /// rows `after` attend to them.
    fn add(&mut self, rows: &Range<usize>, before: &Range<usize>, after: &[Range<usize>]) {
        let height = (self.heads.warps() * ROWS) as usize;
        for first in rows.clone().step_by(height) {
            let end = (first + height).min(rows.end);
            self.query_tiles.extend([first, end, before.start, before.end, rows.start].map(|row| row as u32));
            let spans_from = self.spans.len() as u32 / 2;
            self.spans.extend([first as u32, rows.end as u32]);
            let seen = after.iter().filter(|span| !span.is_empty());
            self.spans.extend(seen.flat_map(|span| [span.start as u32, span.end as u32]));
            self.key_tiles.extend([first as u32, end as u32, spans_from, self.spans.len() as u32 / 2]);
        }
    }

    /// Returns the query tiles, five u32 each: first row, end, first visible row before the branch,
    /// end of these, first row of the branch.
    pub fn query_tiles(&self) -> &[u32] {
        &self.query_tiles
    }

    /// Returns the key tiles, four u32 each: first row, end, and the range of
    /// [`spans`](Self::spans) of the queries that attend to them.
    pub fn key_tiles(&self) -> &[u32] {
        &self.key_tiles
    }

    /// Returns the spans of queries, two u32 each: first row, end.
    pub fn spans(&self) -> &[u32] {
        &self.spans
    }

    /// Returns the launch of [`HeadCounts::forward`].
    pub fn forward(&self) -> Launch {
        self.launch(self.query_tiles.len() / 5, self.heads.query, self.heads.shared_bytes(1, 1))
    }

    /// Returns the launch of [`HeadCounts::backward_queries`].
    pub fn backward_queries(&self) -> Launch {
        self.launch(self.query_tiles.len() / 5, self.heads.query, self.heads.shared_bytes(2, 1))
    }

    /// Returns the launch of [`HeadCounts::backward_keys`].
    pub fn backward_keys(&self) -> Launch {
        self.launch(self.key_tiles.len() / 4, self.heads.key, self.heads.shared_bytes(2, 2))
    }

    fn launch(&self, tiles: usize, heads: usize, shared_bytes: u32) -> Launch {
        Launch { grid: [tiles as u32, heads as u32], block: self.heads.warps() * WARP, shared_bytes }
    }

    /// Returns the scale of scores, 1/√dim.
    pub fn scale(&self) -> f32 {
        (self.heads.dim as f32).sqrt().recip()
    }
}

fn check_ranges(trees: &[AttentionTree]) -> Result<(), KernelError> {
    let mut ranges: Vec<&Range<usize>> = Vec::new();
    for AttentionTree { prompt, branches } in trees {
        size("rows", prompt.end)?;
        ranges.push(prompt);
        for branch in branches {
            size("rows", branch.end)?;
            if branch.start < prompt.end {
                return Err(KernelError::Trees { first: branch.start, end: branch.end });
            }
            ranges.push(branch);
        }
    }
    ranges.retain(|range| !range.is_empty());
    ranges.sort_by_key(|range| range.start);
    match ranges.windows(2).find(|pair| pair[0].end > pair[1].start) {
        Some(pair) => Err(KernelError::Trees { first: pair[1].start, end: pair[1].end }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: HeadCounts = HeadCounts { query: 4, key: 2, dim: 128 };

    #[test]
    fn tiles_cover_each_row_once_with_the_rows_that_attend_to_it() {
        let trees = [
            AttentionTree { prompt: 0..20, branches: vec![20..23, 23..23, 40..41] },
            AttentionTree { prompt: 23..40, branches: vec![] },
        ];
        let plan = TilePlan::new(&trees, HEADS).unwrap();
        let queries: Vec<_> = plan.query_tiles().as_chunks::<5>().0.to_vec();
        assert_eq!(
            queries,
            [
                [0, 16, 0, 0, 0],
                [16, 20, 0, 0, 0],
                [20, 23, 0, 20, 20],
                [40, 41, 0, 20, 40],
                [23, 39, 23, 23, 23],
                [39, 40, 23, 23, 23]
            ]
        );
        let keys: Vec<_> = plan.key_tiles().as_chunks::<4>().0.to_vec();
        assert_eq!(keys[..3], [[0, 16, 0, 3], [16, 20, 3, 6], [20, 23, 6, 7]]);
        assert_eq!(plan.spans()[..14], [0, 20, 20, 23, 40, 41, 16, 20, 20, 23, 40, 41, 20, 23]);
        assert_eq!((plan.forward().grid, plan.backward_keys().grid), ([6, 4], [6, 2]));
    }

    #[test]
    fn shared_memory_stays_within_48_kib() {
        for dim in 1..=256 {
            let heads = HeadCounts { dim, ..HEADS };
            let plan = TilePlan::new(&[AttentionTree { prompt: 0..1, branches: vec![] }], heads).unwrap();
            assert!(
                plan.backward_queries().shared_bytes.max(plan.backward_keys().shared_bytes) <= 48 << 10,
                "{dim}"
            );
        }
    }

    #[test]
    fn unsupported_trees_and_heads_are_errors() {
        let plan = |prompt, branches: &[Range<usize>], heads| {
            TilePlan::new(&[AttentionTree { prompt, branches: branches.to_vec() }], heads)
                .map(|_| ())
                .unwrap_err()
                .to_string()
        };
        let before = std::slice::from_ref(&(0..3));
        assert!(plan(3..6, before, HEADS).contains("rows 0..3 violate this"));
        assert!(plan(0..3, &[3..6, 5..7], HEADS).contains("rows 5..7 violate this"));
        assert!(plan(0..3, &[], HeadCounts { dim: 257, ..HEADS }).contains("257 dimensions"));
        assert!(plan(0..3, &[], HeadCounts { key: 3, ..HEADS }).contains("3 key heads"));
        assert!(plan(0..usize::MAX, &[], HEADS).contains("exceed the limit of a kernel launch"));
    }
}
