//! y = x·Wᵀ + bias, with a low-rank adapter beside it: + s·(x·Aᵀ)·Bᵀ (arXiv 2106.09685).

use candle_core::{DType, Result, Tensor};

use crate::{
    ops::{self, LoraFactors},
    parameters::{Gradients, Parameter, WeightTensor},
    weights::LinearWeight,
};

/// A low-rank adapter: `a` is `[rank, in]`, `b` `[out, rank]`, the update of the weight is scale·b·a. Beside weights of 16 bits
/// it is in f32, so that small updates are not lost, and takes the type of the activations for its products.
#[derive(Debug, Clone)]
pub(crate) struct LoraAdapter {
    pub(crate) a: Parameter,
    pub(crate) b: Parameter,
    pub(crate) scale: f64,
}

impl LoraAdapter {
    fn factors(&self, dtype: DType) -> Result<[Tensor; 2]> {
        Ok([self.a.value().to_dtype(dtype)?, self.b.value().to_dtype(dtype)?])
    }
}

/// A linear layer; `weight` is `[out, in]`, `bias` `[out]`.
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

    /// The weights with their names within the module, without the adapter's and without a matrix that is not plain.
    pub(crate) fn weights_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut WeightTensor)> {
        let weight = match &mut self.weight {
            LinearWeight::Plain(weight) => Some(("weight", weight)),
            LinearWeight::Quantised(_) | LinearWeight::Sharded(_) => None,
        };
        weight.into_iter().chain(self.bias.as_mut().map(|bias| ("bias", bias)))
    }

    /// x·Wᵀ and the bias, plus `residual`, plus, with `adapter`, the adapter's part; and x·Aᵀ if there was one.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        adapter: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let lora = self.lora.as_ref().filter(|_| adapter);
        let factors = match lora {
            Some(lora) => Some((lora.factors(x.dtype())?, lora.scale)),
            None => None,
        };
        let factors = factors.as_ref().map(|([a, b], scale)| LoraFactors { a, b, scale: *scale });
        let (y, down) = ops::linear(x, &self.weight.dense()?, residual, factors)?;
        match &self.bias {
            Some(bias) => Ok((y.broadcast_add(bias.value())?, down)),
            None => Ok((y, down)),
        }
    }

    /// d loss / d x, added to `onto`. `x` is the input and `down` what [`forward`](Self::forward) returned beside its
    /// result.
    pub(crate) fn backward(
        &self,
        x: &Tensor,
        down: Option<&Tensor>,
        grad: &Tensor,
        onto: Option<Tensor>,
        gradients: &mut Gradients,
    ) -> Result<Tensor> {
        self.weight.add_gradient(gradients, || grad.t()?.matmul(x))?;
        if let Some(bias) = &self.bias {
            bias.add_gradient(gradients, || grad.sum(0))?;
        }
        let weight = &self.weight.dense()?;
        let (Some(lora), Some(down)) = (&self.lora, down) else {
            return ops::products(onto, &[(grad, weight)]);
        };
        let [a, b] = lora.factors(grad.dtype())?;
        let d_down = (grad.matmul(&b)? * lora.scale)?;
        gradients.add(&lora.b, (grad.t()?.matmul(down)? * lora.scale)?)?;
        gradients.add(&lora.a, d_down.t()?.matmul(x)?)?;
        ops::products(onto, &[(grad, weight), (&d_down, &a)])
    }

    /// W + s·B·A: the weight that gives the same results without the adapter.
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
