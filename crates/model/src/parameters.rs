//! Trainable weights and their gradients.

use candle_core::{Result, Tensor, Var};

/// A trainable weight.
#[derive(Debug, Clone)]
pub struct Parameter {
    index: usize,
    var: Var,
    /// The variable's memory as a plain tensor. What is computed of a variable holds on to all that it was computed from, for
    /// an autograd that is not used here.
    value: Tensor,
}

impl Parameter {
    /// The present value.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// The variable behind it, for an optimizer to write.
    pub fn var(&self) -> &Var {
        &self.var
    }

    /// Its place among all trainable weights.
    pub fn index(&self) -> usize {
        self.index
    }
}

/// All trainable weights of a model, with their names.
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    names: Vec<String>,
    list: Vec<Parameter>,
}

impl Parameters {
    /// Makes `value` trainable under `name`.
    pub(crate) fn add(&mut self, name: String, value: &Tensor) -> Result<Parameter> {
        let var = Var::from_tensor(value)?;
        let parameter = Parameter { index: self.list.len(), value: var.as_detached_tensor(), var };
        self.names.push(name);
        self.list.push(parameter.clone());
        Ok(parameter)
    }

    /// Names and weights, in the order of their indices.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Parameter)> {
        self.names.iter().map(String::as_str).zip(&self.list)
    }

    /// Number of trainable tensors.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether nothing is trainable.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Bytes of the trainable numbers.
    pub(crate) fn bytes(&self) -> usize {
        self.list
            .iter()
            .map(|parameter| parameter.value().elem_count() * parameter.value().dtype().size_in_bytes())
            .sum()
    }
}

/// d loss / d parameter, summed over backward passes.
#[derive(Debug)]
pub struct Gradients(Vec<Option<Tensor>>);

impl Gradients {
    /// No gradient yet for any of `parameters`.
    pub fn none(parameters: &Parameters) -> Self {
        Self(vec![None; parameters.len()])
    }

    /// The gradient of a parameter, if any pass gave it one.
    pub fn get(&self, parameter: &Parameter) -> Option<&Tensor> {
        self.0.get(parameter.index)?.as_ref()
    }

    /// Puts a gradient in place of what there was.
    pub fn set(&mut self, parameter: &Parameter, gradient: Tensor) {
        self.0[parameter.index] = Some(gradient);
    }

    pub(crate) fn add(&mut self, parameter: &Parameter, gradient: Tensor) -> Result<()> {
        let dtype = parameter.value().dtype();
        let gradient = if gradient.dtype() == dtype { gradient } else { gradient.to_dtype(dtype)? };
        let slot = &mut self.0[parameter.index];
        *slot = Some(match slot.take() {
            Some(sum) => (sum + gradient)?,
            None => gradient,
        });
        Ok(())
    }
}

/// A weight that is trained, or not.
#[derive(Debug, Clone)]
pub(crate) enum Weight {
    Frozen(Tensor),
    Trained(Parameter),
}

impl Weight {
    pub(crate) fn value(&self) -> &Tensor {
        match self {
            Self::Frozen(value) => value,
            Self::Trained(parameter) => parameter.value(),
        }
    }

    /// Bytes that a frozen weight takes; none if it is trained.
    pub(crate) fn frozen_bytes(&self) -> usize {
        match self {
            Self::Frozen(value) => value.elem_count() * value.dtype().size_in_bytes(),
            Self::Trained(_) => 0,
        }
    }

    /// Adds the gradient that `compute` gives, if the weight is trained.
    pub(crate) fn add_gradient(
        &self,
        gradients: &mut Gradients,
        compute: impl FnOnce() -> Result<Tensor>,
    ) -> Result<()> {
        match self {
            Self::Frozen(_) => Ok(()),
            Self::Trained(parameter) => gradients.add(parameter, compute()?),
        }
    }
}
