//! The cases: each part of a model, each way of training, and each element type at least once.

use prospect_model::{Activations, Architecture, Dtype, Quantization, Train};

use super::{ADAPTER, ParityCase};
use crate::TrainError;

const SIZES: &str = r#""vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "max_position_embeddings": 64"#;
/// Super-blocks of q4_k have 256 elements.
const WIDE: &str = r#""vocab_size": 320, "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 2,
    "max_position_embeddings": 64, "num_attention_heads": 4, "num_key_value_heads": 2"#;
const GROUPED: &str = r#""num_attention_heads": 8, "num_key_value_heads": 2, "rope_theta": 100"#;
const PLAIN: &str = r#""num_attention_heads": 4"#;
const NEOX: &str =
    r#""model_type": "gpt_neox", "num_attention_heads": 4, "rotary_pct": 0.5, "rotary_emb_base": 100"#;
const QWEN: &str = r#""model_type": "qwen2", "num_attention_heads": 4, "num_key_value_heads": 2,
    "tie_word_embeddings": true"#;
const GEMMA: &str = r#""model_type": "gemma3_text", "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "rope_local_base_freq": 10, "query_pre_attn_scalar": 9, "sliding_window": 7,
    "sliding_window_pattern": 2"#;

pub(super) fn all() -> Result<Vec<ParityCase>, TrainError> {
    use Activations::{Keep, Recompute, RecomputeFirst};
    use Dtype::{Bf16, F32};
    let (lora, full) = (Train::Lora(ADAPTER), Train::Full);
    let rows = [
        ("grouped heads, adapter, f32", GROUPED, F32, lora, Keep, "kto"),
        ("grouped heads, full, f32", GROUPED, F32, full, Recompute, "dpo"),
        ("plain heads, adapter, f32", PLAIN, F32, lora, Recompute, "dpo"),
        ("plain heads, full, f32", PLAIN, F32, full, RecomputeFirst(1), "kto"),
        ("NeoX, adapter, f32", NEOX, F32, lora, RecomputeFirst(1), "kto"),
        ("NeoX, full, f32", NEOX, F32, full, Keep, "dpo"),
        ("Qwen 2, adapter, f32", QWEN, F32, lora, Keep, "dpo"),
        ("Qwen 2, full, f32", QWEN, F32, full, Keep, "kto"),
        ("Gemma 3, full, f32", GEMMA, F32, full, Keep, "kto"),
        ("grouped heads, adapter, bf16", GROUPED, Bf16, lora, Recompute, "kto"),
        ("plain heads, full, bf16", PLAIN, Bf16, full, Keep, "kto"),
        ("NeoX, full, bf16", NEOX, Bf16, full, Recompute, "dpo"),
        ("Qwen 2, adapter, bf16", QWEN, Bf16, lora, Keep, "kto"),
    ];
    let mut cases = Vec::new();
    for (name, keys, dtype, train, activations, objective) in rows {
        let architecture = architecture(&format!("{SIZES}, {keys}"))?;
        cases.push(ParityCase {
            name,
            architecture,
            dtype,
            train,
            quantization: None,
            activations,
            objective,
        });
    }
    let rows = [
        ("q8_0, adapter, f32", F32, Quantization::Q8_0, Keep, "kto"),
        ("q8_0, adapter, bf16", Bf16, Quantization::Q8_0, Recompute, "dpo"),
        ("q4_k, adapter, bf16", Bf16, Quantization::Q4K, Keep, "kto"),
    ];
    for (name, dtype, quantization, activations, objective) in rows {
        let (architecture, quantization) = (architecture(WIDE)?, Some(quantization));
        cases.push(ParityCase {
            name,
            architecture,
            dtype,
            train: lora,
            quantization,
            activations,
            objective,
        });
    }
    Ok(cases)
}

fn architecture(keys: &str) -> Result<Architecture, TrainError> {
    serde_json::from_str(&format!("{{{keys}}}")).map_err(|error| TrainError::Settings(error.to_string()))
}
