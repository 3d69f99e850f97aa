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
use prospect_model::{Activations, Adapter, Gradients, LoraConfig, Model, ModelError, ModelFile, Packer};
use prospect_testkit::gguf_name;

/// Rows are a multiple of the block size of the K-quants, 256.
const ARCHITECTURE: &str = "{vocab_size: 300, hidden_size: 256, intermediate_size: 512, num_hidden_layers: 2,
  num_attention_heads: 4, num_key_value_heads: 2, head_dim: 64, max_position_embeddings: 64, rms_norm_eps: 1e-5}";

/// `weights` may contain further lines.
fn load(weights: &str) -> Model {
    try_load(&format!("{weights}\ntokenizer: bytes")).unwrap()
}

fn try_load(weights: &str) -> Result<Model, ModelError> {
    let text = format!("weights: {weights}");
    let document = prospect_core::config::Document::from_text("model.yaml", &text).unwrap();
    let file: ModelFile = document.read().unwrap();
    file.resolve(&|path| Ok(PathBuf::from(path)))?.load()
}

/// Returns the tensors of a random model, with the names of Hugging Face checkpoints.
pub(crate) fn random_tensors(folder: &Path) -> BTreeMap<String, Tensor> {
    load(&format!("random\narchitecture: {ARCHITECTURE}")).save(folder).unwrap();
    // The tests replace files, as another tool would that records no hashes.
    fs_err::remove_file(folder.join("BLAKE3SUMS")).unwrap();
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

/// Metadata of the architecture.
fn metadata() -> Vec<(&'static str, Value)> {
    vec![
        ("general.architecture", Value::String("llama".to_owned())),
        ("llama.embedding_length", Value::U32(256)),
        ("llama.feed_forward_length", Value::U32(512)),
        ("llama.block_count", Value::U32(2)),
        ("llama.attention.head_count", Value::U32(4)),
        ("llama.attention.head_count_kv", Value::U32(2)),
        ("llama.context_length", Value::U32(64)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
    ]
}

fn write_file(path: &Path, metadata: &[(&str, Value)], stored: &[(String, QTensor)]) {
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let stored: Vec<_> = stored.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    write(&mut fs_err::File::create(path).unwrap(), &metadata, &stored).unwrap();
}

/// Writes `tensors` as a GGUF file whose matrices have type `kind`, and returns the dequantised
/// tensors.
pub(crate) fn write_gguf(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    kind: GgmlDType,
) -> HashMap<String, Tensor> {
    let (stored, meant) = quantise(tensors, kind);
    write_file(path, &metadata(), &stored);
    meant
}

/// Returns the tensors of a GGUF file, and the values that they mean by the names of Hugging Face
/// checkpoints.
fn quantise(
    tensors: &BTreeMap<String, Tensor>,
    kind: GgmlDType,
) -> (Vec<(String, QTensor)>, HashMap<String, Tensor>) {
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
    (stored, meant)
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
        GgmlDType::BF16,
        GgmlDType::Q8_0,
        GgmlDType::Q4_0,
        GgmlDType::Q4_1,
        GgmlDType::Q5_0,
        GgmlDType::Q5_1,
        GgmlDType::Q2K,
        GgmlDType::Q3K,
        GgmlDType::Q4K,
        GgmlDType::Q5K,
        GgmlDType::Q6K,
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

#[test]
fn split_files_are_joined_and_missing_parts_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (mut stored, _) = quantise(&random_tensors(folder.path()), GgmlDType::Q8_0);
    let whole = folder.path().join("whole.gguf");
    write_file(&whole, &metadata(), &stored);
    let expected = load(&whole.display().to_string());

    let count = stored.len();
    let part = |part: usize| folder.path().join(format!("split-0000{part}-of-00003.gguf"));
    let split = |number: usize| {
        let total = i32::try_from(count).unwrap();
        [
            ("split.no", Value::U16(number as u16)),
            ("split.count", Value::U16(3)),
            ("split.tensors.count", Value::I32(total)),
        ]
    };
    for number in 0..3 {
        let rest = stored.split_off(stored.len().min(if number == 2 { usize::MAX } else { count / 3 }));
        let own = std::mem::replace(&mut stored, rest);
        let mut metadata = if number == 0 { metadata() } else { Vec::new() };
        metadata.extend(split(number));
        write_file(&part(number + 1), &metadata, &own);
    }
    for number in 1..=3 {
        let loaded = load(&part(number).display().to_string());
        assert_eq!(log_probs(&loaded), log_probs(&expected));
        let blocks = load(&format!("{}\nquantization: file", part(number).display()));
        assert_eq!(log_probs(&blocks), log_probs(&expected));
        assert_ne!(loaded.fingerprint, expected.fingerprint);
    }
    let error =
        |path: &Path| try_load(&format!("{}\ntokenizer: bytes", path.display())).unwrap_err().to_string();
    fs_err::rename(part(1), folder.path().join("alone.gguf")).unwrap();
    let message = error(&part(2));
    assert!(message.contains("1 of 3 parts are missing: `split-00001-of-00003.gguf`"), "{message}");
    let message = error(&folder.path().join("alone.gguf"));
    assert!(message.contains("one of 3 parts") && message.contains("NAME-00001-of-00003.gguf"), "{message}");
}

#[test]
fn types_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let (stored, _) = quantise(&random_tensors(folder.path()), GgmlDType::Q4_0);
    let tokens = Value::Array(vec![Value::String("a".to_owned()), Value::String("b".to_owned())]);
    let metadata =
        [metadata(), vec![("tokenizer.ggml.tokens", tokens), ("a.flag", Value::Bool(true))]].concat();
    write_file(&path, &metadata, &stored);
    // The type follows the dimensions: 2 (Q4_0) becomes 23 (IQ4_XS) in all but one, and 99 there.
    let mut bytes = fs_err::read(&path).unwrap();
    let mut patched = 0;
    for (name, tensor) in stored.iter().filter(|(_, tensor)| tensor.dtype() == GgmlDType::Q4_0) {
        let at = bytes.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
        let at = at + name.len() + 4 + 8 * tensor.shape().dims().len();
        assert_eq!(bytes[at..at + 4], [2, 0, 0, 0], "{name}");
        bytes[at] = if patched == 0 { 99 } else { 23 };
        patched += 1;
    }
    fs_err::write(&path, &bytes).unwrap();
    let error = try_load(&format!("{}\ntokenizer: bytes", path.display())).unwrap_err().to_string();
    let expected = format!("IQ4_XS ({} tensors), type 99 (1 tensors)", patched - 1);
    assert!(error.contains(&expected) && error.contains("llama-quantize"), "{error}");
}

#[test]
fn refusals_give_only_advice_that_helps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let error = |metadata: &[(&str, Value)], tokenizer: &str| {
        write_file(&path, metadata, &[]);
        try_load(&format!("{}{tokenizer}", path.display())).unwrap_err().to_string()
    };
    let named = |name: &str| vec![("general.architecture", Value::String(name.to_owned()))];
    let message = error(&named("mamba"), "\ntokenizer: bytes");
    assert!(
        message.contains("`mamba` is not supported; llama") && !message.contains("safetensors"),
        "{message}"
    );
    let message = error(&named("gptneox"), "\ntokenizer: bytes");
    assert!(message.contains("safetensors folder"), "{message}");
    let experts = [metadata(), vec![("llama.expert_count", Value::U32(8))]].concat();
    let message = error(&experts, "\ntokenizer: bytes");
    assert!(message.contains("mixtures of experts"), "{message}");

    let (stored, _) = quantise(&random_tensors(folder.path()), GgmlDType::F32);
    let text = |text: &str| Value::String(text.to_owned());
    let texts = |items: &[&str]| Value::Array(items.iter().map(|item| text(item)).collect());
    let tokenizer = [
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.tokens", texts(&["a", "b", "ab", "<eos>"])),
        ("tokenizer.ggml.merges", texts(&["a b"])),
        ("tokenizer.ggml.eos_token_id", Value::U32(3)),
    ];
    write_file(&path, &[metadata(), tokenizer.to_vec()].concat(), &stored);
    let message = try_load(&path.display().to_string()).unwrap_err().to_string();
    assert!(message.contains("`tokenizer.ggml.pre` is missing"), "{message}");
    assert!(message.contains("set `tokenizer:` to the model's tokenizer.json"), "{message}");
}

#[test]
fn gemma_files_store_one_plus_the_weights_of_norms() {
    let folder = tempfile::tempdir().unwrap();
    let architecture = "{model_type: gemma3_text, vocab_size: 300, hidden_size: 64, intermediate_size: 96,
      num_hidden_layers: 7, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 32, max_position_embeddings: 64,
      sliding_window: 4, query_pre_attn_scalar: 32, rope_theta: 500.0, rope_scaling: {rope_type: linear, factor: 2.0}}";
    load(&format!("random\narchitecture: {architecture}")).save(folder.path()).unwrap();
    fs_err::remove_file(folder.path().join("BLAKE3SUMS")).unwrap();
    let path = folder.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    for (index, tensor) in tensors.values_mut().enumerate() {
        // Norms that differ, and matrices on which log-probs depend more.
        let norm = tensor.dims().len() == 1;
        *tensor = if norm { (&*tensor + 0.01 * index as f64).unwrap() } else { (&*tensor * 5.0).unwrap() };
    }
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let stored: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| {
            let name = name
                .replace("post_attention_layernorm", "post_attention_norm")
                .replace("pre_feedforward_layernorm", "ffn_norm")
                .replace("post_feedforward_layernorm", "post_ffw_norm")
                .replace("q_norm", "attn_q_norm")
                .replace("k_norm", "attn_k_norm")
                .replace("self_attn.attn_", "attn_");
            let is_norm = tensor.dims().len() == 1;
            let tensor = if is_norm { (tensor + 1.0).unwrap() } else { tensor.clone() };
            (gguf_name(&name), QTensor::quantize(&tensor, GgmlDType::F32).unwrap())
        })
        .collect();
    let metadata = [
        ("general.architecture", Value::String("gemma3".to_owned())),
        ("gemma3.embedding_length", Value::U32(64)),
        ("gemma3.feed_forward_length", Value::U32(96)),
        ("gemma3.block_count", Value::U32(7)),
        ("gemma3.attention.head_count", Value::U32(4)),
        ("gemma3.attention.head_count_kv", Value::U32(2)),
        ("gemma3.attention.key_length", Value::U32(32)),
        ("gemma3.attention.sliding_window", Value::U32(4)),
        ("gemma3.attention.layer_norm_rms_epsilon", Value::F32(1e-6)),
        ("gemma3.context_length", Value::U32(64)),
        ("gemma3.rope.freq_base", Value::F32(500.0)),
        ("gemma3.rope.scaling.type", Value::String("linear".to_owned())),
        ("gemma3.rope.scaling.factor", Value::F32(2.0)),
    ];
    let gguf = folder.path().join("model.gguf");
    write_file(&gguf, &metadata, &stored);
    let (file, dense) = (load(&gguf.display().to_string()), load(&folder.path().display().to_string()));
    for (file, dense) in log_probs(&file).iter().zip(log_probs(&dense)) {
        // Adding and subtracting 1 rounds.
        assert!((file - dense).abs() < 1e-4 * dense.abs(), "{file} {dense}");
    }
}
