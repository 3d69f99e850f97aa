//! Attention of bf16 queries, keys and values. The query heads that share a key head are rows of
//! the same products; scores and softmax are f32, probabilities are rounded to bf16.

#![expect(clippy::inline_always, reason = "what is not inlined is not compiled for the wide vectors")]

use candle_core::{Result, Tensor};
use half::bf16;
use rayon::prelude::*;

use super::{Convert, Operand, Right, Stored, Term, into_f32};
use crate::{
    architecture::AttentionHeads,
    ops::cpu::{
        Opened,
        attention::{HeadTask, QueryBlock, TreeLayout, assemble, query_blocks, tasks},
        lanes::{Loop, max, sum, vectorised},
        product::{Target, Threads},
        real::Real,
        widened,
    },
    pack::PromptTree,
};

/// Queries, keys and values of all heads.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    q: &'a [bf16],
    k: &'a [bf16],
    v: &'a [bf16],
    heads: AttentionHeads,
}

/// Working memory of a task, for its largest block.
struct Scratch {
    /// Queries of the group, `[rows, dim]`, query head by query head.
    q: Vec<bf16>,
    /// Scores, then probabilities, `[rows, context]`.
    p: Vec<f32>,
    p_rounded: Vec<bf16>,
    /// Result of a block, `[rows, dim]`.
    result: Vec<f32>,
}

impl Scratch {
    fn new(blocks: &[QueryBlock], heads: AttentionHeads) -> Self {
        let group = heads.query / heads.key;
        let rows = group * blocks.iter().map(|block| block.queries.len()).max().unwrap_or(0);
        let scores =
            blocks.iter().map(|block| group * block.queries.len() * block.context()).max().unwrap_or(0);
        Self {
            q: vec![bf16::ZERO; rows * heads.dim],
            p: vec![0.0; scores],
            p_rounded: vec![bf16::ZERO; scores],
            result: vec![0.0; rows * heads.dim],
        }
    }
}

/// One block of queries under one key head.
#[derive(Clone, Copy)]
struct BlockRun<'a> {
    inputs: Inputs<'a>,
    block: &'a QueryBlock,
    key_head: usize,
}

impl<'a> BlockRun<'a> {
    fn group(&self) -> usize {
        self.inputs.heads.query / self.inputs.heads.key
    }

    /// Returns the number of rows of products: queries of all heads of the group.
    fn rows(&self) -> usize {
        self.group() * self.block.queries.len()
    }

    /// Calls `visit` with the row of each query and head, and its first element in
    /// `[rows, heads·dim]`.
    fn for_each_query(&self, mut visit: impl FnMut(usize, usize)) {
        let AttentionHeads { query, dim, .. } = self.inputs.heads;
        let count = self.block.queries.len();
        for member in 0..self.group() {
            for (index, row) in self.block.queries.clone().enumerate() {
                visit(member * count + index, (row * query + self.key_head * self.group() + member) * dim);
            }
        }
    }

    /// Returns rows of keys or values.
    fn keys(&self, data: &'a [bf16], first: usize) -> Operand<'a> {
        let AttentionHeads { key, dim, .. } = self.inputs.heads;
        Operand { data, at: (first * key + self.key_head) * dim, stride: key * dim }
    }

    /// Sets `scores` to left · rightᵀ over the whole context.
    fn against_context(&self, left: &[bf16], right: &'a [bf16], scores: &mut [f32]) {
        let (context, k) = (self.block.context(), self.inputs.heads.dim);
        for (rows, column) in self.block.parts() {
            let right = Right::Transposed(self.keys(right, rows.start));
            let term = Term { left: Operand::new(left, k), right, k };
            let shape = (self.rows(), rows.len());
            into_f32((scores, column, context), Target::Replace, shape, &[term], Threads::One);
        }
    }

    /// Sets `result`, `[rows, dim]`, to left · right over the whole context.
    fn over_context(&self, left: &[bf16], right: &'a [bf16], result: &mut [f32]) {
        let (stride, dim) = (self.block.context(), self.inputs.heads.dim);
        let terms = self.block.parts().map(|(rows, at)| Term {
            left: Operand { data: left, at, stride },
            right: Right::Plain(self.keys(right, rows.start)),
            k: rows.len(),
        });
        let terms: Vec<_> = terms.collect();
        into_f32((result, 0, dim), Target::Replace, (self.rows(), dim), &terms, Threads::One);
    }

    /// Computes the probabilities under the causal mask and the window.
    fn probabilities(&self, scratch: &mut Scratch) {
        let Scratch { q, p, p_rounded, .. } = scratch;
        let (AttentionHeads { dim, scale, .. }, context) = (self.inputs.heads, self.block.context());
        self.for_each_query(|row, from| {
            q[row * dim..][..dim].copy_from_slice(&self.inputs.q[from..][..dim]);
        });
        let size = self.rows() * context;
        let (p, p_rounded) = (&mut p[..size], &mut p_rounded[..size]);
        self.against_context(&q[..self.rows() * dim], self.inputs.k, p);
        let rows = p.chunks_exact_mut(context).zip(p_rounded.chunks_exact_mut(context));
        for (row, (p, rounded)) in rows.enumerate() {
            let visible = self.block.visible(row % self.block.queries.len());
            for hidden in [0..visible.start, visible.end..context] {
                p[hidden.clone()].fill(0.0);
                rounded[hidden].fill(bf16::ZERO);
            }
            vectorised(SoftmaxRow, (&mut p[visible.clone()], &mut rounded[visible], scale as f32));
        }
    }
}

struct SoftmaxRow;

impl Loop<(&mut [f32], &mut [bf16], f32)> for SoftmaxRow {
    type Output = ();

    #[inline(always)]
    fn run((scores, rounded, scale): (&mut [f32], &mut [bf16], f32)) {
        let max = max(scores);
        for score in &mut *scores {
            *score = ((*score - max) * scale).exp_of_negative();
        }
        let inverse = sum(scores.len(), |i| scores[i]).recip();
        for (score, rounded) in scores.iter_mut().zip(rounded) {
            *score *= inverse;
            *rounded = Stored::round(*score);
        }
    }
}

/// Computes scale·p·(dp − Σ p·dp), row by row.
struct SoftmaxBackwardRows;

impl Loop<(&[f32], &[f32], &mut [bf16], usize, f32)> for SoftmaxBackwardRows {
    type Output = ();

    #[inline(always)]
    fn run((p, dp, ds, context, scale): (&[f32], &[f32], &mut [bf16], usize, f32)) {
        let rows = p.chunks_exact(context).zip(dp.chunks_exact(context)).zip(ds.chunks_exact_mut(context));
        for ((p, dp), ds) in rows {
            let mean = sum(context, |i| dp[i] * p[i]);
            for ((p, dp), ds) in p.iter().zip(dp).zip(ds) {
                *ds = Stored::round(scale * *p * (*dp - mean));
            }
        }
    }
}

pub(in crate::ops::cpu) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    trees: &[PromptTree],
    heads: AttentionHeads,
) -> Result<Tensor> {
    let shape = q.dims2()?;
    let (q, k, v) = (Opened::new(q), Opened::new(k), Opened::new(v));
    let inputs = Inputs { q: q.slice()?, k: k.slice()?, v: v.slice()?, heads };
    let width = heads.query / heads.key * heads.dim;
    let layouts: Vec<_> = trees.iter().map(TreeLayout::new).collect();
    let run = |task: HeadTask| {
        let layout = &layouts[task.tree];
        let blocks = query_blocks(&trees[task.tree], heads.window);
        let mut scratch = Scratch::new(&blocks, heads);
        let mut y = vec![bf16::ZERO; layout.rows * width];
        for block in &blocks {
            let run = BlockRun { inputs, block, key_head: task.key_head };
            run.probabilities(&mut scratch);
            let Scratch { p_rounded, result, .. } = &mut scratch;
            run.over_context(p_rounded, inputs.v, result);
            scatter(&run, result, layout, &mut y);
        }
        (task, y)
    };
    let results: Vec<_> = tasks(trees, heads).into_par_iter().map(run).collect();
    assemble(vec![bf16::ZERO; shape.0 * shape.1], shape, width, results.into_iter(), &layouts)
}

/// Rounds the result of a block, `[rows, dim]`, into that of its task, `[tree rows, group·dim]`.
fn scatter(run: &BlockRun<'_>, result: &[f32], layout: &TreeLayout, to: &mut [bf16]) {
    let (dim, count) = (run.inputs.heads.dim, run.block.queries.len());
    let first = layout.local(run.block.queries.start);
    for (row, result) in result.chunks_exact(dim).take(run.rows()).enumerate() {
        let at = ((first + row % count) * run.group() + row / count) * dim;
        vectorised(Convert, (&mut to[at..][..dim], result));
    }
}

/// Gradients of one task: of its queries, `[tree rows, group·dim]`, keys and values.
struct TaskGradients {
    task: HeadTask,
    q: Vec<bf16>,
    k: Vec<bf16>,
    v: Vec<bf16>,
}

pub(in crate::ops::cpu) fn attention_backward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    grad: &Tensor,
    trees: &[PromptTree],
    heads: AttentionHeads,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (q_shape, k_shape, grad) = (q.dims2()?, k.dims2()?, &widened(grad)?);
    let (q, k, v, grad) = (Opened::new(q), Opened::new(k), Opened::new(v), Opened::new(grad));
    let inputs = Inputs { q: q.slice()?, k: k.slice()?, v: v.slice()?, heads };
    let grad = grad.slice()?;
    let width = heads.query / heads.key * heads.dim;
    let layouts: Vec<_> = trees.iter().map(TreeLayout::new).collect();
    let run = |task: HeadTask| task_backward(inputs, grad, task, &trees[task.tree], &layouts[task.tree]);
    let results: Vec<_> = tasks(trees, heads).into_par_iter().map(run).collect();
    let gathered = |shape: (usize, usize), width, part: fn(&TaskGradients) -> &[bf16]| {
        let parts = results.iter().map(|result| (result.task, part(result)));
        assemble(vec![bf16::ZERO; shape.0 * shape.1], shape, width, parts, &layouts)
    };
    Ok((
        gathered(q_shape, width, |result| &result.q)?,
        gathered(k_shape, heads.dim, |result| &result.k)?,
        gathered(k_shape, heads.dim, |result| &result.v)?,
    ))
}

fn task_backward(
    inputs: Inputs<'_>,
    grad: &[f32],
    task: HeadTask,
    tree: &PromptTree,
    layout: &TreeLayout,
) -> TaskGradients {
    let AttentionHeads { dim, scale, window, .. } = inputs.heads;
    let blocks = query_blocks(tree, window);
    let mut scratch = Scratch::new(&blocks, inputs.heads);
    let mut d_q = vec![bf16::ZERO; layout.rows * inputs.heads.query / inputs.heads.key * dim];
    // Transposed, so that the products transpose queries rather than scores.
    let (mut d_k, mut d_v) = (vec![0.0; dim * layout.rows], vec![0.0; dim * layout.rows]);
    let (mut dp, mut ds) = (vec![0.0; scratch.p.len()], vec![bf16::ZERO; scratch.p.len()]);
    let mut d_y = vec![bf16::ZERO; scratch.q.len()];
    let mut turned = vec![bf16::ZERO; scratch.q.len()];
    for block in &blocks {
        let run = BlockRun { inputs, block, key_head: task.key_head };
        let (rows, context) = (run.rows(), block.context());
        let size = rows * context;
        run.probabilities(&mut scratch);
        run.for_each_query(|row, from| {
            vectorised(Convert, (&mut d_y[row * dim..][..dim], &grad[from..][..dim]));
        });
        let (d_y, turned) = (&d_y[..rows * dim], &mut turned[..rows * dim]);
        run.against_context(d_y, inputs.v, &mut dp[..size]);
        let scale = scale as f32;
        vectorised(SoftmaxBackwardRows, (&scratch.p[..size], &dp[..size], &mut ds[..size], context, scale));
        run.over_context(&ds, inputs.k, &mut scratch.result);
        scatter(&run, &scratch.result, layout, &mut d_q);
        for (of, by, into) in
            [(&scratch.q[..rows * dim], &ds[..size], &mut d_k), (d_y, &scratch.p_rounded[..size], &mut d_v)]
        {
            transpose(of, dim, turned);
            for (keys, at) in block.parts() {
                let right = Right::Plain(Operand { data: by, at, stride: context });
                let term = Term { left: Operand::new(turned, rows), right, k: rows };
                let target = (into.as_mut_slice(), layout.local(keys.start), layout.rows);
                into_f32(target, Target::AddTo, (dim, keys.len()), &[term], Threads::One);
            }
        }
    }
    let rounded = |turned: &[f32]| -> Vec<bf16> {
        let rows = layout.rows;
        (0..rows * dim).map(|index| Stored::round(turned[index % dim * rows + index / dim])).collect()
    };
    TaskGradients { task, q: d_q, k: rounded(&d_k), v: rounded(&d_v) }
}

/// Transposes a matrix of `columns` columns.
fn transpose(matrix: &[bf16], columns: usize, into: &mut [bf16]) {
    let rows = matrix.len() / columns;
    for (column, into) in into.chunks_exact_mut(rows).enumerate() {
        for (row, into) in into.iter_mut().enumerate() {
            *into = matrix[row * columns + column];
        }
    }
}
