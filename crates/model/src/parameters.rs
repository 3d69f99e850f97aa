//! Trainable weights and their gradients.

use candle_core::{Result, Shape, Tensor, Var};
use prospect_dist::{Collective, Shard};

/// Trainable weight, or this rank's shard of one.
#[derive(Debug, Clone)]
pub struct Parameter {
    index: usize,
    var: Var,
    /// Shape of the whole weight.
    shape: Shape,
    /// The variable's memory as a plain tensor. Results computed from a `Var` keep their inputs
    /// alive for candle's autograd, which is not used here.
    value: Tensor,
}

impl Parameter {
    /// Returns the current value: the whole weight, or this rank's shard of it, flat.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// Returns the shape of the whole weight.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Returns true if the value is this rank's [shard](Collective::even_shard) of the weight.
    pub fn is_shard(&self) -> bool {
        self.shape != *self.value.shape()
    }

    /// Returns the whole weight on this rank's device. All ranks must call it if it is sharded.
    pub fn whole(&self, group: &dyn Collective) -> Result<Tensor> {
        if !self.is_shard() {
            return Ok(self.value.clone());
        }
        let shard = Shard { own: self.value.clone(), count: self.shape.elem_count() };
        group.all_gather_shard(shard)?.reshape(&self.shape)
    }

    /// Replaces the value by a whole weight, or by this rank's shard of it.
    pub fn set_whole(&self, whole: &Tensor, group: &dyn Collective) -> Result<()> {
        let own = if self.is_shard() { Shard::of(whole, group)?.own } else { whole.clone() };
        self.var.set(&own.to_device(self.value.device())?)
    }

    /// Returns the underlying variable, for an optimizer to update.
    pub fn var(&self) -> &Var {
        &self.var
    }

    /// Returns the index among all trainable weights.
    pub fn index(&self) -> usize {
        self.index
    }
}

/// Trainable weights of a model, with their names.
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    names: Vec<String>,
    list: Vec<Parameter>,
}

impl Parameters {
    /// Adds a trainable copy of `value` under `name`.
    pub(crate) fn add(&mut self, name: String, value: &Tensor) -> Result<Parameter> {
        self.add_shard(name, value, value.shape().clone())
    }

    /// Adds a trainable copy of this rank's shard of a weight of shape `shape`.
    pub(crate) fn add_shard(&mut self, name: String, own: &Tensor, shape: Shape) -> Result<Parameter> {
        let var = Var::from_tensor(own)?;
        let parameter = Parameter { index: self.list.len(), value: var.as_detached_tensor(), var, shape };
        self.names.push(name);
        self.list.push(parameter.clone());
        Ok(parameter)
    }

    /// Iterates over names and weights in index order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Parameter)> {
        self.names.iter().map(String::as_str).zip(&self.list)
    }

    /// Returns the number of trainable tensors.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns whether no weight is trainable.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the number of elements of all trainable weights.
    pub(crate) fn elements(&self) -> usize {
        self.list.iter().map(|parameter| parameter.shape.elem_count()).sum()
    }

    /// Returns the number of elements that this rank keeps.
    pub(crate) fn own_elements(&self) -> usize {
        self.list.iter().map(|parameter| parameter.value.elem_count()).sum()
    }

    /// Returns the bytes of one element; 0 if no weight is trainable.
    pub(crate) fn element_bytes(&self) -> usize {
        self.list.first().map_or(0, |parameter| parameter.value.dtype().size_in_bytes())
    }
}

/// Gradients d loss / d parameter, summed over backward passes.
#[derive(Debug)]
pub struct Gradients<'a> {
    sums: Vec<Option<Tensor>>,
    shards: Option<&'a dyn Collective>,
}

impl<'a> Gradients<'a> {
    /// Creates an empty set, with no gradient for any of `parameters`.
    pub fn none(parameters: &Parameters) -> Self {
        Self { sums: vec![None; parameters.len()], shards: None }
    }

    /// Creates an empty set that sums gradients over all ranks as soon as they are computed, and
    /// keeps only this rank's [shard](Collective::even_shard) of each sum: flat, in f32.
    ///
    /// All ranks must run the same number of backward passes.
    pub fn sharded(parameters: &Parameters, group: &'a dyn Collective) -> Self {
        Self { shards: Some(group), ..Self::none(parameters) }
    }

    /// Returns the group that the gradients are sharded over.
    pub fn shards(&self) -> Option<&'a dyn Collective> {
        self.shards
    }

    /// Returns the gradient of a parameter; None before its first backward pass.
    pub fn get(&self, parameter: &Parameter) -> Option<&Tensor> {
        self.sums.get(parameter.index)?.as_ref()
    }

    /// Replaces the gradient of a parameter.
    pub fn set(&mut self, parameter: &Parameter, gradient: Tensor) {
        self.sums[parameter.index] = Some(gradient);
    }

    pub(crate) fn add(&mut self, parameter: &Parameter, gradient: Tensor) -> Result<()> {
        let gradient = match self.shards {
            Some(group) => group.reduce_scatter_tensor(&gradient)?,
            None if gradient.dtype() == parameter.value().dtype() => gradient,
            None => gradient.to_dtype(parameter.value().dtype())?,
        };
        let slot = &mut self.sums[parameter.index];
        *slot = Some(match slot.take() {
            Some(sum) => (sum + gradient)?,
            None => gradient,
        });
        Ok(())
    }
}

/// Frozen or trained weight.
#[derive(Debug, Clone)]
pub(crate) enum WeightTensor {
    Frozen(Tensor),
    Trained(Parameter),
    /// Whole weight, gathered for a pass from shards that are trained.
    Gathered(Tensor, Parameter),
}

impl WeightTensor {
    pub(crate) fn value(&self) -> &Tensor {
        match self {
            Self::Frozen(value) | Self::Gathered(value, _) => value,
            Self::Trained(parameter) => parameter.value(),
        }
    }

    /// Returns the bytes of a frozen weight; 0 if it is trained.
    pub(crate) fn frozen_bytes(&self) -> usize {
        match self {
            Self::Frozen(value) => value.elem_count() * value.dtype().size_in_bytes(),
            Self::Trained(_) | Self::Gathered(..) => 0,
        }
    }

    /// Adds the gradient from `compute` if the weight is trained.
    pub(crate) fn add_gradient(
        &self,
        gradients: &mut Gradients<'_>,
        compute: impl FnOnce() -> Result<Tensor>,
    ) -> Result<()> {
        match self {
            Self::Frozen(_) => Ok(()),
            Self::Trained(parameter) | Self::Gathered(_, parameter) => gradients.add(parameter, compute()?),
        }
    }
}
