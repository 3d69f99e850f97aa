//! A loaded model: decoder, tokenizer and chat template.

use std::path::Path;

use candle_core::{DType, Device};
use prospect_core::files::{fingerprint, hash_file, write_json, write_whole};
use prospect_dist::ProcessGroup;
use serde::Deserialize;

use crate::{
    Architecture, ChatTemplate, Decoder, Dtype, ModelError, Quantization, Recipe, TemplateSource, Tokenizer,
    TokenizerSource, Train, WeightsSource, device,
    save::save_weights,
    weights::{Gguf, Quantising, Random, Safetensors, Sharding, Weights},
};

/// A frozen model with its tokenizer and chat template.
#[derive(Debug, Clone)]
pub struct Model {
    /// The base model's name, as its recipe has it.
    pub name: String,
    /// The weights.
    pub decoder: Decoder,
    /// Text to tokens.
    pub tokenizer: Tokenizer,
    /// Conversations to text.
    pub template: ChatTemplate,
    /// Names everything that log-probs depend on: weights, tokenizer, template, element type.
    pub fingerprint: String,
}

/// The parts of `tokenizer_config.json` that matter here.
#[derive(Default, Deserialize)]
struct TokenizerConfig {
    chat_template: Option<String>,
    bos_token: Option<Token>,
    eos_token: Option<Token>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Object { content: String },
}

impl Token {
    fn text(self) -> String {
        match self {
            Self::Text(text) | Self::Object { content: text } => text,
        }
    }
}

/// Standard deviation of random weights: GPT-2's and Llama's.
const DEVIATION: f64 = 0.02;

/// What comes with weights beside tensors.
#[derive(Default)]
struct Companions {
    template: Option<String>,
    begin: Option<String>,
}

impl Decoder {
    /// A frozen f32 decoder on the CPU with random weights.
    pub fn random(architecture: Architecture, seed: u64) -> Result<Self, ModelError> {
        Self::random_on(&Device::Cpu, architecture, seed, (Dtype::F32, None))
    }

    /// A frozen decoder on `device` with random weights of a type, those of linear layers quantised if that is said. Of any size:
    /// one matrix at a time is on the host.
    pub fn random_on(
        device: &Device,
        architecture: Architecture,
        seed: u64,
        (dtype, quantization): (Dtype, Option<Quantization>),
    ) -> Result<Self, ModelError> {
        let device = device.clone();
        let mut weights = Random { seed, dtype: dtype.of_tensors(), device, deviation: DEVIATION };
        Self::quantised(architecture.validate()?, &mut weights, quantization)
    }

    /// A frozen decoder, the matrices of whose linear layers are quantised if that is said.
    fn quantised(
        architecture: Architecture,
        weights: &mut dyn Weights,
        quantization: Option<Quantization>,
    ) -> Result<Self, ModelError> {
        match quantization.and_then(Quantization::blocks) {
            Some(kind) => Self::frozen(architecture, &mut Quantising { source: weights, kind }),
            None => Self::frozen(architecture, weights),
        }
    }
}

impl Recipe {
    /// A name for everything that the recipe's log-probs depend on: by the content of files, not by their paths.
    pub fn fingerprint(&self) -> Result<String, ModelError> {
        let mut parts = vec![fingerprint(&(self.dtype, self.quantization, "model v2"))?];
        match &self.weights {
            WeightsSource::Gguf(path) => parts.push(hash_file(path)?),
            WeightsSource::Random(architecture, seed) => parts.push(fingerprint(&(architecture, seed))?),
            WeightsSource::Folder(folder) => {
                let mut files: Vec<_> = fs_err::read_dir(folder)?
                    .map(|entry| entry.map(|entry| entry.path()))
                    .collect::<Result<_, _>>()?;
                files.retain(|path| {
                    path.extension().is_some_and(|ending| ending == "safetensors" || ending == "json")
                });
                files.sort_unstable();
                for file in files {
                    parts.push(hash_file(&file)?);
                }
            }
        }
        match &self.tokenizer {
            TokenizerSource::File(path) => parts.push(hash_file(path)?),
            other => parts.push(fingerprint(other)?),
        }
        match &self.chat_template {
            TemplateSource::File(path) => parts.push(hash_file(path)?),
            other => parts.push(fingerprint(other)?),
        }
        Ok(fingerprint(&parts)?)
    }

    fn device(&self, number: usize) -> Result<Device, ModelError> {
        let device = device::numbered(number)?;
        if self.dtype == Dtype::Bf16 && device.is_cpu() {
            return Err(ModelError::Recipe(
                "`dtype: bf16` needs a GPU (a build with --features cuda); set dtype: f32".to_owned(),
            ));
        }
        Ok(device)
    }

    /// The shape of the model, without its weights.
    pub fn architecture(&self) -> Result<Architecture, ModelError> {
        match &self.weights {
            WeightsSource::Random(architecture, _) => Ok(architecture.clone()),
            WeightsSource::Gguf(path) => Gguf::open(path, DType::F32, Device::Cpu, false)?.architecture(),
            WeightsSource::Folder(folder) => {
                Architecture::from_hugging_face(&fs_err::read_to_string(folder.join("config.json"))?)
            }
        }
    }

    /// Loads decoder, tokenizer and template.
    pub fn load(&self) -> Result<Model, ModelError> {
        self.load_as(&ProcessGroup::default())
    }

    /// Like [`load`](Self::load), as a member of a group: onto its GPU, and, if weights are shared, its part of them. All
    /// members load the same models in the same order.
    pub fn load_as(&self, member: &ProcessGroup) -> Result<Model, ModelError> {
        if member.sharded_store.is_some() && self.train == Train::Full {
            return Err(ModelError::Recipe(
                "`train: full` leaves no frozen weights to keep in parts: train an adapter, or leave --shard out"
                    .to_owned(),
            ));
        }
        let device = self.device(member.local_rank)?;
        let dtype = self.dtype.of_tensors();
        let (architecture, mut weights): (_, Box<dyn Weights>) = match &self.weights {
            WeightsSource::Random(architecture, seed) => {
                (architecture.clone(), Box::new(Random { seed: *seed, dtype, device, deviation: DEVIATION }))
            }
            WeightsSource::Gguf(path) => {
                let quantised = self.quantization == Some(Quantization::File);
                let mut gguf = Gguf::open(path, dtype, device, quantised)?;
                (gguf.architecture()?, Box::new(gguf))
            }
            WeightsSource::Folder(folder) => {
                (self.architecture()?, Box::new(Safetensors::open(folder, dtype, device)?))
            }
        };
        let decoder = match &member.sharded_store {
            Some(sharing) => {
                let mut weights: Box<dyn Weights> = match self.quantization.and_then(Quantization::blocks) {
                    Some(kind) => Box::new(Quantising { source: &mut *weights, kind }),
                    None => weights,
                };
                Decoder::frozen(architecture, &mut Sharding { source: &mut *weights, sharing })?
            }
            None => Decoder::quantised(architecture, &mut *weights, self.quantization)?,
        };
        let (tokenizer, template) = self.load_text()?;
        if tokenizer.vocabulary() > decoder.architecture().vocabulary {
            return Err(ModelError::Recipe(format!(
                "the tokenizer has {} tokens, the model only {}: they do not belong together",
                tokenizer.vocabulary(),
                decoder.architecture().vocabulary
            )));
        }
        Ok(Model { name: self.name.clone(), decoder, tokenizer, template, fingerprint: self.fingerprint()? })
    }

    /// Loads tokenizer and template alone.
    pub fn load_text(&self) -> Result<(Tokenizer, ChatTemplate), ModelError> {
        let own = self.tokenizer == TokenizerSource::Weights;
        let (own_tokenizer, companions) = match &self.weights {
            WeightsSource::Random(..) => (None, Companions::default()),
            WeightsSource::Gguf(path) => {
                let gguf = Gguf::open(path, DType::F32, Device::Cpu, false)?;
                let tokenizer = own.then(|| Tokenizer::from_gguf(&gguf)).transpose()?;
                let template = gguf.text("tokenizer.chat_template").ok().map(str::to_owned);
                (tokenizer, Companions { template, begin: gguf.begin_token() })
            }
            WeightsSource::Folder(folder) => text_of_folder(folder, own)?,
        };
        let tokenizer = match (&self.tokenizer, own_tokenizer) {
            (TokenizerSource::Bytes, _) => Tokenizer::bytes()?,
            (TokenizerSource::File(path), _) => Tokenizer::open(path, None)?,
            (TokenizerSource::Weights, Some(tokenizer)) => tokenizer,
            (TokenizerSource::Weights, None) => {
                return Err(ModelError::Recipe(
                    "the weights bring no tokenizer: set `tokenizer:`".to_owned(),
                ));
            }
        };
        let begin = companions.begin.unwrap_or_else(|| tokenizer.begin().to_owned());
        let template = match (&self.chat_template, companions.template) {
            (TemplateSource::File(path), _) => {
                ChatTemplate::new(&fs_err::read_to_string(path)?, &begin, tokenizer.end())?
            }
            (TemplateSource::Weights, Some(template)) => {
                ChatTemplate::new(&template, &begin, tokenizer.end())?
            }
            (TemplateSource::Weights, None) | (TemplateSource::Chatml, _) => {
                ChatTemplate::chatml(&tokenizer)?
            }
        };
        Ok((tokenizer, template))
    }
}

/// What a folder of weights says of text: its tokenizer, if that is wanted, and the rest.
fn text_of_folder(folder: &Path, tokenizer: bool) -> Result<(Option<Tokenizer>, Companions), ModelError> {
    let path = folder.join("tokenizer_config.json");
    let config: TokenizerConfig = if path.exists() {
        serde_json::from_slice(&fs_err::read(&path)?)
            .map_err(|error| ModelError::Tokenizer(format!("{}: {error}", path.display())))?
    } else {
        TokenizerConfig::default()
    };
    // Newer checkpoints keep the template in a file of its own.
    let jinja = folder.join("chat_template.jinja");
    let template = if jinja.exists() { Some(fs_err::read_to_string(jinja)?) } else { config.chat_template };
    let tokenizer = tokenizer
        .then(|| Tokenizer::open(&folder.join("tokenizer.json"), config.eos_token.map(Token::text)))
        .transpose()?;
    Ok((tokenizer, Companions { template, begin: config.bos_token.map(Token::text) }))
}

impl Model {
    /// Writes the model as a folder that `transformers` loads. Adapters are taken into the weights.
    pub fn save(&self, folder: &Path) -> Result<(), ModelError> {
        fs_err::create_dir_all(folder)?;
        save_weights(&self.decoder, &folder.join("model.safetensors"))?;
        let end = self.tokenizer.end_id()?;
        write_json(&folder.join("config.json"), &self.decoder.architecture().to_hugging_face(Some(end)))?;
        let tokenizer = self.tokenizer.to_json()?;
        write_whole(&folder.join("tokenizer.json"), |writer| {
            std::io::Write::write_all(writer, tokenizer.as_bytes())
        })?;
        let begin = Some(self.template.begin()).filter(|begin| !begin.is_empty());
        let config = serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": begin,
            "eos_token": self.tokenizer.end(),
            "pad_token": self.tokenizer.end(),
            "chat_template": self.template.source(),
        });
        Ok(write_json(&folder.join("tokenizer_config.json"), &config)?)
    }
}
