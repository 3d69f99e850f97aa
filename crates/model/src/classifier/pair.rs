//! Text pairs to tokens.

use std::path::Path;

use tokenizers::{PostProcessor, Tokenizer as Inner, TruncationDirection};

use super::ClassifierInput;
use crate::{ModelError, recorded::check_recorded};

/// Encoded pair of texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPair {
    /// Tokens of both, with the special tokens around them.
    pub input: ClassifierInput,
    /// The first text lost its first tokens.
    pub first_cut: bool,
    /// The second text lost its last tokens.
    pub second_cut: bool,
}

/// Converts pairs of texts to tokens, as in `[CLS] first [SEP] second [SEP]`.
#[derive(Debug, Clone)]
pub struct PairEncoder {
    inner: Inner,
    max_tokens: usize,
    /// Number of special tokens around a pair.
    added: usize,
}

fn fail(error: impl std::fmt::Display) -> ModelError {
    ModelError::Tokenizer(error.to_string())
}

impl PairEncoder {
    /// Reads the `tokenizer.json` of a folder, for pairs of at most `max_tokens` tokens.
    pub(super) fn open(folder: &Path, max_tokens: usize) -> Result<Self, ModelError> {
        check_recorded(folder, "tokenizer.json")?;
        let path = folder.join("tokenizer.json");
        let named = |error: &dyn std::fmt::Display| fail(format!("{}: {error}", path.display()));
        let mut inner = Inner::from_file(&path).map_err(|error| named(&error))?;
        // A tokenizer.json may contain truncation or padding from training.
        inner.with_truncation(None).map_err(|error| named(&error))?;
        inner.with_padding(None);
        // A special token that a text contains is text.
        inner.set_encode_special_tokens(true);
        let added = inner.get_post_processor().map_or(0, |processor| processor.added_tokens(true));
        if added == 0 {
            return Err(named(
                &"it adds no special tokens to a pair of texts, as in `[CLS] A [SEP] B [SEP]`; \
                               use the tokenizer that the model was trained with",
            ));
        }
        if max_tokens <= added {
            return Err(named(&format!("{max_tokens} tokens leave no room for text")));
        }
        Ok(Self { inner, max_tokens, added })
    }

    /// Encodes a pair. If it is too long, the first text loses its first tokens; if the second is
    /// too long by itself, it loses its last ones.
    pub fn encode(&self, first: &str, second: &str) -> Result<EncodedPair, ModelError> {
        let encode = |text: &str| self.inner.encode(text, false).map_err(fail);
        let (mut one, mut two) = (encode(first)?, encode(second)?);
        let room = self.max_tokens - self.added;
        let second_cut = two.len() > room;
        two.truncate(room, 0, TruncationDirection::Right);
        let room = room - two.len();
        let first_cut = one.len() > room;
        one.truncate(room, 0, TruncationDirection::Left);
        // The parts cut off would be processed too.
        one.take_overflowing();
        two.take_overflowing();
        let pair = self.inner.post_process(one, Some(two), true).map_err(fail)?;
        let input = ClassifierInput { tokens: pair.get_ids().to_vec(), types: pair.get_type_ids().to_vec() };
        Ok(EncodedPair { input, first_cut, second_cut })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokenizer with a token for each byte, `[CLS]` 256 and `[SEP]` 257.
    fn encoder(max_tokens: usize) -> PairEncoder {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = crate::Tokenizer::bytes_with(&["[CLS]", "[SEP]"], "[SEP]").unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&tokenizer.to_json().unwrap()).unwrap();
        let special = |name: &str| serde_json::json!({ "SpecialToken": { "id": name, "type_id": 0 } });
        let text = |id: &str, kind: u8| serde_json::json!({ "Sequence": { "id": id, "type_id": kind } });
        let token = |name: &str, id: u32| serde_json::json!({ "id": name, "ids": [id], "tokens": [name] });
        json["post_processor"] = serde_json::json!({
            "type": "TemplateProcessing",
            "single": [special("[CLS]"), text("A", 0), special("[SEP]")],
            "pair": [special("[CLS]"), text("A", 0), special("[SEP]"), text("B", 1), special("[SEP]")],
            "special_tokens": { "[CLS]": token("[CLS]", 256), "[SEP]": token("[SEP]", 257) },
        });
        fs_err::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
        PairEncoder::open(folder.path(), max_tokens).unwrap()
    }

    #[test]
    fn the_first_text_is_cut_at_its_start_and_the_second_at_its_end() {
        let [a, b, c] = ["a", "b", "c"].map(|text| encoder(64).inner.token_to_id(text).unwrap());
        let whole = encoder(64).encode("ab", "c").unwrap();
        assert_eq!(whole.input.tokens, [256, a, b, 257, c, 257]);
        assert_eq!(whole.input.types, [0, 0, 0, 0, 1, 0]);
        assert!(!whole.first_cut && !whole.second_cut);
        let cut = encoder(6).encode("aaab", "cc").unwrap();
        assert_eq!(cut.input.tokens, [256, b, 257, c, c, 257]);
        assert_eq!((cut.first_cut, cut.second_cut), (true, false));
        let cut = encoder(5).encode("ab", "cab").unwrap();
        assert_eq!(cut.input.tokens, [256, 257, c, a, 257]);
        assert_eq!((cut.first_cut, cut.second_cut), (true, true));
    }

    #[test]
    fn special_tokens_in_a_text_are_text() {
        let typed = encoder(64).encode("[SEP]", "x").unwrap();
        assert_eq!(typed.input.tokens.iter().filter(|token| **token == 257).count(), 2);
    }
}
