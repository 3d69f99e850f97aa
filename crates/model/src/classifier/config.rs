//! `config.json` of sequence classifiers, and the files beside it.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Architecture, Dtype, ModelError, recorded::check_recorded};

/// Family of a sequence classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
pub enum ClassifierFamily {
    /// DeBERTa-v2 and v3.
    #[strum(to_string = "DeBERTa")]
    DebertaV2,
    /// ModernBERT.
    #[strum(to_string = "ModernBERT")]
    ModernBert,
    /// A decoder of [`Family`](crate::Family).
    #[strum(to_string = "decoder")]
    Decoder,
}

/// Supported names in `architectures`, in the order of messages.
const SUPPORTED: [(&str, ClassifierFamily); 9] = [
    ("DebertaV2ForSequenceClassification", ClassifierFamily::DebertaV2),
    ("ModernBertForSequenceClassification", ClassifierFamily::ModernBert),
    ("LlamaForSequenceClassification", ClassifierFamily::Decoder),
    ("MistralForSequenceClassification", ClassifierFamily::Decoder),
    ("Qwen2ForSequenceClassification", ClassifierFamily::Decoder),
    ("Qwen3ForSequenceClassification", ClassifierFamily::Decoder),
    ("Gemma3ForSequenceClassification", ClassifierFamily::Decoder),
    ("Gemma3TextForSequenceClassification", ClassifierFamily::Decoder),
    ("GPTNeoXForSequenceClassification", ClassifierFamily::Decoder),
];

const CONFIG: &str = "config.json";

/// Parsed `config.json`.
pub(super) struct ClassifierConfig {
    pub(super) family: ClassifierFamily,
    path: PathBuf,
    value: Value,
}

impl ClassifierConfig {
    /// Reads the `config.json` of a folder. Refuses architectures that are not supported, and
    /// several labels.
    pub(super) fn open(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join(CONFIG);
        let fail = |message: &str| ModelError::Architecture(format!("{}: {message}", path.display()));
        if !path.exists() {
            let adapter = folder.join("adapter_config.json").exists();
            return Err(fail(if adapter {
                "the file is missing, and the folder holds a LoRA adapter; merge it into its base model first (peft: \
                 `merge_and_unload`), and give the folder of the merged model"
            } else {
                "the file is missing; give the whole folder of a reward model, with config.json, safetensors and \
                 tokenizer.json"
            }));
        }
        check_recorded(folder, CONFIG)?;
        let value: Value =
            serde_json::from_slice(&fs_err::read(&path)?).map_err(|error| fail(&error.to_string()))?;
        let family = family(&value).map_err(|message| fail(&message))?;
        check_labels(&value).map_err(|message| fail(&message))?;
        let config = Self { family, path, value };
        if family == ClassifierFamily::Decoder {
            config.decoder()?;
        }
        Ok(config)
    }

    /// Reads the settings of an encoder.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, ModelError> {
        serde_json::from_value(self.value.clone())
            .map_err(|error| ModelError::Architecture(format!("{}: {error}", self.path.display())))
    }

    /// Reads the architecture of a decoder.
    pub(super) fn decoder(&self) -> Result<Architecture, ModelError> {
        Architecture::from_hugging_face(&self.value.to_string()).map_err(|error| match error {
            ModelError::Architecture(message) => {
                ModelError::Architecture(format!("{}: {message}", self.path.display()))
            }
            other => other,
        })
    }

    /// Returns the padding token of the language model.
    pub(super) fn pad_token_id(&self) -> Option<u32> {
        let of = |value: &Value| value.get("pad_token_id").cloned();
        let text = self.value.get("text_config");
        let id = text.and_then(of).or_else(|| of(&self.value));
        // The default of transformers for Gemma, which files may omit.
        let is_gemma = self
            .value
            .get("model_type")
            .and_then(Value::as_str)
            .is_some_and(|kind| kind.starts_with("gemma"));
        match id {
            None if is_gemma => Some(0),
            id => id?.as_u64().and_then(|id| u32::try_from(id).ok()),
        }
    }

    /// Returns the element type to compute in: bf16 for decoders whose checkpoint has that type.
    pub(super) fn dtype(&self) -> Dtype {
        let text = self.value.get("text_config");
        let mut places = [text, Some(&self.value)].into_iter().flatten();
        let named = places.find_map(|value| value.get("dtype").or_else(|| value.get("torch_dtype")));
        let is_half = named.and_then(Value::as_str) == Some("bfloat16");
        if is_half && self.family == ClassifierFamily::Decoder { Dtype::Bf16 } else { Dtype::F32 }
    }
}

/// Returns the family of the architecture in a `config.json`.
fn family(config: &Value) -> Result<ClassifierFamily, String> {
    let name = config.get("architectures").and_then(|names| names.get(0)).and_then(Value::as_str);
    let Some(name) = name else {
        return Err("`architectures` is missing, which says how the model is used".to_owned());
    };
    if let Some((_, family)) = SUPPORTED.iter().find(|(supported, _)| *supported == name) {
        return Ok(*family);
    }
    if name.ends_with("ForCausalLM") || name.ends_with("ForConditionalGeneration") {
        return Err(format!(
            "`{name}` is a language model and has no reward head; give a sequence classifier, or a model recipe \
             (.yaml with `weights:`) to train a reward model from it"
        ));
    }
    let supported: Vec<&str> = SUPPORTED.iter().map(|(name, _)| *name).collect();
    Err(format!("`{name}` is not supported as a reward model; supported are {}", supported.join(", ")))
}

/// Refuses any number of labels other than one. Without labels, transformers assumes two.
fn check_labels(config: &Value) -> Result<(), String> {
    let names = config.get("id2label").and_then(Value::as_object);
    let labels = match (names, config.get("num_labels").and_then(Value::as_u64)) {
        (Some(names), _) => names.len() as u64,
        (None, number) => number.unwrap_or(2),
    };
    if labels == 1 {
        return Ok(());
    }
    let mut shown: Vec<&str> =
        names.into_iter().flat_map(|names| names.values()).filter_map(Value::as_str).collect();
    shown.truncate(6);
    let shown = if shown.is_empty() { String::new() } else { format!(" ({})", shown.join(", ")) };
    Err(format!(
        "the model has {labels} labels{shown}, and none of them is clearly the reward; a reward model has one \
         (`num_labels: 1`)"
    ))
}

/// Refuses folders without safetensors or `tokenizer.json`, and says how to make them.
pub(super) fn check_files(folder: &Path, pretrained: &str) -> Result<(), ModelError> {
    let has = |name: &str| folder.join(name).exists();
    let convert = |class: &str| {
        format!(
            "python -c \"import transformers; transformers.{class}.from_pretrained({pretrained}).save_pretrained('FOLDER')\""
        )
    };
    if !has("model.safetensors") && !has("model.safetensors.index.json") {
        let mut names = Vec::new();
        for entry in fs_err::read_dir(folder)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        let pickle = names.iter().find(|name| [".bin", ".pt", ".pth"].iter().any(|end| name.ends_with(end)));
        let what = match pickle {
            Some(name) => format!("there are no safetensors, only `{name}`"),
            None => "there are no safetensors".to_owned(),
        };
        return Err(ModelError::Weights(format!(
            "{}: {what}; PyTorch's pickle files can run code and are never read. If you trust their author, convert \
             them, and give the new folder: {} && {}",
            folder.display(),
            convert("AutoModelForSequenceClassification"),
            convert("AutoTokenizer"),
        )));
    }
    if !has("tokenizer.json") {
        return Err(ModelError::Tokenizer(format!(
            "{}: tokenizer.json is missing; make one, and put it into a copy of the folder: {} (needs the packages \
             transformers, sentencepiece and protobuf)",
            folder.display(),
            convert("AutoTokenizer"),
        )));
    }
    Ok(())
}

/// Returns `model_max_length` of `tokenizer_config.json`; None if it sets no limit.
pub(super) fn tokenizer_limit(folder: &Path) -> Result<Option<usize>, ModelError> {
    const NAME: &str = "tokenizer_config.json";
    let path = folder.join(NAME);
    if !path.exists() {
        return Ok(None);
    }
    check_recorded(folder, NAME)?;
    let config: Value = serde_json::from_slice(&fs_err::read(&path)?)
        .map_err(|error| ModelError::Tokenizer(format!("{}: {error}", path.display())))?;
    // Tokenizers without a limit write 1e30.
    let limit = config.get("model_max_length").and_then(Value::as_f64).filter(|limit| *limit < 1e9);
    Ok(limit.map(|limit| limit as usize).filter(|limit| *limit > 0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn supported_architectures_with_one_label_are_known() {
        for (name, expected) in SUPPORTED {
            assert_eq!(family(&json!({ "architectures": [name] })), Ok(expected));
        }
        let of = |name: &str| family(&json!({ "architectures": [name] })).unwrap_err();
        assert!(
            of("BertForSequenceClassification")
                .contains("supported are DebertaV2ForSequenceClassification, ")
        );
        assert!(of("LlamaForCausalLM").contains("has no reward head"));
        assert!(family(&json!({})).unwrap_err().contains("`architectures` is missing"));
    }

    #[test]
    fn a_reward_model_has_one_label() {
        assert_eq!(check_labels(&json!({ "num_labels": 1 })), Ok(()));
        assert_eq!(check_labels(&json!({ "id2label": { "0": "LABEL_0" } })), Ok(()));
        let several = check_labels(&json!({ "id2label": { "0": "toxic", "1": "fine" } })).unwrap_err();
        assert!(several.starts_with("the model has 2 labels (toxic, fine)"), "{several}");
        assert!(check_labels(&json!({})).unwrap_err().starts_with("the model has 2 labels, "));
    }

    #[test]
    fn the_padding_token_is_that_of_the_language_model() {
        let config = |value: Value| ClassifierConfig {
            family: ClassifierFamily::Decoder,
            path: PathBuf::new(),
            value,
        };
        assert_eq!(config(json!({ "pad_token_id": 7 })).pad_token_id(), Some(7));
        assert_eq!(config(json!({ "pad_token_id": null })).pad_token_id(), None);
        assert_eq!(config(json!({ "model_type": "llama" })).pad_token_id(), None);
        assert_eq!(config(json!({ "model_type": "gemma3_text" })).pad_token_id(), Some(0));
        let nested =
            json!({ "model_type": "gemma3", "text_config": { "pad_token_id": 3 }, "pad_token_id": 5 });
        assert_eq!(config(nested).pad_token_id(), Some(3));
    }

    #[test]
    fn decoders_keep_the_type_of_their_checkpoint() {
        let dtype = |family, value| ClassifierConfig { family, path: PathBuf::new(), value }.dtype();
        assert_eq!(dtype(ClassifierFamily::Decoder, json!({ "torch_dtype": "bfloat16" })), Dtype::Bf16);
        assert_eq!(dtype(ClassifierFamily::Decoder, json!({ "dtype": "float16" })), Dtype::F32);
        assert_eq!(dtype(ClassifierFamily::ModernBert, json!({ "dtype": "bfloat16" })), Dtype::F32);
    }
}
