//! MLP of a block.

use candle_core::{Result, Tensor, bail};

use super::{Linear, linear::SavedLora};
use crate::{
    architecture::{GateKind, Mlp},
    ops,
    parameters::Gradients,
};

/// Tensors saved for the backward pass, besides the input: the inputs of the activation, and those
/// of the adapter of each layer. The activation is cheap, so it is recomputed.
pub(crate) enum SavedMlp {
    Gated { gate: Tensor, up: Tensor, lora: [Option<SavedLora>; 3] },
    Plain { up: Tensor, lora: [Option<SavedLora>; 2] },
}

impl SavedMlp {
    /// Applies `f` to all tensors.
    pub(crate) fn map(self, f: &impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let maybe = |lora: &Option<SavedLora>| lora.as_ref().map(|lora| lora.map(f)).transpose();
        Ok(match self {
            Self::Gated { gate, up, lora: [a, b, c] } => {
                Self::Gated { gate: f(&gate)?, up: f(&up)?, lora: [maybe(&a)?, maybe(&b)?, maybe(&c)?] }
            }
            Self::Plain { up, lora: [a, b] } => Self::Plain { up: f(&up)?, lora: [maybe(&a)?, maybe(&b)?] },
        })
    }
}

/// Returns act(gate)·up.
fn gated(gate: &Tensor, up: &Tensor, kind: GateKind) -> Result<Tensor> {
    match kind {
        GateKind::Silu => ops::gated_silu(gate, up),
        GateKind::Gelu(gelu) => ops::gated_gelu(gate, up, gelu),
    }
}

impl Mlp<Linear> {
    /// Returns the MLP of each row of `x`, plus `residual`.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        adapter: bool,
    ) -> Result<(Tensor, SavedMlp)> {
        match self {
            Self::Gated([gate, up, down], kind) => {
                let (gate, gate_lora) = gate.forward(x, None, adapter)?;
                let (up, up_lora) = up.forward(x, None, adapter)?;
                let (y, down_lora) = down.forward(&gated(&gate, &up, *kind)?, residual, adapter)?;
                Ok((y, SavedMlp::Gated { gate, up, lora: [gate_lora, up_lora, down_lora] }))
            }
            Self::Plain([up, down], gelu) => {
                let (up, up_lora) = up.forward(x, None, adapter)?;
                let (y, down_lora) = down.forward(&ops::gelu(&up, *gelu)?, residual, adapter)?;
                Ok((y, SavedMlp::Plain { up, lora: [up_lora, down_lora] }))
            }
        }
    }

    pub(crate) fn backward(
        &self,
        x: &Tensor,
        saved: SavedMlp,
        grad: &Tensor,
        gradients: &mut Gradients<'_>,
    ) -> Result<Tensor> {
        match (self, saved) {
            (Self::Gated(linears, kind), SavedMlp::Gated { gate, up, lora }) => {
                let active = gated(&gate, &up, *kind)?;
                let d_active = linears[2].backward(&active, lora[2].as_ref(), grad, None, gradients)?;
                let (d_gate, d_up) = match kind {
                    GateKind::Silu => ops::gated_silu_backward(&gate, &up, &d_active)?,
                    GateKind::Gelu(gelu) => ops::gated_gelu_backward(&gate, &up, &d_active, *gelu)?,
                };
                drop((active, d_active, gate, up));
                let d_x = linears[0].backward(x, lora[0].as_ref(), &d_gate, None, gradients)?;
                linears[1].backward(x, lora[1].as_ref(), &d_up, Some(d_x), gradients)
            }
            (Self::Plain(linears, gelu), SavedMlp::Plain { up, lora }) => {
                let active = ops::gelu(&up, *gelu)?;
                let d_active = linears[1].backward(&active, lora[1].as_ref(), grad, None, gradients)?;
                let d_up = ops::gelu_backward(&up, &d_active, *gelu)?;
                drop((active, d_active, up));
                linears[0].backward(x, lora[0].as_ref(), &d_up, None, gradients)
            }
            _ => bail!("what was saved is of an MLP of another form"),
        }
    }
}
