//! Twins of the attention kernels.

use std::ops::Range;

use super::{AttentionTree, HeadCounts};

/// Result of [`forward`].
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionOutput {
    /// Attention output, `[rows, query_heads·dim]`; zeros in rows outside all trees.
    pub y: Vec<f64>,
    /// Log-sum-exp of the scores, `[rows, query_heads]`.
    pub lse: Vec<f64>,
}

/// Result of [`backward`], in the shapes of q, k and v.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionGradients {
    /// d loss / d q.
    pub dq: Vec<f64>,
    /// d loss / d k.
    pub dk: Vec<f64>,
    /// d loss / d v.
    pub dv: Vec<f64>,
}

impl HeadCounts {
    /// Returns the range of a row's query head.
    fn query_range(self, row: usize, head: usize) -> Range<usize> {
        let start = (row * self.query + head) * self.dim;
        start..start + self.dim
    }

    /// Returns the range of a row's key head for a query head.
    fn key_range(self, row: usize, head: usize) -> Range<usize> {
        let start = (row * self.key + head / (self.query / self.key)) * self.dim;
        start..start + self.dim
    }
}

/// Returns each row of the trees with the rows that it attends to.
fn attended_rows(trees: &[AttentionTree]) -> impl Iterator<Item = (usize, Vec<usize>)> {
    trees.iter().flat_map(|AttentionTree { prompt, branches }| {
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

/// Twin of [`HeadCounts::forward`]: y = Σ softmax(q·k/√dim)·v.
pub fn forward(
    q: &[f64],
    k: &[f64],
    v: &[f64],
    trees: &[AttentionTree],
    heads: HeadCounts,
) -> AttentionOutput {
    let mut attended = AttentionOutput { y: vec![0.0; q.len()], lse: vec![0.0; q.len() / heads.dim] };
    let scale = (heads.dim as f64).sqrt().recip();
    for (row, seen) in attended_rows(trees) {
        for head in 0..heads.query {
            let score =
                |key: &usize| scale * dot(&q[heads.query_range(row, head)], &k[heads.key_range(*key, head)]);
            let scores: Vec<f64> = seen.iter().map(score).collect();
            let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let lse = highest + scores.iter().map(|score| (score - highest).exp()).sum::<f64>().ln();
            for (key, score) in seen.iter().zip(scores) {
                let y = &mut attended.y[heads.query_range(row, head)];
                add(y, (score - lse).exp(), &v[heads.key_range(*key, head)]);
            }
            attended.lse[row * heads.query + head] = lse;
        }
    }
    attended
}

/// Twin of [`DELTA`](super::DELTA): returns Σ grad·y over the dimensions of each head, `[rows,
/// query_heads]`.
pub fn delta(grad: &[f64], y: &[f64], heads: HeadCounts) -> Vec<f64> {
    grad.chunks_exact(heads.dim).zip(y.chunks_exact(heads.dim)).map(|(grad, y)| dot(grad, y)).collect()
}

/// Twin of [`HeadCounts::backward_queries`] and [`HeadCounts::backward_keys`]: with p =
/// exp(score − lse) and ds = p·(grad·v − delta), dq = Σ ds·k/√dim, dk = Σ ds·q/√dim and dv = Σ
/// p·grad.
pub fn backward(
    [q, k, v, grad]: [&[f64]; 4],
    lse: &[f64],
    delta: &[f64],
    trees: &[AttentionTree],
    heads: HeadCounts,
) -> AttentionGradients {
    let mut gradients =
        AttentionGradients { dq: vec![0.0; q.len()], dk: vec![0.0; k.len()], dv: vec![0.0; v.len()] };
    let scale = (heads.dim as f64).sqrt().recip();
    for (row, seen) in attended_rows(trees) {
        for head in 0..heads.query {
            let (query, at) = (heads.query_range(row, head), row * heads.query + head);
            for key in seen.iter().map(|key| heads.key_range(*key, head)) {
                let p = (scale * dot(&q[query.clone()], &k[key.clone()]) - lse[at]).exp();
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
    use crate::check::{assert_derivative, random_values};

    #[test]
    fn the_twins_are_derivatives() {
        let heads = HeadCounts { query: 4, key: 2, dim: 3 };
        let trees = [
            AttentionTree { prompt: 0..3, branches: vec![3..5, 5..5, 7..8] },
            AttentionTree { prompt: 5..7, branches: vec![] },
        ];
        let (q, seed) = (random_values(1, 96), random_values(2, 96));
        let (k, v) = (random_values(3, 48), random_values(4, 48));
        let AttentionOutput { y, lse } = forward(&q, &k, &v, &trees, heads);
        let delta = delta(&seed, &y, heads);
        let gradients = backward([&q, &k, &v, &seed], &lse, &delta, &trees, heads);
        let loss = |q: &[f64], k: &[f64], v: &[f64]| dot(&forward(q, k, v, &trees, heads).y, &seed);
        assert_derivative("q", &q, &gradients.dq, |q| loss(q, &k, &v));
        assert_derivative("k", &k, &gradients.dk, |k| loss(&q, k, &v));
        assert_derivative("v", &v, &gradients.dv, |v| loss(&q, &k, v));
    }

    #[test]
    fn rows_attend_to_their_prompt_and_to_earlier_rows_of_their_branch() {
        let trees = [
            AttentionTree { prompt: 0..2, branches: vec![2..4, 5..6] },
            AttentionTree { prompt: 4..5, branches: vec![] },
        ];
        let mut seen: Vec<_> = attended_rows(&trees).collect();
        seen.sort();
        let expected = [vec![0], vec![0, 1], vec![0, 1, 2], vec![0, 1, 2, 3], vec![4], vec![0, 1, 5]];
        assert_eq!(seen, expected.into_iter().enumerate().collect::<Vec<_>>());
    }
}
