//! Tokenizers: text to token ids and back.

mod markers;

use std::{borrow::Cow, ops::Range, path::Path};

use candle_core::quantized::gguf_file::Value;
use prospect_core::contain::contain;
use serde::de::IgnoredAny;
use tokenizers::{
    AddedToken, Tokenizer as Inner,
    decoders::byte_level::ByteLevel as ByteLevelDecoder,
    models::bpe::{BPE, Vocab},
    pre_tokenizers::{
        PreTokenizerWrapper,
        byte_level::ByteLevel,
        digits::Digits,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
    tokenizer::SplitDelimiterBehavior,
};

use crate::{ModelError, weights::GgufFile};
use markers::Markers;

/// Tokenizer with its beginning-of-sequence and end-of-sequence tokens.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Inner,
    bos_token: String,
    eos_token: String,
    markers: Markers,
}

/// Start-of-message and end-of-message token of ChatML.
const CHATML: [&str; 2] = ["<|im_start|>", "<|im_end|>"];

fn fail(error: impl std::fmt::Display) -> ModelError {
    ModelError::Tokenizer(error.to_string())
}

/// Reads a `tokenizer.json`. The library panics on some damaged files.
fn read_json(path: &Path) -> Result<Inner, String> {
    let text = fs_err::read(path).map_err(|error| error.to_string())?;
    // Checked apart, because the library reports syntax errors within a component by a panic.
    let _: IgnoredAny = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    match contain(|| Inner::from_bytes(&text)) {
        Some(read) => read.map_err(|error| error.to_string()),
        None => {
            Err("not a tokenizer.json of a known format: download it again, or set `tokenizer:`".to_owned())
        }
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. Without `eos_token`, the first common name in the vocabulary is
    /// used.
    pub(crate) fn open(path: &Path, eos_token: Option<String>) -> Result<Self, ModelError> {
        let inner = read_json(path).map_err(|message| fail(format!("{}: {message}", path.display())))?;
        let usual = ["<|im_end|>", "<|eot_id|>", "</s>", "<|endoftext|>", "<eos>"];
        let eos_token = eos_token
            .or_else(|| {
                usual.iter().find(|token| inner.token_to_id(token).is_some()).map(|token| (*token).to_owned())
            })
            .ok_or_else(|| fail(format!("{}: no end-of-sequence token found", path.display())))?;
        let mut tokenizer = Self { inner, bos_token: String::new(), eos_token, markers: Markers::default() };
        tokenizer.bos_token = tokenizer.prepended_token()?;
        tokenizer.checked()
    }

    /// Returns the token that the tokenizer's post-processing prepends to a text.
    fn prepended_token(&self) -> Result<String, ModelError> {
        let first = |special| -> Result<Option<u32>, ModelError> {
            Ok(self.inner.encode("x", special).map_err(fail)?.get_ids().first().copied())
        };
        let (plain, processed) = (first(false)?, first(true)?);
        let added = processed.filter(|_| processed != plain);
        Ok(added.and_then(|id| self.inner.id_to_token(id)).unwrap_or_default())
    }

    fn checked(mut self) -> Result<Self, ModelError> {
        self.eos_token_id()?;
        // A tokenizer.json may contain truncation or padding from training, which would change
        // log-probs.
        self.inner.with_truncation(None).map_err(fail)?;
        self.inner.with_padding(None);
        self.markers = Markers::new(&self.inner);
        Ok(self)
    }

    /// Creates a tokenizer with a token for each of the 256 bytes and ChatML's two tokens.
    pub fn bytes() -> Result<Self, ModelError> {
        Self::bytes_with(&CHATML, CHATML[1])
    }

    /// Creates a tokenizer with a token for each of the 256 bytes and these special tokens.
    pub(crate) fn bytes_with(special: &[&str], eos_token: &str) -> Result<Self, ModelError> {
        let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        let vocab: Vocab =
            alphabet.iter().zip(0..).map(|(character, id)| (character.to_string(), id)).collect();
        let model = BPE::builder().vocab_and_merges(vocab, Vec::new()).build().map_err(fail)?;
        let mut inner = Inner::new(model);
        inner.with_pre_tokenizer(Some(ByteLevel::new(false, true, false)));
        inner.with_decoder(Some(ByteLevelDecoder::new(false, true, false)));
        inner.add_special_tokens(special.iter().map(|token| AddedToken::from(*token, true))).map_err(fail)?;
        let (bos_token, eos_token) = (String::new(), eos_token.to_owned());
        Self { inner, bos_token, eos_token, markers: Markers::default() }.checked()
    }

    /// Builds the byte-level BPE tokenizer that a GGUF file describes.
    pub(crate) fn from_gguf(gguf: &GgufFile) -> Result<Self, ModelError> {
        let model = gguf.text("tokenizer.ggml.model")?;
        if model != "gpt2" {
            return Err(fail(format!(
                "GGUF tokenizer model `{model}` is not supported (only `gpt2`, byte-level BPE); set `tokenizer:` to the model's tokenizer.json"
            )));
        }
        let strings = |key: &str| -> Result<Vec<String>, ModelError> {
            let list = gguf.value(key)?.to_vec().map_err(|error| fail(format!("`{key}`: {error}")))?;
            list.iter()
                .map(|text| text.to_string().cloned().map_err(|error| fail(format!("`{key}`: {error}"))))
                .collect()
        };
        let tokens = strings("tokenizer.ggml.tokens")?;
        let merges = strings("tokenizer.ggml.merges")?
            .iter()
            .map(|merge| {
                let halves = merge.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned()));
                halves.ok_or_else(|| fail(format!("`tokenizer.ggml.merges`: `{merge}` is not a pair")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let vocab: Vocab = tokens.iter().cloned().zip(0..).collect();
        let mut inner = Inner::new(BPE::builder().vocab_and_merges(vocab, merges).build().map_err(fail)?);
        let pre = gguf.text("tokenizer.ggml.pre").map_err(|error| {
            fail(format!(
                "{error}: without it, text would be split wrongly; set `tokenizer:` to the model's tokenizer.json, \
                 or convert the model again with a current llama.cpp"
            ))
        })?;
        inner.with_pre_tokenizer(Some(pre_tokenizer(pre)?));
        inner.with_decoder(Some(ByteLevelDecoder::new(false, true, false)));
        if let Ok(Value::Array(kinds)) = gguf.value("tokenizer.ggml.token_type") {
            // 3 is a control token, 4 a user-defined one.
            let special = tokens.iter().zip(kinds).filter_map(|(token, kind)| match kind {
                Value::I32(3) => Some(AddedToken::from(token.as_str(), true)),
                Value::I32(4) => Some(AddedToken::from(token.as_str(), false)),
                _ => None,
            });
            inner.add_special_tokens(special).map_err(fail)?;
        }
        let eos_token = tokens.get(gguf.number("tokenizer.ggml.eos_token_id")?);
        let eos_token =
            eos_token.ok_or_else(|| fail("`tokenizer.ggml.eos_token_id` is not in the vocabulary"))?.clone();
        let bos_token = match gguf.value("tokenizer.ggml.add_bos_token") {
            Ok(Value::Bool(true)) => gguf.bos_token().unwrap_or_default(),
            _ => String::new(),
        };
        Self { inner, bos_token, eos_token, markers: Markers::default() }.checked()
    }

    /// Encodes `text`. Special tokens in it, such as `<|im_end|>`, become one token, except in text
    /// that was [guarded](Self::guard); none are added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        if Markers::is_guarded(text) {
            return self.markers.encode(&self.inner, text);
        }
        Ok(self.inner.encode(text, false).map_err(fail)?.get_ids().to_vec())
    }

    /// Marks the special tokens in the text of a message, so that [`encode`](Self::encode) treats
    /// them as plain text. Borrows `text` if it has none.
    pub fn guard<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.markers.guard(text)
    }

    /// Returns true if [`guard`](Self::guard) changed a part of `text`.
    pub fn is_guarded(text: &str) -> bool {
        Markers::is_guarded(text)
    }

    /// Returns the place and the id of the first added token in `text`.
    pub(crate) fn first_added_token(&self, text: &str) -> Option<(Range<usize>, u32)> {
        self.markers.first_added(text)
    }

    /// Decodes token ids, with special tokens if `special_tokens` is set.
    pub fn decode(&self, ids: &[u32], special_tokens: bool) -> Result<String, ModelError> {
        self.inner.decode(ids, !special_tokens).map_err(fail)
    }

    /// Returns the text of the beginning-of-sequence token; empty if the tokenizer adds none.
    pub fn bos_token(&self) -> &str {
        &self.bos_token
    }

    /// Returns whether `text` is a token of the vocabulary.
    pub fn has_token(&self, text: &str) -> bool {
        self.inner.token_to_id(text).is_some()
    }

    /// Returns the text of the end-of-sequence token.
    pub fn eos_token(&self) -> &str {
        &self.eos_token
    }

    /// Returns the id of the end-of-sequence token.
    pub fn eos_token_id(&self) -> Result<u32, ModelError> {
        let id = self.inner.token_to_id(&self.eos_token);
        id.ok_or_else(|| {
            fail(format!("the end-of-sequence token `{}` is not in the vocabulary", self.eos_token))
        })
    }

    /// Returns the id of a token of the vocabulary.
    pub(crate) fn token_id(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text)
    }

    /// Returns the tokens with ids from `first`, in the order of their ids, and whether each was
    /// added to the vocabulary.
    pub(crate) fn tokens_from(&self, first: usize) -> Vec<(String, u32, bool)> {
        let added = self.inner.get_added_vocabulary().get_vocab();
        let all = self.inner.get_vocab(true).into_iter();
        let mut tokens: Vec<_> = all
            .filter(|(_, id)| *id as usize >= first)
            .map(|(token, id)| {
                let is_added = added.contains_key(&token);
                (token, id, is_added)
            })
            .collect();
        tokens.sort_unstable_by_key(|(_, id, _)| *id);
        tokens
    }

    /// Returns the number of token ids.
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Returns the contents of a `tokenizer.json`.
    pub fn to_json(&self) -> Result<String, ModelError> {
        self.inner.to_string(false).map_err(fail)
    }
}

/// Returns the pre-tokenizer that a GGUF file names.
fn pre_tokenizer(name: &str) -> Result<PreTokenizerWrapper, ModelError> {
    const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let split = |pattern: &str| -> Result<PreTokenizerWrapper, ModelError> {
        let pattern = SplitPattern::Regex(pattern.to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(fail)?;
        Ok(Sequence::new(vec![split.into(), ByteLevel::new(false, true, false).into()]).into())
    };
    match name {
        "gpt-2" | "gpt2" => Ok(ByteLevel::new(false, true, true).into()),
        // Every digit is a separate token.
        "smollm" => {
            Ok(Sequence::new(vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()]).into())
        }
        "llama-bpe" | "llama3" => split(LLAMA3),
        "qwen2" => split(QWEN2),
        other => Err(fail(format!(
            "GGUF pre-tokenizer `{other}` is not supported; set `tokenizer:` to the model's tokenizer.json"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_a_round_trip() {
        let tokenizer = Tokenizer::bytes().unwrap();
        assert_eq!(tokenizer.vocabulary(), 258);
        let text = "<|im_start|>user\nhéllo  1\n<|im_end|>";
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(ids.len(), text.len() - 12 - 10 + 2);
        assert_eq!(ids.last(), Some(&tokenizer.eos_token_id().unwrap()));
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), "user\nhéllo  1\n");
    }
}
