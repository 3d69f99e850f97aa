//! Trainable weights and their gradients.

use candle_core::{Error, Result, Tensor, Var};
use prospect_dist::Collective;

/// Trainable weight.
#[derive(Debug, Clone)]
pub struct Parameter {
    index: usize,
    var: Var,
    /// The variable's memory as a plain tensor. Results computed from a `Var` keep their inputs
    /// alive for candle's autograd, which is not used here.
    value: Tensor,
}

impl Parameter {
    /// Returns the current value.
    pub fn value(&self) -> &Tensor {
        &self.value
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
        let var = Var::from_tensor(value)?;
        let parameter = Parameter { index: self.list.len(), value: var.as_detached_tensor(), var };
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

    /// Returns the bytes of all trainable weights.
    pub(crate) fn bytes(&self) -> usize {
        self.list
            .iter()
            .map(|parameter| parameter.value().elem_count() * parameter.value().dtype().size_in_bytes())
            .sum()
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
            Some(group) => group.reduce_scatter_tensor(&gradient).map_err(Error::wrap)?,
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
}

impl WeightTensor {
    pub(crate) fn value(&self) -> &Tensor {
        match self {
            Self::Frozen(value) => value,
            Self::Trained(parameter) => parameter.value(),
        }
    }

    /// Returns the bytes of a frozen weight; 0 if it is trained.
    pub(crate) fn frozen_bytes(&self) -> usize {
        match self {
            Self::Frozen(value) => value.elem_count() * value.dtype().size_in_bytes(),
            Self::Trained(_) => 0,
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
            Self::Trained(parameter) => gradients.add(parameter, compute()?),
        }
    }
}
