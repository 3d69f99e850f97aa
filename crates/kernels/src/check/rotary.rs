//! Heads rotated fully and partly, in rows of less and more than a block.

use super::{Argument, CheckRunner, TwinInput, error};
use crate::{
    Element,
    rotary::{self, PairLayout, ROTATE, RotaryShape},
};

/// Tolerance in f32 units: two products and a sum.
const UNITS: f64 = 4.0;

pub(super) fn check(runner: &mut CheckRunner<'_>, element: Element) {
    for (rows, heads, head_dim, half) in
        [(1, 1, 2, 1), (3, 3, 6, 3), (5, 2, 8, 2), (2, 5, 64, 32), (0, 1, 4, 2)]
    {
        for pairs in [PairLayout::Halves, PairLayout::Interleaved] {
            for sign in [1.0, -1.0] {
                let shape = RotaryShape { width: heads * head_dim, head_dim, half, pairs };
                rotation(runner, element, rows, shape, sign);
            }
        }
    }
}

fn rotation(runner: &mut CheckRunner<'_>, element: Element, rows: usize, shape: RotaryShape, sign: f32) {
    let RotaryShape { width, head_dim, half, pairs } = shape;
    let x = TwinInput::random(element, 1, rows * width);
    let angles = super::random_values(2, rows * half);
    let table = |function: fn(f64) -> f64| {
        TwinInput::new(Element::F32, &angles.iter().map(|angle| function(*angle)).collect::<Vec<_>>())
    };
    let (cos, sin) = (table(f64::cos), table(f64::sin));
    let want = rotary::rotate(&x.values, &cos.values, &sin.values, shape, f64::from(sign));
    let arguments = vec![
        Argument::unwritten(element, rows * width),
        x.argument(),
        cos.argument(),
        sin.argument(),
        Argument::count(width),
        Argument::count(head_dim),
        Argument::count(half),
        Argument::U32(u32::from(pairs == PairLayout::Interleaved)),
        Argument::F32(sign),
    ];
    let case = format!("{rows} × {width}, {half} pairs of {head_dim}, {pairs:?}, sign {sign}");
    runner.check(&ROTATE.kernel(element), case, rotary::launch(rows, width), arguments, |got| {
        error(&got[0], element, &want, UNITS)
    });
}
