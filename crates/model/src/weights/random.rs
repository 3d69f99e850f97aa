//! Random weights from a seed, identical on every machine.

use candle_core::{DType, Device, Tensor};
use prospect_core::draw::Draw;
use rand::Rng;
use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};
use rayon::prelude::*;

use super::{
    TensorSource,
    box_muller::{BoxMuller, GROUP},
};
use crate::{
    Architecture, ModelError,
    ops::{self, vectorised},
};

/// Source of random weights: matrices from a normal distribution, norms that only normalise, biases
/// of 0.
pub(crate) struct RandomWeights {
    /// Weight of norms.
    norm: f64,
    seed: u64,
    dtype: DType,
    device: Device,
}

/// Source of random weights that a GPU draws itself: fast, but other values on every device.
pub(crate) struct DeviceRandomWeights(pub(crate) RandomWeights);

/// Standard deviation of matrices, that of GPT-2 and Llama.
const DEVIATION: f64 = 0.02;

impl RandomWeights {
    pub(crate) fn new(architecture: &Architecture, seed: u64, dtype: DType, device: Device) -> Self {
        Self { norm: architecture.neutral_norm_weight(), seed, dtype, device }
    }
}

impl TensorSource for DeviceRandomWeights {
    fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let Self(RandomWeights { dtype, device, .. }) = self;
        if shape.len() == 1 {
            return self.0.get(name, shape);
        }
        Ok(ops::operand(&Tensor::randn(0.0, DEVIATION as f32, shape, device)?, *dtype)?)
    }
}

impl TensorSource for RandomWeights {
    fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        if name.ends_with("bias") {
            return Ok(Tensor::zeros(shape, self.dtype, &self.device)?);
        }
        if shape.len() == 1 {
            let norm = Tensor::full(self.norm, shape, &Device::Cpu)?;
            return Ok(norm.to_dtype(self.dtype)?.to_device(&self.device)?);
        }
        let data = normal(&Draw::new(self.seed, name), shape.iter().product(), DEVIATION);
        // Rounded on the device, so that the host holds one f32 matrix at a time.
        Ok(ops::operand(&Tensor::from_vec(data, shape, &self.device)?, self.dtype)?)
    }
}

/// Elements that a task draws.
const PART: usize = 1 << 14;

/// Draws `count` values from a normal distribution around 0 (Box-Muller). The values do not depend
/// on the number of threads.
pub(crate) fn normal(draw: &Draw, count: usize, deviation: f64) -> Vec<f32> {
    let mut values = vec![0.0; count];
    values.par_chunks_mut(PART).enumerate().for_each(|(part, values)| {
        let mut stream = ChaCha12Rng::from_seed(draw.key());
        // Every earlier value took 64 bits, or two words.
        stream.set_word_pos(2 * (part * PART) as u128);
        let mut bits = [[0; GROUP]; 2];
        for values in values.chunks_mut(2 * GROUP) {
            let [first, second] = &mut bits;
            for (first, second) in first.iter_mut().zip(second).take(values.len().div_ceil(2)) {
                *first = stream.next_u64();
                *second = stream.next_u64();
            }
            vectorised(BoxMuller, (values, &bits, deviation));
        }
    });
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_requested_deviation() {
        let values = normal(&Draw::new(3, "w"), 20_001, 0.5);
        assert_eq!(values.len(), 20_001);
        let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / 20_001.0;
        let square = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 20_001.0;
        assert!(mean.abs() < 0.02 && (square.sqrt() - 0.5).abs() < 0.02, "{mean} {square}");
    }

    #[test]
    fn parts_continue_the_stream_of_earlier_parts() {
        let draw = Draw::new(5, "w");
        let mut stream = ChaCha12Rng::from_seed(draw.key());
        let mut uniform = || ((stream.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        let count = 2 * PART + 5;
        let mut expected = Vec::new();
        while expected.len() < count {
            let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), std::f64::consts::TAU * uniform());
            expected.extend([(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]);
        }
        // The last bit may differ from that of the system's functions, if hardly ever.
        let values = normal(&draw, count, 1.0);
        let same = values.iter().zip(&expected).filter(|(value, expected)| value == expected).count();
        assert!(same + 1 >= count, "{} of {count} differ", count - same);
    }
}
