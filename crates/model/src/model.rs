//! Loading and saving of models: decoder, tokenizer and chat template.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device};
use prospect_core::{
    checksums,
    files::{fingerprint, hash_file, write_json, write_whole},
    not_fetched::NotFetched,
};
use prospect_dist::ProcessGroup;
use serde::Deserialize;

use crate::{
    Architecture, ChatTemplate, Decoder, ModelError, Quantization, Recipe, TemplateSource, Tokenizer,
    TokenizerSource, WeightsSource,
    adapter::AdapterConfig,
    device,
    recorded::check_recorded,
    save::save_weights,
    template::{NamedTemplates, TemplateField},
    token_ids::check_token_ids,
    weights::{GgufFile, QuantisingSource, ShardingSource, TensorSource},
    weights_source::{HUB, Storage},
};

/// Names of the files of a saved model.
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const GENERATION_CONFIG: &str = "generation_config.json";

/// Frozen model with its tokenizer and chat template.
#[derive(Debug, Clone)]
pub struct Model {
    /// Name of the base model, from its recipe.
    pub name: String,
    /// Decoder with the weights.
    pub decoder: Decoder,
    /// Tokenizer.
    pub tokenizer: Tokenizer,
    /// Chat template.
    pub template: ChatTemplate,
    /// Hash of everything that log-probs depend on: weights, tokenizer, template and element type.
    pub fingerprint: String,
    /// Hash of everything that the tokens of a conversation depend on: tokenizer and template.
    pub text_fingerprint: String,
}

/// Relevant keys of `tokenizer_config.json`.
#[derive(Default, Deserialize)]
struct TokenizerConfig {
    chat_template: Option<TemplateField>,
    bos_token: Option<SpecialToken>,
    eos_token: Option<SpecialToken>,
    unk_token: Option<SpecialToken>,
    sep_token: Option<SpecialToken>,
    pad_token: Option<SpecialToken>,
    cls_token: Option<SpecialToken>,
    mask_token: Option<SpecialToken>,
}

/// Special token, either plain or as the fields of an added token.
#[derive(Deserialize)]
#[serde(untagged)]
enum SpecialToken {
    Text(String),
    Object { content: String },
}

impl SpecialToken {
    fn text(self) -> String {
        match self {
            Self::Text(text) | Self::Object { content: text } => text,
        }
    }
}

/// Chat templates and their variables, special tokens by name, that come with weights.
#[derive(Default)]
struct TextConfig {
    templates: NamedTemplates,
    variables: BTreeMap<String, String>,
}

impl Recipe {
    /// Returns a hash of everything that the recipe's log-probs depend on. Files count by content,
    /// not by path.
    pub fn fingerprint(&self) -> Result<String, ModelError> {
        let mut parts = vec![fingerprint(&(self.dtype, self.quantization, "model v2"))?];
        parts.extend(self.weights.fingerprints()?);
        match &self.tokenizer {
            TokenizerSource::File(path) if !path.starts_with(HUB) => parts.push(hash_file(path)?),
            other => parts.push(fingerprint(other)?),
        }
        match &self.chat_template {
            TemplateSource::File(path) if !path.starts_with(HUB) => parts.push(hash_file(path)?),
            other => parts.push(fingerprint(other)?),
        }
        Ok(fingerprint(&parts)?)
    }

    /// Reads the architecture without loading the weights.
    pub fn architecture(&self) -> Result<Architecture, ModelError> {
        self.weights.architecture()
    }

    /// Loads decoder, tokenizer and chat template.
    pub fn load(&self) -> Result<Model, ModelError> {
        self.load_as(&ProcessGroup::default())
    }

    /// Loads the model on a rank of a process group: onto the rank's GPU, and with sharded frozen
    /// matrices (in full training, those of the reference) if the group shards them. All ranks must
    /// load the same models in the same order.
    pub fn load_as(&self, member: &ProcessGroup) -> Result<Model, ModelError> {
        let device = device::by_local_rank(member.local_rank)?;
        let keep_blocks = self.quantization == Some(Quantization::File);
        let (architecture, mut weights) =
            self.weights.open(Storage { dtype: self.dtype.to_candle(), device, keep_blocks })?;
        let decoder = match &member.sharded_store {
            Some(store) => {
                let mut weights: Box<dyn TensorSource> =
                    match self.quantization.and_then(Quantization::blocks) {
                        Some(kind) => Box::new(QuantisingSource { source: &mut *weights, kind }),
                        None => weights,
                    };
                Decoder::frozen(architecture, &mut ShardingSource { source: &mut *weights, store })?
            }
            None => Decoder::quantised(architecture, &mut *weights, self.quantization)?,
        };
        let (tokenizer, template) = self.load_text()?;
        check_token_ids(&tokenizer, &template, decoder.architecture().vocabulary)?;
        let text_fingerprint = text_fingerprint(&tokenizer, &template)?;
        Ok(Model {
            name: self.name.clone(),
            decoder,
            tokenizer,
            template,
            fingerprint: self.fingerprint()?,
            text_fingerprint,
        })
    }

    /// Returns a hash of tokenizer and chat template, as of [`Model::text_fingerprint`], without
    /// loading the weights.
    pub fn text_fingerprint(&self) -> Result<String, ModelError> {
        let (tokenizer, template) = self.load_text()?;
        text_fingerprint(&tokenizer, &template)
    }

    /// Returns the recipe with the LoRA adapter in `folder` merged into its weights.
    pub fn with_adapter(self, folder: PathBuf) -> Result<Self, ModelError> {
        AdapterConfig::open(&folder)?;
        let name = folder.display().to_string();
        Ok(Self { name, weights: WeightsSource::Adapter { folder, base: Box::new(self.weights) }, ..self })
    }

    /// Opens the weights without reading them: fails if files are missing, or if an adapter does not
    /// fit its base model.
    pub fn check_weights(&self) -> Result<(), ModelError> {
        let storage = Storage { dtype: self.dtype.to_candle(), device: Device::Cpu, keep_blocks: false };
        self.weights.open(storage).map(drop)
    }

    /// Loads tokenizer and chat template only.
    pub fn load_text(&self) -> Result<(Tokenizer, ChatTemplate), ModelError> {
        let (own_tokenizer, text) =
            text_of_weights(&self.weights, self.tokenizer == TokenizerSource::Weights)?;
        let tokenizer = match (&self.tokenizer, own_tokenizer) {
            (TokenizerSource::Bytes, _) => Tokenizer::bytes()?,
            (TokenizerSource::File(path), _) => Tokenizer::open(path, None)?,
            (TokenizerSource::Weights, Some(tokenizer)) => tokenizer,
            (TokenizerSource::Weights, None) => {
                return Err(ModelError::Recipe(
                    "the weights come without a tokenizer; set `tokenizer:`".to_owned(),
                ));
            }
        };
        let mut variables = text.variables;
        variables.insert("eos_token".to_owned(), tokenizer.eos_token().to_owned());
        let source = match &self.chat_template {
            TemplateSource::File(path) => Some(fs_err::read_to_string(path)?),
            TemplateSource::Weights => text.templates.into_default()?,
            TemplateSource::Chatml => None,
        };
        let template = match source {
            Some(source) => ChatTemplate::new(&source, &tokenizer, variables)?,
            None => ChatTemplate::chatml(&tokenizer)?,
        };
        Ok((tokenizer, template))
    }
}

/// Hash of everything that decides how text becomes tokens.
fn text_fingerprint(tokenizer: &Tokenizer, template: &ChatTemplate) -> Result<String, ModelError> {
    Ok(fingerprint(&(tokenizer.to_json()?, template.source(), template.variables(), template.end_marker()))?)
}

/// Reads the text settings that come with weights, and the tokenizer if `own` is set.
fn text_of_weights(
    weights: &WeightsSource,
    own: bool,
) -> Result<(Option<Tokenizer>, TextConfig), ModelError> {
    match weights {
        WeightsSource::Random(..) => Ok((None, TextConfig::default())),
        WeightsSource::NotFetched(address) => Err(NotFetched(address.clone()).into()),
        WeightsSource::Gguf(path) => {
            let gguf = GgufFile::open(path, DType::F32, Device::Cpu, false)?;
            let tokenizer = own.then(|| Tokenizer::from_gguf(&gguf)).transpose()?;
            let template = gguf.text("tokenizer.chat_template").ok();
            let template = template.map(|template| TemplateField::One(template.to_owned()));
            let bos_token = gguf.bos_token().map(|token| ("bos_token".to_owned(), token));
            let templates = template.map(NamedTemplates::from).unwrap_or_default();
            Ok((tokenizer, TextConfig { templates, variables: bos_token.into_iter().collect() }))
        }
        // An adapter may have been trained with tokens and a template of its own.
        WeightsSource::Adapter { folder, .. } if folder.join("tokenizer.json").exists() => {
            load_text_of_folder(folder, own)
        }
        WeightsSource::Adapter { base, .. } => text_of_weights(base, own),
        WeightsSource::Folder(_) | WeightsSource::Safetensors(_) => {
            load_text_of_folder(weights.folder().unwrap_or(Path::new("")), own)
        }
    }
}

/// Returns the path of a folder's `tokenizer.json`, or says how to make one.
fn tokenizer_file(folder: &Path) -> Result<PathBuf, ModelError> {
    let path = folder.join("tokenizer.json");
    let other = ["tokenizer.model", "vocab.json"].into_iter().find(|name| folder.join(name).exists());
    match other {
        Some(other) if !path.exists() => Err(ModelError::Tokenizer(format!(
            "{folder}: there is `{other}`, but no tokenizer.json; convert it: python -c \"import transformers; \
             transformers.AutoTokenizer.from_pretrained('{folder}').save_pretrained('{folder}')\" (needs the packages \
             transformers, sentencepiece and protobuf), or set `tokenizer:` to a tokenizer.json",
            folder = folder.display()
        ))),
        _ => Ok(path),
    }
}

/// Reads the text settings of a folder of weights, and its tokenizer if `tokenizer` is set.
fn load_text_of_folder(
    folder: &Path,
    tokenizer: bool,
) -> Result<(Option<Tokenizer>, TextConfig), ModelError> {
    // Not read here, but engines that serve the model stop where it says.
    if folder.join(GENERATION_CONFIG).exists() {
        check_recorded(folder, GENERATION_CONFIG)?;
    }
    let path = folder.join(TOKENIZER_CONFIG);
    let config: TokenizerConfig = if path.exists() {
        check_recorded(folder, TOKENIZER_CONFIG)?;
        serde_json::from_slice(&fs_err::read(&path)?)
            .map_err(|error| ModelError::Tokenizer(format!("{}: {error}", path.display())))?
    } else {
        TokenizerConfig::default()
    };
    let variables = [
        ("bos_token", config.bos_token),
        ("unk_token", config.unk_token),
        ("sep_token", config.sep_token),
        ("pad_token", config.pad_token),
        ("cls_token", config.cls_token),
        ("mask_token", config.mask_token),
    ];
    let variables =
        variables.into_iter().filter_map(|(name, token)| Some((name.to_owned(), token?.text()))).collect();
    let templates = NamedTemplates::from_folder(folder, config.chat_template)?;
    let tokenizer = tokenizer
        .then(|| {
            check_recorded(folder, TOKENIZER)?;
            Tokenizer::open(&tokenizer_file(folder)?, config.eos_token.map(SpecialToken::text))
        })
        .transpose()?;
    Ok((tokenizer, TextConfig { templates, variables }))
}

/// Loads the tokenizer and the chat template of the folder of a reward model, which has no default
/// template: another one than it was trained with would change its scores.
pub(crate) fn load_text_of_classifier(folder: &Path) -> Result<(Tokenizer, ChatTemplate), ModelError> {
    let (tokenizer, text) = load_text_of_folder(folder, true)?;
    let (Some(tokenizer), Some(source)) = (tokenizer, text.templates.into_default()?) else {
        return Err(ModelError::Template(format!(
            "{}: the reward model comes without one; add the template that it was trained with as \
             chat_template.jinja to a copy of the folder",
            folder.display()
        )));
    };
    let mut variables = text.variables;
    variables.insert("eos_token".to_owned(), tokenizer.eos_token().to_owned());
    let template = ChatTemplate::new(&source, &tokenizer, variables)?;
    Ok((tokenizer, template))
}

impl Model {
    /// Writes the model, adapters merged, to a folder that `transformers` loads, with the hashes of
    /// its files.
    pub fn save(&self, folder: &Path) -> Result<(), ModelError> {
        fs_err::create_dir_all(folder)?;
        save_weights(&self.decoder, &folder.join(WEIGHTS))?;
        let eos_token_id = self.template.end_marker().id;
        write_json(&folder.join(CONFIG), &self.decoder.architecture().to_hugging_face(Some(eos_token_id)))?;
        self.save_generation_config(folder)?;
        let tokenizer = self.tokenizer.to_json()?;
        write_whole(&folder.join(TOKENIZER), |writer| {
            std::io::Write::write_all(writer, tokenizer.as_bytes())
        })?;
        let bos_token = Some(self.template.bos_token()).filter(|token| !token.is_empty());
        let mut config = serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": bos_token,
            "eos_token": self.tokenizer.eos_token(),
            "pad_token": self.tokenizer.eos_token(),
            "chat_template": self.template.source(),
        });
        // Variables that the chat template may print.
        for (name, token) in self.template.variables().iter().filter(|(name, _)| *name != "bos_token") {
            config[name.as_str()] = token.as_str().into();
        }
        write_json(&folder.join(TOKENIZER_CONFIG), &config)?;
        let files = [CONFIG, WEIGHTS, TOKENIZER, TOKENIZER_CONFIG, GENERATION_CONFIG];
        Ok(checksums::record(folder, &files)?)
    }

    /// Writes `generation_config.json`, with the tokens that end a completion. The first is the end
    /// marker of training.
    pub fn save_generation_config(&self, folder: &Path) -> Result<(), ModelError> {
        let mut config = serde_json::json!({ "eos_token_id": self.template.stop_token_ids() });
        if !self.template.bos_token().is_empty() {
            config["bos_token_id"] = self.tokenizer.token_id(self.template.bos_token()).into();
        }
        config["pad_token_id"] = self.tokenizer.eos_token_id()?.into();
        Ok(write_json(&folder.join(GENERATION_CONFIG), &config)?)
    }
}
