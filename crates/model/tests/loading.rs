//! Weights are loaded one tensor at a time, so that no model is in memory twice. In a process of
//! its own, because the allocator counts the whole process.

// Helpers of tests may panic.
#![allow(clippy::unwrap_used)]

use std::{collections::HashMap, path::Path};

use candle_core::{DType, Device, Tensor};
use prospect_model::{Architecture, Decoder, Dtype, LoraConfig, ModelFile, Quantization};
use prospect_testkit::{CountingAllocator, peak_of};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const LAYERS: usize = 6;
const HIDDEN: usize = 256;
const WIDE: usize = 704;
const VOCABULARY: usize = 300;

fn architecture() -> serde_json::Value {
    serde_json::json!({
        "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": WIDE,
        "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 4,
        "max_position_embeddings": 64, "tie_word_embeddings": false,
    })
}

/// Writes the model in bf16, as large checkpoints are, with a shard for embedding and head and one
/// for each block. Returns the number of elements of all tensors and of the largest.
fn write(folder: &Path) -> (usize, usize) {
    let (mut map, mut all, mut largest) = (serde_json::Map::new(), 0, 0);
    let mut shard = |name: &str, tensors: &[(String, Vec<usize>)]| {
        let mut content = HashMap::new();
        for (tensor, shape) in tensors {
            let count: usize = shape.iter().product();
            (all, largest) = (all + count, largest.max(count));
            map.insert(tensor.clone(), name.into());
            let elements: Vec<f32> = (0..count).map(|at| ((at * 37 % 101) as f32 - 50.0) / 1000.0).collect();
            let elements = Tensor::from_vec(elements, shape.as_slice(), &Device::Cpu).unwrap();
            content.insert(tensor.clone(), elements.to_dtype(DType::BF16).unwrap());
        }
        candle_core::safetensors::save(&content, folder.join(name)).unwrap();
    };
    let named = |name: &str, shape: &[usize]| (name.to_owned(), shape.to_vec());
    let ends = [
        named("model.embed_tokens.weight", &[VOCABULARY, HIDDEN]),
        named("model.norm.weight", &[HIDDEN]),
        named("lm_head.weight", &[VOCABULARY, HIDDEN]),
    ];
    shard("ends.safetensors", &ends);
    for layer in 0..LAYERS {
        let mut tensors = Vec::new();
        for (module, shape) in [
            ("self_attn.q_proj", vec![HIDDEN, HIDDEN]),
            ("self_attn.k_proj", vec![HIDDEN, HIDDEN]),
            ("self_attn.v_proj", vec![HIDDEN, HIDDEN]),
            ("self_attn.o_proj", vec![HIDDEN, HIDDEN]),
            ("mlp.gate_proj", vec![WIDE, HIDDEN]),
            ("mlp.up_proj", vec![WIDE, HIDDEN]),
            ("mlp.down_proj", vec![HIDDEN, WIDE]),
            ("input_layernorm", vec![HIDDEN]),
            ("post_attention_layernorm", vec![HIDDEN]),
        ] {
            tensors.push((format!("model.layers.{layer}.{module}.weight"), shape));
        }
        shard(&format!("block-{layer}.safetensors"), &tensors);
    }
    let index = serde_json::json!({ "weight_map": map });
    fs_err::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    fs_err::write(folder.join("config.json"), architecture().to_string()).unwrap();
    (all, largest)
}

#[test]
fn only_one_tensor_at_a_time_is_there_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (all, largest) = write(folder.path());
    // Overhead: the largest tensor in f32, and names, templates and indices.
    let (one, rest) = (4 * largest, 1 << 19);

    let recipe: ModelFile =
        serde_json::from_value(serde_json::json!({ "weights": folder.path(), "tokenizer": "bytes" }))
            .unwrap();
    let recipe = recipe.resolve(&|path| Ok(path.into())).unwrap();
    let (model, peak) = peak_of(|| recipe.load().unwrap());
    assert_eq!(model.decoder.architecture().parameter_count().unwrap(), all);
    // All weights in f32, and the current tensor in bf16.
    assert!((4 * all..4 * all + one + rest).contains(&peak), "{peak} bytes for {all} elements in f32");
    drop(model);

    // Random weights: a quantised model never keeps a dense matrix.
    let architecture: Architecture = serde_json::from_value(architecture()).unwrap();
    let draw = |quantization| {
        peak_of(|| {
            Decoder::random_on(&Device::Cpu, architecture.clone(), 0, Dtype::F32, quantization).unwrap()
        })
    };
    let (dense, peak) = draw(None);
    assert!((4 * all..4 * all + one + rest).contains(&peak), "{peak} bytes for {all} random elements");
    let (quantised, peak) = draw(Some(Quantization::Q8_0));
    assert!(peak < quantised.frozen_bytes() + 2 * one + rest, "{peak} of {}", quantised.frozen_bytes());
    assert!(quantised.frozen_bytes() < 2 * all, "{}", quantised.frozen_bytes());

    // An adapter shares the weights; they are not copied.
    let (_, peak) = peak_of(|| dense.with_lora(LoraConfig { r: 2, alpha: 4.0 }, 0).unwrap());
    assert!(peak < one, "{peak} bytes for an adapter");
}
