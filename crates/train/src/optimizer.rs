//! AdamW (arXiv 1711.05101) and the global norm of gradients.

use std::{collections::HashMap, sync::Mutex};

use candle_core::{CpuStorage, DType, Device, Error, InplaceOp1, Layout, Result, Storage, Tensor, bail};
use prospect_dist::{Collective, CollectiveError};
use prospect_model::{AdamWConstants, Gradients, Parameter, Parameters, adamw};
use rayon::prelude::*;

/// Tensors by name, as in a safetensors file.
pub(crate) type StateDict = HashMap<String, Tensor>;

/// Returns a tensor of a state dict; an error names the missing tensor.
pub(crate) fn state_tensor<'a>(state: &'a StateDict, name: &str) -> Result<&'a Tensor> {
    state.get(name).ok_or_else(|| Error::msg(format!("the checkpoint lacks tensor `{name}`")))
}

/// Hyperparameters of AdamW, except the learning rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamWConfig {
    pub(crate) betas: (f64, f64),
    pub(crate) epsilon: f64,
    pub(crate) weight_decay: f64,
}

/// First and second moment of one parameter.
enum Moments {
    /// f32 on the CPU: updated in one fused loop.
    Fused(Vec<f32>, Vec<f32>),
    /// Any device: updated by a kernel if one is enabled, else by candle operations.
    OnDevice(Tensor, Tensor),
}

impl Moments {
    /// Creates zero moments for updates of `target`.
    fn zeros(target: &Tensor) -> Result<Self> {
        if matches!(target.device(), Device::Cpu) && target.dtype() == DType::F32 {
            let zeros = vec![0.0; target.elem_count()];
            return Ok(Self::Fused(zeros.clone(), zeros));
        }
        let zeros = || Tensor::zeros(target.shape(), target.dtype(), target.device());
        Ok(Self::OnDevice(zeros()?, zeros()?))
    }

    /// Returns both moments as flat tensors.
    fn flat(&self) -> Result<[Tensor; 2]> {
        Ok(match self {
            Self::Fused(first, second) => {
                let tensor = |moment: &[f32]| Tensor::from_slice(moment, moment.len(), &Device::Cpu);
                [tensor(first)?, tensor(second)?]
            }
            Self::OnDevice(first, second) => [first.flatten_all()?, second.flatten_all()?],
        })
    }

    /// Replaces both moments by flat tensors.
    fn load(&mut self, first: &Tensor, second: &Tensor) -> Result<()> {
        match self {
            Self::Fused(own_first, own_second) => {
                (*own_first, *own_second) = (first.to_vec1()?, second.to_vec1()?);
            }
            Self::OnDevice(own_first, own_second) => {
                let like =
                    |tensor: &Tensor, own: &Tensor| tensor.to_device(own.device())?.reshape(own.shape());
                (*own_first, *own_second) = (like(first, own_first)?, like(second, own_second)?);
            }
        }
        Ok(())
    }
}

/// Optimizer state of one parameter, or of this rank's shard of it.
struct ParameterState {
    moments: Moments,
    /// Weights that updates are added to, if they are not the parameter itself: in f32 for a
    /// half-precision parameter, whose precision an update of 10⁻⁵ does not reach.
    master: Option<Tensor>,
}

/// AdamW over all parameters of a model.
pub(crate) struct AdamW<'a> {
    config: AdamWConfig,
    states: Vec<ParameterState>,
    /// Group over which the state is sharded.
    shards: Option<&'a dyn Collective>,
    steps: i32,
}

impl<'a> AdamW<'a> {
    /// Creates the optimizer with zero moments. With `shards`, each rank keeps its
    /// [shard](Collective::even_shard) of moments and master weights, and steps along
    /// [sharded gradients](Gradients::sharded).
    pub(crate) fn new(
        config: AdamWConfig,
        parameters: &Parameters,
        shards: Option<&'a dyn Collective>,
    ) -> Result<Self> {
        let states = parameters.iter().map(|(_, parameter)| {
            let value = parameter.value();
            let dtype = if value.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
            let master = match shards {
                Some(group) => Some(own_shard(group, value)?.to_dtype(dtype)?.force_contiguous()?),
                None if value.dtype() != dtype => Some(value.to_dtype(dtype)?),
                None => None,
            };
            Ok(ParameterState { moments: Moments::zeros(master.as_ref().unwrap_or(value))?, master })
        });
        Ok(Self { config, states: states.collect::<Result<_>>()?, shards, steps: 0 })
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
        for ((_, parameter), state) in parameters.iter().zip(&mut self.states) {
            let Some(gradient) = gradients.get(parameter) else { continue };
            let ParameterState { moments, master } = state;
            let target = master.as_ref().unwrap_or(parameter.value());
            let updated = match moments {
                Moments::Fused(m, v) => {
                    let gradient = gradient.to_dtype(DType::F32)?.contiguous()?;
                    update.fused(target, &gradient, m, v)?;
                    None
                }
                Moments::OnDevice(m, v) => {
                    if adamw(target, gradient, [&*m, &*v], &update.constants())? {
                        None
                    } else {
                        Some(update.composed(target, gradient, m, v)?)
                    }
                }
            };
            match (master, updated) {
                (None, None) => {}
                (None, Some(value)) => parameter.var().set(&value)?,
                (Some(master), updated) => {
                    if let Some(updated) = updated {
                        *master = updated;
                    }
                    publish(self.shards, parameter, master)?;
                }
            }
        }
        Ok(())
    }

    /// Returns the moments as `first.NAME` and `second.NAME`, and the master weights of
    /// half-precision parameters as `master.NAME`: whole tensors, whether the state is sharded or
    /// not. With shards, all ranks must call it, and only rank 0 gets the tensors.
    pub(crate) fn state_dict(&self, parameters: &Parameters) -> Result<Vec<(String, Tensor)>> {
        let mut dict = Vec::with_capacity(3 * self.states.len());
        let mut add = |kind: &str, name: &str, flat: &Tensor, value: &Tensor| -> Result<()> {
            let whole = match self.shards {
                None => flat.reshape(value.shape())?,
                Some(group) => {
                    let whole = group.all_gather_shards(flat, value.elem_count()).map_err(Error::wrap)?;
                    if group.rank() > 0 {
                        return Ok(());
                    }
                    whole.to_device(&Device::Cpu)?.reshape(value.shape())?
                }
            };
            dict.push((format!("{kind}.{name}"), whole));
            Ok(())
        };
        for ((name, parameter), ParameterState { moments, master }) in parameters.iter().zip(&self.states) {
            let value = parameter.value();
            let [first, second] = moments.flat()?;
            add("first", name, &first, value)?;
            add("second", name, &second, value)?;
            if let Some(master) = master.as_ref().filter(|master| master.dtype() != value.dtype()) {
                add("master", name, &master.flatten_all()?, value)?;
            }
        }
        Ok(dict)
    }

    /// Restores [`state_dict`](Self::state_dict) and the step count. The parameters must have been
    /// restored before.
    pub(crate) fn load_state_dict(
        &mut self,
        parameters: &Parameters,
        state: &StateDict,
        steps: u64,
    ) -> Result<()> {
        let shards = self.shards;
        let own = |tensor: &Tensor| match shards {
            Some(group) => own_shard(group, tensor),
            None => tensor.flatten_all(),
        };
        for ((name, parameter), ParameterState { moments, master }) in parameters.iter().zip(&mut self.states)
        {
            let moment = |kind: &str| own(state_tensor(state, &format!("{kind}.{name}"))?);
            moments.load(&moment("first")?, &moment("second")?)?;
            if let Some(master) = master {
                let value = parameter.value();
                let whole = if master.dtype() == value.dtype() {
                    value
                } else {
                    state_tensor(state, &format!("master.{name}"))?
                };
                *master = own(whole)?
                    .to_device(value.device())?
                    .to_dtype(master.dtype())?
                    .reshape(master.shape())?
                    .force_contiguous()?;
            }
        }
        self.steps = i32::try_from(steps).map_err(Error::wrap)?;
        Ok(())
    }
}

/// Returns this rank's shard of the elements of a tensor, as a flat view.
fn own_shard(group: &dyn Collective, whole: &Tensor) -> Result<Tensor> {
    let range = group.even_shard(whole.elem_count());
    whole.flatten_all()?.narrow(0, range.start, range.len())
}

/// Writes updated master weights to the parameter, from the shards of all ranks if there are any.
fn publish(shards: Option<&dyn Collective>, parameter: &Parameter, master: &Tensor) -> Result<()> {
    let value = parameter.value();
    let rounded = master.to_dtype(value.dtype())?;
    let whole = match shards {
        None => rounded,
        Some(group) => group.all_gather_shards(&rounded, value.elem_count()).map_err(Error::wrap)?,
    };
    parameter.var().set(&whole.reshape(value.shape())?)
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

    fn fused(&self, target: &Tensor, gradient: &Tensor, m: &mut [f32], v: &mut [f32]) -> Result<()> {
        target.inplace_op1(&FusedAdamW { update: *self, gradient, moments: Mutex::new((m, v)) })
    }

    /// Returns the updated weights.
    fn composed(&self, target: &Tensor, gradient: &Tensor, m: &mut Tensor, v: &mut Tensor) -> Result<Tensor> {
        let gradient = (gradient.to_dtype(m.dtype())? * self.scale)?;
        *m = ((&*m * self.betas.0)? + (&gradient * (1.0 - self.betas.0))?)?;
        *v = ((&*v * self.betas.1)? + (gradient.sqr()? * (1.0 - self.betas.1))?)?;
        let change = ((&*m * self.rate)? / (v.sqrt()? + self.epsilon)?)?;
        (target * self.decay)? - change
    }
}

/// In-place update of an f32 parameter on the CPU, in parallel chunks.
struct FusedAdamW<'a> {
    update: ParameterUpdate,
    gradient: &'a Tensor,
    /// Behind a lock because candle passes the operation by shared reference.
    moments: Mutex<(&'a mut [f32], &'a mut [f32])>,
}

impl InplaceOp1 for FusedAdamW<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (gradient, gradient_layout) = self.gradient.storage_and_layout();
        let (CpuStorage::F32(values), Storage::Cpu(CpuStorage::F32(gradient))) = (storage, &*gradient) else {
            bail!("fused AdamW: parameter and gradient must be f32 on the CPU");
        };
        let (Some((from, to)), Some((gradient_from, gradient_to))) =
            (layout.contiguous_offsets(), gradient_layout.contiguous_offsets())
        else {
            bail!("fused AdamW: parameter and gradient must be contiguous");
        };
        let Ok(mut moments) = self.moments.lock() else { bail!("fused AdamW: an earlier step panicked") };
        let (m, v) = &mut *moments;
        let AdamWConstants { beta1, beta2, scale, rate, epsilon, decay } = self.update.constants();
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

/// Returns the Euclidean norm over all gradients. With sharded gradients, all ranks must call it.
pub(crate) fn global_norm(parameters: &Parameters, gradients: &Gradients<'_>) -> Result<f64> {
    let mut squares = Vec::new();
    for (_, parameter) in parameters.iter() {
        if let Some(gradient) = gradients.get(parameter) {
            let dtype = if gradient.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
            // Squares are summed in the tensor's own type, tensors in f64.
            squares.push(gradient.to_dtype(dtype)?.sqr()?.sum_all()?.to_dtype(DType::F64)?);
        }
    }
    // One read for all tensors: each waits for the device.
    let squares =
        if squares.is_empty() { Vec::new() } else { Tensor::stack(&squares, 0)?.to_vec1::<f64>()? };
    let square: f64 = squares.iter().sum();
    let Some(group) = gradients.shards() else { return Ok(square.sqrt()) };
    let mut total = 0.0;
    for (rank, part) in
        group.all_gather(square.to_le_bytes().to_vec()).map_err(Error::wrap)?.iter().enumerate()
    {
        let part = <[u8; 8]>::try_from(part.as_slice())
            .map_err(|_| Error::wrap(CollectiveError::OutOfStep { rank }))?;
        total += f64::from_le_bytes(part);
    }
    Ok(total.sqrt())
}

#[cfg(test)]
mod tests {
    use prospect_kernels::adamw;
    use prospect_model::{Activations, Architecture, Decoder, Dtype, Packer};

    use super::*;

    fn policy() -> Decoder {
        let architecture: Architecture = serde_json::from_str(
            r#"{"vocab_size": 16, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
                "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 32}"#,
        )
        .unwrap();
        Decoder::random(architecture, 0).unwrap().with_all_trained().unwrap()
    }

    fn gradients(policy: &Decoder) -> Gradients<'static> {
        let mut packer = Packer::default();
        let prompt = packer.add_prompt(&[1, 2, 3]);
        packer.add_completion(prompt, &[4, 5, 6], true);
        let (_, saved) = policy.forward(&packer.pack().unwrap(), Activations::Keep).unwrap();
        let mut gradients = Gradients::none(policy.parameters());
        policy.backward(saved, &[-1.0], &mut gradients).unwrap();
        gradients
    }

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
        for (state, (_, parameter)) in composed.states.iter_mut().zip(copy.parameters().iter()) {
            let zeros = parameter.value().zeros_like().unwrap();
            state.moments = Moments::OnDevice(zeros.clone(), zeros);
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
