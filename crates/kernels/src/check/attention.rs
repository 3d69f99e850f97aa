//! Forests of odd sizes, with heads of all widths that the kernels tell apart.

use super::{Argument, Bench, Draws, Input, error, error_beside};
use crate::{
    Element,
    attention::{self, Attended, DELTA, Heads, Plan, Tree},
};

/// A score is a sum over up to 256 dimensions, and its rounding error, of a few units of Σ|q·k|/√dim, is one of the
/// logarithm of p; then sums over up to a few hundred keys follow.
/// Of gradients, terms of about 1 are summed, and where a row sees only itself, nothing is left of them.
const UNITS: f64 = 64.0;

pub(super) fn check(bench: &mut Bench<'_>, element: Element) {
    let heads =
        [(1, 1, 1), (2, 1, 6), (4, 2, 33), (2, 2, 64), (4, 2, 80), (3, 1, 128), (2, 1, 200), (1, 1, 256)];
    for (seed, (query, key, dim)) in heads.into_iter().enumerate() {
        let heads = Heads { query, key, dim };
        forest(bench, element, heads, &random_forest(seed as u64), 1.0);
    }
    let heads = Heads { query: 2, key: 1, dim: 16 };
    forest(bench, element, heads, &[Tree { prompt: 0..1, branches: vec![] }], 1.0);
    forest(bench, element, heads, &[], 1.0);
    // Scores so far apart that the running maximum matters.
    forest(bench, element, heads, &random_forest(99), 5.0);
}

/// Two trees of prompts and branches with up to 60 and 40 rows, some branches empty, and some of them after all trees, as
/// those without gradients are.
fn random_forest(seed: u64) -> Vec<Tree> {
    let mut draws = Draws(seed);
    let mut next = 0;
    let mut take = |count: usize| {
        next += count;
        next - count..next
    };
    let mut trees = Vec::new();
    for _ in 0..2 {
        let prompt = take(1 + draws.below(60));
        let branches = (0..draws.below(4)).map(|_| take(draws.below(40))).collect();
        trees.push(Tree { prompt, branches });
    }
    for tree in &mut trees {
        tree.branches.push(take(draws.below(20)));
    }
    trees
}

fn forest(bench: &mut Bench<'_>, element: Element, heads: Heads, trees: &[Tree], spread: f64) {
    let Heads { query, key, dim } = heads;
    let ends = trees.iter().flat_map(|tree| tree.branches.iter().chain([&tree.prompt]));
    let rows = ends.map(|range| range.end).max().unwrap_or(0);
    let (query_count, key_count, row_heads) = (rows * query * dim, rows * key * dim, rows * query);
    let wide: Vec<f64> = super::numbers(1, query_count).iter().map(|x| spread * x).collect();
    let (q, grad) = (Input::new(element, &wide), Input::random(element, 2, query_count));
    let (k, v) = (Input::random(element, 3, key_count), Input::random(element, 4, key_count));
    let case = format!("{rows} rows, {query} heads for {key}, {dim} dimensions, spread {spread}");
    let units = UNITS * spread;
    let plan = match Plan::new(trees, heads) {
        Ok(plan) => plan,
        Err(error) => return bench.note(&heads.forward(element), case, Err(error.to_string())),
    };
    let sizes = |tiles: &[&[u32]]| {
        let tiles = tiles.iter().map(|tiles| Argument::u32s(tiles));
        let sizes = [query, key, dim].map(Argument::count);
        tiles.chain(sizes).chain([Argument::F32(plan.scale())]).collect::<Vec<_>>()
    };

    let Attended { y, log_sum } = attention::forward(&q.values, &k.values, &v.values, trees, heads);
    let mut arguments = vec![
        Argument::unwritten(element, query_count),
        Argument::unwritten(Element::F32, row_heads),
        q.argument(),
        k.argument(),
        v.argument(),
    ];
    arguments.extend(sizes(&[plan.query_tiles()]));
    bench.check(&heads.forward(element), case.clone(), Ok(plan.forward()), arguments, |got| {
        error(&got[0], element, &y, units).max(error(&got[1], Element::F32, &log_sum, units))
    });

    // From here on, both get what the forward pass would have stored.
    let (y, log_sum) = (Input::new(element, &y), Input::new(Element::F32, &log_sum));
    let delta = attention::delta(&grad.values, &y.values, heads);
    let arguments = vec![
        Argument::unwritten(Element::F32, row_heads),
        grad.argument(),
        y.argument(),
        Argument::U64(row_heads as u64),
        Argument::count(dim),
    ];
    bench.check(
        &DELTA.kernel(element),
        case.clone(),
        attention::delta_launch(rows, heads),
        arguments,
        |got| error(&got[0], Element::F32, &delta, UNITS),
    );

    let delta = Input::new(Element::F32, &delta);
    let inputs = [&*q.values, &k.values, &v.values, &grad.values];
    let want = attention::backward(inputs, &log_sum.values, &delta.values, trees, heads);
    let given = [&q, &k, &v, &grad, &log_sum, &delta].map(Input::argument);
    let mut arguments = vec![Argument::unwritten(element, query_count)];
    arguments.extend(given.iter().cloned().chain(sizes(&[plan.query_tiles()])));
    bench.check(
        &heads.backward_queries(element),
        case.clone(),
        Ok(plan.backward_queries()),
        arguments,
        |got| error_beside(&got[0], element, &want.dq, units, 1.0),
    );
    let mut arguments = vec![Argument::unwritten(element, key_count); 2];
    arguments.extend(given.iter().cloned().chain(sizes(&[plan.key_tiles(), plan.spans()])));
    bench.check(&heads.backward_keys(element), case, Ok(plan.backward_keys()), arguments, |got| {
        error_beside(&got[0], element, &want.dk, units, 1.0).max(error(&got[1], element, &want.dv, units))
    });
}
