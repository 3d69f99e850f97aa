//! Vocabularies from one token to more than a block, whole and in chunks, with targets in all
//! chunks and in none.

use super::{Argument, CheckRunner, TwinInput, error, max_relative_error, random_values};
use crate::{
    Element,
    log_prob::{self, BACKWARD, CHUNK, FINISH},
};

/// Tolerance in f32 units. Exponentials err by a few units, and rounding `logit − highest` adds one
/// unit per 1 below 0. The largest terms, near 0, dominate the sum.
const UNITS: f64 = 16.0;

pub(super) fn check(runner: &mut CheckRunner<'_>, element: Element) {
    let cases: [(usize, &[usize]); 6] =
        [(1, &[1]), (5, &[7]), (3, &[5, 1, 64, 530]), (4, &[1537]), (2, &[600, 600, 337]), (0, &[5])];
    for (rows, widths) in cases {
        for spread in [1.0, 30.0] {
            let logits: Vec<f64> =
                random_values(1, rows * widths.iter().sum::<usize>()).iter().map(|x| spread * x).collect();
            vocabulary(runner, element, rows, widths, &logits, &format!("spread {spread}"));
        }
    }
    // Masked tokens, a first chunk of nothing else, and a token with all of the probability.
    let masked = f64::NEG_INFINITY;
    let logits = [masked, masked, 1.0, masked, 2.0, masked, masked, -3.0, 90.0, 0.5];
    vocabulary(runner, element, 2, &[2, 3], &logits, "masked");
}

fn vocabulary(
    runner: &mut CheckRunner<'_>,
    element: Element,
    rows: usize,
    widths: &[usize],
    logits: &[f64],
    what: &str,
) {
    let columns: usize = widths.iter().sum();
    let logits = TwinInput::new(element, logits).values;
    // The last row's target is outside the vocabulary, unless it is the only row.
    let target = |row: usize| if row > 0 && row + 1 == rows { columns } else { row * 7919 % columns };
    let targets: Vec<u32> = (0..rows).map(|row| target(row) as u32).collect();
    let scale = TwinInput::random(Element::F32, 2, rows);
    let case = format!("{rows} × {columns} in {} chunks, {what}", widths.len());

    let mut state = vec![
        Argument::unwritten(Element::F32, rows),
        Argument::Buffer(vec![0xff; 8 * rows]),
        Argument::unwritten(Element::F32, rows),
    ];
    let chunks: Vec<(usize, TwinInput)> = widths
        .iter()
        .scan(0, |next, width| {
            let first = *next;
            *next += width;
            let columns = logits.chunks_exact(columns).flat_map(|row| &row[first..first + width]);
            Some((first, TwinInput::new(element, &columns.copied().collect::<Vec<_>>())))
        })
        .collect();
    for ((first, chunk), width) in chunks.iter().zip(widths) {
        let rest =
            [chunk.argument(), Argument::u32s(&targets), Argument::count(*first), Argument::count(*width)];
        let arguments = state.iter().cloned().chain(rest).collect();
        match runner.run(&CHUNK.kernel(element), log_prob::chunk_launch(rows), arguments) {
            Ok(arguments) => state = arguments.into_iter().take(3).collect(),
            Err(error) => return runner.record(&CHUNK.kernel(element), case, Err(error)),
        }
    }
    let [highest, sum, target_logit] = &state[..] else { return };
    let want = log_prob::log_probs(&logits, columns, &targets);
    let arguments = vec![
        Argument::Buffer(vec![0xff; 8 * rows]),
        highest.clone(),
        sum.clone(),
        target_logit.clone(),
        Argument::count(rows),
    ];
    let outcome = runner.run(&FINISH.kernel(element), log_prob::finish_launch(rows), arguments);
    let outcome = outcome.map(|got| max_relative_error(&got[0].doubles(), &want, 0.0, UNITS, 0.0));
    runner.record(&CHUNK.kernel(element), case.clone(), outcome.clone());
    runner.record(&FINISH.kernel(element), case.clone(), outcome);

    for scaled in [false, true] {
        let factors = if scaled { scale.values.clone() } else { vec![1.0; rows] };
        let whole = log_prob::backward(&logits, columns, &targets, &factors);
        for ((first, chunk), width) in chunks.iter().zip(widths) {
            let columns = whole.chunks_exact(columns).flat_map(|row| &row[*first..first + width]);
            let want: Vec<f64> = columns.copied().collect();
            let arguments = vec![
                Argument::unwritten(element, rows * width),
                chunk.argument(),
                highest.clone(),
                sum.clone(),
                Argument::u32s(&targets),
                if scaled { scale.argument() } else { Argument::Null },
                Argument::count(*first),
                Argument::count(*width),
            ];
            let case = format!("{case}, from {first}{}", if scaled { ", scaled" } else { "" });
            let launch = log_prob::backward_launch(rows, *width);
            runner.check(&BACKWARD.kernel(element), case, launch, arguments, |got| {
                error(&got[0], element, &want, UNITS)
            });
        }
    }
}
