//! Reward models against transformers, by golden values (`tests/integration/classifiers`, written
//! by `benches/peers/golden_classifiers.py`).

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use candle_core::{DType, Device, Tensor};
use prospect_model::{ChatMessage, ClassifierInput, ClassifierText, Dtype, SequenceClassifier};
use prospect_testkit::write_reward_model;
use serde::Deserialize;
use serde_json::{Value, json};

/// Golden values from transformers.
#[derive(Deserialize)]
struct Golden {
    texts: Vec<GoldenText>,
    /// Further token ids.
    sequences: Vec<Vec<u32>>,
    /// Scores of the texts, and of the further token ids.
    scores: Vec<f32>,
}

#[derive(Deserialize)]
struct GoldenText {
    prompt: String,
    completion: String,
    tokens: Vec<u32>,
    types: Vec<u32>,
}

impl Golden {
    fn is_pair(&self) -> bool {
        !self.texts[0].types.is_empty()
    }

    fn inputs(&self) -> Vec<ClassifierInput> {
        let texts = self.texts.iter().map(|text| (text.tokens.clone(), text.types.clone()));
        let others = self.sequences.iter().map(|tokens| {
            let types = if self.is_pair() { vec![0; tokens.len()] } else { Vec::new() };
            (tokens.clone(), types)
        });
        texts.chain(others).map(|(tokens, types)| ClassifierInput { tokens, types }).collect()
    }
}

/// Writes a reward model to a folder.
fn case(name: &str) -> (tempfile::TempDir, Golden) {
    let folder = tempfile::tempdir().unwrap();
    let golden = write_reward_model(name, folder.path());
    (folder, serde_json::from_value(golden).unwrap())
}

fn cases() -> Vec<(String, tempfile::TempDir, Golden)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/classifiers");
    let paths = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> =
        paths.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    assert!(names.len() >= 12, "{names:?}");
    let written = |name: String| {
        let (folder, golden) = case(&name);
        (name, folder, golden)
    };
    names.into_iter().map(written).collect()
}

/// Reads the tensors of a checkpoint.
fn tensors(folder: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap()
}

/// Sets a key of a `config.json`.
fn set(folder: &Path, key: &str, value: Value) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
    config[key] = value;
    fs_err::write(path, config.to_string()).unwrap();
}

fn open(folder: &Path) -> SequenceClassifier {
    SequenceClassifier::check(folder, "'folder'").unwrap();
    SequenceClassifier::open(folder, &Device::Cpu).unwrap()
}

fn refusal(folder: &Path) -> String {
    let checked = SequenceClassifier::check(folder, "'folder'");
    let opened = checked.and_then(|()| SequenceClassifier::open(folder, &Device::Cpu));
    opened.err().map(|error| error.to_string().replace(&folder.display().to_string(), "FOLDER")).unwrap()
}

#[test]
fn scores_equal_those_of_transformers() {
    for (case, folder, golden) in cases() {
        let model = open(folder.path());
        let inputs = golden.inputs();
        let all: Vec<&ClassifierInput> = inputs.iter().collect();
        let scores = model.scores(&all).unwrap();
        assert_eq!(scores.len(), golden.scores.len());
        for (ours, theirs) in scores.iter().zip(&golden.scores) {
            assert!((ours - theirs).abs() < 1e-4, "{case}: {scores:?} {:?}", golden.scores);
        }
        // Scores differ, so their equality says something.
        let [first, second, ..] = golden.scores[..] else { panic!("{case}") };
        assert!((first - second).abs() > 1e-3, "{case}: {:?}", golden.scores);
    }
}

#[test]
fn a_score_does_not_depend_on_the_batch() {
    for (case, folder, golden) in cases() {
        let model = open(folder.path());
        let inputs = golden.inputs();
        let alone: Vec<f32> = inputs.iter().flat_map(|input| model.scores(&[input]).unwrap()).collect();
        let reversed: Vec<&ClassifierInput> = inputs.iter().rev().collect();
        let together = model.scores(&reversed).unwrap();
        assert!(alone.iter().eq(together.iter().rev()), "{case}: {alone:?} {together:?}");
    }
}

#[test]
fn texts_have_the_tokens_of_transformers() {
    for (case, folder, golden) in cases() {
        let model = open(folder.path());
        assert_eq!(model.max_tokens(), 512, "{case}");
        for text in &golden.texts {
            match model.text() {
                ClassifierText::Pair(encoder) => {
                    let encoded = encoder.encode(&text.prompt, &text.completion).unwrap();
                    assert!(golden.is_pair() && !encoded.first_cut && !encoded.second_cut, "{case}");
                    assert_eq!(encoded.input.tokens, text.tokens, "{case}");
                    assert_eq!(encoded.input.types, text.types, "{case}");
                }
                ClassifierText::Chat { tokenizer, template } => {
                    let turns = [("user", &text.prompt), ("assistant", &text.completion)];
                    let turns = turns.map(|(role, content)| ChatMessage { role, content });
                    let rendered = template.render(&turns, false).unwrap();
                    assert_eq!(tokenizer.encode(&rendered).unwrap(), text.tokens, "{case}");
                }
            }
        }
    }
}

#[test]
fn sharded_checkpoints_have_the_same_scores() {
    let (folder, golden) = case("qwen2");
    let inputs = golden.inputs();
    let expected = open(folder.path()).scores(&[&inputs[0]]).unwrap();
    let whole = folder.path().join("model.safetensors");
    let mut shards = [HashMap::new(), HashMap::new()];
    let mut map = BTreeMap::new();
    for (index, (name, tensor)) in tensors(folder.path()).into_iter().enumerate() {
        map.insert(name.clone(), format!("model-0000{}-of-00002.safetensors", index % 2 + 1));
        shards[index % 2].insert(name, tensor);
    }
    for (index, shard) in shards.iter().enumerate() {
        let name = format!("model-0000{}-of-00002.safetensors", index + 1);
        candle_core::safetensors::save(shard, folder.path().join(name)).unwrap();
    }
    fs_err::write(
        folder.path().join("model.safetensors.index.json"),
        json!({ "weight_map": map }).to_string(),
    )
    .unwrap();
    fs_err::remove_file(whole).unwrap();
    assert_eq!(open(folder.path()).scores(&[&inputs[0]]).unwrap(), expected);
}

#[test]
fn the_language_model_of_an_image_text_model_is_scored() {
    let (folder, golden) = case("gemma3");
    let renamed = tensors(folder.path()).into_iter().map(|(name, tensor)| {
        (
            name.strip_prefix("model.").map_or(name.clone(), |rest| format!("model.language_model.{rest}")),
            tensor,
        )
    });
    let renamed: HashMap<String, Tensor> = renamed.collect();
    candle_core::safetensors::save(&renamed, folder.path().join("model.safetensors")).unwrap();
    let path = folder.path().join("config.json");
    let text: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
    let config = json!({
        "architectures": ["Gemma3ForSequenceClassification"],
        "model_type": "gemma3",
        "id2label": { "0": "LABEL_0" },
        "text_config": text,
    });
    fs_err::write(path, config.to_string()).unwrap();
    let inputs = golden.inputs();
    let scores = open(folder.path()).scores(&inputs.iter().collect::<Vec<_>>()).unwrap();
    for (ours, theirs) in scores.iter().zip(&golden.scores) {
        assert!((ours - theirs).abs() < 1e-4, "{scores:?} {:?}", golden.scores);
    }
}

#[test]
fn decoders_of_bf16_checkpoints_are_computed_in_bf16() {
    let (folder, golden) = case("llama");
    let rounded = tensors(folder.path());
    let rounded: HashMap<String, Tensor> =
        rounded.into_iter().map(|(name, tensor)| (name, tensor.to_dtype(DType::BF16).unwrap())).collect();
    candle_core::safetensors::save(&rounded, folder.path().join("model.safetensors")).unwrap();
    set(folder.path(), "dtype", json!("bfloat16"));
    let model = open(folder.path());
    assert_eq!(model.dtype(), Dtype::Bf16);
    let inputs = golden.inputs();
    let scores = model.scores(&inputs.iter().collect::<Vec<_>>()).unwrap();
    for (ours, theirs) in scores.iter().zip(&golden.scores) {
        assert!((ours - theirs).abs() < 0.1, "{scores:?} {:?}", golden.scores);
    }
}

#[test]
fn the_fingerprint_is_that_of_the_files() {
    let ((one, _), (other, _)) = (case("llama"), case("llama"));
    let of = |folder: &Path| open(folder).fingerprint().to_owned();
    assert_eq!(of(one.path()), of(other.path()));
    let mut changed = tensors(other.path());
    let score = changed.remove("score.weight").unwrap();
    changed.insert("score.weight".to_owned(), (score * 2.0).unwrap());
    candle_core::safetensors::save(&changed, other.path().join("model.safetensors")).unwrap();
    assert_ne!(of(one.path()), of(other.path()));
}

#[test]
fn what_cannot_be_scored_is_refused_with_a_way_out() {
    let (folder, golden) = case("deberta-v2");
    let path = folder.path();
    let refuse = |expected: &str, change: &dyn Fn()| {
        change();
        let refused = refusal(path);
        assert!(refused.contains(expected), "{refused}");
        write_reward_model("deberta-v2", path);
    };
    let architectures = |name: &str| set(path, "architectures", json!([name]));
    refuse("supported are DebertaV2ForSequenceClassification", &|| {
        architectures("BertForSequenceClassification");
    });
    refuse("has no reward head", &|| architectures("LlamaForCausalLM"));
    refuse("2 labels (bad, good)", &|| set(path, "id2label", json!({ "0": "bad", "1": "good" })));
    refuse("conv_groups other than 1", &|| set(path, "conv_groups", json!(2)));
    refuse("unknown variant `mish`", &|| set(path, "hidden_act", json!("mish")));
    refuse("num_attention_heads 5", &|| set(path, "num_attention_heads", json!(5)));
    refuse("shape [264, 24], the architecture needs [264, 32]", &|| set(path, "embedding_size", json!(32)));
    refuse("config.json: the file is missing", &|| fs_err::remove_file(path.join("config.json")).unwrap());
    refuse("tokenizer.json is missing", &|| fs_err::remove_file(path.join("tokenizer.json")).unwrap());
    refuse("it adds no special tokens to a pair", &|| {
        let (decoder, _) = case("llama");
        fs_err::copy(decoder.path().join("tokenizer.json"), path.join("tokenizer.json")).unwrap();
    });
    refuse("only `pytorch_model.bin`; PyTorch's pickle files can run code and are never read", &|| {
        fs_err::rename(path.join("model.safetensors"), path.join("pytorch_model.bin")).unwrap();
    });
    let (decoder, _) = case("mistral");
    fs_err::remove_file(decoder.path().join("chat_template.jinja")).unwrap();
    let refused = refusal(decoder.path());
    assert!(refused.contains("the reward model comes without one; add the template"), "{refused}");

    let model = open(path);
    let scores = |tokens: Vec<u32>| {
        let types = vec![0; tokens.len()];
        model.scores(&[&ClassifierInput { tokens, types }]).unwrap_err().to_string()
    };
    assert_eq!(scores(Vec::new()), "batch: a text to score has no tokens");
    assert!(scores(vec![264]).contains("token 264 is not in the model's vocabulary of 264"));
    assert!(scores(vec![1; 513]).contains("a text has 513 tokens, and the model 512 positions"));
    let nan = Tensor::new(&[f32::NAN], &Device::Cpu).unwrap();
    let mut damaged = tensors(path);
    damaged.insert("classifier.bias".to_owned(), nan);
    candle_core::safetensors::save(&damaged, path.join("model.safetensors")).unwrap();
    let inputs = golden.inputs();
    let error = open(path).scores(&[&inputs[0]]).unwrap_err().to_string();
    assert!(error.contains("scores a text NaN"), "{error}");
}
