//! Reward models of the Hugging Face Hub: sequence classifiers with one label.
//!
//! | `architectures` in `config.json` | forward pass | text |
//! |---|---|---|
//! | `DebertaV2ForSequenceClassification` | `deberta` | a pair: prompt, completion |
//! | `ModernBertForSequenceClassification` | `modernbert` | a pair: prompt, completion |
//! | `LlamaForSequenceClassification` and other families of [`Decoder`] | [`Decoder`] | chat template |
//!
//! The score is the raw logit of the label. Sequences of a batch are packed without padding, so a
//! score does not depend on the batch. Neither encoder of candle-transformers (0.11.1) is used: its
//! ModernBERT classifier ends with a softmax over the labels, which is 1 for one label, and does not
//! read the files of transformers 5; its DeBERTa panics at models with a convolution.

mod config;
mod deberta;
mod layers;
mod modernbert;
mod pair;

use std::path::Path;

use candle_core::{D, DType, Device, Tensor};
use prospect_core::files::fingerprint;

use config::ClassifierConfig;
pub use config::ClassifierFamily;
use deberta::Deberta;
use layers::EncoderBatch;
use modernbert::ModernBert;
pub use pair::{EncodedPair, PairEncoder};

use crate::{
    ChatTemplate, Decoder, Dtype, ModelError, Tokenizer, WeightsSource,
    model::load_text_of_classifier,
    token_ids::check_token_ids,
    weights::{SafetensorsFiles, TensorSource},
};

/// Most tokens of a text, however many the model has positions for: it bounds memory.
const MAX_TOKENS: usize = 4096;

/// Tokens of a text to score.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassifierInput {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Segment of each token, of text pairs: 0 in the first text, 1 in the second. Empty for
    /// conversations.
    pub types: Vec<u32>,
}

/// Text that a classifier reads.
#[derive(Debug, Clone)]
pub enum ClassifierText {
    /// Pair of texts.
    Pair(Box<PairEncoder>),
    /// Conversation, rendered with a chat template.
    Chat {
        /// Tokenizer.
        tokenizer: Box<Tokenizer>,
        /// Chat template.
        template: Box<ChatTemplate>,
    },
}

/// Reward model: sequence classifier with one label.
pub struct SequenceClassifier {
    family: ClassifierFamily,
    backbone: Backbone,
    text: ClassifierText,
    dtype: Dtype,
    max_tokens: usize,
    fingerprint: String,
}

enum Backbone {
    Deberta(Box<Deberta>),
    ModernBert(Box<ModernBert>),
    Decoder(Box<DecoderClassifier>),
}

/// Decoder whose last token is scored.
struct DecoderClassifier {
    decoder: Decoder,
    /// Weight of the label, `[hidden]` in f32.
    score: Tensor,
    /// Token that is ignored at the end of a sequence.
    pad: Option<u32>,
}

impl SequenceClassifier {
    /// Checks that the `config.json` of a folder, which may be its only file, is that of a supported
    /// reward model.
    pub fn check_config(folder: &Path) -> Result<(), ModelError> {
        ClassifierConfig::open(folder).map(|_| ())
    }

    /// Checks by `config.json` and the names of the files that a folder holds a reward model that
    /// [`open`](Self::open) can load. Reads no weights.
    ///
    /// `pretrained` are the Python arguments with which `from_pretrained` finds the model, for
    /// messages: `'ORG/NAME', revision='REV'`.
    pub fn check(folder: &Path, pretrained: &str) -> Result<(), ModelError> {
        Self::check_config(folder)?;
        config::check_files(folder, pretrained)
    }

    /// Loads a folder of the Hub onto a device. Encoders are computed in f32, decoders in the type
    /// of the checkpoint: bf16 or else f32.
    pub fn open(folder: &Path, device: &Device) -> Result<Self, ModelError> {
        let config = ClassifierConfig::open(folder)?;
        let limit = config::tokenizer_limit(folder)?.map_or(MAX_TOKENS, |limit| limit.min(MAX_TOKENS));
        let (backbone, text, positions) = match config.family {
            ClassifierFamily::DebertaV2 | ClassifierFamily::ModernBert => {
                let mut weights = SafetensorsFiles::in_folder(folder, DType::F32, device.clone())?;
                let (backbone, positions) = if config.family == ClassifierFamily::DebertaV2 {
                    let model = Deberta::load(config.read()?, &mut weights, device)?;
                    let positions = model.max_positions();
                    (Backbone::Deberta(Box::new(model)), positions)
                } else {
                    let model = ModernBert::load(config.read()?, &mut weights, device)?;
                    let positions = model.max_positions();
                    (Backbone::ModernBert(Box::new(model)), positions)
                };
                let pair = PairEncoder::open(folder, positions.min(limit))?;
                (backbone, ClassifierText::Pair(Box::new(pair)), positions)
            }
            ClassifierFamily::Decoder => {
                let classifier = DecoderClassifier::load(folder, &config, device)?;
                let vocabulary = classifier.decoder.architecture().vocabulary;
                let positions = classifier.decoder.architecture().max_positions;
                let (tokenizer, template) = load_text_of_classifier(folder)?;
                check_token_ids(&tokenizer, &template, vocabulary)?;
                let text =
                    ClassifierText::Chat { tokenizer: Box::new(tokenizer), template: Box::new(template) };
                (Backbone::Decoder(Box::new(classifier)), text, positions)
            }
        };
        let dtype = config.dtype();
        let mut parts = vec![fingerprint(&(dtype, "classifier v1"))?];
        parts.extend(WeightsSource::Folder(folder.to_owned()).fingerprints()?);
        Ok(Self {
            family: config.family,
            backbone,
            text,
            dtype,
            max_tokens: positions.min(limit),
            fingerprint: fingerprint(&parts)?,
        })
    }

    /// Returns the family of the architecture.
    pub fn family(&self) -> ClassifierFamily {
        self.family
    }

    /// Returns the text that the model reads.
    pub fn text(&self) -> &ClassifierText {
        &self.text
    }

    /// Returns the element type of the weights.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Returns the most tokens of a text: the least of the model's positions, its tokenizer's
    /// `model_max_length`, and 4096.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Returns the hash of everything that scores depend on: weights, settings, tokenizer, template
    /// and element type.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Computes the score of each text in one pass over all of them.
    ///
    /// # Errors
    /// A text is empty, longer than the model's positions or has tokens that the model lacks; a
    /// score is not a finite number.
    pub fn scores(&self, texts: &[&ClassifierInput]) -> Result<Vec<f32>, ModelError> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        if texts.iter().any(|text| text.tokens.is_empty()) {
            return Err(ModelError::Batch("a text to score has no tokens".to_owned()));
        }
        let scores = match &self.backbone {
            Backbone::Deberta(model) => model.scores(&EncoderBatch::pack(texts))?,
            Backbone::ModernBert(model) => model.scores(&EncoderBatch::pack(texts))?,
            Backbone::Decoder(model) => model.scores(texts)?,
        };
        let scores: Vec<f32> = scores.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
        match scores.iter().find(|score| !score.is_finite()) {
            Some(score) => Err(ModelError::Weights(format!(
                "the reward model scores a text {score}: are its weights damaged, or do they overflow their type?"
            ))),
            None => Ok(scores),
        }
    }
}

impl DecoderClassifier {
    fn load(folder: &Path, config: &ClassifierConfig, device: &Device) -> Result<Self, ModelError> {
        let mut architecture = config.decoder()?;
        // There is no vocabulary head; the embedding stands for it and is never applied.
        architecture.tied = true;
        let mut files = SafetensorsFiles::in_folder(folder, config.dtype().to_candle(), device.clone())?;
        let architecture = files.fit(architecture)?;
        let score = files.get("score.weight", &[1, architecture.hidden])?;
        let score = score.to_dtype(DType::F32)?.flatten_all()?;
        Ok(Self { decoder: Decoder::frozen(architecture, &mut files)?, score, pad: config.pad_token_id() })
    }

    /// Scores the last token of each text that is not padding, as in transformers: a text that ends
    /// with the padding token is scored before it.
    fn scores(&self, texts: &[&ClassifierInput]) -> Result<Tensor, ModelError> {
        let scored = |text: &'_ ClassifierInput| -> usize {
            let last = text.tokens.iter().rposition(|token| Some(*token) != self.pad);
            last.unwrap_or(0) + 1
        };
        let sequences: Vec<&[u32]> = texts.iter().map(|text| &text.tokens[..scored(text)]).collect();
        let hidden = self.decoder.hidden_at_ends(&sequences)?.to_dtype(DType::F32)?;
        Ok(hidden.broadcast_mul(&self.score)?.sum(D::Minus1)?)
    }
}
