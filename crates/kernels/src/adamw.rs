//! One step of AdamW (arXiv 1711.05101) on all parameters.

use crate::{
    KernelError, Launch, Operation, ScalarType,
    kernel::{ADAMW, read, read_each, value, write_each},
};

/// Operation of [`step`] on several parameters, with the same bits on CPU and GPU.
///
/// `counts` are the numbers of elements of the parameters. Weights and moments are f32, gradients
/// have the element type.
pub static STEP: Operation = Operation {
    source: &ADAMW,
    name: "adamw",
    parameters: &[
        write_each("values", ScalarType::F32),
        write_each("firsts", ScalarType::F32),
        write_each("seconds", ScalarType::F32),
        read_each("gradients", ScalarType::Generic),
        read("counts", ScalarType::U64),
        value("beta1", ScalarType::F32),
        value("beta2", ScalarType::F32),
        value("scale", ScalarType::F32),
        value("rate", ScalarType::F32),
        value("epsilon", ScalarType::F32),
        value("decay", ScalarType::F32),
    ],
};

pub(crate) static OPERATIONS: &[&Operation] = &[&STEP];

/// Returns the launch of [`STEP`] for parameters with these numbers of elements.
pub fn launch(counts: &[usize]) -> Result<Launch, KernelError> {
    Launch::elements_of_each(counts)
}

/// Constants of one AdamW step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConstants {
    /// β1: decay of the first moment.
    pub beta1: f32,
    /// β2: decay of the second moment.
    pub beta2: f32,
    /// Factor of the gradient, for clipping.
    pub scale: f32,
    /// Learning rate with bias corrections: lr·√(1 − β2ᵗ)/(1 − β1ᵗ).
    pub rate: f32,
    /// ε with bias correction: ε·√(1 − β2ᵗ).
    pub epsilon: f32,
    /// Weight decay factor: 1 − lr·weight_decay.
    pub decay: f32,
}

/// Twin of [`STEP`] for one parameter. Updates it and its moments in place:
///
/// ```text
/// g = scale·gradient
/// m ← β1·m + (1 − β1)·g
/// v ← β2·v + (1 − β2)·g²
/// p ← decay·p − rate·m/(√v + ε)
/// ```
///
/// Each product and sum is rounded to f32.
pub fn step(
    value: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradient: &[f32],
    constants: &AdamWConstants,
) {
    let AdamWConstants { beta1, beta2, scale, rate, epsilon, decay } = *constants;
    for (((value, m), v), gradient) in value.iter_mut().zip(first).zip(second).zip(gradient) {
        let gradient = gradient * scale;
        *m = beta1 * *m + (1.0 - beta1) * gradient;
        *v = beta2 * *v + (1.0 - beta2) * gradient * gradient;
        *value = decay * *value - rate * *m / (v.sqrt() + epsilon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_step_is_the_learning_rate_against_the_gradients_sign() {
        let (lr, weight_decay, beta1, beta2) = (0.01, 0.1, 0.9f32, 0.99f32);
        let constants = AdamWConstants {
            beta1,
            beta2,
            scale: 0.5,
            rate: lr * (1.0 - beta2).sqrt() / (1.0 - beta1),
            epsilon: 1e-12,
            decay: 1.0 - lr * weight_decay,
        };
        let (mut value, mut first, mut second) = ([2.0, -3.0], [0.0; 2], [0.0; 2]);
        step(&mut value, &mut first, &mut second, &[4.0, -0.5], &constants);
        assert!((value[0] - (2.0 * 0.999 - 0.01)).abs() < 1e-6, "{value:?}");
        assert!((value[1] - (-3.0 * 0.999 + 0.01)).abs() < 1e-6, "{value:?}");
        assert!((first[0] - 0.2).abs() < 1e-6 && (second[0] - 0.04).abs() < 1e-6);
    }
}
