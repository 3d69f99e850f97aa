//! State of an optimizer: moments, and the weights that updates are added to, of whole parameters
//! or of this rank's shards of them.

use std::sync::Mutex;

use candle_core::{CpuStorage, DType, Device, Error, InplaceOp1, Layout, Result, Storage, Tensor, bail};
use prospect_dist::{Collective, CollectiveError, Shard};
use prospect_model::{Gradients, Parameter, Parameters, device::retry_with_room};

use super::{StateDict, state_tensor};

/// Elements of a chunk of a fused update.
pub(super) const CHUNK: usize = 1 << 14;

/// The `N` moments of one parameter.
pub(super) enum Moments<const N: usize> {
    /// f32 on the CPU: updated in one fused loop.
    Fused([Vec<f32>; N]),
    /// Any device: updated by one kernel for all parameters if it is enabled, else by candle
    /// operations.
    OnDevice([Tensor; N]),
}

impl<const N: usize> Moments<N> {
    /// Creates zero moments for updates of `target`.
    fn zeros(target: &Tensor) -> Result<Self> {
        if matches!(target.device(), Device::Cpu) && target.dtype() == DType::F32 {
            return Ok(Self::Fused(std::array::from_fn(|_| vec![0.0; target.elem_count()])));
        }
        let zeros = |_| Tensor::zeros(target.shape(), target.dtype(), target.device());
        Ok(Self::OnDevice(array((0..N).map(zeros).collect::<Result<_>>()?)?))
    }

    /// Returns the moments as flat tensors.
    fn flat(&self) -> Result<[Tensor; N]> {
        let flat: Vec<Tensor> = match self {
            Self::Fused(moments) => {
                let tensor = |moment: &Vec<f32>| Tensor::from_slice(moment, moment.len(), &Device::Cpu);
                moments.iter().map(tensor).collect::<Result<_>>()?
            }
            Self::OnDevice(moments) => moments.iter().map(Tensor::flatten_all).collect::<Result<_>>()?,
        };
        array(flat)
    }

    /// Replaces the moments by flat tensors.
    fn load(&mut self, flat: [Tensor; N]) -> Result<()> {
        match self {
            Self::Fused(moments) => {
                for (moment, flat) in moments.iter_mut().zip(flat) {
                    *moment = flat.to_vec1()?;
                }
            }
            Self::OnDevice(moments) => {
                for (moment, flat) in moments.iter_mut().zip(flat) {
                    *moment = flat.to_device(moment.device())?.reshape(moment.shape())?;
                }
            }
        }
        Ok(())
    }
}

fn array<T, const N: usize>(items: Vec<T>) -> Result<[T; N]> {
    items.try_into().map_err(|_| Error::msg("an optimizer has another number of moments"))
}

/// Tensors of a parameter whose moments are [`Moments::OnDevice`].
pub(super) struct DeviceTensors<'a, const N: usize> {
    pub(super) value: &'a Tensor,
    pub(super) gradient: &'a Tensor,
    pub(super) moments: [&'a Tensor; N],
}

/// State of one parameter, or of this rank's shard of it.
pub(super) struct ParameterState<const N: usize> {
    pub(super) moments: Moments<N>,
    /// Weights that updates are added to, if they are not the parameter itself: in f32 for a
    /// half-precision parameter, whose precision an update of 10⁻⁵ does not reach.
    master: Option<Tensor>,
}

/// State of all parameters, with `N` moments for each.
pub(super) struct OptimizerState<'a, const N: usize> {
    pub(super) parameters: Vec<ParameterState<N>>,
    /// Group over which the state is sharded.
    shards: Option<&'a dyn Collective>,
}

impl<'a, const N: usize> OptimizerState<'a, N> {
    /// Creates zero moments, and master weights equal to the parameters. With `shards`, each rank
    /// keeps its [shard](Collective::even_shard) of both, and steps along
    /// [sharded gradients](Gradients::sharded).
    pub(super) fn new(parameters: &Parameters, shards: Option<&'a dyn Collective>) -> Result<Self> {
        let states = parameters.iter().map(|(_, parameter)| {
            let value = parameter.value();
            let dtype = if value.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
            let master = match shards {
                Some(group) if !parameter.is_shard() => {
                    Some(Shard::of(value, group)?.own.to_dtype(dtype)?.force_contiguous()?)
                }
                _ if value.dtype() != dtype => Some(value.to_dtype(dtype)?),
                _ => None,
            };
            Ok(ParameterState { moments: Moments::zeros(master.as_ref().unwrap_or(value))?, master })
        });
        Ok(Self { parameters: states.collect::<Result<_>>()?, shards })
    }

    /// Updates every parameter that has a gradient.
    ///
    /// `update_all` gets the weights, gradients and moments of all parameters whose moments are
    /// tensors; it changes them in place and returns true, or changes nothing. Parameters that it
    /// does not change are updated one by one: `update` returns the new weights, or None if it has
    /// changed them in place. Both must have changed nothing when they run out of memory: they are
    /// then called again.
    pub(super) fn update(
        &mut self,
        parameters: &Parameters,
        gradients: &Gradients<'_>,
        update_all: impl Fn(&[DeviceTensors<'_, N>]) -> Result<bool>,
        mut update: impl FnMut(&Tensor, &Tensor, &mut Moments<N>) -> Result<Option<Tensor>>,
    ) -> Result<()> {
        let on_device = parameters.iter().zip(&self.parameters).filter_map(|((_, parameter), state)| {
            let Moments::OnDevice(moments) = &state.moments else { return None };
            let value = state.master.as_ref().unwrap_or(parameter.value());
            Some(DeviceTensors { value, gradient: gradients.get(parameter)?, moments: moments.each_ref() })
        });
        let on_device: Vec<_> = on_device.collect();
        let updated_all = match on_device.first() {
            Some(first) => retry_with_room(first.value.device(), || update_all(&on_device))?,
            None => false,
        };
        for ((_, parameter), state) in parameters.iter().zip(&mut self.parameters) {
            let Some(gradient) = gradients.get(parameter) else { continue };
            let ParameterState { moments, master } = state;
            let device = parameter.value().device();
            let updated = match moments {
                Moments::OnDevice(_) if updated_all => None,
                _ => {
                    let weights = master.as_ref().unwrap_or(parameter.value());
                    retry_with_room(device, || update(weights, gradient, moments))?
                }
            };
            match (master, updated) {
                (None, None) => {}
                (None, Some(value)) => parameter.var().set(&value)?,
                (Some(master), updated) => {
                    if let Some(updated) = updated {
                        *master = updated;
                    }
                    publish(self.shards.filter(|_| !parameter.is_shard()), parameter, master)?;
                }
            }
        }
        Ok(())
    }

    /// Returns each moment as `KIND.NAME`, with `kinds` in the order of the moments, and the master
    /// weights of half-precision parameters as `master.NAME`: whole tensors, whether the state is
    /// sharded or not. With shards, all ranks must call it, and only rank 0 gets the tensors.
    pub(super) fn state_dict(
        &self,
        parameters: &Parameters,
        kinds: [&str; N],
    ) -> Result<Vec<(String, Tensor)>> {
        let mut dict = Vec::with_capacity((N + 1) * self.parameters.len());
        let mut add = |kind: &str, name: &str, own: Tensor, parameter: &Parameter| -> Result<()> {
            let shape = parameter.shape();
            let whole = match self.shards {
                None => own.reshape(shape)?,
                Some(group) => {
                    let shard = Shard { own, count: shape.elem_count() };
                    let whole = group.all_gather_shard(shard)?;
                    if group.rank() > 0 {
                        return Ok(());
                    }
                    whole.to_device(&Device::Cpu)?.reshape(shape)?
                }
            };
            dict.push((format!("{kind}.{name}"), whole));
            Ok(())
        };
        for ((name, parameter), ParameterState { moments, master }) in parameters.iter().zip(&self.parameters)
        {
            for (kind, moment) in kinds.iter().zip(moments.flat()?) {
                add(kind, name, moment, parameter)?;
            }
            let dtype = parameter.value().dtype();
            if let Some(master) = master.as_ref().filter(|master| master.dtype() != dtype) {
                add("master", name, master.flatten_all()?, parameter)?;
            }
        }
        Ok(dict)
    }

    /// Restores [`state_dict`](Self::state_dict). The parameters must have been restored before.
    pub(super) fn load_state_dict(
        &mut self,
        parameters: &Parameters,
        state: &StateDict,
        kinds: [&str; N],
    ) -> Result<()> {
        let shards = self.shards;
        let own = |tensor: &Tensor| match shards {
            Some(group) => Ok(Shard::of(tensor, group)?.own),
            None => tensor.flatten_all(),
        };
        for ((name, parameter), ParameterState { moments, master }) in
            parameters.iter().zip(&mut self.parameters)
        {
            let moment = |kind: &&str| own(state_tensor(state, &format!("{kind}.{name}"))?);
            moments.load(array(kinds.iter().map(moment).collect::<Result<_>>()?)?)?;
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
        Ok(())
    }
}

/// Writes updated master weights to the parameter, from the shards of all ranks with `shards`.
fn publish(shards: Option<&dyn Collective>, parameter: &Parameter, master: &Tensor) -> Result<()> {
    let value = parameter.value();
    let device = value.device();
    let rounded = retry_with_room(device, || master.to_dtype(value.dtype()))?;
    let whole = match shards {
        None => rounded,
        Some(group) => {
            let shard = Shard { own: rounded, count: value.elem_count() };
            match group.device_collective() {
                // Other ranks do not wait for this one before it has the memory.
                Some(devices) => {
                    let shard = [shard];
                    let gather = retry_with_room(device, || Ok(devices.prepare_gather(&shard)?))?;
                    gather()?.pop().ok_or(CollectiveError::OutOfStep { rank: group.rank() })?
                }
                None => group.all_gather_shard(shard)?,
            }
        }
    };
    parameter.var().set(&whole.reshape(value.shape())?)
}

/// Calls `update` with f32 weights on the CPU, to be changed in place, and their gradient.
pub(super) fn update_in_place(
    weights: &Tensor,
    gradient: &Tensor,
    update: impl FnMut(&mut [f32], &[f32]),
) -> Result<()> {
    weights.inplace_op1(&InPlace { gradient, update: Mutex::new(update) })
}

/// In-place update of f32 weights on the CPU.
struct InPlace<'a, F> {
    gradient: &'a Tensor,
    /// Behind a lock because candle passes the operation by shared reference.
    update: Mutex<F>,
}

impl<F: FnMut(&mut [f32], &[f32])> InplaceOp1 for InPlace<'_, F> {
    fn name(&self) -> &'static str {
        "optimizer"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (gradient, gradient_layout) = self.gradient.storage_and_layout();
        let (CpuStorage::F32(values), Storage::Cpu(CpuStorage::F32(gradient))) = (storage, &*gradient) else {
            bail!("fused update: parameter and gradient must be f32 on the CPU");
        };
        let (Some((from, to)), Some((gradient_from, gradient_to))) =
            (layout.contiguous_offsets(), gradient_layout.contiguous_offsets())
        else {
            bail!("fused update: parameter and gradient must be contiguous");
        };
        let Ok(mut update) = self.update.lock() else { bail!("fused update: an earlier step panicked") };
        update(&mut values[from..to], &gradient[gradient_from..gradient_to]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{
        super::tests::{gradients, policy},
        *,
    };
    use crate::step::tests::out_of_memory;

    #[test]
    fn an_update_that_runs_out_of_memory_goes_on_where_it_stopped() {
        let policy = policy();
        let gradients = gradients(&policy);
        let mut state = OptimizerState::<1>::new(policy.parameters(), None).unwrap();
        let starts: Vec<Tensor> =
            policy.parameters().iter().map(|(_, parameter)| parameter.value().copy().unwrap()).collect();
        let no_kernel = |_: &[DeviceTensors<'_, 1>]| Ok(false);
        // The third and the fourth call fail, which are for two parameters, or for one.
        for (failures, ends) in [([3, 5], true), ([3, 4], false)] {
            let calls = Cell::new(0);
            let updated = state.update(policy.parameters(), &gradients, no_kernel, |weights, _, _| {
                calls.set(calls.get() + 1);
                if failures.contains(&calls.get()) {
                    return Err(out_of_memory());
                }
                (weights + 1.0).map(Some)
            });
            assert_eq!(updated.is_ok(), ends, "{failures:?}");
            if ends {
                for (start, (name, parameter)) in starts.iter().zip(policy.parameters().iter()) {
                    let change = (parameter.value() - start).unwrap().flatten_all().unwrap();
                    let change = change.to_vec1::<f32>().unwrap();
                    assert!(change.iter().all(|change| (change - 1.0).abs() < 1e-6), "{name}: {change:?}");
                }
            }
        }
        // Other errors are not tried again.
        let calls = Cell::new(0);
        let failed = state.update(policy.parameters(), &gradients, no_kernel, |_, _, _| {
            calls.set(calls.get() + 1);
            Err(Error::msg("another error"))
        });
        assert!(failed.is_err() && calls.get() == 1);
    }
}
