//! Attention over prompt trees: one task for each tree and key head, probabilities never kept.

use std::ops::Range;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::{
    Opened, by_dtype,
    product::{View, ViewMut, product},
    real::Real,
    tensor,
};
use crate::{ops::Heads, pack::Tree};

fn zeros<T: Real>(count: usize) -> Vec<T> {
    vec![<T as num_traits::Zero>::zero(); count]
}

/// The runs of query rows of a tree with the rows before them that they see in full.
fn runs(tree: &Tree) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let start = tree.prompt.start;
    let branches = tree.branches.iter().filter(|rows| !rows.is_empty());
    std::iter::once((tree.prompt.clone(), start..start))
        .chain(branches.map(|rows| (rows.clone(), tree.prompt.clone())))
}

/// One head of one run: where its matrices lie.
struct Run<'a, T> {
    q: &'a [T],
    k: &'a [T],
    queries: Range<usize>,
    before: Range<usize>,
    query_head: usize,
    key_head: usize,
    heads: Heads,
}

impl<T: Real> Run<'_, T> {
    fn context(&self) -> usize {
        self.before.len() + self.queries.len()
    }

    fn query_view<'b>(&self, data: &'b [T]) -> View<'b, T> {
        let stride = self.heads.query * self.heads.dim;
        View::rows(data, self.queries.start * stride + self.query_head * self.heads.dim, stride)
    }

    fn key_view<'b>(&self, data: &'b [T], rows: &Range<usize>) -> View<'b, T> {
        let stride = self.heads.key * self.heads.dim;
        View::rows(data, rows.start * stride + self.key_head * self.heads.dim, stride)
    }

    /// The two parts of the context: rows, and their first column among the scores.
    fn parts(&self) -> [(&Range<usize>, usize); 2] {
        [(&self.before, 0), (&self.queries, self.before.len())]
    }

    /// left · rightᵀ over the whole context: `[queries, context]`.
    fn against_context(&self, left: &[T], right: &[T], scale: T) -> Vec<T> {
        let context = self.context();
        let mut scores = zeros(self.queries.len() * context);
        for (rows, column) in self.parts() {
            product(
                &mut ViewMut { data: &mut scores, at: column, row_stride: context },
                false,
                (self.queries.len(), rows.len(), self.heads.dim),
                scale,
                self.query_view(left),
                self.key_view(right, rows).transposed(),
            );
        }
        scores
    }

    /// Softmax of the scaled, causally masked scores: `[queries, context]`.
    fn probabilities(&self) -> Vec<T> {
        let mut scores = self.against_context(self.q, self.k, T::of((self.heads.dim as f64).sqrt().recip()));
        for (query, row) in scores.chunks_exact_mut(self.context()).enumerate() {
            let (seen, unseen) = row.split_at_mut(self.before.len() + query + 1);
            let max =
                seen.iter().fold(T::neg_infinity(), |max, score| if *score > max { *score } else { max });
            for score in &mut *seen {
                *score = (*score - max).exp_of_negative();
            }
            let sum = seen.iter().fold(<T as num_traits::Zero>::zero(), |sum, score| sum + *score);
            for score in seen {
                *score /= sum;
            }
            unseen.fill(<T as num_traits::Zero>::zero());
        }
        scores
    }
}

/// A task's rows: those of one tree; results lie in `[rows, width]` of its own.
struct Place {
    /// For each row range of the tree, where it starts in the task's result.
    ranges: Vec<(Range<usize>, usize)>,
    rows: usize,
}

impl Place {
    fn of(tree: &Tree) -> Self {
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

    fn local(&self, range: &Range<usize>) -> usize {
        self.ranges.iter().find(|(rows, _)| rows == range).map_or(0, |(_, start)| *start)
    }
}

/// Copies the results of tasks, of `width` columns each, into columns `task·width…` of `[rows, stride]`.
fn assemble<T: Real>(
    rows: usize,
    stride: usize,
    width: usize,
    parts: impl Iterator<Item = (usize, usize, Vec<T>)>,
    places: &[Place],
) -> Vec<T> {
    let mut whole = zeros::<T>(rows * stride);
    for (tree, column, part) in parts {
        for (range, start) in &places[tree].ranges {
            for (offset, row) in range.clone().enumerate() {
                let from = &part[(start + offset) * width..][..width];
                whole[row * stride + column * width..][..width].copy_from_slice(from);
            }
        }
    }
    whole
}

fn tasks(trees: &[Tree], heads: Heads) -> Vec<(usize, usize)> {
    (0..trees.len()).flat_map(|tree| (0..heads.key).map(move |head| (tree, head))).collect()
}

pub(crate) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, trees: &[Tree], heads: Heads) -> Result<Tensor> {
    fn run<T: Real>(q: &Tensor, k: &Tensor, v: &Tensor, trees: &[Tree], heads: Heads) -> Result<Tensor> {
        let shape = q.dims2()?;
        let (q, k, v) = (Opened::new(q), Opened::new(k), Opened::new(v));
        let (q, k, v) = (q.slice::<T>()?, k.slice::<T>()?, v.slice::<T>()?);
        let group = heads.query / heads.key;
        let width = group * heads.dim;
        let places: Vec<_> = trees.iter().map(Place::of).collect();
        let results: Vec<_> = tasks(trees, heads)
            .into_par_iter()
            .map(|(tree, key_head)| {
                let place = &places[tree];
                let mut y = zeros::<T>(place.rows * width);
                for (queries, before) in runs(&trees[tree]) {
                    let at = place.local(&queries) * width;
                    for member in 0..group {
                        let query_head = key_head * group + member;
                        let (queries, before) = (queries.clone(), before.clone());
                        let run = Run { q, k, queries, before, query_head, key_head, heads };
                        let p = run.probabilities();
                        for (add, (rows, column)) in
                            run.parts().into_iter().filter(|(rows, _)| !rows.is_empty()).enumerate()
                        {
                            product(
                                &mut ViewMut { data: &mut y, at: at + member * heads.dim, row_stride: width },
                                add > 0,
                                (run.queries.len(), heads.dim, rows.len()),
                                <T as num_traits::One>::one(),
                                View::rows(&p, column, run.context()),
                                run.key_view(v, rows),
                            );
                        }
                    }
                }
                (tree, key_head, y)
            })
            .collect();
        tensor(assemble(shape.0, shape.1, width, results.into_iter(), &places), shape)
    }
    by_dtype!(q, run(q, k, v, trees, heads))
}

pub(crate) fn attention_backward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    grad: &Tensor,
    trees: &[Tree],
    heads: Heads,
) -> Result<(Tensor, Tensor, Tensor)> {
    fn run<T: Real>(
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        grad: &Tensor,
        trees: &[Tree],
        heads: Heads,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let (q_shape, k_shape) = (q.dims2()?, k.dims2()?);
        let (q, k, v, grad) = (Opened::new(q), Opened::new(k), Opened::new(v), Opened::new(grad));
        let (q, k, v, grad) = (q.slice::<T>()?, k.slice::<T>()?, v.slice::<T>()?, grad.slice::<T>()?);
        let group = heads.query / heads.key;
        let (dim, width) = (heads.dim, group * heads.dim);
        let places: Vec<_> = trees.iter().map(Place::of).collect();
        let scale = T::of((dim as f64).sqrt().recip());
        let one = <T as num_traits::One>::one();
        let results: Vec<_> = tasks(trees, heads)
            .into_par_iter()
            .map(|(tree, key_head)| {
                let place = &places[tree];
                let mut dq = zeros::<T>(place.rows * width);
                let (mut dk, mut dv) = (zeros::<T>(place.rows * dim), zeros::<T>(place.rows * dim));
                for (queries, before) in runs(&trees[tree]) {
                    let at = place.local(&queries) * width;
                    for member in 0..group {
                        let query_head = key_head * group + member;
                        let (queries, before) = (queries.clone(), before.clone());
                        let run = Run { q, k, queries, before, query_head, key_head, heads };
                        let (count, context) = (run.queries.len(), run.context());
                        let p = run.probabilities();
                        let mut ds = run.against_context(grad, v, one);
                        for (ds, p) in ds.chunks_exact_mut(context).zip(p.chunks_exact(context)) {
                            let zero = <T as num_traits::Zero>::zero();
                            let mean = ds.iter().zip(p).fold(zero, |sum, (ds, p)| sum + *ds * *p);
                            ds.iter_mut().zip(p).for_each(|(ds, p)| *ds = *p * (*ds - mean));
                        }
                        for (add, (rows, column)) in
                            run.parts().into_iter().filter(|(rows, _)| !rows.is_empty()).enumerate()
                        {
                            product(
                                &mut ViewMut { data: &mut dq, at: at + member * dim, row_stride: width },
                                add > 0,
                                (count, dim, rows.len()),
                                scale,
                                View::rows(&ds, column, context),
                                run.key_view(k, rows),
                            );
                            let at = place.local(rows) * dim;
                            product(
                                &mut ViewMut { data: &mut dk, at, row_stride: dim },
                                true,
                                (rows.len(), dim, count),
                                scale,
                                View::rows(&ds, column, context).transposed(),
                                run.query_view(q),
                            );
                            product(
                                &mut ViewMut { data: &mut dv, at, row_stride: dim },
                                true,
                                (rows.len(), dim, count),
                                one,
                                View::rows(&p, column, context).transposed(),
                                run.query_view(grad),
                            );
                        }
                    }
                }
                (tree, key_head, dq, dk, dv)
            })
            .collect();
        let (mut dq, mut dk, mut dv) = (Vec::new(), Vec::new(), Vec::new());
        for (tree, head, q, k, v) in results {
            dq.push((tree, head, q));
            dk.push((tree, head, k));
            dv.push((tree, head, v));
        }
        Ok((
            tensor(assemble(q_shape.0, q_shape.1, width, dq.into_iter(), &places), q_shape)?,
            tensor(assemble(k_shape.0, k_shape.1, dim, dk.into_iter(), &places), k_shape)?,
            tensor(assemble(k_shape.0, k_shape.1, dim, dv.into_iter(), &places), k_shape)?,
        ))
    }
    by_dtype!(q, run(q, k, v, grad, trees, heads))
}
