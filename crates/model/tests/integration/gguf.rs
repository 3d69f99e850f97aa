//! Weights loaded from GGUF files equal the dequantised blocks of the file.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use candle_core::{
    Device, Tensor,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{Value, write},
    },
};
use prospect_model::{Activations, Adapter, Gradients, LoraConfig, Model, ModelFile, Packer};

/// Rows are a multiple of the block size of the K-quants, 256.
const ARCHITECTURE: &str = "{vocab_size: 300, hidden_size: 256, intermediate_size: 512, num_hidden_layers: 2,
  num_attention_heads: 4, num_key_value_heads: 2, head_dim: 64, max_position_embeddings: 64, rms_norm_eps: 1e-5}";

/// `weights` may contain further lines.
fn load(weights: &str) -> Model {
    let text = format!("weights: {weights}\ntokenizer: bytes");
    let document = prospect_core::config::Document::from_text("model.yaml", &text).unwrap();
    let file: ModelFile = document.read().unwrap();
    file.resolve(&|path| Ok(PathBuf::from(path))).unwrap().load().unwrap()
}

/// Returns the tensors of a random model, with the names of Hugging Face checkpoints.
fn random_tensors(folder: &Path) -> BTreeMap<String, Tensor> {
    load(&format!("random\narchitecture: {ARCHITECTURE}")).save(folder).unwrap();
    let tensors = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap();
    // With the default deviation of 0.02, log-probs would hardly depend on the weights.
    let scaled = |name: String, x: Tensor| {
        let x = if x.dims().len() == 2 { (x * 5.0).unwrap() } else { x };
        (name, x)
    };
    tensors.into_iter().map(|(name, x)| scaled(name, x)).collect()
}

/// Reorders the rows of every head from halves (a₀ a₁ … b₀ b₁ …) to interleaved pairs
/// (a₀ b₀ a₁ b₁ …), as llama.cpp's converter does.
fn interleaved(weight: &Tensor, head_dim: usize) -> Tensor {
    let rows = weight.dim(0).unwrap();
    let order: Vec<u32> = (0..rows)
        .map(|row| {
            let (head, within) = (row / head_dim, row % head_dim);
            (head * head_dim + within % 2 * (head_dim / 2) + within / 2) as u32
        })
        .collect();
    weight.index_select(&Tensor::new(order, &Device::Cpu).unwrap(), 0).unwrap()
}

fn gguf_name(name: &str) -> String {
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

/// Writes `tensors` as a GGUF file whose matrices have type `kind`, and returns the dequantised
/// tensors.
fn write_gguf(path: &Path, tensors: &BTreeMap<String, Tensor>, kind: GgmlDType) -> HashMap<String, Tensor> {
    let metadata = [
        ("general.architecture", Value::String("llama".to_owned())),
        ("llama.embedding_length", Value::U32(256)),
        ("llama.feed_forward_length", Value::U32(512)),
        ("llama.block_count", Value::U32(2)),
        ("llama.attention.head_count", Value::U32(4)),
        ("llama.attention.head_count_kv", Value::U32(2)),
        ("llama.context_length", Value::U32(64)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
    ];
    let (mut stored, mut meant) = (Vec::new(), HashMap::new());
    for (name, tensor) in tensors {
        // llama.cpp keeps norms in f32.
        let kind = if tensor.dims().len() == 1 { GgmlDType::F32 } else { kind };
        let quantise = |tensor: &Tensor| QTensor::quantize(tensor, kind).unwrap();
        // Blocks lie along a row, so the order of rows does not change their contents.
        meant.insert(name.clone(), quantise(tensor).dequantize(&Device::Cpu).unwrap());
        let ordered = if name.contains("q_proj") || name.contains("k_proj") {
            interleaved(tensor, 64)
        } else {
            tensor.clone()
        };
        stored.push((gguf_name(name), quantise(&ordered)));
    }
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let stored: Vec<_> = stored.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut file = fs_err::File::create(path).unwrap();
    write(&mut file, &metadata, &stored).unwrap();
    meant
}

fn log_probs(model: &Model) -> Vec<f64> {
    let mut packer = Packer::default();
    let prompt = packer.add_prompt(&[1, 2, 3, 250]);
    packer.add_completion(prompt, &[4, 5, 6], false);
    packer.add_completion(prompt, &[77, 299], false);
    model.decoder.log_probs(&packer.pack().unwrap(), Adapter::On).unwrap()
}

#[test]
fn every_quantisation_gives_the_log_probs_of_its_dequantised_weights() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = random_tensors(folder.path());
    let mut seen = Vec::new();
    for kind in [
        GgmlDType::F32,
        GgmlDType::F16,
        GgmlDType::Q8_0,
        GgmlDType::Q6K,
        GgmlDType::Q4_0,
        GgmlDType::Q4_1,
        GgmlDType::Q4K,
    ] {
        let gguf = folder.path().join("model.gguf");
        let meant = write_gguf(&gguf, &tensors, kind);
        candle_core::safetensors::save(&meant, folder.path().join("model.safetensors")).unwrap();
        let loaded = log_probs(&load(&gguf.display().to_string()));
        assert_eq!(loaded, log_probs(&load(&folder.path().display().to_string())), "{kind:?}");
        seen.push(loaded);
    }
    // The types differ: none was read as another.
    for (index, one) in seen.iter().enumerate() {
        assert!(seen[..index].iter().all(|other| other != one), "{seen:?}");
    }
}

/// Returns log-probs under a nonzero adapter, and the gradients of the adapter.
fn adapted(model: &Model) -> (Vec<f64>, Vec<f32>) {
    let policy = model.decoder.with_lora(LoraConfig { r: 4, alpha: 8.0 }, 7).unwrap();
    for (_, parameter) in policy.parameters().iter() {
        let shifted = (parameter.value() + 0.03).unwrap();
        parameter.var().set(&shifted).unwrap();
    }
    let mut packer = Packer::default();
    let prompt = packer.add_prompt(&[1, 2, 3, 250]);
    packer.add_completion(prompt, &[4, 5, 6], true);
    packer.add_completion(prompt, &[77, 299], true);
    let (log_probs, saved) = policy.forward(&packer.pack().unwrap(), Activations::Keep).unwrap();
    let mut gradients = Gradients::none(policy.parameters());
    policy.backward(saved, &[0.5, -0.25], &mut gradients).unwrap();
    let of = |parameter| gradients.get(parameter).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    (log_probs, policy.parameters().iter().flat_map(|(_, parameter)| of(parameter)).collect())
}

#[test]
fn a_quantised_base_trains_as_its_dequantised_weights_do() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = random_tensors(folder.path());
    for (kind, quantization) in [
        (GgmlDType::BF16, "bf16"),
        (GgmlDType::Q8_0, "q8_0"),
        (GgmlDType::Q6K, "q6_k"),
        (GgmlDType::Q4K, "q4_k"),
        (GgmlDType::Q4_0, "q4_0"),
    ] {
        let gguf = folder.path().join("model.gguf");
        let meant = write_gguf(&gguf, &tensors, kind);
        candle_core::safetensors::save(&meant, folder.path().join("model.safetensors")).unwrap();
        let dense = load(&folder.path().display().to_string());
        let file = load(&format!("{}\nquantization: file", gguf.display()));
        assert_eq!(adapted(&file), adapted(&dense), "{kind:?}");
        // Quantising dequantised weights again changes nothing.
        let again = load(&format!("{}\nquantization: {quantization}", folder.path().display()));
        if kind == GgmlDType::BF16 || kind == GgmlDType::Q8_0 {
            assert_eq!(adapted(&again), adapted(&dense), "{kind:?}");
        }
        assert_ne!(file.fingerprint, again.fingerprint);
        // Merging adds an adapter to the dequantised weights.
        let policy = again.decoder.with_lora(LoraConfig { r: 4, alpha: 8.0 }, 7).unwrap();
        let saved = folder.path().join("saved");
        Model { decoder: policy, ..again.clone() }.save(&saved).unwrap();
        assert_eq!(log_probs(&load(&saved.display().to_string())), log_probs(&again), "{kind:?}");
    }
}
