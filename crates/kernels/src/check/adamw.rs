//! Three consecutive steps, which must agree with the twin to the bit.

use super::{Argument, CheckRunner, bit_difference, random_values};
use crate::{
    Element, KernelError, Launch,
    adamw::{self, AdamWConstants, STEP},
};

pub(super) fn check(runner: &mut CheckRunner<'_>, element: Element) {
    for counts in [&[0][..], &[1, 255, 0], &[1000, 1, 300]] {
        let launch = adamw::launch(counts);
        steps(runner, element, counts, &launch, "");
        let one_block = launch.map(|launch| Launch { grid: [1, launch.grid[1]], ..launch });
        steps(runner, element, counts, &one_block, " in one block each");
    }
}

/// Weights and moments of a parameter.
struct Parameter {
    value: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
}

fn floats(seed: u64, count: usize, factor: f64) -> Vec<f32> {
    random_values(seed, count).iter().map(|x| (factor * x) as f32).collect()
}

/// Returns the bytes of one of the tensors of each parameter.
fn each(parameters: &[Parameter], tensor: impl Fn(&Parameter) -> &Vec<f32>) -> Vec<Vec<u8>> {
    parameters.iter().map(|parameter| Element::F32.encode(tensor(parameter))).collect()
}

fn steps(
    runner: &mut CheckRunner<'_>,
    element: Element,
    counts: &[usize],
    launch: &Result<Launch, KernelError>,
    how: &str,
) {
    let kernel = STEP.kernel(element);
    let parameter = |(seed, count): (u64, &usize)| Parameter {
        value: floats(seed, *count, 1.0),
        first: vec![0.0; *count],
        second: vec![0.0; *count],
    };
    let mut parameters: Vec<Parameter> = (0..).zip(counts).map(parameter).collect();
    for step in 1..=3u8 {
        let gradient = |(seed, count): (u64, &usize)| {
            element.decode(&element.encode(&floats(10 * u64::from(step) + seed, *count, 0.1)))
        };
        let gradients: Vec<Vec<f32>> = (0..).zip(counts).map(gradient).collect();
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
        let arguments = vec![
            Argument::Buffers(each(&parameters, |parameter| &parameter.value)),
            Argument::Buffers(each(&parameters, |parameter| &parameter.first)),
            Argument::Buffers(each(&parameters, |parameter| &parameter.second)),
            Argument::Buffers(gradients.iter().map(|gradient| element.encode(gradient)).collect()),
            Argument::u64s(counts),
            Argument::F32(constants.beta1),
            Argument::F32(constants.beta2),
            Argument::F32(constants.scale),
            Argument::F32(constants.rate),
            Argument::F32(constants.epsilon),
            Argument::F32(constants.decay),
        ];
        for (Parameter { value, first, second }, gradient) in parameters.iter_mut().zip(&gradients) {
            adamw::step(value, first, second, gradient, &constants);
        }
        let want = [
            each(&parameters, |parameter| &parameter.value),
            each(&parameters, |parameter| &parameter.first),
            each(&parameters, |parameter| &parameter.second),
        ];
        runner.check(&kernel, format!("{counts:?}{how}, step {step}"), launch.clone(), arguments, |got| {
            got.iter().zip(want).map(|(got, want)| bit_difference(got, &want.concat())).fold(0.0, f64::max)
        });
    }
}
