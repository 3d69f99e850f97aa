//! Three consecutive steps, which must agree with the twin to the bit.

use super::{Argument, CheckRunner, bit_difference, random_values};
use crate::{
    Element, Launch,
    adamw::{self, AdamWConstants, STEP},
};

pub(super) fn check(runner: &mut CheckRunner<'_>, element: Element) {
    for count in [0, 1, 255, 1000] {
        steps(runner, element, count, adamw::launch(count), "");
    }
    let one_block = Launch { grid: [1, 1], ..adamw::launch(1000) };
    steps(runner, element, 1000, one_block, " in one block");
}

fn floats(seed: u64, count: usize, factor: f64) -> Vec<f32> {
    random_values(seed, count).iter().map(|x| (factor * x) as f32).collect()
}

fn steps(runner: &mut CheckRunner<'_>, element: Element, count: usize, launch: Launch, how: &str) {
    let kernel = STEP.kernel(element);
    let rounded = |values: &[f32]| element.decode(&element.encode(values));
    let mut value = rounded(&floats(1, count, 1.0));
    let (mut first, mut second) = (vec![0.0; count], vec![0.0; count]);
    for step in 1..=3u8 {
        let gradient = rounded(&floats(10 + u64::from(step), count, 0.1));
        let (beta1, beta2, rate) = (0.9f32, 0.95f32, 1e-3);
        let second_left = 1.0 - beta2.powi(step.into());
        let constants = AdamWConstants {
            beta1,
            beta2,
            scale: 0.7,
            rate: rate * second_left.sqrt() / (1.0 - beta1.powi(step.into())),
            epsilon: 1e-8 * second_left.sqrt(),
            decay: 1.0 - rate * 0.1,
        };
        let f32s = |values: &[f32]| Argument::Buffer(Element::F32.encode(values));
        let arguments = vec![
            Argument::Buffer(element.encode(&value)),
            f32s(&first),
            f32s(&second),
            Argument::Buffer(element.encode(&gradient)),
            Argument::U64(count as u64),
            Argument::F32(constants.beta1),
            Argument::F32(constants.beta2),
            Argument::F32(constants.scale),
            Argument::F32(constants.rate),
            Argument::F32(constants.epsilon),
            Argument::F32(constants.decay),
        ];
        adamw::step(&mut value, &mut first, &mut second, &gradient, &constants);
        value = rounded(&value);
        runner.check(&kernel, format!("{count}{how}, step {step}"), Ok(launch), arguments, |got| {
            bit_difference(&got[0], &element.encode(&value))
                .max(bit_difference(&got[1], &Element::F32.encode(&first)))
                .max(bit_difference(&got[2], &Element::F32.encode(&second)))
        });
    }
}
