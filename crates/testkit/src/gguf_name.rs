//! Names of tensors in GGUF files.

/// Translates a name of Hugging Face checkpoints into that of GGUF files.
pub fn gguf_name(name: &str) -> String {
    let name = name.replace("model.layers.", "blk.");
    [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ]
    .iter()
    .fold(name, |name, (theirs, gguf)| name.replace(theirs, gguf))
}
