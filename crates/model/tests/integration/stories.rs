//! A trained model with 260 thousand weights (llama2.c's stories260K) generates the story that its
//! authors published.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use candle_core::{Device, Tensor};
use prospect_model::{Adapter, GenerationConfig, Model, ModelFile, Prompt, Sampling};

/// Reader of consecutive little-endian values.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let (first, rest) = self.0.split_first_chunk::<N>().unwrap();
        self.0 = rest;
        *first
    }

    fn count(&mut self) -> usize {
        usize::try_from(i32::from_le_bytes(self.bytes())).unwrap()
    }

    fn tensor(&mut self, shape: &[usize]) -> Tensor {
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|_| f32::from_le_bytes(self.bytes())).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn text(&mut self, length: usize) -> Vec<u8> {
        let (first, rest) = self.0.split_at(length);
        self.0 = rest;
        first.to_vec()
    }
}

/// Reorders the rows of every head from interleaved pairs (a₀ b₀ a₁ b₁ …), as in llama2.c, to
/// halves (a₀ a₁ … b₀ b₁ …).
fn halves(weight: &Tensor, head_dim: usize) -> Tensor {
    let (rows, columns) = weight.dims2().unwrap();
    let weight = weight.reshape((rows / head_dim, head_dim / 2, 2, columns)).unwrap();
    weight.transpose(1, 2).unwrap().reshape((rows, columns)).unwrap()
}

/// Converts llama2.c's first file format to a Hugging Face folder.
fn convert(bytes: &[u8], folder: &Path) {
    let mut file = Reader(bytes);
    let [hidden, intermediate, layers, heads, key_heads, vocabulary, positions] =
        [(); 7].map(|()| file.count());
    let (head_dim, keys) = (hidden / heads, key_heads * hidden / heads);
    let config = serde_json::json!({
        "model_type": "llama", "vocab_size": vocabulary, "hidden_size": hidden, "intermediate_size": intermediate,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": key_heads,
        "max_position_embeddings": positions, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
    });
    fs_err::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut tensors = HashMap::new();
    tensors.insert("model.embed_tokens.weight".to_owned(), file.tensor(&[vocabulary, hidden]));
    for (name, shape) in [
        ("input_layernorm", vec![hidden]),
        ("self_attn.q_proj", vec![hidden, hidden]),
        ("self_attn.k_proj", vec![keys, hidden]),
        ("self_attn.v_proj", vec![keys, hidden]),
        ("self_attn.o_proj", vec![hidden, hidden]),
        ("post_attention_layernorm", vec![hidden]),
        ("mlp.gate_proj", vec![intermediate, hidden]),
        ("mlp.down_proj", vec![hidden, intermediate]),
        ("mlp.up_proj", vec![intermediate, hidden]),
    ] {
        for layer in 0..layers {
            let mut tensor = file.tensor(&shape);
            if name.ends_with("q_proj") || name.ends_with("k_proj") {
                tensor = halves(&tensor, head_dim);
            }
            tensors.insert(format!("model.layers.{layer}.{name}.weight"), tensor);
        }
    }
    tensors.insert("model.norm.weight".to_owned(), file.tensor(&[hidden]));
    // The rest of the file is a table of the rotation.
    assert_eq!(file.0.len(), 2 * 4 * positions * head_dim / 2);
    candle_core::safetensors::save(&tensors, folder.join("model.safetensors")).unwrap();
}

/// Reads the text of each token.
fn vocabulary(bytes: &[u8], count: usize) -> Vec<Vec<u8>> {
    let mut file = Reader(bytes);
    let _longest = file.count();
    let token = |_| {
        let _score: [u8; 4] = file.bytes();
        let length = file.count();
        let text = file.text(length);
        let hex = text.strip_prefix(b"<0x").and_then(|text| text.strip_suffix(b">"));
        hex.map_or(text.clone(), |hex| {
            vec![u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap()]
        })
    };
    (0..count).map(token).collect()
}

fn load(folder: &Path) -> Model {
    let text = format!("weights: {}\ntokenizer: bytes", folder.display());
    let document = prospect_core::config::Document::from_text("model.yaml", &text).unwrap();
    let file: ModelFile = document.read().unwrap();
    file.resolve(&|path| Ok(PathBuf::from(path))).unwrap().load().unwrap()
}

mod needs_data {
    use super::*;

    #[test]
    #[ignore = "needs PROSPECT_TEST_DATA"]
    fn stories260k_tells_its_documented_story() {
        let source = prospect_testkit::test_data("models/stories260K");
        let read = |name: &str| fs_err::read(source.join(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        convert(&read("stories260K.bin"), folder.path());
        let vocabulary = vocabulary(&read("tok512.bin"), 512);
        let model = load(folder.path());

        let documentation = String::from_utf8(read("stories260K.md")).unwrap();
        let (_, documented) = documentation.split_once("-z stories260K/tok512.bin -t 0.0\n").unwrap();
        let (documented, _) = documented.split_once("\n```").unwrap();

        let begin = 1;
        let how = GenerationConfig {
            sampling: Sampling::Greedy,
            max_new_tokens: 256,
            eos_token_ids: vec![begin],
            seed: 0,
            batch_size: 2,
        };
        let start = Prompt { id: "", tokens: &[begin] };
        let generated = model.decoder.generate(&[start], &how, Adapter::On).unwrap();
        let told: Vec<u8> =
            generated[0].tokens.iter().flat_map(|token| vocabulary[*token as usize].clone()).collect();
        assert_eq!(String::from_utf8(told).unwrap().trim_start_matches(' '), documented);
    }
}
