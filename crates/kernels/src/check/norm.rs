//! Rows of one element, of less than a warp and of more than a block.

use super::{Argument, CheckRunner, TwinInput, error, error_with_cancellation};
use crate::{
    Element,
    norm::{self, BACKWARD, FORWARD, NormOutput, WEIGHT_GRAD},
};

/// Tolerance in f32 units. A sum has at most 4 terms in a thread, 5 steps in a warp and 8 warps; a
/// few more roundings follow.
const UNITS: f64 = 8.0;

pub(super) fn check(runner: &mut CheckRunner<'_>, element: Element) {
    for (rows, dim) in [(1, 1), (1, 8), (3, 33), (7, 256), (40, 96), (5, 1000), (0, 8)] {
        for layer in [false, true] {
            shape(runner, element, rows, dim, layer);
        }
    }
}

fn shape(runner: &mut CheckRunner<'_>, element: Element, rows: usize, dim: usize, layer: bool) {
    // Not centred at 0, so that the layer norm subtracts a mean.
    let off: Vec<f64> = super::random_values(1, rows * dim).iter().map(|x| 2.0 * x + 0.5).collect();
    let x = TwinInput::new(element, &off);
    let (weight, grad) = (TwinInput::random(element, 2, dim), TwinInput::random(element, 3, rows * dim));
    let (bias, residual) = (TwinInput::random(element, 4, dim), TwinInput::random(element, 5, rows * dim));
    let case = format!("{} of {rows} × {dim}", if layer { "layer norm" } else { "RMS norm" });
    let only_layer = |argument: Argument| if layer { argument } else { Argument::Null };
    let epsilon = 1e-5f32;

    let bias_values = layer.then_some(&*bias.values);
    let NormOutput { y, mean, rstd } =
        norm::forward(&x.values, &weight.values, bias_values, f64::from(epsilon));
    let arguments = vec![
        Argument::unwritten(element, rows * dim),
        only_layer(Argument::unwritten(Element::F32, rows)),
        Argument::unwritten(Element::F32, rows),
        x.argument(),
        weight.argument(),
        only_layer(bias.argument()),
        Argument::count(dim),
        Argument::F32(epsilon),
    ];
    runner.check(&FORWARD.kernel(element), case.clone(), norm::launch(rows), arguments, |got| {
        let of_mean = if layer { error(&got[1], Element::F32, &mean, UNITS) } else { 0.0 };
        error(&got[0], element, &y, UNITS).max(of_mean).max(error(&got[2], Element::F32, &rstd, UNITS))
    });

    let (mean, rstd) = (TwinInput::new(Element::F32, &mean), TwinInput::new(Element::F32, &rstd));
    let mean_values = layer.then_some(&*mean.values);
    for with_residual in [false, true] {
        let residual_values = with_residual.then_some(&*residual.values);
        let want = norm::backward(
            &x.values,
            &weight.values,
            mean_values,
            &rstd.values,
            &grad.values,
            residual_values,
        );
        let arguments = vec![
            Argument::unwritten(element, rows * dim),
            x.argument(),
            weight.argument(),
            only_layer(mean.argument()),
            rstd.argument(),
            grad.argument(),
            if with_residual { residual.argument() } else { Argument::Null },
            Argument::count(dim),
        ];
        let case = format!("{case}{}", if with_residual { ", residual" } else { "" });
        // Where a row is parallel to its gradient, most of the gradient cancels.
        let size = largest(&grad.values) * largest(&weight.values) * largest(&rstd.values);
        runner.check(&BACKWARD.kernel(element), case, norm::launch(rows), arguments, |got| {
            error_with_cancellation(&got[0], element, &want, UNITS, size)
        });
    }

    let (d_weight, d_bias) = norm::weight_grad(&x.values, dim, mean_values, &rstd.values, &grad.values);
    let arguments = vec![
        Argument::unwritten(element, dim),
        only_layer(Argument::unwritten(element, dim)),
        x.argument(),
        only_layer(mean.argument()),
        rstd.argument(),
        grad.argument(),
        Argument::count(rows),
        Argument::count(dim),
    ];
    runner.check(&WEIGHT_GRAD.kernel(element), case, norm::weight_grad_launch(dim), arguments, |got| {
        let of_bias = if layer { error(&got[1], element, &d_bias, UNITS) } else { 0.0 };
        error(&got[0], element, &d_weight, UNITS).max(of_bias)
    });
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, x| x.abs().max(largest))
}
