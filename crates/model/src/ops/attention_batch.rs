//! Attention over prompt trees as few dense products.
//!
//! The rows of a prompt, or of a branch, are the queries of a *span*; its context are the rows that
//! they attend to. Composed operations pad spans of similar size to one shape and compute a group
//! of them at once, so that the number of operations does not grow with the batch.

use std::{cell::OnceCell, ops::Range};

use candle_core::{Device, Result, Tensor};

use super::composed::{wide, wide_matmul};
#[cfg(any(feature = "cuda", test))]
use super::kernels::Tiles;
use crate::{architecture::AttentionHeads, pack::PromptTree};

/// Largest size of the scores of a group of spans in bytes, unless one span exceeds it.
pub(crate) const GROUP_BYTES: usize = 256 << 20;

/// Largest ratio of the scores of a group, with padding, to those of its spans.
const MAX_PADDING: f64 = 1.5;

/// Trees and heads of an attention operation. The blocks of a pass share it.
pub(crate) struct AttentionBatch<'a> {
    pub(crate) trees: &'a [PromptTree],
    pub(crate) heads: AttentionHeads,
    padded: OnceCell<PaddedBatch>,
    #[cfg(any(feature = "cuda", test))]
    tiles: OnceCell<Tiles>,
}

impl<'a> AttentionBatch<'a> {
    pub(crate) fn new(trees: &'a [PromptTree], heads: AttentionHeads) -> Self {
        Self {
            trees,
            heads,
            padded: OnceCell::new(),
            #[cfg(any(feature = "cuda", test))]
            tiles: OnceCell::new(),
        }
    }

    /// Returns the tiles of the CUDA kernels, which are uploaded at the first call.
    #[cfg(any(feature = "cuda", test))]
    pub(super) fn tiles(&self, device: &Device) -> Result<&Tiles> {
        if let Some(tiles) = self.tiles.get() {
            return Ok(tiles);
        }
        let tiles = Tiles::new(self.trees, self.heads, device)?;
        Ok(self.tiles.get_or_init(|| tiles))
    }

    /// Returns the padded groups, whose indices and masks are uploaded at the first call.
    pub(super) fn padded(&self, device: &Device) -> Result<&PaddedBatch> {
        if let Some(padded) = self.padded.get() {
            return Ok(padded);
        }
        let padded = PaddedBatch::new(self.trees, self.heads, device)?;
        Ok(self.padded.get_or_init(|| padded))
    }
}

/// Consecutive query rows of a tree and the rows that they attend to, causally at the end.
struct Span {
    queries: Range<usize>,
    context: Vec<Range<usize>>,
    /// Length of the context.
    keys: usize,
}

impl Span {
    fn in_tree(tree: &PromptTree) -> impl Iterator<Item = Self> {
        let prompt = tree.prompt.clone();
        let branches = tree.branches.iter().filter(|rows| !rows.is_empty()).cloned();
        let of = |queries: Range<usize>, context: Vec<Range<usize>>| {
            let keys = context.iter().map(ExactSizeIterator::len).sum();
            Self { queries, context, keys }
        };
        let branch = prompt.clone();
        std::iter::once(of(prompt.clone(), vec![prompt]))
            .chain(branches.map(move |rows| of(rows.clone(), vec![branch.clone(), rows])))
    }

    fn area(&self) -> usize {
        self.queries.len() * self.keys
    }
}

/// All spans of a batch, in groups.
pub(super) struct PaddedBatch {
    pub(super) groups: Vec<PaddedGroup>,
    /// Position of each row among the padded queries of all groups, `[rows]`.
    query_positions: Tensor,
    /// Positions of each row among the padded contexts of all groups, `[rows·sources]`. A row of a
    /// prompt is in the contexts of its branches, too.
    key_positions: Tensor,
    sources: usize,
}

/// Spans padded to one shape.
pub(super) struct PaddedGroup {
    spans: usize,
    queries: usize,
    keys: usize,
    /// Rows of the queries, `[spans·queries]`; row 0 for padding.
    query_rows: Tensor,
    /// Rows of the contexts, `[spans·keys]`; row 0 for padding.
    key_rows: Tensor,
    /// Mask to add to scores, `[spans, 1, queries, keys]`: −∞ for hidden rows and padded keys.
    mask: Tensor,
    /// 1 for queries and 0 for padding, `[spans, 1, queries, 1]`; None without padding.
    valid: Option<Tensor>,
}

impl PaddedBatch {
    fn new(trees: &[PromptTree], heads: AttentionHeads, device: &Device) -> Result<Self> {
        let mut spans: Vec<Span> = trees.iter().flat_map(Span::in_tree).collect();
        let rows = spans.iter().map(|span| span.queries.end).max().unwrap_or(0);
        spans.sort_by_key(|span| (span.keys, span.queries.len(), span.queries.start));
        let mut query_positions = vec![0u32; rows];
        let mut key_positions: Vec<Vec<u32>> = vec![Vec::new(); rows];
        let (mut groups, mut first_query, mut first_key) = (Vec::new(), 0, 0);
        // The last key of the first span is padding, and so has no gradient.
        let mut nowhere = 0;
        for spans in group(&spans, heads.query) {
            let queries = spans.iter().map(|span| span.queries.len()).max().unwrap_or(0);
            let keys = spans.iter().map(|span| span.keys).max().unwrap_or(0) + 1;
            if groups.is_empty() {
                nowhere = keys as u32 - 1;
            }
            for (index, span) in spans.iter().enumerate() {
                for (position, row) in span.queries.clone().enumerate() {
                    query_positions[row] = (first_query + index * queries + position) as u32;
                }
                for (position, row) in span.context.iter().cloned().flatten().enumerate() {
                    key_positions[row].push((first_key + index * keys + position) as u32);
                }
            }
            first_query += spans.len() * queries;
            first_key += spans.len() * keys;
            groups.push(PaddedGroup::new(spans, (queries, keys), heads.window, device)?);
        }
        let sources = key_positions.iter().map(Vec::len).max().unwrap_or(1).max(1);
        for positions in &mut key_positions {
            positions.resize(sources, nowhere);
        }
        Ok(Self {
            groups,
            query_positions: Tensor::new(query_positions, device)?,
            key_positions: Tensor::new(key_positions.concat(), device)?,
            sources,
        })
    }

    /// Returns results of the padded queries of all groups by row.
    pub(super) fn query_rows(&self, parts: &[Tensor]) -> Result<Tensor> {
        together(parts)?.index_select(&self.query_positions, 0)
    }

    /// Sums gradients of the padded contexts of all groups by row, in at least single precision.
    pub(super) fn key_rows(&self, parts: &[Tensor]) -> Result<Tensor> {
        let found = together(parts)?.index_select(&self.key_positions, 0)?;
        let (all, width) = found.dims2()?;
        let dtype = found.dtype();
        let found = found.reshape((all / self.sources, self.sources, width))?.to_dtype(wide(dtype))?;
        found.sum(1)?.to_dtype(dtype)
    }
}

fn together(parts: &[Tensor]) -> Result<Tensor> {
    match parts {
        [part] => Ok(part.clone()),
        parts => Tensor::cat(parts, 0),
    }
}

/// Divides spans, sorted by size, into groups of similar size.
fn group(spans: &[Span], heads: usize) -> Vec<&[Span]> {
    let mut groups = Vec::new();
    let (mut first, mut area, mut queries, mut keys) = (0, 0, 0, 0);
    for (index, span) in spans.iter().enumerate() {
        let (all_queries, all_keys) = (queries.max(span.queries.len()), keys.max(span.keys + 1));
        let padded = (index - first + 1) * all_queries * all_keys;
        let wasteful = padded as f64 > MAX_PADDING * (area + span.area()) as f64;
        if index > first && (padded * heads * 4 > GROUP_BYTES || wasteful) {
            groups.push(&spans[first..index]);
            (first, area, queries, keys) = (index, span.area(), span.queries.len(), span.keys + 1);
        } else {
            (area, queries, keys) = (area + span.area(), all_queries, all_keys);
        }
    }
    if first < spans.len() {
        groups.push(&spans[first..]);
    }
    groups
}

impl PaddedGroup {
    fn new(
        spans: &[Span],
        (queries, keys): (usize, usize),
        window: Option<usize>,
        device: &Device,
    ) -> Result<Self> {
        let count = spans.len();
        let (mut query_rows, mut key_rows) = (vec![0u32; count * queries], vec![0u32; count * keys]);
        let mut mask = vec![f32::NEG_INFINITY; count * queries * keys];
        let mut valid = vec![0f32; count * queries];
        for (index, span) in spans.iter().enumerate() {
            for (position, row) in span.context.iter().cloned().flatten().enumerate() {
                key_rows[index * keys + position] = row as u32;
            }
            let own = span.queries.len();
            for position in 0..queries {
                let at = index * queries + position;
                let visible = &mut mask[at * keys..][..keys];
                if position < own {
                    query_rows[at] = (span.queries.start + position) as u32;
                    valid[at] = 1.0;
                    let last = span.keys - own + position;
                    let first = window.map_or(0, |window| (last + 1).saturating_sub(window));
                    visible[first..=last].fill(0.0);
                } else {
                    // A softmax over no key is NaN.
                    visible[0] = 0.0;
                }
            }
        }
        let padded = valid.contains(&0.0);
        Ok(Self {
            spans: count,
            queries,
            keys,
            query_rows: Tensor::new(query_rows, device)?,
            key_rows: Tensor::new(key_rows, device)?,
            mask: Tensor::from_vec(mask, (count, 1, queries, keys), device)?,
            valid: if padded { Some(Tensor::from_vec(valid, (count, 1, queries, 1), device)?) } else { None },
        })
    }

    /// Returns the queries as `[spans·key_heads, query_heads/key_heads·queries, head_dim]`: the
    /// query heads of a key head are rows of one matrix, so that keys need not be repeated.
    pub(super) fn queries(&self, x: &Tensor, heads: AttentionHeads) -> Result<Tensor> {
        let x = by_head(&x.index_select(&self.query_rows, 0)?, self.spans, heads.query, heads.dim)?;
        x.reshape((self.spans * heads.key, heads.query / heads.key * self.queries, heads.dim))
    }

    /// Returns the context rows as `[spans·key_heads, keys, head_dim]`.
    pub(super) fn keys(&self, x: &Tensor, heads: AttentionHeads) -> Result<Tensor> {
        let x = by_head(&x.index_select(&self.key_rows, 0)?, self.spans, heads.key, heads.dim)?;
        x.reshape((self.spans * heads.key, self.keys, heads.dim))
    }

    /// Returns a matrix per span and head, as [`queries`](Self::queries) or [`keys`](Self::keys)
    /// return them, by padded row: `[spans·rows, heads·head_dim]`.
    pub(super) fn by_row(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        let dim = x.dim(2)?;
        let rows = x.elem_count() / (self.spans * heads * dim);
        let x = x.reshape((self.spans, heads, rows, dim))?.transpose(1, 2)?.contiguous()?;
        x.reshape((self.spans * rows, heads * dim))
    }

    /// Sets the rows of padded queries to zero.
    pub(super) fn without_padding(&self, x: Tensor) -> Result<Tensor> {
        let Some(valid) = &self.valid else { return Ok(x) };
        let (_, rows, dim) = x.dims3()?;
        let heads = x.elem_count() / (self.spans * self.queries * dim);
        let zeroed =
            x.reshape((self.spans, heads, self.queries, dim))?.broadcast_mul(&valid.to_dtype(x.dtype())?)?;
        zeroed.reshape((x.dim(0)?, rows, dim))
    }

    /// Returns the attention probabilities,
    /// `[spans·key_heads, query_heads/key_heads·queries, keys]`.
    pub(super) fn probabilities(&self, q: &Tensor, k: &Tensor, heads: AttentionHeads) -> Result<Tensor> {
        let scores = (wide_matmul(q, &k.t()?)? * heads.scale)?;
        let shape = scores.shape().clone();
        let scores = scores.reshape((self.spans, heads.query, self.queries, self.keys))?;
        let scores = scores.broadcast_add(&self.mask.to_dtype(scores.dtype())?)?;
        let shifted = scores.broadcast_sub(&scores.max_keepdim(3)?)?;
        drop(scores);
        let exponentials = shifted.exp()?;
        drop(shifted);
        exponentials.broadcast_div(&exponentials.sum_keepdim(3)?)?.reshape(shape)
    }
}

/// Reshapes `[spans·rows, heads·head_dim]` to `[spans, heads, rows, head_dim]`.
fn by_head(x: &Tensor, spans: usize, heads: usize, dim: usize) -> Result<Tensor> {
    x.reshape((spans, x.dim(0)? / spans, heads, dim))?.transpose(1, 2)?.contiguous()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(sizes: &[(usize, usize)]) -> Vec<Span> {
        let span = |(own, keys): &(usize, usize)| Span { queries: 0..*own, context: Vec::new(), keys: *keys };
        sizes.iter().map(span).collect()
    }

    #[test]
    fn spans_of_similar_size_are_computed_together() {
        let sizes = |sizes: &[(usize, usize)], heads| {
            let spans = spans(sizes);
            group(&spans, heads).iter().map(|group| group.len()).collect::<Vec<_>>()
        };
        // Eight prompts and sixteen branches of half the maximum length each.
        let batch = [vec![(256, 256); 8], vec![(255, 511); 16]].concat();
        assert_eq!(sizes(&batch, 4), [8, 16]);
        // With 64 heads, the scores of sixteen branches exceed the limit.
        assert_eq!(sizes(&batch, 64), [8, 8, 8]);
        assert_eq!(sizes(&[(10, 10), (10, 12), (10, 500)], 1), [2, 1]);
        assert_eq!(sizes(&[], 1), Vec::<usize>::new());
        // One span may exceed the limit.
        assert_eq!(sizes(&[(1 << 14, 1 << 14), (1 << 14, 1 << 14)], 32), [1, 1]);
    }
}
