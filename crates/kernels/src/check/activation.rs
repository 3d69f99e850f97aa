//! From one element to more than a block, with large arguments of both signs; and one block for all
//! elements.

use super::{Argument, CheckRunner, TwinInput, error, random_values};
use crate::{
    Element, Launch,
    activation::{self, GATED_SILU, GATED_SILU_BACKWARD, GeluForm},
};

/// Tolerance in f32 units. Exponentials and erfc err by a few units, and their argument is rounded:
/// at |x| = 10 that is 50 units of e^(−x²/2), which is negligible beside the largest result.
const UNITS: f64 = 32.0;

pub(super) fn check(runner: &mut CheckRunner<'_>, element: Element) {
    for count in [0, 1, 255, 1000] {
        check_elements(runner, element, count, activation::launch(count), "");
    }
    let one_block = Launch { grid: [1, 1], ..activation::launch(1000) };
    check_elements(runner, element, 1000, one_block, " in one block");
}

fn check_elements(runner: &mut CheckRunner<'_>, element: Element, count: usize, launch: Launch, how: &str) {
    let spread: Vec<f64> = random_values(1, count).iter().map(|x| 4.0 * x).collect();
    let x = TwinInput::new(element, &spread);
    let (up, grad) = (TwinInput::random(element, 2, count), TwinInput::random(element, 3, count));
    let case = format!("{count}{how}");
    let last = Argument::U64(count as u64);

    let want = activation::gated_silu(&x.values, &up.values);
    let arguments = vec![Argument::unwritten(element, count), x.argument(), up.argument(), last.clone()];
    runner.check(&GATED_SILU.kernel(element), case.clone(), Ok(launch), arguments, |got| {
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
    runner.check(&GATED_SILU_BACKWARD.kernel(element), case.clone(), Ok(launch), arguments, |got| {
        error(&got[0], element, &d_gate, UNITS).max(error(&got[1], element, &d_up, UNITS))
    });

    for form in GeluForm::ALL {
        let want = activation::gelu(&x.values, form);
        let arguments = vec![Argument::unwritten(element, count), x.argument(), last.clone()];
        runner.check(&form.forward().kernel(element), case.clone(), Ok(launch), arguments, |got| {
            error(&got[0], element, &want, UNITS)
        });
        let want = activation::gelu_backward(&x.values, &grad.values, form);
        let arguments =
            vec![Argument::unwritten(element, count), x.argument(), grad.argument(), last.clone()];
        runner.check(&form.backward().kernel(element), case.clone(), Ok(launch), arguments, |got| {
            error(&got[0], element, &want, UNITS)
        });
    }
}
