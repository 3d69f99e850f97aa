//! AdamW (arXiv 1711.05101) and the global norm of gradients.

use std::{collections::HashMap, sync::Mutex};

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Result, Storage, Tensor, bail};
use prospect_model::{AdamWConstants as Constants, Gradients, Parameter, Parameters, adamw};
use rayon::prelude::*;

use crate::checkpoint::stored;

/// AdamW's constants for one step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamW {
    pub(crate) betas: (f64, f64),
    pub(crate) epsilon: f64,
    pub(crate) weight_decay: f64,
}

/// First and second moment of one parameter.
enum Moments {
    /// On the CPU in f32: one fused loop.
    Fused(Vec<f32>, Vec<f32>),
    /// On any device: a kernel, where one is switched on, or candle's operations.
    OnDevice(Tensor, Tensor),
}

/// AdamW over all parameters of a model.
pub(crate) struct Optimizer {
    options: AdamW,
    moments: Vec<Moments>,
    steps: i32,
}

impl Optimizer {
    pub(crate) fn new(options: AdamW, parameters: &Parameters) -> Result<Self> {
        let moments = parameters.iter().map(|(_, parameter)| {
            let value = parameter.value();
            if matches!(value.device(), Device::Cpu) && value.dtype() == DType::F32 {
                let zeros = vec![0.0; value.elem_count()];
                return Ok(Moments::Fused(zeros.clone(), zeros));
            }
            // Half-precision parameters keep their moments in f32.
            let dtype = if value.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
            let zeros = || Tensor::zeros(value.shape(), dtype, value.device());
            Ok(Moments::OnDevice(zeros()?, zeros()?))
        });
        Ok(Self { options, moments: moments.collect::<Result<_>>()?, steps: 0 })
    }

    /// One step along `scale` times the gradients.
    pub(crate) fn step(
        &mut self,
        parameters: &Parameters,
        gradients: &Gradients,
        scale: f64,
        learning_rate: f64,
    ) -> Result<()> {
        self.steps += 1;
        let AdamW { betas, epsilon, weight_decay } = self.options;
        // Bias corrections, taken into the step size and ε.
        let (first, second) = (1.0 - betas.0.powi(self.steps), 1.0 - betas.1.powi(self.steps));
        let update = Update {
            betas,
            scale,
            rate: learning_rate * second.sqrt() / first,
            epsilon: epsilon * second.sqrt(),
            decay: 1.0 - learning_rate * weight_decay,
        };
        for ((_, parameter), moments) in parameters.iter().zip(&mut self.moments) {
            if let Some(gradient) = gradients.get(parameter) {
                match moments {
                    Moments::Fused(m, v) => update.fused(parameter, &gradient.contiguous()?, m, v)?,
                    Moments::OnDevice(m, v) => {
                        if !adamw(parameter.value(), gradient, [&*m, &*v], &update.constants())? {
                            update.composed(parameter, gradient, m, v)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

impl Optimizer {
    /// The moments by name.
    pub(crate) fn state(&self, parameters: &Parameters) -> Result<Vec<(String, Tensor)>> {
        let mut state = Vec::with_capacity(2 * self.moments.len());
        for ((name, parameter), moments) in parameters.iter().zip(&self.moments) {
            let (first, second) = match moments {
                Moments::Fused(first, second) => {
                    let shape = parameter.value().shape();
                    let tensor = |moment: &[f32]| Tensor::from_slice(moment, shape, &Device::Cpu);
                    (tensor(first)?, tensor(second)?)
                }
                Moments::OnDevice(first, second) => (first.clone(), second.clone()),
            };
            state.extend([(format!("first.{name}"), first), (format!("second.{name}"), second)]);
        }
        Ok(state)
    }

    /// Takes moments of [`state`](Self::state) back, as they were after `steps` steps.
    pub(crate) fn restore(
        &mut self,
        parameters: &Parameters,
        state: &HashMap<String, Tensor>,
        steps: u64,
    ) -> Result<()> {
        for ((name, parameter), moments) in parameters.iter().zip(&mut self.moments) {
            let [first, second] = ["first", "second"].map(|kind| stored(state, &format!("{kind}.{name}")));
            let (first, second) = (first?, second?);
            *moments = match moments {
                Moments::Fused(..) => {
                    Moments::Fused(first.flatten_all()?.to_vec1()?, second.flatten_all()?.to_vec1()?)
                }
                Moments::OnDevice(..) => {
                    let device = parameter.value().device();
                    Moments::OnDevice(first.to_device(device)?, second.to_device(device)?)
                }
            };
        }
        self.steps = i32::try_from(steps).map_err(candle_core::Error::wrap)?;
        Ok(())
    }
}

/// m ← β1·m + (1−β1)·g; v ← β2·v + (1−β2)·g²; p ← decay·p − rate·m/(√v + ε), with g = scale·gradient.
#[derive(Clone, Copy)]
struct Update {
    betas: (f64, f64),
    scale: f64,
    rate: f64,
    epsilon: f64,
    decay: f64,
}

impl Update {
    fn constants(&self) -> Constants {
        let Self { betas, scale, rate, epsilon, decay } = *self;
        let [beta1, beta2, scale, rate, epsilon, decay] =
            [betas.0, betas.1, scale, rate, epsilon, decay].map(|value| value as f32);
        Constants { beta1, beta2, scale, rate, epsilon, decay }
    }

    fn fused(&self, parameter: &Parameter, gradient: &Tensor, m: &mut [f32], v: &mut [f32]) -> Result<()> {
        let fused = Fused { update: *self, gradient, moments: Mutex::new((m, v)) };
        parameter.value().inplace_op1(&fused)
    }

    fn composed(
        &self,
        parameter: &Parameter,
        gradient: &Tensor,
        m: &mut Tensor,
        v: &mut Tensor,
    ) -> Result<()> {
        let gradient = (gradient.to_dtype(m.dtype())? * self.scale)?;
        *m = ((&*m * self.betas.0)? + (&gradient * (1.0 - self.betas.0))?)?;
        *v = ((&*v * self.betas.1)? + (gradient.sqr()? * (1.0 - self.betas.1))?)?;
        let change = ((&*m * self.rate)? / (v.sqrt()? + self.epsilon)?)?;
        let value = ((parameter.value().to_dtype(m.dtype())? * self.decay)? - change)?;
        parameter.var().set(&value.to_dtype(parameter.value().dtype())?)
    }
}

struct Fused<'a> {
    update: Update,
    gradient: &'a Tensor,
    moments: Mutex<(&'a mut [f32], &'a mut [f32])>,
}

impl InplaceOp1 for Fused<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (gradient, gradient_layout) = self.gradient.storage_and_layout();
        let (CpuStorage::F32(values), Storage::Cpu(CpuStorage::F32(gradient))) = (storage, &*gradient) else {
            bail!("the fused AdamW is for f32 on the CPU");
        };
        let (Some((from, to)), Some((gradient_from, gradient_to))) =
            (layout.contiguous_offsets(), gradient_layout.contiguous_offsets())
        else {
            bail!("the fused AdamW needs contiguous parameters and gradients");
        };
        let Ok(mut moments) = self.moments.lock() else { bail!("an earlier AdamW step panicked") };
        let (m, v) = &mut *moments;
        let Constants { beta1, beta2, scale, rate, epsilon, decay } = self.update.constants();
        let chunk = 1 << 14;
        values[from..to]
            .par_chunks_mut(chunk)
            .zip(gradient[gradient_from..gradient_to].par_chunks(chunk))
            .zip(m.par_chunks_mut(chunk).zip(v.par_chunks_mut(chunk)))
            .for_each(|((values, gradient), (m, v))| {
                for (((value, gradient), m), v) in values.iter_mut().zip(gradient).zip(m).zip(v) {
                    let gradient = gradient * scale;
                    *m = beta1 * *m + (1.0 - beta1) * gradient;
                    *v = beta2 * *v + (1.0 - beta2) * gradient * gradient;
                    *value = decay * *value - rate * *m / (v.sqrt() + epsilon);
                }
            });
        Ok(())
    }
}

/// The Euclidean norm of all gradients together.
pub(crate) fn global_norm(parameters: &Parameters, gradients: &Gradients) -> Result<f64> {
    let mut square = 0.0;
    for (_, parameter) in parameters.iter() {
        if let Some(gradient) = gradients.get(parameter) {
            let dtype = if gradient.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
            // One tensor's sum of squares in its own type, the sum over tensors in f64.
            square += gradient.to_dtype(dtype)?.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        }
    }
    Ok(square.sqrt())
}

#[cfg(test)]
mod tests {
    use prospect_kernels::adamw;
    use prospect_model::{Activations, Architecture, Decoder, Packer};

    use super::*;

    fn policy() -> Decoder {
        let architecture: Architecture = serde_json::from_str(
            r#"{"vocab_size": 16, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
                "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 32}"#,
        )
        .unwrap();
        Decoder::random(architecture, 0).unwrap().with_all_trained().unwrap()
    }

    fn gradients(policy: &Decoder) -> Gradients {
        let mut packer = Packer::default();
        let prompt = packer.prompt(&[1, 2, 3]);
        packer.completion(prompt, &[4, 5, 6], true);
        let (_, saved) = policy.forward(&packer.pack().unwrap(), Activations::Keep).unwrap();
        let mut gradients = Gradients::none(policy.parameters());
        policy.backward(saved, &[-1.0], &mut gradients).unwrap();
        gradients
    }

    const OPTIONS: AdamW = AdamW { betas: (0.9, 0.99), epsilon: 1e-8, weight_decay: 0.1 };

    #[test]
    fn fused_and_composed_updates_are_adamw() {
        let policy = policy();
        let gradients = gradients(&policy);
        let mut fused = Optimizer::new(OPTIONS, policy.parameters()).unwrap();
        let (name, parameter) = policy.parameters().iter().nth(3).unwrap();
        let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (start, gradient) = (flat(parameter.value()), flat(gradients.get(parameter).unwrap()));

        let copy = policy.with_all_trained().unwrap();
        let mut composed = Optimizer::new(OPTIONS, copy.parameters()).unwrap();
        for (moments, (_, parameter)) in composed.moments.iter_mut().zip(copy.parameters().iter()) {
            let zeros = parameter.value().zeros_like().unwrap();
            *moments = Moments::OnDevice(zeros.clone(), zeros);
        }
        for _ in 0..3 {
            fused.step(policy.parameters(), &gradients, 0.5, 0.01).unwrap();
            composed.step(copy.parameters(), &gradients, 0.5, 0.01).unwrap();
        }
        // With a constant gradient the corrected moments are g and g², so each step is −lr·sign(g) beside the decay.
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
        let mut optimizer = Optimizer::new(OPTIONS, policy.parameters()).unwrap();
        let (name, parameter) = policy.parameters().iter().nth(3).unwrap();
        let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (mut value, gradient) = (flat(parameter.value()), flat(gradients.get(parameter).unwrap()));
        let (mut first, mut second) = (vec![0.0; value.len()], vec![0.0; value.len()]);
        for step in 1..=3 {
            optimizer.step(policy.parameters(), &gradients, 0.5, 0.01).unwrap();
            let left = (1.0 - OPTIONS.betas.0.powi(step), 1.0 - OPTIONS.betas.1.powi(step));
            let constants = Constants {
                beta1: OPTIONS.betas.0 as f32,
                beta2: OPTIONS.betas.1 as f32,
                scale: 0.5,
                rate: (0.01 * left.1.sqrt() / left.0) as f32,
                epsilon: (OPTIONS.epsilon * left.1.sqrt()) as f32,
                decay: (1.0 - 0.01 * OPTIONS.weight_decay) as f32,
            };
            adamw::step(&mut value, &mut first, &mut second, &gradient, &constants);
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&flat(parameter.value())), bits(&value), "{name}, step {step}");
        }
    }

    #[test]
    fn the_norm_is_over_all_parameters() {
        let policy = policy();
        let gradients = gradients(&policy);
        let square: f64 = policy
            .parameters()
            .iter()
            .filter_map(|(_, parameter)| gradients.get(parameter))
            .flat_map(|gradient| gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap())
            .map(|x| f64::from(x).powi(2))
            .sum();
        let norm = global_norm(policy.parameters(), &gradients).unwrap();
        assert!((norm / square.sqrt() - 1.0).abs() < 1e-5);
    }
}
