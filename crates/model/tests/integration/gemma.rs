//! Gemma 3 270M against transformers, on the same GGUF file. `benches/peers/golden_gemma.py` wrote
//! the values.

use std::path::{Path, PathBuf};

use prospect_model::{Adapter, GenerationConfig, Model, ModelFile, Packer, Prompt, Sampling};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    prompt: Vec<u32>,
    completion: Vec<u32>,
    completion_log_probs: Vec<f64>,
    greedy: Vec<u32>,
    /// Longer than the sliding window.
    long: Vec<u32>,
    /// Index of the first token whose log-prob is known.
    long_first: usize,
    long_log_probs: Vec<f64>,
}

fn load() -> Model {
    // Only token ids are compared, so any tokenizer will do.
    let text = format!("weights: {}\ntokenizer: bytes", prospect_testkit::test_gemma().display());
    let document = prospect_core::config::Document::from_text("model.yaml", &text).unwrap();
    let file: ModelFile = document.read().unwrap();
    file.resolve(&|path| Ok(PathBuf::from(path))).unwrap().load().unwrap()
}

fn assert_log_probs(model: &Model, tokens: &[u32], first: usize, expected: &[f64]) {
    let mut packer = Packer::default();
    let prompt = packer.add_prompt(&tokens[..first]);
    packer.add_completion(prompt, &tokens[first..], false);
    let ours = model.decoder.token_log_probs(&packer.pack().unwrap(), Adapter::On).unwrap();
    assert_eq!(ours.len(), expected.len());
    for (ours, theirs) in ours.iter().zip(expected) {
        assert!((ours - theirs).abs() < 2e-3, "{ours} {theirs}");
    }
}

mod needs_gemma {
    use super::*;

    #[test]
    #[ignore = "needs PROSPECT_TEST_GEMMA"]
    fn log_probs_and_greedy_tokens_equal_those_of_transformers() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/gemma.json");
        let golden: Golden = serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap();
        let model = load();
        assert_eq!(model.decoder.architecture().parameter_count().unwrap(), 268_098_176);
        let told = [golden.prompt.clone(), golden.completion].concat();
        assert_log_probs(&model, &told, golden.prompt.len(), &golden.completion_log_probs);
        assert!(golden.long.len() > 512 + 64);
        assert_log_probs(&model, &golden.long, golden.long_first, &golden.long_log_probs);

        let how = GenerationConfig {
            sampling: Sampling::Greedy,
            max_new_tokens: golden.greedy.len(),
            eos_token_ids: vec![u32::MAX],
            seed: 0,
            batch_size: 1,
        };
        let prompt = Prompt { id: "", tokens: &golden.prompt };
        let generated = model.decoder.generate(&[prompt], &how, Adapter::On).unwrap();
        assert_eq!(generated[0].tokens, golden.greedy);
    }
}
