//! AdamW (arXiv 1711.05101).

use candle_core::{DType, Error, Result, Tensor};
use prospect_dist::Collective;
use prospect_model::{AdamWConstants, AdamWUpdate, Gradients, Parameters, adamw};
use rayon::prelude::*;

use super::{
    StateDict,
    state::{CHUNK, DeviceTensors, Moments, OptimizerState, update_in_place},
};

/// Hyperparameters of AdamW, except the learning rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamWConfig {
    pub(crate) betas: (f64, f64),
    pub(crate) epsilon: f64,
    pub(crate) weight_decay: f64,
}

/// Names of the first and the second moment.
const KINDS: [&str; 2] = ["first", "second"];

/// AdamW over all parameters of a model.
pub(crate) struct AdamW<'a> {
    config: AdamWConfig,
    state: OptimizerState<'a, 2>,
    steps: i32,
}

impl<'a> AdamW<'a> {
    /// Creates the optimizer with zero moments.
    pub(crate) fn new(
        config: AdamWConfig,
        parameters: &Parameters,
        shards: Option<&'a dyn Collective>,
    ) -> Result<Self> {
        Ok(Self { config, state: OptimizerState::new(parameters, shards)?, steps: 0 })
    }

    /// Takes one step along `scale` times the gradients. Parameters without a gradient stay.
    pub(crate) fn step(
        &mut self,
        parameters: &Parameters,
        gradients: &Gradients<'_>,
        scale: f64,
        learning_rate: f64,
    ) -> Result<()> {
        self.steps += 1;
        let AdamWConfig { betas, epsilon, weight_decay } = self.config;
        // Bias corrections of both moments, folded into the step size and ε.
        let (correction1, correction2) = (1.0 - betas.0.powi(self.steps), 1.0 - betas.1.powi(self.steps));
        let update = ParameterUpdate {
            betas,
            scale,
            rate: learning_rate * correction2.sqrt() / correction1,
            epsilon: epsilon * correction2.sqrt(),
            decay: 1.0 - learning_rate * weight_decay,
        };
        let update_all = |tensors: &[DeviceTensors<'_, 2>]| {
            let updates = tensors.iter().map(|DeviceTensors { value, gradient, moments }| AdamWUpdate {
                value,
                gradient,
                moments: *moments,
            });
            adamw(&updates.collect::<Vec<_>>(), &update.constants())
        };
        self.state.update(parameters, gradients, update_all, |weights, gradient, moments| match moments {
            Moments::Fused([m, v]) => {
                update.fused(weights, &gradient.to_dtype(DType::F32)?.contiguous()?, m, v)?;
                Ok(None)
            }
            Moments::OnDevice([m, v]) => update.composed(weights, gradient, m, v).map(Some),
        })
    }

    /// Returns the moments as `first.NAME` and `second.NAME`, and master weights.
    pub(crate) fn state_dict(&self, parameters: &Parameters) -> Result<Vec<(String, Tensor)>> {
        self.state.state_dict(parameters, KINDS)
    }

    /// Restores [`state_dict`](Self::state_dict) and the step count.
    pub(crate) fn load_state_dict(
        &mut self,
        parameters: &Parameters,
        state: &StateDict,
        steps: u64,
    ) -> Result<()> {
        self.state.load_state_dict(parameters, state, KINDS)?;
        self.steps = i32::try_from(steps).map_err(Error::wrap)?;
        Ok(())
    }
}

/// Update of one parameter: m ← β1·m + (1−β1)·g; v ← β2·v + (1−β2)·g²;
/// p ← decay·p − rate·m/(√v + ε), with g = scale·gradient.
#[derive(Clone, Copy)]
struct ParameterUpdate {
    betas: (f64, f64),
    scale: f64,
    rate: f64,
    epsilon: f64,
    decay: f64,
}

impl ParameterUpdate {
    fn constants(&self) -> AdamWConstants {
        let Self { betas, scale, rate, epsilon, decay } = *self;
        let [beta1, beta2, scale, rate, epsilon, decay] =
            [betas.0, betas.1, scale, rate, epsilon, decay].map(|value| value as f32);
        AdamWConstants { beta1, beta2, scale, rate, epsilon, decay }
    }

    /// Updates f32 weights on the CPU in place, in parallel chunks.
    fn fused(&self, weights: &Tensor, gradient: &Tensor, m: &mut [f32], v: &mut [f32]) -> Result<()> {
        let AdamWConstants { beta1, beta2, scale, rate, epsilon, decay } = self.constants();
        update_in_place(weights, gradient, |values, gradient| {
            values
                .par_chunks_mut(CHUNK)
                .zip(gradient.par_chunks(CHUNK))
                .zip(m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK)))
                .for_each(|((values, gradient), (m, v))| {
                    for (((value, gradient), m), v) in values.iter_mut().zip(gradient).zip(m).zip(v) {
                        let gradient = gradient * scale;
                        *m = beta1 * *m + (1.0 - beta1) * gradient;
                        *v = beta2 * *v + (1.0 - beta2) * gradient * gradient;
                        *value = decay * *value - rate * *m / (v.sqrt() + epsilon);
                    }
                });
        })
    }

    /// Returns the updated weights.
    fn composed(
        &self,
        weights: &Tensor,
        gradient: &Tensor,
        m: &mut Tensor,
        v: &mut Tensor,
    ) -> Result<Tensor> {
        let gradient = (gradient.to_dtype(m.dtype())? * self.scale)?;
        let first = ((&*m * self.betas.0)? + (&gradient * (1.0 - self.betas.0))?)?;
        let second = ((&*v * self.betas.1)? + (gradient.sqr()? * (1.0 - self.betas.1))?)?;
        drop(gradient);
        let change = ((&first * self.rate)? / (second.sqrt()? + self.epsilon)?)?;
        let updated = ((weights * self.decay)? - change)?;
        // Nothing may change before all memory is there.
        (*m, *v) = (first, second);
        Ok(updated)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use prospect_kernels::adamw;
    use prospect_model::{Decoder, Dtype};

    use super::{
        super::tests::{gradients, policy},
        *,
    };

    const CONFIG: AdamWConfig = AdamWConfig { betas: (0.9, 0.99), epsilon: 1e-8, weight_decay: 0.1 };

    #[test]
    fn fused_and_composed_updates_are_adamw() {
        let policy = policy();
        let gradients = gradients(&policy);
        let mut fused = AdamW::new(CONFIG, policy.parameters(), None).unwrap();
        let (name, parameter) = policy.parameters().iter().nth(3).unwrap();
        let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (start, gradient) = (flat(parameter.value()), flat(gradients.get(parameter).unwrap()));

        let copy = policy.with_all_trained().unwrap();
        let mut composed = AdamW::new(CONFIG, copy.parameters(), None).unwrap();
        for (state, (_, parameter)) in composed.state.parameters.iter_mut().zip(copy.parameters().iter()) {
            let zeros = || parameter.value().zeros_like().unwrap();
            state.moments = Moments::OnDevice([zeros(), zeros()]);
        }
        for _ in 0..3 {
            fused.step(policy.parameters(), &gradients, 0.5, 0.01).unwrap();
            composed.step(copy.parameters(), &gradients, 0.5, 0.01).unwrap();
        }
        // With a constant gradient the corrected moments are g and g², so each step is −lr·sign(g)
        // plus the decay.
        let twin = copy.parameters().iter().nth(3).unwrap().1;
        for ((start, gradient), (fused, composed)) in
            start.iter().zip(&gradient).zip(flat(parameter.value()).iter().zip(flat(twin.value())))
        {
            let step = |value: f64| value * (1.0 - 0.01 * 0.1) - 0.01 * f64::from(gradient.signum());
            let expected = step(step(step(f64::from(*start))));
            if gradient.abs() > 1e-4 {
                assert!((f64::from(*fused) - expected).abs() < 2e-5, "{name}: {fused} {expected}");
            }
            assert!((fused - composed).abs() < 1e-6, "{name}: {fused} {composed}");
        }
    }

    #[test]
    fn the_twin_of_the_cuda_kernel_takes_the_same_steps_to_the_bit() {
        let policy = policy();
        let gradients = gradients(&policy);
        let mut optimizer = AdamW::new(CONFIG, policy.parameters(), None).unwrap();
        let (name, parameter) = policy.parameters().iter().nth(3).unwrap();
        let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (mut value, gradient) = (flat(parameter.value()), flat(gradients.get(parameter).unwrap()));
        let (mut first, mut second) = (vec![0.0; value.len()], vec![0.0; value.len()]);
        for step in 1..=3 {
            optimizer.step(policy.parameters(), &gradients, 0.5, 0.01).unwrap();
            let correction = (1.0 - CONFIG.betas.0.powi(step), 1.0 - CONFIG.betas.1.powi(step));
            let constants = AdamWConstants {
                beta1: CONFIG.betas.0 as f32,
                beta2: CONFIG.betas.1 as f32,
                scale: 0.5,
                rate: (0.01 * correction.1.sqrt() / correction.0) as f32,
                epsilon: (CONFIG.epsilon * correction.1.sqrt()) as f32,
                decay: (1.0 - 0.01 * CONFIG.weight_decay) as f32,
            };
            adamw::step(&mut value, &mut first, &mut second, &gradient, &constants);
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&flat(parameter.value())), bits(&value), "{name}, step {step}");
        }
    }

    #[test]
    fn small_updates_of_half_precision_weights_are_not_lost() {
        let base =
            Decoder::random_on(&Device::Cpu, policy().architecture().clone(), 0, Dtype::Bf16, None).unwrap();
        let half = base.with_all_trained().unwrap();
        let gradients = gradients(&half);
        let mut optimizer = AdamW::new(CONFIG, half.parameters(), None).unwrap();
        let (name, parameter) = half.parameters().iter().nth(3).unwrap();
        let flat =
            |x: &Tensor| x.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (start, gradient) = (flat(parameter.value()), flat(gradients.get(parameter).unwrap()));
        let (rate, steps) = (1e-5, 300);
        let state = |optimizer: &AdamW<'_>| -> StateDict {
            optimizer.state_dict(half.parameters()).unwrap().into_iter().collect()
        };
        for _ in 0..steps {
            optimizer.step(half.parameters(), &gradients, 1.0, rate).unwrap();
        }
        let master = flat(&state(&optimizer)[&format!("master.{name}")]);
        for (((start, gradient), value), master) in
            start.iter().zip(&gradient).zip(flat(parameter.value())).zip(&master)
        {
            // The weight is its master weight, rounded.
            assert_eq!(half::bf16::from_f32(*master).to_f32(), value);
            if gradient.abs() > 1e-3 {
                let decayed = f64::from(*start) * (1.0 - rate * CONFIG.weight_decay).powi(steps);
                let expected = decayed - rate * f64::from(steps) * f64::from(gradient.signum());
                assert!((f64::from(*master) - expected).abs() < 1e-4, "{master} {expected}");
            }
        }
        // Single updates would all have been rounded away from a weight of this size.
        let moved = start.iter().zip(flat(parameter.value())).filter(|(start, now)| **start != *now).count();
        assert!(moved > start.len() / 4, "{moved} of {}", start.len());
        let ulp =
            |x: f32| half::bf16::from_bits(half::bf16::from_f32(x.abs()).to_bits() + 1).to_f32() - x.abs();
        let below = start.iter().filter(|x| rate as f32 * 2.0 < ulp(**x)).count();
        assert!(below > start.len() * 3 / 4);

        // A restored optimizer continues from the master weights, not from the rounded ones.
        let saved = state(&optimizer);
        let mut restored = AdamW::new(CONFIG, half.parameters(), None).unwrap();
        restored.load_state_dict(half.parameters(), &saved, steps as u64).unwrap();
        let again = state(&restored);
        for (name, tensor) in &saved {
            assert_eq!(flat(tensor), flat(&again[name]), "{name}");
        }
        assert_eq!(restored.steps, optimizer.steps);
    }
}
