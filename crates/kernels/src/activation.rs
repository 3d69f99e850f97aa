//! MLP activations: SwiGLU, silu(gate)·up, and GELU, exact or with the tanh approximation.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI, TAU};

use crate::{
    Launch, Operation, ScalarType,
    kernel::{ACTIVATION, KernelParameter, read, value, write},
};

/// Operation of [`gated_silu`].
pub static GATED_SILU: Operation = Operation {
    source: &ACTIVATION,
    name: "gated_silu",
    parameters: &[
        write("y", ScalarType::Generic),
        read("gate", ScalarType::Generic),
        read("up", ScalarType::Generic),
        value("count", ScalarType::U64),
    ],
};

/// Operation of [`gated_silu_backward`].
pub static GATED_SILU_BACKWARD: Operation = Operation {
    source: &ACTIVATION,
    name: "gated_silu_backward",
    parameters: &[
        write("d_gate", ScalarType::Generic),
        write("d_up", ScalarType::Generic),
        read("gate", ScalarType::Generic),
        read("up", ScalarType::Generic),
        read("grad", ScalarType::Generic),
        value("count", ScalarType::U64),
    ],
};

const PLAIN: &[KernelParameter] =
    &[write("y", ScalarType::Generic), read("x", ScalarType::Generic), value("count", ScalarType::U64)];

const PLAIN_BACKWARD: &[KernelParameter] = &[
    write("dx", ScalarType::Generic),
    read("x", ScalarType::Generic),
    read("grad", ScalarType::Generic),
    value("count", ScalarType::U64),
];

const fn plain(name: &'static str, parameters: &'static [KernelParameter]) -> Operation {
    Operation { source: &ACTIVATION, name, parameters }
}

static GELU_EXACT: Operation = plain("gelu_exact", PLAIN);
static GELU_TANH: Operation = plain("gelu_tanh", PLAIN);
static GELU_EXACT_BACKWARD: Operation = plain("gelu_exact_backward", PLAIN_BACKWARD);
static GELU_TANH_BACKWARD: Operation = plain("gelu_tanh_backward", PLAIN_BACKWARD);

pub(crate) static OPERATIONS: &[&Operation] =
    &[&GATED_SILU, &GATED_SILU_BACKWARD, &GELU_EXACT, &GELU_TANH, &GELU_EXACT_BACKWARD, &GELU_TANH_BACKWARD];

/// Returns the launch of every operation in this module.
pub fn launch(count: usize) -> Launch {
    Launch::elements(count)
}

/// Form of GELU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GeluForm {
    /// x·Φ(x), with the normal distribution function Φ.
    Exact,
    /// Tanh approximation: x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2.
    Tanh,
}

impl GeluForm {
    /// Both forms.
    pub const ALL: [Self; 2] = [Self::Exact, Self::Tanh];

    /// Returns the operation of [`gelu`].
    pub fn forward(self) -> &'static Operation {
        match self {
            Self::Exact => &GELU_EXACT,
            Self::Tanh => &GELU_TANH,
        }
    }

    /// Returns the operation of [`gelu_backward`].
    pub fn backward(self) -> &'static Operation {
        match self {
            Self::Exact => &GELU_EXACT_BACKWARD,
            Self::Tanh => &GELU_TANH_BACKWARD,
        }
    }

    /// Returns gelu(x) and its derivative.
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

/// Twin of [`GATED_SILU`]: returns silu(gate)·up with silu(x) = x/(1 + e^−x).
pub fn gated_silu(gate: &[f64], up: &[f64]) -> Vec<f64> {
    gate.iter().zip(up).map(|(gate, up)| gate * sigmoid(*gate) * up).collect()
}

/// Twin of [`GATED_SILU_BACKWARD`]: returns d loss / d gate and d loss / d up.
pub fn gated_silu_backward(gate: &[f64], up: &[f64], grad: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let each = |((gate, up), grad): ((&f64, &f64), &f64)| {
        let share = sigmoid(*gate);
        (grad * up * share * (1.0 + gate * (1.0 - share)), grad * gate * share)
    };
    gate.iter().zip(up).zip(grad).map(each).unzip()
}

/// Twin of [`GeluForm::forward`]: returns gelu(x).
pub fn gelu(x: &[f64], form: GeluForm) -> Vec<f64> {
    x.iter().map(|x| form.at(*x).0).collect()
}

/// Twin of [`GeluForm::backward`]: returns d loss / d x.
pub fn gelu_backward(x: &[f64], grad: &[f64], form: GeluForm) -> Vec<f64> {
    x.iter().zip(grad).map(|(x, grad)| grad * form.at(*x).1).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Returns 1 − erf(x) with a relative error of about 1e-14: by the series of erf below 2, by the
/// continued fraction above.
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
    use crate::check::{assert_derivative, dot, random_values};

    #[test]
    fn erfc_is_exact() {
        // Values of the C library.
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
        let x: Vec<f64> = random_values(1, 24).iter().map(|x| 3.0 * x).collect();
        let (up, seed) = (random_values(2, 24), random_values(3, 24));
        let (d_gate, d_up) = gated_silu_backward(&x, &up, &seed);
        assert_derivative("gate", &x, &d_gate, |x| dot(&gated_silu(x, &up), &seed));
        assert_derivative("up", &up, &d_up, |up| dot(&gated_silu(&x, up), &seed));
        for form in GeluForm::ALL {
            let dx = gelu_backward(&x, &seed, form);
            assert_derivative("gelu", &x, &dx, |x| dot(&gelu(x, form), &seed));
        }
    }
}
