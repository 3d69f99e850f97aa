//! Damaged and hostile model files end in an error or a model, never in a panic.
//!
//! `just fuzz-models ROUNDS` tries more of them than a test run.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use candle_core::quantized::GgmlDType;
use prospect_model::{ChatMessage, ModelError, ModelFile};
use prospect_testkit::{fuzz_rounds, mutated};

use crate::{checkpoints::saved, gguf};

/// Loads a model as a run does.
fn load(weights: &Path, tokenizer: &str) -> Result<(), ModelError> {
    let text = format!("weights: {}\n{tokenizer}", weights.display());
    let document = prospect_core::config::Document::from_text("model.yaml", &text).unwrap();
    let file: ModelFile = document.read().unwrap();
    let model = file.resolve(&|path| Ok(PathBuf::from(path)))?.load()?;
    // An error of the template is as good as a rendering.
    let _ = model.template.conversation(&[ChatMessage { role: "user", content: "Hi {{ 7 }}" }], "Hello");
    let _ = model.tokenizer.encode("Hello");
    Ok(())
}

/// Loads `path` in place of each of many mutated copies, and returns how many were still models.
fn survivors(path: &Path, rounds: u64, load: &dyn Fn() -> Result<(), ModelError>) -> u64 {
    let original = fs_err::read(path).unwrap();
    let mut models = 0;
    for round in 0..rounds {
        fs_err::write(path, mutated(&original, round)).unwrap();
        match catch_unwind(AssertUnwindSafe(load)) {
            Ok(Ok(())) => models += 1,
            Ok(Err(error)) => assert!(!error.to_string().is_empty()),
            Err(panic) => panic!("round {round} of {} panics: {panic:?}", path.display()),
        }
    }
    fs_err::write(path, original).unwrap();
    models
}

#[test]
fn no_damaged_file_of_a_checkpoint_panics() {
    let (_, folder) = saved("");
    let files = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    for name in files {
        let path = folder.path().join(name);
        if path.exists() {
            survivors(&path, fuzz_rounds(60), &|| load(folder.path(), ""));
        }
    }
    assert!(load(folder.path(), "").is_ok(), "the undamaged files are a model");
}

#[test]
fn no_damaged_gguf_file_panics() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = gguf::random_tensors(folder.path());
    let path = folder.path().join("model.gguf");
    for kind in [GgmlDType::Q4K, GgmlDType::Q8_0] {
        gguf::write_gguf(&path, &tensors, kind);
        survivors(&path, fuzz_rounds(60), &|| load(&path, "tokenizer: bytes"));
        assert!(load(&path, "tokenizer: bytes").is_ok());
    }
}

/// Returns the error of a GGUF file whose embedding claims another size in one of its dimensions,
/// computed from the first one: columns, then the vocabulary.
fn embedding_error(kind: GgmlDType, dimension: usize, size: impl Fn(u64) -> u64) -> String {
    let folder = tempfile::tempdir().unwrap();
    let tensors = gguf::random_tensors(folder.path());
    let path = folder.path().join("model.gguf");
    gguf::write_gguf(&path, &tensors, kind);
    let mut bytes = fs_err::read(&path).unwrap();
    let name = b"token_embd.weight";
    // The number of dimensions follows the name, then the first one.
    let first = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 4;
    let columns = u64::from_le_bytes(bytes[first..first + 8].try_into().unwrap());
    let at = first + 8 * dimension;
    bytes[at..at + 8].copy_from_slice(&size(columns).to_le_bytes());
    fs_err::write(&path, bytes).unwrap();
    load(&path, "tokenizer: bytes").unwrap_err().to_string()
}

#[test]
fn gguf_dimensions_that_overflow_are_refused() {
    let error = embedding_error(GgmlDType::Q8_0, 0, |_| 1 << 63);
    assert!(error.contains("the architecture needs"), "{error}");
}

#[test]
fn gguf_bytes_that_overflow_are_refused() {
    // 2^62 elements of 4 bytes.
    let error = embedding_error(GgmlDType::F32, 1, |columns| (1 << 62) / columns);
    assert!(error.contains("which no file holds"), "{error}");
}
