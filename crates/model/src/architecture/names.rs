//! Names of the modules of a decoder in Hugging Face checkpoints.

use super::{Architecture, Family, Mlp, MlpKind, NormPlacement, Projections};

/// Module names; those of a block are without the block's prefix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TensorNames {
    pub(crate) embedding: &'static str,
    blocks: &'static str,
    pub(crate) norm: &'static str,
    pub(crate) head: &'static str,
    pub(crate) attention_norm: &'static str,
    pub(crate) mlp_norm: &'static str,
    /// Norms after attention and after the MLP, if there are any.
    pub(crate) post_norms: Option<[&'static str; 2]>,
    pub(crate) projections: Projections<&'static str>,
    pub(crate) output: &'static str,
    pub(crate) query_norm: &'static str,
    pub(crate) key_norm: &'static str,
    pub(crate) mlp: Mlp<&'static str>,
}

impl TensorNames {
    /// Returns the full name of a module of block `layer`.
    pub(crate) fn in_block(&self, layer: usize, module: &str) -> String {
        format!("{}.{layer}.{module}", self.blocks)
    }
}

impl Architecture {
    pub(crate) fn names(&self) -> TensorNames {
        let mlp = match self.mlp {
            MlpKind::Gated(gate) => Mlp::Gated(["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"], gate),
            MlpKind::Gelu(gelu) => Mlp::Plain(["mlp.dense_h_to_4h", "mlp.dense_4h_to_h"], gelu),
        };
        let llama = TensorNames {
            embedding: "model.embed_tokens",
            blocks: "model.layers",
            norm: "model.norm",
            head: "lm_head",
            attention_norm: "input_layernorm",
            mlp_norm: "post_attention_layernorm",
            post_norms: None,
            projections: Projections::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
            output: "self_attn.o_proj",
            query_norm: "self_attn.q_norm",
            key_norm: "self_attn.k_norm",
            mlp,
        };
        match self.family {
            Family::Llama | Family::Mistral | Family::Qwen2 | Family::Qwen3 => llama,
            Family::Gemma3 => TensorNames {
                mlp_norm: "pre_feedforward_layernorm",
                post_norms: Some(["post_attention_layernorm", "post_feedforward_layernorm"])
                    .filter(|_| self.norm_placement == NormPlacement::BeforeAndAfter),
                ..llama
            },
            Family::GptNeox => TensorNames {
                embedding: "gpt_neox.embed_in",
                blocks: "gpt_neox.layers",
                norm: "gpt_neox.final_layer_norm",
                head: "embed_out",
                projections: Projections::Fused("attention.query_key_value"),
                output: "attention.dense",
                ..llama
            },
        }
    }
}
