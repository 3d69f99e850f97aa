//! Parity of each model family with candle-transformers, and with transformers and peft by golden
//! values (`tests/integration/golden`, written by `benches/peers/golden_families.py`).

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{mistral, qwen2, qwen3};
use prospect_model::{
    Activations, Adapter, Decoder, Gradients, LoraConfig, Model, ModelFile, Packer, Parameters, load_adapter,
    save_adapter,
};
use prospect_testkit::uniform_values;
use serde::Deserialize;
use serde_json::Value;

/// Golden values from transformers and peft.
#[derive(Deserialize)]
struct Golden {
    config: Value,
    tensors: BTreeMap<String, Vec<usize>>,
    tokens: Vec<u32>,
    /// Number of prompt tokens.
    prompt: usize,
    /// Logits after the last tokens.
    logits: Vec<Vec<f64>>,
    log_prob: f64,
    /// Norm of each gradient, and its dot product with known values.
    gradients: BTreeMap<String, [f64; 2]>,
    adapter: GoldenAdapter,
}

#[derive(Deserialize)]
struct GoldenAdapter {
    r: usize,
    alpha: f64,
    tensors: BTreeMap<String, Vec<usize>>,
    log_prob: f64,
    gradients: BTreeMap<String, [f64; 2]>,
}

fn cases() -> Vec<(String, Golden)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/golden");
    let mut cases: Vec<_> = fs_err::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let golden = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
            (path.file_stem().unwrap().to_string_lossy().into_owned(), golden)
        })
        .collect();
    cases.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert!(cases.len() > 10, "{}", cases.len());
    cases
}

fn weights(tensors: &BTreeMap<String, Vec<usize>>) -> HashMap<String, Tensor> {
    let weight = |(name, shape): (&String, &Vec<usize>)| {
        let centre = if shape.len() == 1 && name.ends_with("weight") { 1.0 } else { 0.0 };
        let values: Vec<f32> = uniform_values(name, shape.iter().product())
            .into_iter()
            .map(|value| (centre + 0.3 * value) as f32)
            .collect();
        (name.clone(), Tensor::from_vec(values, shape.as_slice(), &Device::Cpu).unwrap())
    };
    tensors.iter().map(weight).collect()
}

/// Writes the checkpoint of the golden values, with the tensor names of transformers.
fn checkpoint(golden: &Golden, folder: &Path) -> Model {
    fs_err::write(folder.join("config.json"), golden.config.to_string()).unwrap();
    candle_core::safetensors::save(&weights(&golden.tensors), folder.join("model.safetensors")).unwrap();
    load(folder)
}

fn load(folder: &Path) -> Model {
    let text = format!("weights: {}\ntokenizer: bytes", folder.display());
    let document = prospect_core::config::Document::from_text("model.yaml", &text).unwrap();
    let file: ModelFile = document.read().unwrap();
    file.resolve(&|path| Ok(PathBuf::from(path))).unwrap().load().unwrap()
}

/// Returns the log-prob of the completion and its gradients.
fn backward(policy: &Decoder, golden: &Golden) -> (f64, Gradients<'static>) {
    let mut packer = Packer::default();
    let prompt = packer.add_prompt(&golden.tokens[..golden.prompt]);
    packer.add_completion(prompt, &golden.tokens[golden.prompt..], true);
    let (log_probs, saved) = policy.forward(&packer.pack().unwrap(), Activations::Keep).unwrap();
    let mut gradients = Gradients::none(policy.parameters());
    policy.backward(saved, &[1.0], &mut gradients).unwrap();
    (log_probs[0], gradients)
}

fn assert_gradients(
    case: &str,
    parameters: &Parameters,
    gradients: &Gradients,
    expected: &BTreeMap<String, [f64; 2]>,
    named: impl Fn(&str) -> String,
) {
    assert_eq!(parameters.len(), expected.len(), "{case}");
    for (name, parameter) in parameters.iter() {
        let name = named(name);
        let [norm, product] =
            expected.get(&name).unwrap_or_else(|| panic!("{case}: transformers has no `{name}`"));
        let gradient = gradients.get(parameter).unwrap().flatten_all().unwrap();
        let gradient: Vec<f64> = gradient.to_dtype(DType::F64).unwrap().to_vec1().unwrap();
        let our_norm = gradient.iter().map(|x| x * x).sum::<f64>().sqrt();
        let probe = uniform_values(&format!("{name}/probe"), gradient.len());
        let our_product: f64 = gradient.iter().zip(&probe).map(|(gradient, probe)| gradient * probe).sum();
        assert!((our_norm / norm - 1.0).abs() < 1e-4, "{case}: {name}: {our_norm} {norm}");
        assert!((our_product - product).abs() < 1e-4 * norm, "{case}: {name}: {our_product} {product}");
    }
}

#[test]
fn logits_and_gradients_equal_those_of_transformers() {
    for (case, golden) in cases() {
        let folder = tempfile::tempdir().unwrap();
        let model = checkpoint(&golden, folder.path());
        let logits = model.decoder.logits(&golden.tokens, Adapter::On).unwrap();
        let logits = logits.to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap();
        let scale = golden.logits.iter().flatten().fold(0f64, |max, logit| max.max(logit.abs()));
        let last = &logits[logits.len() - golden.logits.len()..];
        for (ours, theirs) in last.iter().flatten().zip(golden.logits.iter().flatten()) {
            assert!((ours - theirs).abs() < 1e-4 * scale, "{case}: {ours} {theirs}");
        }
        let policy = model.decoder.with_all_trained().unwrap();
        let (log_prob, gradients) = backward(&policy, &golden);
        assert!((log_prob / golden.log_prob - 1.0).abs() < 1e-5, "{case}: {log_prob} {}", golden.log_prob);
        assert_gradients(&case, policy.parameters(), &gradients, &golden.gradients, str::to_owned);
    }
}

#[test]
fn adapters_equal_those_of_peft() {
    for (case, golden) in cases() {
        let folder = tempfile::tempdir().unwrap();
        let base = checkpoint(&golden, folder.path()).decoder;
        let lora = LoraConfig { r: golden.adapter.r, alpha: golden.adapter.alpha };
        save_adapter(&base.with_lora(lora, 0).unwrap(), lora, "base", folder.path()).unwrap();
        // In place of ours, the weights that peft had, under its names.
        fs_err::remove_file(folder.path().join("BLAKE3SUMS")).unwrap();
        let tensors = weights(&golden.adapter.tensors);
        candle_core::safetensors::save(&tensors, folder.path().join("adapter_model.safetensors")).unwrap();
        let policy = load_adapter(&base, folder.path()).unwrap();
        let (log_prob, gradients) = backward(&policy, &golden);
        let expected = &golden.adapter;
        assert!(
            (log_prob / expected.log_prob - 1.0).abs() < 1e-5,
            "{case}: {log_prob} {}",
            expected.log_prob
        );
        let named = |name: &str| format!("base_model.model.{name}");
        assert_gradients(&case, policy.parameters(), &gradients, &expected.gradients, named);
    }
}

#[test]
fn adapters_target_the_modules_of_their_family() {
    for (case, golden) in cases() {
        let folder = tempfile::tempdir().unwrap();
        let base = checkpoint(&golden, folder.path()).decoder;
        let lora = LoraConfig { r: 1, alpha: 1.0 };
        save_adapter(&base.with_lora(lora, 0).unwrap(), lora, "base", folder.path()).unwrap();
        let config: Value =
            serde_json::from_slice(&fs_err::read(folder.path().join("adapter_config.json")).unwrap())
                .unwrap();
        let expected = if case.starts_with("gpt_neox") {
            vec!["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]
        } else {
            vec!["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        };
        assert_eq!(config["target_modules"], serde_json::json!(expected), "{case}");
    }
}

#[test]
fn a_saved_checkpoint_has_the_tensors_it_was_loaded_from() {
    for (case, golden) in cases() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let model = checkpoint(&golden, from.path());
        model.save(to.path()).unwrap();
        let read = |folder: &Path| {
            let tensors =
                candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap();
            let tensors = tensors
                .into_iter()
                .map(|(name, tensor)| (name, tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()));
            tensors.collect::<BTreeMap<_, _>>()
        };
        assert!(read(from.path()) == read(to.path()), "{case}");
        assert_eq!(load(to.path()).decoder.architecture(), model.decoder.architecture(), "{case}");
    }
}

/// Returns candle-transformers' logits after the last token; None if it lacks the family.
fn candle_logits(case: &str, golden: &Golden, folder: &Path) -> Option<Tensor> {
    let tensors = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap();
    let builder = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let input = Tensor::new(golden.tokens.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    // candle-transformers supports only the older keys.
    let mut config = golden.config.clone();
    let theta = golden.config["rope_parameters"]["rope_theta"].clone();
    let missing = serde_json::json!({
        "rope_theta": theta, "use_sliding_window": false, "sliding_window": 16, "max_window_layers": 2,
        "attention_bias": false, "use_flash_attn": false,
    });
    for (key, value) in missing.as_object().unwrap() {
        if config[key].is_null() {
            config[key] = value.clone();
        }
    }
    match case {
        "mistral" => {
            let config: mistral::Config = serde_json::from_value(config).unwrap();
            let mut model = mistral::Model::new(&config, builder).unwrap();
            Some(model.forward(&input, 0).unwrap())
        }
        "qwen2" => {
            let config: qwen2::Config = serde_json::from_value(config).unwrap();
            let mut model = qwen2::ModelForCausalLM::new(&config, builder).unwrap();
            Some(model.forward(&input, 0).unwrap())
        }
        "qwen3" => {
            let config: qwen3::Config = serde_json::from_value(config).unwrap();
            let mut model = qwen3::ModelForCausalLM::new(&config, builder).unwrap();
            Some(model.forward(&input, 0).unwrap())
        }
        _ => None,
    }
}

#[test]
fn logits_equal_those_of_candle_transformers() {
    let mut compared = 0;
    for (case, golden) in cases() {
        let folder = tempfile::tempdir().unwrap();
        let model = checkpoint(&golden, folder.path());
        let Some(theirs) = candle_logits(&case, &golden, folder.path()) else { continue };
        compared += 1;
        let theirs: Vec<f32> = theirs.flatten_all().unwrap().to_vec1().unwrap();
        let ours = model.decoder.logits(&golden.tokens, Adapter::On).unwrap();
        let ours: Vec<f32> = ours.get(golden.tokens.len() - 1).unwrap().to_vec1().unwrap();
        let scale = theirs.iter().fold(0f32, |max, logit| max.max(logit.abs()));
        assert_eq!(ours.len(), theirs.len(), "{case}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!((ours - theirs).abs() < 1e-4 * scale, "{case}: {ours} {theirs}");
        }
    }
    assert_eq!(compared, 3);
}
