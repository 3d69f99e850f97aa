//! Random weights from a seed, the same on every machine.

use candle_core::{DType, Device, Tensor};
use prospect_core::draw::Draw;
use rand::Rng;
use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};

use super::Weights;
use crate::ModelError;

/// Draws matrices from a normal distribution; norms are 1, biases 0.
pub(crate) struct Random {
    pub(crate) seed: u64,
    pub(crate) dtype: DType,
    pub(crate) device: Device,
    /// Standard deviation; GPT-2's and Llama's is 0.02.
    pub(crate) deviation: f64,
}

impl Weights for Random {
    fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        if name.ends_with("bias") {
            return Ok(Tensor::zeros(shape, self.dtype, &self.device)?);
        }
        if shape.len() == 1 {
            return Ok(Tensor::ones(shape, self.dtype, &self.device)?);
        }
        let data = normal(&Draw::new(self.seed, name), shape.iter().product(), self.deviation);
        Ok(Tensor::from_vec(data, shape, &Device::Cpu)?.to_dtype(self.dtype)?.to_device(&self.device)?)
    }
}

/// `count` draws from a normal distribution around 0 (Box-Muller).
pub(crate) fn normal(draw: &Draw, count: usize, deviation: f64) -> Vec<f32> {
    let mut stream = ChaCha12Rng::from_seed(draw.key());
    // (0, 1]: its logarithm is finite.
    let mut uniform = || ((stream.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let (radius, angle) = ((-2.0 * uniform().ln()).sqrt() * deviation, std::f64::consts::TAU * uniform());
        values.extend([(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]);
    }
    values.truncate(count);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_deviation_asked_for() {
        let values = normal(&Draw::new(3, "w"), 20_001, 0.5);
        assert_eq!(values.len(), 20_001);
        let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / 20_001.0;
        let square = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 20_001.0;
        assert!(mean.abs() < 0.02 && (square.sqrt() - 0.5).abs() < 0.02, "{mean} {square}");
    }
}
