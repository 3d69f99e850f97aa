//! Parity with other implementations: candle-transformers' Llama, SmolLM2's known continuation, and
//! files.
//! files on disk.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Config, Llama, LlamaEosToks};
use prospect_model::{
    Adapter, Architecture, Decoder, GenerationConfig, LoraConfig, Model, ModelError, ModelFile, Packer,
    Prompt, Recipe, Sampling, load_adapter, save_adapter,
};
use prospect_testkit::flipped;

/// Returns candle-transformers' logits after the last token, from the weights in `folder`.
fn oracle_logits(folder: &Path, a: &Architecture, tokens: &[u32]) -> Vec<f32> {
    let config = Config {
        hidden_size: a.hidden,
        intermediate_size: a.intermediate,
        vocab_size: a.vocabulary,
        num_hidden_layers: a.layers,
        num_attention_heads: a.query_heads,
        num_key_value_heads: a.key_heads,
        use_flash_attn: false,
        rms_norm_eps: a.epsilon,
        rope_theta: a.rope.theta as f32,
        bos_token_id: None,
        eos_token_id: Some(LlamaEosToks::Single(0)),
        rope_scaling: None,
        max_position_embeddings: a.max_positions,
        tie_word_embeddings: a.tied,
    };
    let tensors = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap();
    let builder = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let llama = Llama::load(builder, &config).unwrap();
    let mut cache = Cache::new(false, DType::F32, &config, &Device::Cpu).unwrap();
    let input = Tensor::new(tokens, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    llama.forward(&input, 0, &mut cache).unwrap().squeeze(0).unwrap().to_vec1().unwrap()
}

fn assert_same_logits(model: &Model, folder: &Path, tokens: &[u32]) {
    let ours = model.decoder.logits(tokens, Adapter::On).unwrap();
    let ours: Vec<f32> = ours.get(tokens.len() - 1).unwrap().to_vec1().unwrap();
    let theirs = oracle_logits(folder, model.decoder.architecture(), tokens);
    let scale = theirs.iter().fold(0f32, |max, logit| max.max(logit.abs()));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert!((ours - theirs).abs() < 1e-4 * scale, "{ours} {theirs}");
    }
}

fn recipe(text: &str) -> Recipe {
    let document = prospect_core::config::Document::from_text("model.yaml", text).unwrap();
    let file: ModelFile = document.read().unwrap();
    file.resolve(&|path| Ok(PathBuf::from(path))).unwrap()
}

const TINY: &str = "{vocab_size: 300, hidden_size: 32, intermediate_size: 80, num_hidden_layers: 3,
  num_attention_heads: 4, num_key_value_heads: 2, head_dim: 8, max_position_embeddings: 64}";

fn tiny(extra: &str) -> Model {
    let architecture = TINY.replace('}', &format!("{extra}}}"));
    recipe(&format!("weights: random\ntokenizer: bytes\narchitecture: {architecture}")).load().unwrap()
}

#[test]
fn logits_equal_candle_transformers_on_random_weights() {
    for extra in ["", ", tie_word_embeddings: true", ", rope_theta: 500000.0"] {
        let (model, folder) = (tiny(extra), tempfile::tempdir().unwrap());
        model.save(folder.path()).unwrap();
        assert_same_logits(&model, folder.path(), &[5, 17, 255, 3, 3, 90, 41]);
    }
}

#[test]
fn a_saved_model_loads_with_the_same_log_probs() {
    let (model, folder) = (tiny(""), tempfile::tempdir().unwrap());
    model.save(folder.path()).unwrap();
    let loaded = recipe(&format!("weights: {}", folder.path().display())).load().unwrap();
    let batch = || {
        let mut packer = Packer::default();
        let prompt = packer.add_prompt(&[1, 2, 3]);
        packer.add_completion(prompt, &[4, 5, 6], false);
        packer.pack().unwrap()
    };
    let log_probs = |decoder: &Decoder| decoder.log_probs(&batch(), Adapter::On).unwrap();
    assert_eq!(log_probs(&model.decoder), log_probs(&loaded.decoder));
    assert_eq!(
        loaded.tokenizer.encode("ab<|im_end|>").unwrap(),
        model.tokenizer.encode("ab<|im_end|>").unwrap()
    );
    assert_eq!(loaded.template.source(), model.template.source());
}

#[test]
fn sharded_checkpoints_load() {
    let (model, folder) = (tiny(""), tempfile::tempdir().unwrap());
    model.save(folder.path()).unwrap();
    // Another tool writes the shards, and no hashes.
    fs_err::remove_file(folder.path().join("BLAKE3SUMS")).unwrap();
    let whole = folder.path().join("model.safetensors");
    let tensors = candle_core::safetensors::load(&whole, &Device::Cpu).unwrap();
    let mut names: Vec<_> = tensors.keys().cloned().collect();
    names.sort_unstable();
    let mut weight_map = serde_json::Map::new();
    for (shard, names) in names.chunks(names.len().div_ceil(2)).enumerate() {
        let file = format!("model-{shard}.safetensors");
        let part: std::collections::HashMap<_, _> =
            names.iter().map(|n| (n.clone(), tensors[n].clone())).collect();
        candle_core::safetensors::save(&part, folder.path().join(&file)).unwrap();
        weight_map.extend(names.iter().map(|name| (name.clone(), file.clone().into())));
    }
    fs_err::remove_file(&whole).unwrap();
    let index = serde_json::json!({ "weight_map": weight_map }).to_string();
    fs_err::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    let loaded = recipe(&format!("weights: {}", folder.path().display())).load().unwrap();
    let logits =
        |model: &Model| model.decoder.logits(&[1, 2], Adapter::On).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(logits(&loaded), logits(&model));
}

#[test]
fn broken_weights_name_file_and_tensor() {
    let (model, folder) = (tiny(""), tempfile::tempdir().unwrap());
    model.save(folder.path()).unwrap();
    fs_err::remove_file(folder.path().join("BLAKE3SUMS")).unwrap();
    let text = format!("weights: {}", folder.path().display());
    let weights = folder.path().join("model.safetensors");

    let config = fs_err::read_to_string(folder.path().join("config.json")).unwrap();
    let wrong = config.replace("\"intermediate_size\": 80", "\"intermediate_size\": 81");
    fs_err::write(folder.path().join("config.json"), wrong).unwrap();
    let error = recipe(&text).load().unwrap_err().to_string();
    assert!(error.contains("weight` has shape [") && error.contains("81"), "{error}");
    fs_err::write(folder.path().join("config.json"), config).unwrap();

    let bytes = fs_err::read(&weights).unwrap();
    fs_err::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    let error = recipe(&text).load().unwrap_err().to_string();
    assert!(error.contains(&folder.path().display().to_string()), "{error}");
    fs_err::remove_file(&weights).unwrap();
    assert!(recipe(&text).load().unwrap_err().to_string().contains("model.safetensors"));

    let gguf = folder.path().join("m.gguf");
    fs_err::write(&gguf, b"GGUF\x03\0\0\0").unwrap();
    let error = recipe(&format!("weights: {}", gguf.display())).load().unwrap_err().to_string();
    assert!(error.contains("m.gguf: not a complete GGUF file"), "{error}");
}

/// Damages each file of `folder` in turn, and asserts that `load` fails and names the file.
fn assert_damage_is_found(folder: &Path, load: impl Fn() -> Result<(), ModelError>) {
    load().unwrap();
    let sums = folder.join("BLAKE3SUMS");
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let whole = fs_err::read(&path).unwrap();
        let short = (whole.len() - 1, whole[..whole.len() - 1].to_vec());
        for (position, damaged) in flipped(&whole, 40).chain([short]) {
            fs_err::write(&path, damaged).unwrap();
            let error = load().unwrap_err().to_string();
            let what = format!("{}, byte {position}: {error}", path.display());
            assert!(path == sums || error.contains(&path.display().to_string()), "{what}");
            assert!(path == sums || error.contains("its BLAKE3 hash is"), "{what}");
            assert!(error.contains(&format!("or remove {} to accept", sums.display())), "{what}");
        }
        fs_err::write(&path, whole).unwrap();
    }
    load().unwrap();
    // Folders of other tools have no hashes.
    fs_err::remove_file(sums).unwrap();
    load().unwrap();
}

#[test]
fn a_changed_byte_in_any_file_of_a_saved_model_is_found() {
    let folder = tempfile::tempdir().unwrap();
    tiny("").save(folder.path()).unwrap();
    let recipe = recipe(&format!("weights: {}", folder.path().display()));
    assert_damage_is_found(folder.path(), || recipe.load().map(drop));
}

#[test]
fn a_changed_byte_in_any_file_of_an_adapter_is_found() {
    let (lora, folder, base) = (LoraConfig { r: 2, alpha: 4.0 }, tempfile::tempdir().unwrap(), tiny(""));
    save_adapter(&base.decoder.with_lora(lora, 0).unwrap(), lora, "base", folder.path()).unwrap();
    assert_damage_is_found(folder.path(), || load_adapter(&base.decoder, folder.path()).map(drop));
}

#[test]
fn adapters_have_pefts_layout() {
    let (lora, folder) = (LoraConfig { r: 2, alpha: 4.0 }, tempfile::tempdir().unwrap());
    let policy = tiny("").decoder.with_lora(lora, 0).unwrap();
    save_adapter(&policy, lora, "base", folder.path()).unwrap();
    let tensors =
        candle_core::safetensors::load(folder.path().join("adapter_model.safetensors"), &Device::Cpu)
            .unwrap();
    assert_eq!(tensors.len(), 3 * 7 * 2);
    assert_eq!(tensors["base_model.model.model.layers.1.mlp.down_proj.lora_A.weight"].dims(), [2, 80]);
    assert_eq!(tensors["base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"].dims(), [32, 2]);

    // B starts at zero; nonzero values make a failure to load visible.
    for (index, (_, parameter)) in policy.parameters().iter().enumerate() {
        let value = (parameter.value() + 0.01 * index as f64).unwrap();
        parameter.var().set(&value).unwrap();
    }
    save_adapter(&policy, lora, "base", folder.path()).unwrap();
    let loaded = load_adapter(&tiny("").decoder, folder.path()).unwrap();
    let logits = |decoder: &Decoder| decoder.logits(&[1, 2], Adapter::On).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(logits(&loaded), logits(&policy));
    let other = tiny(", rope_theta: 500000.0");
    assert!(load_adapter(&other.decoder, folder.path()).is_ok());
    fs_err::remove_file(folder.path().join("adapter_model.safetensors")).unwrap();
    assert!(load_adapter(&other.decoder, folder.path()).unwrap_err().to_string().contains("adapter_model"));
}

mod needs_model {
    use super::*;

    #[test]
    #[ignore = "needs PROSPECT_TEST_MODEL"]
    fn smollm2_knows_the_capital_of_france_and_equals_candle_transformers() {
        let path = prospect_testkit::test_model();
        let model = recipe(&format!("weights: {}", path.display())).load().unwrap();
        let tokens = model.tokenizer.encode("The capital of France is").unwrap();
        let end = model.tokenizer.eos_token_id().unwrap();
        let how = GenerationConfig {
            sampling: Sampling::Greedy,
            max_new_tokens: 2,
            eos_token_ids: vec![end],
            seed: 0,
            batch_size: 2,
        };
        let prompt = Prompt { id: "", tokens: &tokens };
        let generated = model.decoder.generate(&[prompt], &how, Adapter::On).unwrap();
        assert_eq!(model.tokenizer.decode(&generated[0].tokens, true).unwrap(), " Paris.");

        let folder = tempfile::tempdir().unwrap();
        model.save(folder.path()).unwrap();
        assert_same_logits(&model, folder.path(), &tokens);
    }

    #[test]
    #[ignore = "needs PROSPECT_TEST_MODEL"]
    fn a_truncated_gguf_tensor_is_named() {
        let path = prospect_testkit::test_model();
        let folder = tempfile::tempdir().unwrap();
        let short = folder.path().join("short.gguf");
        let bytes = fs_err::read(path).unwrap();
        fs_err::write(&short, &bytes[..bytes.len() - 1_000_000]).unwrap();
        let error = recipe(&format!("weights: {}", short.display())).load().unwrap_err().to_string();
        assert!(error.contains("short.gguf: tensor `") && error.contains("is the file complete?"), "{error}");
    }

    mod needs_data {
        use super::*;

        #[test]
        #[ignore = "needs PROSPECT_TEST_MODEL and PROSPECT_TEST_DATA"]
        fn the_gguf_tokenizer_equals_the_tokenizer_json() {
            let path = prospect_testkit::test_model();
            let json = prospect_testkit::test_data("tokenizers/smollm2_tokenizer.from_gguf.json");
            let own = recipe(&format!("weights: {}", path.display())).load().unwrap().tokenizer;
            let other = recipe(&format!("weights: {}\ntokenizer: {}", path.display(), json.display()))
                .load()
                .unwrap()
                .tokenizer;
            for text in [
                "Hello world",
                "It's 2026, 1234.5!\n\n  ünïcode 你好\t",
                "<|im_start|>user\nhi<|im_end|>\n",
                "a  b   c",
            ] {
                assert_eq!(own.encode(text).unwrap(), other.encode(text).unwrap(), "{text}");
            }
        }
    }
}
