//! RMSprop as in PyTorch, without momentum and centring: v ← α·v + (1−α)·g²;
//! p ← p − rate·g/(√v + ε), where g includes weight decay.

use candle_core::{DType, Result, Tensor};
use prospect_dist::Collective;
use prospect_model::{Gradients, Parameters};
use rayon::prelude::*;

use super::{
    StateDict,
    state::{CHUNK, DeviceTensors, Moments, OptimizerState, update_in_place},
};

/// Hyperparameters of RMSprop, except the learning rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RmsPropConfig {
    pub(crate) alpha: f64,
    pub(crate) epsilon: f64,
    /// Added to the gradient, times the parameter; not decoupled.
    pub(crate) weight_decay: f64,
}

/// Name of the mean square of the gradients.
const KINDS: [&str; 1] = ["square"];

/// RMSprop over all parameters of a model.
pub(crate) struct RmsProp<'a> {
    config: RmsPropConfig,
    state: OptimizerState<'a, 1>,
}

impl<'a> RmsProp<'a> {
    /// Creates the optimizer with mean squares of 0.
    pub(crate) fn new(
        config: RmsPropConfig,
        parameters: &Parameters,
        shards: Option<&'a dyn Collective>,
    ) -> Result<Self> {
        Ok(Self { config, state: OptimizerState::new(parameters, shards)? })
    }

    /// Takes one step along `scale` times the gradients. Parameters without a gradient stay.
    pub(crate) fn step(
        &mut self,
        parameters: &Parameters,
        gradients: &Gradients<'_>,
        scale: f64,
        learning_rate: f64,
    ) -> Result<()> {
        let update = ParameterUpdate { config: self.config, scale, rate: learning_rate };
        let no_kernel = |_: &[DeviceTensors<'_, 1>]| Ok(false);
        self.state.update(parameters, gradients, no_kernel, |weights, gradient, moments| match moments {
            Moments::Fused([square]) => {
                update.fused(weights, &gradient.to_dtype(DType::F32)?.contiguous()?, square)?;
                Ok(None)
            }
            Moments::OnDevice([square]) => update.composed(weights, gradient, square).map(Some),
        })
    }

    /// Returns the mean squares as `square.NAME`, and master weights.
    pub(crate) fn state_dict(&self, parameters: &Parameters) -> Result<Vec<(String, Tensor)>> {
        self.state.state_dict(parameters, KINDS)
    }

    /// Restores [`state_dict`](Self::state_dict).
    pub(crate) fn load_state_dict(&mut self, parameters: &Parameters, state: &StateDict) -> Result<()> {
        self.state.load_state_dict(parameters, state, KINDS)
    }
}

/// Update of one parameter.
#[derive(Clone, Copy)]
struct ParameterUpdate {
    config: RmsPropConfig,
    scale: f64,
    rate: f64,
}

impl ParameterUpdate {
    /// Updates f32 weights on the CPU in place, in parallel chunks.
    fn fused(&self, weights: &Tensor, gradient: &Tensor, square: &mut [f32]) -> Result<()> {
        let RmsPropConfig { alpha, epsilon, weight_decay } = self.config;
        let [alpha, epsilon, weight_decay, scale, rate] =
            [alpha, epsilon, weight_decay, self.scale, self.rate].map(|value| value as f32);
        update_in_place(weights, gradient, |values, gradient| {
            values
                .par_chunks_mut(CHUNK)
                .zip(gradient.par_chunks(CHUNK))
                .zip(square.par_chunks_mut(CHUNK))
                .for_each(|((values, gradient), square)| {
                    for ((value, gradient), square) in values.iter_mut().zip(gradient).zip(square) {
                        let gradient = gradient * scale + weight_decay * *value;
                        *square = alpha * *square + (1.0 - alpha) * gradient * gradient;
                        *value -= rate * gradient / (square.sqrt() + epsilon);
                    }
                });
        })
    }

    /// Returns the updated weights.
    fn composed(&self, weights: &Tensor, gradient: &Tensor, square: &mut Tensor) -> Result<Tensor> {
        let RmsPropConfig { alpha, epsilon, weight_decay } = self.config;
        let gradient = ((gradient.to_dtype(square.dtype())? * self.scale)? + (weights * weight_decay)?)?;
        let mean = ((&*square * alpha)? + (gradient.sqr()? * (1.0 - alpha))?)?;
        let change = ((gradient * self.rate)? / (mean.sqrt()? + epsilon)?)?;
        let updated = (weights - change)?;
        // Nothing may change before all memory is there.
        *square = mean;
        Ok(updated)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{gradients, policy},
        *,
    };

    const CONFIG: RmsPropConfig = RmsPropConfig { alpha: 0.9, epsilon: 1e-8, weight_decay: 0.1 };

    fn flat(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn fused_and_composed_updates_follow_the_formulas_of_torch() {
        let policy = policy();
        let gradients = gradients(&policy);
        let (name, parameter) = policy.parameters().iter().nth(3).unwrap();
        let (start, gradient) = (flat(parameter.value()), flat(gradients.get(parameter).unwrap()));
        let copy = policy.with_all_trained().unwrap();
        let mut fused = RmsProp::new(CONFIG, policy.parameters(), None).unwrap();
        let mut composed = RmsProp::new(CONFIG, copy.parameters(), None).unwrap();
        for (state, (_, parameter)) in composed.state.parameters.iter_mut().zip(copy.parameters().iter()) {
            state.moments = Moments::OnDevice([parameter.value().zeros_like().unwrap()]);
        }
        for _ in 0..3 {
            fused.step(policy.parameters(), &gradients, 0.5, 0.01).unwrap();
            composed.step(copy.parameters(), &gradients, 0.5, 0.01).unwrap();
        }
        let twin = copy.parameters().iter().nth(3).unwrap().1;
        let found = flat(parameter.value()).into_iter().zip(flat(twin.value()));
        for ((start, gradient), (fused, composed)) in start.iter().zip(&gradient).zip(found) {
            // torch.optim.RMSprop(lr=0.01, alpha=0.9, eps=1e-8, weight_decay=0.1), in f64.
            let (mut value, mut square) = (f64::from(*start), 0.0);
            for _ in 0..3 {
                let gradient = 0.5 * f64::from(*gradient) + 0.1 * value;
                square = 0.9 * square + 0.1 * gradient * gradient;
                value -= 0.01 * gradient / (f64::sqrt(square) + 1e-8);
            }
            assert!((f64::from(fused) - value).abs() < 1e-5, "{name}: {fused} {value}");
            assert!((fused - composed).abs() < 1e-6, "{name}: {fused} {composed}");
        }
    }

    #[test]
    fn the_first_steps_of_a_scalar_have_golden_values() {
        // By hand from torch's documentation, α = 0.99, rate 0.1, p = 1, g = 2 twice:
        // v = 0.04, p = 1 − 0.1·2/0.2 = 0; v = 0.0796, p = −0.1·2/√0.0796 = −0.70888.
        let config = RmsPropConfig { alpha: 0.99, epsilon: 1e-8, weight_decay: 0.0 };
        let update = ParameterUpdate { config, scale: 1.0, rate: 0.1 };
        let policy = policy();
        let (_, parameter) = policy.parameters().iter().nth(3).unwrap();
        let ones = parameter.value().ones_like().unwrap();
        parameter.var().set(&ones).unwrap();
        let gradient = (ones * 2.0).unwrap();
        let mut square = vec![0.0; parameter.value().elem_count()];
        for expected in [0.0, -0.708_881_2] {
            update.fused(parameter.value(), &gradient, &mut square).unwrap();
            let found = flat(parameter.value());
            assert!(found.iter().all(|value| (value - expected).abs() < 1e-5), "{found:?}");
        }
        assert!(square.iter().all(|square| (square - 0.0796).abs() < 1e-7));
    }
}
