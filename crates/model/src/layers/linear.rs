//! Linear layer y = x·Wᵀ + bias, with an optional LoRA adapter: + s·(x·Aᵀ)·Bᵀ (arXiv 2106.09685).

use candle_core::{DType, Result, Tensor};

use crate::{
    ops::{self, LoraFactors, LoraGradients},
    parameters::{Gradients, Parameter, WeightTensor},
    weights::{LinearWeight, ShardedMatrix},
};

/// Weight of a model, to be replaced.
pub(crate) enum WeightMut<'a> {
    Whole(&'a mut WeightTensor),
    Sharded(&'a mut ShardedMatrix),
}

/// LoRA adapter: `a` is `[rank, in]`, `b` is `[out, rank]`, and the weight update is scale·b·a.
///
/// With 16-bit weights the adapter is f32, so that small updates are not lost. Its products use the
/// type of the other factors.
#[derive(Debug, Clone)]
pub(crate) struct LoraAdapter {
    pub(crate) a: Parameter,
    pub(crate) b: Parameter,
    pub(crate) scale: f64,
}

/// Tensors of an adapter saved for the backward pass.
#[derive(Debug, Clone)]
pub(crate) struct SavedLora {
    /// x·Aᵀ.
    down: Tensor,
    /// A and B in the type of the products, so that the backward pass need not convert them again.
    factors: [Tensor; 2],
}

impl SavedLora {
    /// Applies `f` to the tensors that have a row per row of the input.
    pub(crate) fn map(&self, f: &impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self { down: f(&self.down)?, factors: self.factors.clone() })
    }
}

impl LoraAdapter {
    fn factors(&self, dtype: DType) -> Result<[Tensor; 2]> {
        Ok([ops::operand(self.a.value(), dtype)?, ops::operand(self.b.value(), dtype)?])
    }
}

/// Linear layer. `weight` is `[out, in]`, `bias` is `[out]`.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    pub(crate) weight: LinearWeight,
    pub(crate) bias: Option<WeightTensor>,
    pub(crate) lora: Option<LoraAdapter>,
}

impl Linear {
    pub(crate) fn frozen(weight: LinearWeight, bias: Option<Tensor>) -> Self {
        Self { weight, bias: bias.map(WeightTensor::Frozen), lora: None }
    }

    /// Returns the weights with their names in the module, without the adapter's and without
    /// quantised matrices.
    pub(crate) fn weights_mut(&mut self) -> impl Iterator<Item = (&'static str, WeightMut<'_>)> {
        let weight = match &mut self.weight {
            LinearWeight::Plain(weight) => Some(("weight", WeightMut::Whole(weight))),
            LinearWeight::Sharded(weight) => Some(("weight", WeightMut::Sharded(weight))),
            LinearWeight::Quantised(_) => None,
        };
        weight.into_iter().chain(self.bias.as_mut().map(|bias| ("bias", WeightMut::Whole(bias))))
    }

    /// Returns x·Wᵀ + bias + `residual`, plus the adapter's update with `adapter`; and what the
    /// backward pass needs of an adapter. `x` has the type of the weight; the result that of
    /// `residual`, or of `x` without one.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        adapter: bool,
    ) -> Result<(Tensor, Option<SavedLora>)> {
        let lora = match self.lora.as_ref().filter(|_| adapter) {
            Some(lora) => Some((lora.factors(x.dtype())?, lora.scale)),
            None => None,
        };
        let factors = lora.as_ref().map(|([a, b], scale)| LoraFactors { a, b, scale: *scale });
        let to = residual.map_or(x.dtype(), Tensor::dtype);
        let sum = self.bias.as_ref().map_or(to, |bias| bias.value().dtype());
        let (y, down) = ops::linear(x, &self.weight.dense()?, residual, factors, sum)?;
        let saved = down.zip(lora).map(|(down, (factors, _))| SavedLora { down, factors });
        match &self.bias {
            Some(bias) => Ok((ops::operand(&y.broadcast_add(bias.value())?, to)?, saved)),
            None => Ok((y, saved)),
        }
    }

    /// Returns d loss / d x, added to `onto`. `x` is the input and `saved` is what
    /// [`forward`](Self::forward) returned.
    pub(crate) fn backward(
        &self,
        x: &Tensor,
        saved: Option<&SavedLora>,
        grad: &Tensor,
        onto: Option<Tensor>,
        gradients: &mut Gradients<'_>,
    ) -> Result<Tensor> {
        if let Some(bias) = &self.bias {
            bias.add_gradient(gradients, || ops::sum_rows(&ops::operand(grad, bias.value().dtype())?))?;
        }
        let grad = &ops::operand(grad, x.dtype())?;
        self.weight.add_gradient(gradients, || grad.t()?.matmul(x))?;
        let weight = &self.weight.dense()?;
        let (Some(lora), Some(SavedLora { down, factors: [a, b] })) = (&self.lora, saved) else {
            return ops::products(onto, &[(grad, weight)]);
        };
        let factors = LoraFactors { a, b, scale: lora.scale };
        let LoraGradients { down: d_down, a: d_a, b: d_b } = ops::lora_gradients(x, down, grad, factors)?;
        gradients.add(&lora.b, d_b)?;
        gradients.add(&lora.a, d_a)?;
        ops::products(onto, &[(grad, weight), (&d_down, a)])
    }

    /// Returns the merged weight W + s·B·A, which gives the same results without the adapter.
    pub(crate) fn merged(&self) -> Result<Tensor> {
        match &self.lora {
            None => self.weight.dense_for_saving()?.copy(),
            Some(lora) => {
                let weight = self.weight.dense_for_saving()?;
                let [a, b] = [&lora.a, &lora.b].map(|factor| factor.value().to_device(weight.device()));
                let update = (b?.matmul(&a?)? * lora.scale)?;
                (weight.to_dtype(update.dtype())? + update)?.to_dtype(weight.dtype())
            }
        }
    }
}
