//! Linear layer y = x·Wᵀ + bias, with an optional LoRA adapter: + s·(x·Aᵀ)·Bᵀ (arXiv 2106.09685).

use candle_core::{DType, Result, Tensor};

use crate::{
    ops::{self, LoraFactors},
    parameters::{Gradients, Parameter, WeightTensor},
    weights::LinearWeight,
};

/// LoRA adapter: `a` is `[rank, in]`, `b` is `[out, rank]`, and the weight update is scale·b·a.
///
/// With 16-bit weights the adapter is f32, so that small updates are not lost. Its products use the
/// type of the activations.
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
    /// quantised or sharded matrices.
    pub(crate) fn weights_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut WeightTensor)> {
        let weight = match &mut self.weight {
            LinearWeight::Plain(weight) => Some(("weight", weight)),
            LinearWeight::Quantised(_) | LinearWeight::Sharded(_) => None,
        };
        weight.into_iter().chain(self.bias.as_mut().map(|bias| ("bias", bias)))
    }

    /// Returns x·Wᵀ + bias + `residual`, plus the adapter's update with `adapter`; and x·Aᵀ if
    /// there is an adapter.
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

    /// Returns d loss / d x, added to `onto`. `x` is the input and `down` is the x·Aᵀ that
    /// [`forward`](Self::forward) returned.
    pub(crate) fn backward(
        &self,
        x: &Tensor,
        down: Option<&Tensor>,
        grad: &Tensor,
        onto: Option<Tensor>,
        gradients: &mut Gradients<'_>,
    ) -> Result<Tensor> {
        self.weight.add_gradient(gradients, || grad.t()?.matmul(x))?;
        if let Some(bias) = &self.bias {
            bias.add_gradient(gradients, || ops::sum_rows(grad))?;
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
