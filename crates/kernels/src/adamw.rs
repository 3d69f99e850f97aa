//! AdamW (arXiv 1711.05101) on one parameter.

use crate::{
    Item, Launch, Operation,
    kernel::{ADAMW, read, value, write},
};

/// [`step`]: bit for bit, on a GPU too. `value` and `gradient` are of the parameter's type, the moments f32.
pub static STEP: Operation = Operation {
    source: &ADAMW,
    name: "adamw",
    parameters: &[
        write("value", Item::Any),
        write("first", Item::F32),
        write("second", Item::F32),
        read("gradient", Item::Any),
        value("count", Item::U64),
        value("beta1", Item::F32),
        value("beta2", Item::F32),
        value("scale", Item::F32),
        value("rate", Item::F32),
        value("epsilon", Item::F32),
        value("decay", Item::F32),
    ],
};

pub(crate) static OPERATIONS: &[&Operation] = &[&STEP];

/// Of [`STEP`].
pub fn launch(count: usize) -> Launch {
    Launch::elements(count)
}

/// The constants of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constants {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Times the gradient.
    pub scale: f32,
    /// Learning rate with the bias corrections, lr·√(1 − β2ᵗ)/(1 − β1ᵗ).
    pub rate: f32,
    /// ε·√(1 − β2ᵗ).
    pub epsilon: f32,
    /// 1 − lr·weight decay.
    pub decay: f32,
}

/// Twin of [`STEP`]: g = scale·gradient; m ← β1·m + (1 − β1)·g; v ← β2·v + (1 − β2)·g²; p ← decay·p − rate·m/(√v + ε), each
/// product and sum rounded to f32. A bf16 parameter's new value has still to be rounded.
pub fn step(
    value: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradient: &[f32],
    constants: &Constants,
) {
    let Constants { beta1, beta2, scale, rate, epsilon, decay } = *constants;
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
        let constants = Constants {
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
