//! Names and order of tensors in GGUF files.

/// Names of a block's modules that all families share, in Hugging Face checkpoints and in GGUF.
const PARTS: [(&str, &str); 10] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// Translates a Hugging Face tensor name to GGUF; None if there is no counterpart. `post_norms` is
/// set for blocks with norms after attention and MLP.
pub(super) fn gguf_name(name: &str, post_norms: bool) -> Option<String> {
    let whole = [
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.norm.weight", "output_norm.weight"),
        ("lm_head.weight", "output.weight"),
    ];
    if let Some((_, gguf)) = whole.iter().find(|(theirs, _)| *theirs == name) {
        return Some((*gguf).to_owned());
    }
    let norms: &[(&str, &str)] = if post_norms {
        &[
            ("post_attention_layernorm", "post_attention_norm"),
            ("pre_feedforward_layernorm", "ffn_norm"),
            ("post_feedforward_layernorm", "post_ffw_norm"),
        ]
    } else {
        &[("post_attention_layernorm", "ffn_norm")]
    };
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, kind) = part.rsplit_once('.')?;
    let found = PARTS.iter().chain(norms).find(|(theirs, _)| *theirs == part);
    found.map(|(_, gguf)| format!("blk.{layer}.{gguf}.{kind}"))
}

/// Returns the file's row for `row` of a Hugging Face checkpoint. GGUF orders the rows of Llama's Q
/// and K for interleaved pairs, Hugging Face for halves.
pub(super) fn interleaved_row(row: usize, head_dim: usize) -> usize {
    let (head, within) = (row / head_dim, row % head_dim);
    let half = head_dim / 2;
    head * head_dim + 2 * (within % half) + within / half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_translated() {
        let name = |name: &str| gguf_name(name, false);
        assert_eq!(name("model.layers.3.mlp.up_proj.weight").as_deref(), Some("blk.3.ffn_up.weight"));
        assert_eq!(name("lm_head.weight").as_deref(), Some("output.weight"));
        assert_eq!(name("model.layers.3.self_attn.q_proj.bias").as_deref(), Some("blk.3.attn_q.bias"));
        assert_eq!(name("model.layers.3.self_attn.rotary_emb.inv_freq"), None);
        let after = "model.layers.3.post_attention_layernorm.weight";
        assert_eq!(name(after).as_deref(), Some("blk.3.ffn_norm.weight"));
        assert_eq!(gguf_name(after, true).as_deref(), Some("blk.3.post_attention_norm.weight"));
    }

    #[test]
    fn interleaved_rows_are_reordered_to_halves() {
        let rows: Vec<usize> = (0..8).map(|row| interleaved_row(row, 4)).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
