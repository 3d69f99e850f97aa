//! Prompt trees of odd sizes, with head dimensions of all three kernel widths.

use super::{Argument, CheckRunner, SplitMix64, TwinInput, error, error_with_cancellation};
use crate::{
    Element,
    attention::{self, AttentionOutput, AttentionTree, DELTA, HeadCounts, TilePlan},
};

/// Tolerance in f32 units. A score sums up to 256 dimensions; its rounding error of a few units of
/// Σ|q·k|/√dim is an error of log p. Sums over up to a few hundred keys follow. Gradients sum terms
/// of about 1, which cancel where a row attends only to itself.
const UNITS: f64 = 64.0;

pub(super) fn check(runner: &mut CheckRunner<'_>, element: Element) {
    let heads =
        [(1, 1, 1), (2, 1, 6), (4, 2, 33), (2, 2, 64), (4, 2, 80), (3, 1, 128), (2, 1, 200), (1, 1, 256)];
    for (seed, (query, key, dim)) in heads.into_iter().enumerate() {
        let heads = HeadCounts { query, key, dim };
        forest(runner, element, heads, &random_forest(seed as u64), 1.0);
    }
    let heads = HeadCounts { query: 2, key: 1, dim: 16 };
    forest(runner, element, heads, &[AttentionTree { prompt: 0..1, branches: vec![] }], 1.0);
    forest(runner, element, heads, &[], 1.0);
    // Scores spread so widely that the running maximum matters.
    forest(runner, element, heads, &random_forest(99), 5.0);
}

/// Returns two trees with prompts of up to 60 and branches of up to 40 rows. Some branches are
/// empty; one of each tree lies after all trees, as branches without gradients do.
fn random_forest(seed: u64) -> Vec<AttentionTree> {
    let mut draws = SplitMix64(seed);
    let mut next = 0;
    let mut take = |count: usize| {
        next += count;
        next - count..next
    };
    let mut trees = Vec::new();
    for _ in 0..2 {
        let prompt = take(1 + draws.below(60));
        let branches = (0..draws.below(4)).map(|_| take(draws.below(40))).collect();
        trees.push(AttentionTree { prompt, branches });
    }
    for tree in &mut trees {
        tree.branches.push(take(draws.below(20)));
    }
    trees
}

fn forest(
    runner: &mut CheckRunner<'_>,
    element: Element,
    heads: HeadCounts,
    trees: &[AttentionTree],
    spread: f64,
) {
    let HeadCounts { query, key, dim } = heads;
    let ends = trees.iter().flat_map(|tree| tree.branches.iter().chain([&tree.prompt]));
    let rows = ends.map(|range| range.end).max().unwrap_or(0);
    let (query_count, key_count, row_heads) = (rows * query * dim, rows * key * dim, rows * query);
    let wide: Vec<f64> = super::random_values(1, query_count).iter().map(|x| spread * x).collect();
    let (q, grad) = (TwinInput::new(element, &wide), TwinInput::random(element, 2, query_count));
    let (k, v) = (TwinInput::random(element, 3, key_count), TwinInput::random(element, 4, key_count));
    let case = format!("{rows} rows, {query} heads for {key}, {dim} dimensions, spread {spread}");
    let units = UNITS * spread;
    let plan = match TilePlan::new(trees, heads) {
        Ok(plan) => plan,
        Err(error) => return runner.record(&heads.forward(element), case, Err(error.to_string())),
    };
    let sizes = |tiles: &[&[u32]]| {
        let tiles = tiles.iter().map(|tiles| Argument::u32s(tiles));
        let sizes = [query, key, dim].map(Argument::count);
        tiles.chain(sizes).chain([Argument::F32(plan.scale())]).collect::<Vec<_>>()
    };

    let AttentionOutput { y, lse } = attention::forward(&q.values, &k.values, &v.values, trees, heads);
    let mut arguments = vec![
        Argument::unwritten(element, query_count),
        Argument::unwritten(Element::F32, row_heads),
        q.argument(),
        k.argument(),
        v.argument(),
    ];
    arguments.extend(sizes(&[plan.query_tiles()]));
    runner.check(&heads.forward(element), case.clone(), Ok(plan.forward()), arguments, |got| {
        error(&got[0], element, &y, units).max(error(&got[1], Element::F32, &lse, units))
    });

    // The backward kernel and its twin both read the rounded results of the forward pass.
    let (y, lse) = (TwinInput::new(element, &y), TwinInput::new(Element::F32, &lse));
    let delta = attention::delta(&grad.values, &y.values, heads);
    let arguments = vec![
        Argument::unwritten(Element::F32, row_heads),
        grad.argument(),
        y.argument(),
        Argument::U64(row_heads as u64),
        Argument::count(dim),
    ];
    runner.check(
        &DELTA.kernel(element),
        case.clone(),
        attention::delta_launch(rows, heads),
        arguments,
        |got| error(&got[0], Element::F32, &delta, UNITS),
    );

    let delta = TwinInput::new(Element::F32, &delta);
    let inputs = [&*q.values, &k.values, &v.values, &grad.values];
    let want = attention::backward(inputs, &lse.values, &delta.values, trees, heads);
    let given = [&q, &k, &v, &grad, &lse, &delta].map(TwinInput::argument);
    let mut arguments = vec![Argument::unwritten(element, query_count)];
    arguments.extend(given.iter().cloned().chain(sizes(&[plan.query_tiles()])));
    runner.check(
        &heads.backward_queries(element),
        case.clone(),
        Ok(plan.backward_queries()),
        arguments,
        |got| error_with_cancellation(&got[0], element, &want.dq, units, 1.0),
    );
    let mut arguments = vec![Argument::unwritten(element, key_count); 2];
    arguments.extend(given.iter().cloned().chain(sizes(&[plan.key_tiles(), plan.spans()])));
    runner.check(&heads.backward_keys(element), case, Ok(plan.backward_keys()), arguments, |got| {
        error_with_cancellation(&got[0], element, &want.dk, units, 1.0)
            .max(error(&got[1], element, &want.dv, units))
    });
}
