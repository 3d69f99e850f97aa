//! A decoder block: attention and a gated MLP, each after a norm and beside a residual connection.

use candle_core::{Result, Tensor};

use super::{Linear, Norm};
use crate::{
    ops::{self, Heads, RotaryPairs},
    pack::Tree,
    parameters::Gradients,
};

/// One block of the Llama family.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) attention_norm: Norm,
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    pub(crate) o: Linear,
    pub(crate) mlp_norm: Norm,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// What all blocks share in a pass over a batch.
pub(crate) struct BlockContext<'a> {
    pub(crate) trees: &'a [Tree],
    /// cos and sin of the rotation of every row, `[rows, head_dim/2]`.
    pub(crate) rotation: (Tensor, Tensor),
    pub(crate) pairs: RotaryPairs,
    pub(crate) heads: Heads,
    pub(crate) adapter: bool,
}

/// What the backward pass needs of a block. Norms and the activation are cheap and computed again.
pub(crate) struct SavedBlock {
    x: Tensor,
    x_inverse_rms: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attended: Tensor,
    middle: Tensor,
    middle_inverse_rms: Tensor,
    gate: Tensor,
    up: Tensor,
    /// x·Aᵀ of q, k, v, o, gate, up, down.
    lora: [Option<Tensor>; 7],
}

impl SavedBlock {
    /// Keeps only the first `rows` rows.
    pub(crate) fn narrow(self, rows: usize) -> Result<Self> {
        let narrow = |x: Tensor| x.narrow(0, 0, rows);
        let mut lora = self.lora;
        for down in &mut lora {
            *down = down.take().map(narrow).transpose()?;
        }
        Ok(Self {
            x: narrow(self.x)?,
            x_inverse_rms: narrow(self.x_inverse_rms)?,
            q: narrow(self.q)?,
            k: narrow(self.k)?,
            v: narrow(self.v)?,
            attended: narrow(self.attended)?,
            middle: narrow(self.middle)?,
            middle_inverse_rms: narrow(self.middle_inverse_rms)?,
            gate: narrow(self.gate)?,
            up: narrow(self.up)?,
            lora,
        })
    }
}

impl Block {
    /// The linear layers with their names in Hugging Face checkpoints.
    pub(crate) fn linears_mut(&mut self) -> [(&'static str, &mut Linear); 7] {
        [
            ("self_attn.q_proj", &mut self.q),
            ("self_attn.k_proj", &mut self.k),
            ("self_attn.v_proj", &mut self.v),
            ("self_attn.o_proj", &mut self.o),
            ("mlp.gate_proj", &mut self.gate),
            ("mlp.up_proj", &mut self.up),
            ("mlp.down_proj", &mut self.down),
        ]
    }

    /// The norms with their names in Hugging Face checkpoints.
    pub(crate) fn norms_mut(&mut self) -> [(&'static str, &mut Norm); 2] {
        [("input_layernorm", &mut self.attention_norm), ("post_attention_layernorm", &mut self.mlp_norm)]
    }

    pub(crate) fn forward(&self, x: &Tensor, context: &BlockContext<'_>) -> Result<(Tensor, SavedBlock)> {
        let BlockContext { trees, rotation: (cos, sin), pairs, heads, adapter } = context;
        let (normed, x_inverse_rms) = self.attention_norm.forward(x)?;
        let (q, q_lora) = self.q.forward(&normed, *adapter)?;
        let (k, k_lora) = self.k.forward(&normed, *adapter)?;
        let (v, v_lora) = self.v.forward(&normed, *adapter)?;
        let q = ops::rotary(&q, cos, sin, *pairs, false)?;
        let k = ops::rotary(&k, cos, sin, *pairs, false)?;
        let attended = ops::attention(&q, &k, &v, trees, *heads)?;
        let (projected, o_lora) = self.o.forward(&attended, *adapter)?;
        let middle = (x + projected)?;

        let (normed, middle_inverse_rms) = self.mlp_norm.forward(&middle)?;
        let (gate, gate_lora) = self.gate.forward(&normed, *adapter)?;
        let (up, up_lora) = self.up.forward(&normed, *adapter)?;
        let (projected, down_lora) = self.down.forward(&ops::gated_silu(&gate, &up)?, *adapter)?;
        let y = (&middle + projected)?;
        let lora = [q_lora, k_lora, v_lora, o_lora, gate_lora, up_lora, down_lora];
        let x = x.clone();
        Ok((
            y,
            SavedBlock { x, x_inverse_rms, q, k, v, attended, middle, middle_inverse_rms, gate, up, lora },
        ))
    }

    pub(crate) fn backward(
        &self,
        saved: SavedBlock,
        grad: &Tensor,
        context: &BlockContext<'_>,
        gradients: &mut Gradients,
    ) -> Result<Tensor> {
        let BlockContext { trees, rotation: (cos, sin), pairs, heads, .. } = context;
        let SavedBlock { x, x_inverse_rms, q, k, v, attended, middle, middle_inverse_rms, gate, up, lora } =
            saved;
        let [q_lora, k_lora, v_lora, o_lora, gate_lora, up_lora, down_lora] = lora;

        let active = ops::gated_silu(&gate, &up)?;
        let d_active = self.down.backward(&active, down_lora.as_ref(), grad, gradients)?;
        let (d_gate, d_up) = ops::gated_silu_backward(&gate, &up, &d_active)?;
        drop((active, d_active, gate, up));
        let (normed, _) = self.mlp_norm.forward(&middle)?;
        let d_normed = (self.gate.backward(&normed, gate_lora.as_ref(), &d_gate, gradients)?
            + self.up.backward(&normed, up_lora.as_ref(), &d_up, gradients)?)?;
        let d_middle =
            (grad + self.mlp_norm.backward(&middle, &middle_inverse_rms, &d_normed, gradients)?)?;

        let d_attended = self.o.backward(&attended, o_lora.as_ref(), &d_middle, gradients)?;
        let (d_q, d_k, d_v) = ops::attention_backward(&q, &k, &v, &d_attended, trees, *heads)?;
        let d_q = ops::rotary(&d_q, cos, sin, *pairs, true)?;
        let d_k = ops::rotary(&d_k, cos, sin, *pairs, true)?;
        let (normed, _) = self.attention_norm.forward(&x)?;
        let d_normed = ((self.q.backward(&normed, q_lora.as_ref(), &d_q, gradients)?
            + self.k.backward(&normed, k_lora.as_ref(), &d_k, gradients)?)?
            + self.v.backward(&normed, v_lora.as_ref(), &d_v, gradients)?)?;
        d_middle + self.attention_norm.backward(&x, &x_inverse_rms, &d_normed, gradients)?
    }
}
