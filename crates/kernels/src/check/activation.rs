//! From one number to more than a block, far out on both sides; and with one block for all.

use super::{Argument, Bench, Input, error, numbers};
use crate::{
    Element, Launch,
    activation::{self, GATED_SILU, GATED_SILU_BACKWARD, Gelu},
};

/// Exponentials and erfc are within a few units, and their argument is rounded: at |x| = 10, 50 units of e^(−x²/2), of
/// which nothing is left beside the largest result.
const UNITS: f64 = 32.0;

pub(super) fn check(bench: &mut Bench<'_>, element: Element) {
    for count in [0, 1, 255, 1000] {
        numbers_of(bench, element, count, activation::launch(count), "");
    }
    let one_block = Launch { grid: [1, 1], ..activation::launch(1000) };
    numbers_of(bench, element, 1000, one_block, " in one block");
}

fn numbers_of(bench: &mut Bench<'_>, element: Element, count: usize, launch: Launch, how: &str) {
    let spread: Vec<f64> = numbers(1, count).iter().map(|x| 4.0 * x).collect();
    let x = Input::new(element, &spread);
    let (up, grad) = (Input::random(element, 2, count), Input::random(element, 3, count));
    let case = format!("{count}{how}");
    let last = Argument::U64(count as u64);

    let want = activation::gated_silu(&x.values, &up.values);
    let arguments = vec![Argument::unwritten(element, count), x.argument(), up.argument(), last.clone()];
    bench.check(&GATED_SILU.kernel(element), case.clone(), Ok(launch), arguments, |got| {
        error(&got[0], element, &want, UNITS)
    });

    let (d_gate, d_up) = activation::gated_silu_backward(&x.values, &up.values, &grad.values);
    let arguments = vec![
        Argument::unwritten(element, count),
        Argument::unwritten(element, count),
        x.argument(),
        up.argument(),
        grad.argument(),
        last.clone(),
    ];
    bench.check(&GATED_SILU_BACKWARD.kernel(element), case.clone(), Ok(launch), arguments, |got| {
        error(&got[0], element, &d_gate, UNITS).max(error(&got[1], element, &d_up, UNITS))
    });

    for form in Gelu::ALL {
        let want = activation::gelu(&x.values, form);
        let arguments = vec![Argument::unwritten(element, count), x.argument(), last.clone()];
        bench.check(&form.forward().kernel(element), case.clone(), Ok(launch), arguments, |got| {
            error(&got[0], element, &want, UNITS)
        });
        let want = activation::gelu_backward(&x.values, &grad.values, form);
        let arguments =
            vec![Argument::unwritten(element, count), x.argument(), grad.argument(), last.clone()];
        bench.check(&form.backward().kernel(element), case.clone(), Ok(launch), arguments, |got| {
            error(&got[0], element, &want, UNITS)
        });
    }
}
