//! Which rows see which, laid out for the kernels: tiles of rows that a block works on.

use std::ops::Range;

use crate::{
    KernelError, Launch,
    launch::{WARP, size},
};

/// A prompt's rows and those of its completions, as `PackedBatch` has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Rows of the prompt.
    pub prompt: Range<usize>,
    /// Rows of each completion, after the prompt's; possibly none.
    pub branches: Vec<Range<usize>>,
}

/// The shape of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads, a multiple of the key heads: neighbouring ones share a key head.
    pub query: usize,
    /// Key and value heads.
    pub key: usize,
    /// Dimensions of a head, 1 to 256.
    pub dim: usize,
}

/// Rows of a tile that a warp works on: `ROWS` of `attention.cu`.
const ROWS: u32 = 4;

impl Heads {
    /// Warps of a block: `WARPS` of `attention.cu`.
    fn warps(self) -> u32 {
        match self.dim {
            0..=64 => 8,
            65..=128 => 4,
            _ => 1,
        }
    }

    /// Bytes of shared memory: `own` matrices of the tile's rows, the streamed rows, and `weights` numbers of each of the
    /// tile's rows for each streamed row.
    fn shared_bytes(self, own: u32, weights: u32) -> u32 {
        let (dim, rows) = (self.dim as u32, self.warps() * ROWS);
        4 * (own * rows * dim + WARP * (dim | 1) + weights * rows * WARP)
    }
}

/// Tiles for the attention kernels. Rows that are in no tree are neither read nor written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    heads: Heads,
    query_tiles: Vec<u32>,
    key_tiles: Vec<u32>,
    spans: Vec<u32>,
}

impl Plan {
    /// The tiles of a forest. Branches must lie after their prompt, and no two ranges may overlap.
    pub fn new(trees: &[Tree], heads: Heads) -> Result<Self, KernelError> {
        let Heads { query, key, dim } = heads;
        if key == 0 || query == 0 || !query.is_multiple_of(key) || !(1..=256).contains(&dim) || query > 0xffff
        {
            return Err(KernelError::Heads { query, key, dim });
        }
        check(trees)?;
        let mut plan = Self { heads, query_tiles: Vec::new(), key_tiles: Vec::new(), spans: Vec::new() };
        for Tree { prompt, branches } in trees {
            plan.add(prompt, &(prompt.start..prompt.start), branches);
            for branch in branches {
                plan.add(branch, prompt, &[]);
            }
        }
        Ok(plan)
    }

    /// Adds `rows`, which see the rows `before` and causally each other, and are seen by the rows `after`.
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

    /// Tiles of queries: first row, end, first row before the branch that is seen, end of those, first row of the branch.
    pub fn query_tiles(&self) -> &[u32] {
        &self.query_tiles
    }

    /// Tiles of keys: first row, end, and the spans of queries that see them, from and to.
    pub fn key_tiles(&self) -> &[u32] {
        &self.key_tiles
    }

    /// Spans of queries: first row, end.
    pub fn spans(&self) -> &[u32] {
        &self.spans
    }

    /// Of [`Heads::forward`].
    pub fn forward(&self) -> Launch {
        self.launch(self.query_tiles.len() / 5, self.heads.query, self.heads.shared_bytes(1, 1))
    }

    /// Of [`Heads::backward_queries`].
    pub fn backward_queries(&self) -> Launch {
        self.launch(self.query_tiles.len() / 5, self.heads.query, self.heads.shared_bytes(2, 1))
    }

    /// Of [`Heads::backward_keys`].
    pub fn backward_keys(&self) -> Launch {
        self.launch(self.key_tiles.len() / 4, self.heads.key, self.heads.shared_bytes(2, 2))
    }

    fn launch(&self, tiles: usize, heads: usize, shared_bytes: u32) -> Launch {
        Launch { grid: [tiles as u32, heads as u32], block: self.heads.warps() * WARP, shared_bytes }
    }

    /// 1/√dim.
    pub fn scale(&self) -> f32 {
        (self.heads.dim as f32).sqrt().recip()
    }
}

fn check(trees: &[Tree]) -> Result<(), KernelError> {
    let mut ranges: Vec<&Range<usize>> = Vec::new();
    for Tree { prompt, branches } in trees {
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

    const HEADS: Heads = Heads { query: 4, key: 2, dim: 128 };

    #[test]
    fn tiles_cover_each_row_once_and_name_what_sees_it() {
        let trees = [
            Tree { prompt: 0..20, branches: vec![20..23, 23..23, 40..41] },
            Tree { prompt: 23..40, branches: vec![] },
        ];
        let plan = Plan::new(&trees, HEADS).unwrap();
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
    fn shared_memory_stays_below_what_needs_no_leave() {
        for dim in 1..=256 {
            let heads = Heads { dim, ..HEADS };
            let plan = Plan::new(&[Tree { prompt: 0..1, branches: vec![] }], heads).unwrap();
            assert!(
                plan.backward_queries().shared_bytes.max(plan.backward_keys().shared_bytes) <= 48 << 10,
                "{dim}"
            );
        }
    }

    #[test]
    fn forests_and_shapes_that_kernels_cannot_take_are_errors() {
        let plan = |prompt, branches: &[Range<usize>], heads| {
            Plan::new(&[Tree { prompt, branches: branches.to_vec() }], heads)
                .map(|_| ())
                .unwrap_err()
                .to_string()
        };
        let before = std::slice::from_ref(&(0..3));
        assert!(plan(3..6, before, HEADS).ends_with("rows 0..3 do not"));
        assert!(plan(0..3, &[3..6, 5..7], HEADS).ends_with("rows 5..7 do not"));
        assert!(plan(0..3, &[], Heads { dim: 257, ..HEADS }).contains("257 dimensions"));
        assert!(plan(0..3, &[], Heads { key: 3, ..HEADS }).contains("3 key heads"));
        assert!(plan(0..usize::MAX, &[], HEADS).contains("more than a kernel launch takes"));
    }
}
