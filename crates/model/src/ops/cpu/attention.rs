//! Attention over prompt trees: one task per tree and key head. Probabilities are not stored.

#![expect(clippy::inline_always, reason = "what is not inlined is not compiled for the wide vectors")]

use std::ops::Range;

use candle_core::{DType, Result, Tensor, WithDType};
use rayon::prelude::*;

use super::{
    Opened, by_dtype,
    lanes::{Loop, max, sum, vectorised},
    mixed,
    product::{Target, Threads, View, ViewMut, product},
    real::Real,
    tensor,
};
use crate::{architecture::AttentionHeads, pack::PromptTree};

fn zeros<T: Real>(count: usize) -> Vec<T> {
    vec![T::ZERO; count]
}

/// Query rows per block. A block skips all keys after its last query, and its scores stay in the
/// cache.
const QUERIES: usize = 64;

/// Consecutive query rows and the rows that they attend to.
pub(super) struct QueryBlock {
    pub(super) queries: Range<usize>,
    /// Rows that some query attends to: those before the branch, and those of the branch up to the
    /// last query.
    pub(super) seen: [Range<usize>; 2],
    /// Number of queries after the first that attend to the first row of `seen` too. Each later one
    /// has a window that begins one row after that of the query before it.
    pub(super) unshifted: usize,
}

impl QueryBlock {
    /// Returns the number of rows that some query attends to.
    pub(super) fn context(&self) -> usize {
        self.seen.iter().map(Range::len).sum()
    }

    /// Returns the non-empty parts of the context: their rows and their first column in the scores.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&Range<usize>, usize)> {
        let [before, own] = &self.seen;
        [(before, 0), (own, before.len())].into_iter().filter(|(rows, _)| !rows.is_empty())
    }

    /// Returns the columns of the scores that query `query` attends to.
    pub(super) fn visible(&self, query: usize) -> Range<usize> {
        query.saturating_sub(self.unshifted)..self.context() - self.queries.len() + 1 + query
    }
}

/// Returns the query blocks of a tree.
pub(super) fn query_blocks(tree: &PromptTree, window: Option<usize>) -> Vec<QueryBlock> {
    let (start, window) = (tree.prompt.start, window.unwrap_or(usize::MAX));
    let branches = tree.branches.iter().map(|rows| (rows.clone(), tree.prompt.clone()));
    let branches = std::iter::once((tree.prompt.clone(), start..start)).chain(branches);
    let blocks = branches.flat_map(|(rows, before)| {
        rows.clone().step_by(QUERIES).map(move |first| {
            let last = (first + QUERIES).min(rows.end);
            // Rows up to the first query, and how many of them are outside its window.
            let context = before.len() + first + 1 - rows.start;
            let hidden = context.saturating_sub(window);
            let of_prompt = hidden.min(before.len());
            QueryBlock {
                queries: first..last,
                seen: [before.start + of_prompt..before.end, rows.start + (hidden - of_prompt)..last],
                unshifted: window.saturating_sub(context),
            }
        })
    });
    blocks.collect()
}

/// One query head of one block of query rows.
struct HeadRun<'a, T> {
    q: &'a [T],
    k: &'a [T],
    block: &'a QueryBlock,
    query_head: usize,
    key_head: usize,
    heads: AttentionHeads,
}

impl<T: Real> HeadRun<'_, T> {
    fn context(&self) -> usize {
        self.block.context()
    }

    fn query_view<'b>(&self, data: &'b [T]) -> View<'b, T> {
        let stride = self.heads.query * self.heads.dim;
        View::rows(data, self.block.queries.start * stride + self.query_head * self.heads.dim, stride)
    }

    fn key_view<'b>(&self, data: &'b [T], rows: &Range<usize>) -> View<'b, T> {
        let stride = self.heads.key * self.heads.dim;
        View::rows(data, rows.start * stride + self.key_head * self.heads.dim, stride)
    }

    /// Returns left · rightᵀ over the whole context, `[queries, context]`.
    fn against_context(&self, left: &[T], right: &[T], scale: T) -> Vec<T> {
        let context = self.context();
        let queries = self.block.queries.len();
        let mut scores = zeros(queries * context);
        for (rows, column) in self.block.parts() {
            product(
                &mut ViewMut { data: &mut scores, at: column, row_stride: context },
                Target::Replace,
                (queries, rows.len(), self.heads.dim),
                scale,
                self.query_view(left),
                self.key_view(right, rows).transposed(),
                Threads::One,
            );
        }
        scores
    }

    /// Returns the softmax of the scaled scores under the causal mask and the window, `[queries,
    /// context]`.
    fn probabilities(&self) -> Vec<T> {
        let mut scores = self.against_context(self.q, self.k, T::nearest(self.heads.scale));
        for (query, row) in scores.chunks_exact_mut(self.context()).enumerate() {
            let visible = self.block.visible(query);
            row[..visible.start].fill(T::ZERO);
            row[visible.end..].fill(T::ZERO);
            vectorised(SoftmaxRow, &mut row[visible]);
        }
        scores
    }

    /// Overwrites `dp` with p·(dp − Σ p·dp), row by row.
    fn softmax_backward(&self, p: &[T], dp: &mut [T]) {
        let context = self.context();
        vectorised(SoftmaxBackwardRows, (dp, p, context));
    }
}

struct SoftmaxRow;

impl<T: Real> Loop<&mut [T]> for SoftmaxRow {
    type Output = ();

    #[inline(always)]
    fn run(scores: &mut [T]) {
        let max = max(scores);
        for score in &mut *scores {
            *score = (*score - max).exp_of_negative();
        }
        let inverse = sum(scores.len(), |i| scores[i]).recip();
        for score in scores {
            *score *= inverse;
        }
    }
}

struct SoftmaxBackwardRows;

impl<T: Real> Loop<(&mut [T], &[T], usize)> for SoftmaxBackwardRows {
    type Output = ();

    #[inline(always)]
    fn run((dp, p, context): (&mut [T], &[T], usize)) {
        for (dp, p) in dp.chunks_exact_mut(context).zip(p.chunks_exact(context)) {
            let mean = sum(context, |i| dp[i] * p[i]);
            for (dp, p) in dp.iter_mut().zip(p) {
                *dp = *p * (*dp - mean);
            }
        }
    }
}

/// Rows of one task, which are those of one tree. Each task has its own result, `[rows, width]`.
pub(super) struct TreeLayout {
    /// Row ranges of the tree, with their start in the task's result.
    pub(super) ranges: Vec<(Range<usize>, usize)>,
    pub(super) rows: usize,
}

impl TreeLayout {
    pub(super) fn new(tree: &PromptTree) -> Self {
        let mut rows = 0;
        let ranges = std::iter::once(&tree.prompt)
            .chain(&tree.branches)
            .map(|range| {
                let start = rows;
                rows += range.len();
                (range.clone(), start)
            })
            .collect();
        Self { ranges, rows }
    }

    /// Returns the index of a tree's row in the task's result.
    pub(super) fn local(&self, row: usize) -> usize {
        let found = self.ranges.iter().find(|(rows, _)| rows.contains(&row));
        found.map_or(0, |(rows, start)| start + (row - rows.start))
    }
}

/// Copies the results of tasks, `width` columns each, to columns `key head·width…` of `whole`,
/// `[rows, stride]`.
pub(super) fn assemble<T: WithDType>(
    mut whole: Vec<T>,
    (rows, stride): (usize, usize),
    width: usize,
    parts: impl Iterator<Item = (HeadTask, impl AsRef<[T]>)>,
    layouts: &[TreeLayout],
) -> Result<Tensor> {
    for (HeadTask { tree, key_head }, part) in parts {
        for (range, start) in &layouts[tree].ranges {
            for (offset, row) in range.clone().enumerate() {
                let from = &part.as_ref()[(start + offset) * width..][..width];
                whole[row * stride + key_head * width..][..width].copy_from_slice(from);
            }
        }
    }
    tensor(whole, (rows, stride))
}

/// One key head of one tree.
#[derive(Clone, Copy)]
pub(super) struct HeadTask {
    pub(super) tree: usize,
    pub(super) key_head: usize,
}

pub(super) fn tasks(trees: &[PromptTree], heads: AttentionHeads) -> Vec<HeadTask> {
    (0..trees.len())
        .flat_map(|tree| (0..heads.key).map(move |key_head| HeadTask { tree, key_head }))
        .collect()
}

pub(crate) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    trees: &[PromptTree],
    heads: AttentionHeads,
) -> Result<Tensor> {
    fn run<T: Real>(
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        trees: &[PromptTree],
        heads: AttentionHeads,
    ) -> Result<Tensor> {
        let shape = q.dims2()?;
        let (q, k, v) = (Opened::new(q), Opened::new(k), Opened::new(v));
        let (q, k, v) = (q.slice::<T>()?, k.slice::<T>()?, v.slice::<T>()?);
        let group = heads.query / heads.key;
        let width = group * heads.dim;
        let layouts: Vec<_> = trees.iter().map(TreeLayout::new).collect();
        let results: Vec<_> = tasks(trees, heads)
            .into_par_iter()
            .map(|task| {
                let HeadTask { tree, key_head } = task;
                let layout = &layouts[tree];
                let mut y = zeros::<T>(layout.rows * width);
                for block in &query_blocks(&trees[tree], heads.window) {
                    let at = layout.local(block.queries.start) * width;
                    for member in 0..group {
                        let query_head = key_head * group + member;
                        let run = HeadRun { q, k, block, query_head, key_head, heads };
                        let p = run.probabilities();
                        for (rows, column) in run.block.parts() {
                            product(
                                &mut ViewMut { data: &mut y, at: at + member * heads.dim, row_stride: width },
                                Target::AddTo,
                                (block.queries.len(), heads.dim, rows.len()),
                                T::ONE,
                                View::rows(&p, column, run.context()),
                                run.key_view(v, rows),
                                Threads::One,
                            );
                        }
                    }
                }
                (task, y)
            })
            .collect();
        assemble(zeros::<T>(shape.0 * shape.1), shape, width, results.into_iter(), &layouts)
    }
    if q.dtype() == DType::BF16 {
        return mixed::attention(q, k, v, trees, heads);
    }
    by_dtype!(q, run(q, k, v, trees, heads))
}

pub(crate) fn attention_backward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    grad: &Tensor,
    trees: &[PromptTree],
    heads: AttentionHeads,
) -> Result<(Tensor, Tensor, Tensor)> {
    fn run<T: Real>(
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        grad: &Tensor,
        trees: &[PromptTree],
        heads: AttentionHeads,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let (q_shape, k_shape) = (q.dims2()?, k.dims2()?);
        let (q, k, v, grad) = (Opened::new(q), Opened::new(k), Opened::new(v), Opened::new(grad));
        let (q, k, v, grad) = (q.slice::<T>()?, k.slice::<T>()?, v.slice::<T>()?, grad.slice::<T>()?);
        let group = heads.query / heads.key;
        let (dim, width) = (heads.dim, group * heads.dim);
        let layouts: Vec<_> = trees.iter().map(TreeLayout::new).collect();
        let scale = T::nearest(heads.scale);
        let results: Vec<_> = tasks(trees, heads)
            .into_par_iter()
            .map(|task| {
                let HeadTask { tree, key_head } = task;
                let layout = &layouts[tree];
                let mut dq = zeros::<T>(layout.rows * width);
                let (mut dk, mut dv) = (zeros::<T>(layout.rows * dim), zeros::<T>(layout.rows * dim));
                for block in &query_blocks(&trees[tree], heads.window) {
                    let at = layout.local(block.queries.start) * width;
                    for member in 0..group {
                        let query_head = key_head * group + member;
                        let run = HeadRun { q, k, block, query_head, key_head, heads };
                        let (count, context) = (block.queries.len(), run.context());
                        let p = run.probabilities();
                        let mut ds = run.against_context(grad, v, T::ONE);
                        run.softmax_backward(&p, &mut ds);
                        for (rows, column) in run.block.parts() {
                            let add = |target: &mut [T], at, row_stride, shape, scale, left, right| {
                                let mut target = ViewMut { data: target, at, row_stride };
                                product(&mut target, Target::AddTo, shape, scale, left, right, Threads::One);
                            };
                            let ds = View::rows(&ds, column, context);
                            let p = View::rows(&p, column, context);
                            let (of_query, of_key) = ((count, dim, rows.len()), (rows.len(), dim, count));
                            let key_at = layout.local(rows.start) * dim;
                            add(
                                &mut dq,
                                at + member * dim,
                                width,
                                of_query,
                                scale,
                                ds,
                                run.key_view(k, rows),
                            );
                            add(&mut dk, key_at, dim, of_key, scale, ds.transposed(), run.query_view(q));
                            add(&mut dv, key_at, dim, of_key, T::ONE, p.transposed(), run.query_view(grad));
                        }
                    }
                }
                (task, [dq, dk, dv])
            })
            .collect();
        let (mut dq, mut dk, mut dv) = (Vec::new(), Vec::new(), Vec::new());
        for (task, [q, k, v]) in results {
            dq.push((task, q));
            dk.push((task, k));
            dv.push((task, v));
        }
        let gathered = |shape: (usize, usize), width, parts: Vec<(HeadTask, Vec<T>)>| {
            assemble(zeros::<T>(shape.0 * shape.1), shape, width, parts.into_iter(), &layouts)
        };
        Ok((gathered(q_shape, width, dq)?, gathered(k_shape, dim, dk)?, gathered(k_shape, dim, dv)?))
    }
    if q.dtype() == DType::BF16 {
        return mixed::attention_backward(q, k, v, grad, trees, heads);
    }
    by_dtype!(q, run(q, k, v, grad, trees, heads))
}
