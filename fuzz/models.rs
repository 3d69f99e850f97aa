//! Files of models.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use candle_core::{
    Device, Tensor,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{self, Value},
    },
};
use prospect_core::config::Document;
use prospect_model::{ChatMessage, ChatTemplate, Model, ModelError, ModelFile, Tokenizer};
use prospect_testkit::gguf_name;
use tempfile::TempDir;

/// Files of a checkpoint that a target replaces.
pub const CHECKPOINT_FILES: [&str; 5] =
    ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"];

const SIZES: &str = "{vocab_size: 258, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1,
  num_attention_heads: 2, num_key_value_heads: 1, head_dim: 16, max_position_embeddings: 64}";

/// A small checkpoint, as another tool would write it: without hashes.
static CHECKPOINT: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("there is space for a small checkpoint");
    let recipe = format!("weights: random\ntokenizer: bytes\narchitecture: {SIZES}");
    load(&recipe).and_then(|model| model.save(folder.path())).expect("the model is valid");
    fs::remove_file(folder.path().join("BLAKE3SUMS")).expect("a checkpoint has hashes");
    folder
});

static BYTES: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::bytes().expect("it is built in"));

fn load(recipe: &str) -> Result<Model, ModelError> {
    let file: ModelFile = Document::from_text("model.yaml", recipe)
        .and_then(|document| document.read())
        .expect("the recipe is valid");
    file.resolve(&|path| Ok(PathBuf::from(path)))?.load()
}

/// Loads a model and uses its tokenizer and template.
fn attempt(weights: &Path, more: &str) {
    if let Ok(model) = load(&format!("weights: {}\n{more}", weights.display())) {
        let _ = model.tokenizer.encode("Hello");
        converse(&model.template);
    }
}

fn converse(template: &ChatTemplate) {
    let turns = [ChatMessage { role: "user", content: "Hi {{ 7 }} <|im_end|>" }];
    let _ = template.conversation(&turns, "Hello");
}

/// Loads a checkpoint with one of [`CHECKPOINT_FILES`] replaced.
pub fn read_checkpoint(file: usize, bytes: &[u8]) {
    crate::contained::allow();
    let folder = tempfile::tempdir().expect("there is space for a small checkpoint");
    for name in CHECKPOINT_FILES {
        let _ = fs::copy(CHECKPOINT.path().join(name), folder.path().join(name));
    }
    let _ = fs::write(folder.path().join(CHECKPOINT_FILES[file]), bytes);
    attempt(folder.path(), "");
}

/// Loads a GGUF file, with its own tokenizer and with another one.
pub fn read_gguf(bytes: &[u8]) {
    crate::contained::allow();
    let folder = tempfile::tempdir().expect("there is space for a small file");
    let path = folder.path().join("model.gguf");
    let _ = fs::write(&path, bytes);
    attempt(&path, "");
    attempt(&path, "tokenizer: bytes");
}

/// Compiles and renders a chat template.
pub fn read_template(text: &str) {
    if let Ok(template) = ChatTemplate::new(text, &BYTES, BTreeMap::new()) {
        converse(&template);
    }
}

/// Writes files to start from to `corpus/checkpoints` and `corpus/gguf` in a folder.
pub(crate) fn write_seeds(folder: &Path) -> std::io::Result<()> {
    let corpus = |target: &str| {
        let corpus = folder.join("corpus").join(target);
        fs::create_dir_all(&corpus).map(|()| corpus)
    };
    let checkpoints = corpus("checkpoints")?;
    for (index, name) in CHECKPOINT_FILES.iter().enumerate() {
        if let Ok(content) = fs::read(CHECKPOINT.path().join(name)) {
            fs::write(checkpoints.join(name), [&[index as u8], content.as_slice()].concat())?;
        }
    }
    for kind in [GgmlDType::F32, GgmlDType::Q8_0, GgmlDType::Q4_0] {
        let file = gguf(kind).expect("the checkpoint is valid");
        fs::write(corpus("gguf")?.join(format!("{kind:?}")), file)?;
    }
    Ok(())
}

/// Returns the checkpoint as a GGUF file.
fn gguf(kind: GgmlDType) -> candle_core::Result<Vec<u8>> {
    let tensors = candle_core::safetensors::load(CHECKPOINT.path().join("model.safetensors"), &Device::Cpu)?;
    let stored = |(name, tensor): (String, Tensor)| -> candle_core::Result<(String, QTensor)> {
        let kind = if tensor.dims().len() == 2 { kind } else { GgmlDType::F32 };
        Ok((gguf_name(&name), QTensor::quantize(&tensor, kind)?))
    };
    let stored: Vec<(String, QTensor)> = tensors.into_iter().map(stored).collect::<Result<_, _>>()?;
    let sizes = [
        ("llama.embedding_length", 32),
        ("llama.feed_forward_length", 64),
        ("llama.block_count", 1),
        ("llama.attention.head_count", 2),
        ("llama.attention.head_count_kv", 1),
        ("llama.context_length", 64),
    ];
    let mut metadata: Vec<(&str, Value)> = sizes.map(|(key, size)| (key, Value::U32(size))).to_vec();
    metadata.push(("general.architecture", Value::String("llama".to_owned())));
    metadata.push(("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)));
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let stored: Vec<(&str, &QTensor)> = stored.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut file = std::io::Cursor::new(Vec::new());
    gguf_file::write(&mut file, &metadata, &stored)?;
    Ok(file.into_inner())
}
