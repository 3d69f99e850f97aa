//! The activations of MLPs, element by element: silu(gate)·up, and gelu, exact or by tanh.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI, TAU};

use crate::{
    Item, Launch, Operation,
    kernel::{ACTIVATION, Parameter, read, value, write},
};

/// [`gated_silu`].
pub static GATED_SILU: Operation = Operation {
    source: &ACTIVATION,
    name: "gated_silu",
    parameters: &[
        write("y", Item::Any),
        read("gate", Item::Any),
        read("up", Item::Any),
        value("count", Item::U64),
    ],
};

/// [`gated_silu_backward`].
pub static GATED_SILU_BACKWARD: Operation = Operation {
    source: &ACTIVATION,
    name: "gated_silu_backward",
    parameters: &[
        write("d_gate", Item::Any),
        write("d_up", Item::Any),
        read("gate", Item::Any),
        read("up", Item::Any),
        read("grad", Item::Any),
        value("count", Item::U64),
    ],
};

const PLAIN: &[Parameter] = &[write("y", Item::Any), read("x", Item::Any), value("count", Item::U64)];

const PLAIN_BACKWARD: &[Parameter] =
    &[write("dx", Item::Any), read("x", Item::Any), read("grad", Item::Any), value("count", Item::U64)];

const fn plain(name: &'static str, parameters: &'static [Parameter]) -> Operation {
    Operation { source: &ACTIVATION, name, parameters }
}

static GELU_EXACT: Operation = plain("gelu_exact", PLAIN);
static GELU_TANH: Operation = plain("gelu_tanh", PLAIN);
static GELU_EXACT_BACKWARD: Operation = plain("gelu_exact_backward", PLAIN_BACKWARD);
static GELU_TANH_BACKWARD: Operation = plain("gelu_tanh_backward", PLAIN_BACKWARD);

pub(crate) static OPERATIONS: &[&Operation] =
    &[&GATED_SILU, &GATED_SILU_BACKWARD, &GELU_EXACT, &GELU_TANH, &GELU_EXACT_BACKWARD, &GELU_TANH_BACKWARD];

/// Of every operation here.
pub fn launch(count: usize) -> Launch {
    Launch::elements(count)
}

/// How the normal distribution function in gelu is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gelu {
    /// x·Φ(x).
    Exact,
    /// x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2.
    Tanh,
}

impl Gelu {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Exact, Self::Tanh];

    /// [`gelu`].
    pub fn forward(self) -> &'static Operation {
        match self {
            Self::Exact => &GELU_EXACT,
            Self::Tanh => &GELU_TANH,
        }
    }

    /// [`gelu_backward`].
    pub fn backward(self) -> &'static Operation {
        match self {
            Self::Exact => &GELU_EXACT_BACKWARD,
            Self::Tanh => &GELU_TANH_BACKWARD,
        }
    }

    /// gelu(x) and its slope.
    fn at(self, x: f64) -> (f64, f64) {
        match self {
            Self::Exact => {
                let below = erfc(-x * FRAC_1_SQRT_2) / 2.0;
                (x * below, below + x * (-x * x / 2.0).exp() / TAU.sqrt())
            }
            Self::Tanh => {
                let root = (2.0 / PI).sqrt();
                let tanh = (root * (x + 0.044_715 * x.powi(3))).tanh();
                let inner = root * (1.0 + 3.0 * 0.044_715 * x * x);
                (x * (1.0 + tanh) / 2.0, f64::midpoint(1.0, tanh) + x * (1.0 - tanh * tanh) * inner / 2.0)
            }
        }
    }
}

/// Twin of [`GATED_SILU`]: silu(gate)·up with silu(x) = x/(1 + e^−x).
pub fn gated_silu(gate: &[f64], up: &[f64]) -> Vec<f64> {
    gate.iter().zip(up).map(|(gate, up)| gate * sigmoid(*gate) * up).collect()
}

/// Twin of [`GATED_SILU_BACKWARD`]: d loss / d gate and d loss / d up.
pub fn gated_silu_backward(gate: &[f64], up: &[f64], grad: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let each = |((gate, up), grad): ((&f64, &f64), &f64)| {
        let share = sigmoid(*gate);
        (grad * up * share * (1.0 + gate * (1.0 - share)), grad * gate * share)
    };
    gate.iter().zip(up).zip(grad).map(each).unzip()
}

/// Twin of [`Gelu::forward`].
pub fn gelu(x: &[f64], form: Gelu) -> Vec<f64> {
    x.iter().map(|x| form.at(*x).0).collect()
}

/// Twin of [`Gelu::backward`]: d loss / d x.
pub fn gelu_backward(x: &[f64], grad: &[f64], form: Gelu) -> Vec<f64> {
    x.iter().zip(grad).map(|(x, grad)| grad * form.at(*x).1).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// 1 − erf(x), to about 1e-14 of its size: by the series of erf near 0, by the continued fraction beyond.
fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    if x < 2.0 {
        // 2/√π·e^(−x²)·Σ 2ⁿ·x^(2n+1)/(2n+1)!!
        let (mut term, mut sum) = (x, x);
        for n in 1..60 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        return 1.0 - FRAC_2_SQRT_PI * (-x * x).exp() * sum;
    }
    // e^(−x²)/√π / (x + (1/2)/(x + (2/2)/(x + (3/2)/(x + …
    let fraction = (1..120).rev().fold(x, |below, n| x + f64::from(n) / 2.0 / below);
    (-x * x).exp() / PI.sqrt() / fraction
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_derivative, dot, numbers};

    #[test]
    fn erfc_is_exact() {
        // By the C library.
        let known = [
            (0.0, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (-1.0, 1.842_700_792_949_715),
            (1.9, 0.007_209_570_764_742_532_5),
            (2.0, 0.004_677_734_981_047_266),
            (5.0, 1.537_459_794_428_035_1e-12),
        ];
        for (x, want) in known {
            assert!((erfc(x) / want - 1.0).abs() < 1e-12, "{x}: {} {want}", erfc(x));
        }
    }

    #[test]
    fn the_twins_are_derivatives() {
        let x: Vec<f64> = numbers(1, 24).iter().map(|x| 3.0 * x).collect();
        let (up, seed) = (numbers(2, 24), numbers(3, 24));
        let (d_gate, d_up) = gated_silu_backward(&x, &up, &seed);
        assert_derivative("gate", &x, &d_gate, |x| dot(&gated_silu(x, &up), &seed));
        assert_derivative("up", &up, &d_up, |up| dot(&gated_silu(&x, up), &seed));
        for form in Gelu::ALL {
            let dx = gelu_backward(&x, &seed, form);
            assert_derivative("gelu", &x, &dx, |x| dot(&gelu(x, form), &seed));
        }
    }
}
