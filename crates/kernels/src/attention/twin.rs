//! What the attention kernels compute, row by row.

use std::ops::Range;

use super::{Heads, Tree};

/// What [`forward`] gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Attended {
    /// `[rows, query_heads·dim]`; zeros in rows that are in no tree.
    pub y: Vec<f64>,
    /// log Σ exp(score), `[rows, query_heads]`.
    pub log_sum: Vec<f64>,
}

/// What [`backward`] gives, in the shapes of q, k and v.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// d loss / d q.
    pub dq: Vec<f64>,
    /// d loss / d k.
    pub dk: Vec<f64>,
    /// d loss / d v.
    pub dv: Vec<f64>,
}

impl Heads {
    /// Where the query head of a row begins.
    fn query_at(self, row: usize, head: usize) -> Range<usize> {
        let start = (row * self.query + head) * self.dim;
        start..start + self.dim
    }

    /// Where the key head begins that serves this query head.
    fn key_at(self, row: usize, head: usize) -> Range<usize> {
        let start = (row * self.key + head / (self.query / self.key)) * self.dim;
        start..start + self.dim
    }
}

/// Each row of the forest with the rows that it sees.
fn seen(trees: &[Tree]) -> impl Iterator<Item = (usize, Vec<usize>)> {
    trees.iter().flat_map(|Tree { prompt, branches }| {
        let causal = |rows: &Range<usize>, before: Range<usize>| {
            let start = rows.start;
            rows.clone().map(move |row| (row, before.clone().chain(start..=row).collect()))
        };
        causal(prompt, 0..0).chain(branches.iter().flat_map(move |branch| causal(branch, prompt.clone())))
    })
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], factor: f64, x: &[f64]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += factor * x);
}

/// Twin of [`Heads::forward`]: y = Σ softmax(q·k/√dim)·v.
pub fn forward(q: &[f64], k: &[f64], v: &[f64], trees: &[Tree], heads: Heads) -> Attended {
    let mut attended = Attended { y: vec![0.0; q.len()], log_sum: vec![0.0; q.len() / heads.dim] };
    let scale = (heads.dim as f64).sqrt().recip();
    for (row, seen) in seen(trees) {
        for head in 0..heads.query {
            let score =
                |key: &usize| scale * dot(&q[heads.query_at(row, head)], &k[heads.key_at(*key, head)]);
            let scores: Vec<f64> = seen.iter().map(score).collect();
            let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = highest + scores.iter().map(|score| (score - highest).exp()).sum::<f64>().ln();
            for (key, score) in seen.iter().zip(scores) {
                let y = &mut attended.y[heads.query_at(row, head)];
                add(y, (score - log_sum).exp(), &v[heads.key_at(*key, head)]);
            }
            attended.log_sum[row * heads.query + head] = log_sum;
        }
    }
    attended
}

/// Twin of [`DELTA`](super::DELTA): Σ grad·y over the dimensions of a head, `[rows, query_heads]`.
pub fn delta(grad: &[f64], y: &[f64], heads: Heads) -> Vec<f64> {
    grad.chunks_exact(heads.dim).zip(y.chunks_exact(heads.dim)).map(|(grad, y)| dot(grad, y)).collect()
}

/// Twin of [`Heads::backward_queries`] and [`Heads::backward_keys`]: with p = exp(score − log_sum) and
/// ds = p·(grad·v − delta), dq = Σ ds·k/√dim, dk = Σ ds·q/√dim and dv = Σ p·grad.
pub fn backward(
    [q, k, v, grad]: [&[f64]; 4],
    log_sum: &[f64],
    delta: &[f64],
    trees: &[Tree],
    heads: Heads,
) -> Gradients {
    let mut gradients = Gradients { dq: vec![0.0; q.len()], dk: vec![0.0; k.len()], dv: vec![0.0; v.len()] };
    let scale = (heads.dim as f64).sqrt().recip();
    for (row, seen) in seen(trees) {
        for head in 0..heads.query {
            let (query, at) = (heads.query_at(row, head), row * heads.query + head);
            for key in seen.iter().map(|key| heads.key_at(*key, head)) {
                let p = (scale * dot(&q[query.clone()], &k[key.clone()]) - log_sum[at]).exp();
                let ds = scale * p * (dot(&grad[query.clone()], &v[key.clone()]) - delta[at]);
                add(&mut gradients.dq[query.clone()], ds, &k[key.clone()]);
                add(&mut gradients.dk[key.clone()], ds, &q[query.clone()]);
                add(&mut gradients.dv[key], p, &grad[query.clone()]);
            }
        }
    }
    gradients
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_derivative, numbers};

    #[test]
    fn the_twins_are_derivatives() {
        let heads = Heads { query: 4, key: 2, dim: 3 };
        let trees = [
            Tree { prompt: 0..3, branches: vec![3..5, 5..5, 7..8] },
            Tree { prompt: 5..7, branches: vec![] },
        ];
        let (q, seed) = (numbers(1, 96), numbers(2, 96));
        let (k, v) = (numbers(3, 48), numbers(4, 48));
        let Attended { y, log_sum } = forward(&q, &k, &v, &trees, heads);
        let delta = delta(&seed, &y, heads);
        let gradients = backward([&q, &k, &v, &seed], &log_sum, &delta, &trees, heads);
        let loss = |q: &[f64], k: &[f64], v: &[f64]| dot(&forward(q, k, v, &trees, heads).y, &seed);
        assert_derivative("q", &q, &gradients.dq, |q| loss(q, &k, &v));
        assert_derivative("k", &k, &gradients.dk, |k| loss(&q, k, &v));
        assert_derivative("v", &v, &gradients.dv, |v| loss(&q, &k, v));
    }

    #[test]
    fn rows_see_their_prompt_and_what_came_before_in_their_branch() {
        let trees =
            [Tree { prompt: 0..2, branches: vec![2..4, 5..6] }, Tree { prompt: 4..5, branches: vec![] }];
        let mut seen: Vec<_> = seen(&trees).collect();
        seen.sort();
        let expected = [vec![0], vec![0, 1], vec![0, 1, 2], vec![0, 1, 2, 3], vec![4], vec![0, 1, 5]];
        assert_eq!(seen, expected.into_iter().enumerate().collect::<Vec<_>>());
    }
}
