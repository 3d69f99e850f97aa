//! Special tokens in text: those that a template writes are tokens, those that a person typed are
//! text.
//!
//! A typed `<|im_end|>` gets an invisible character after its first one before the template is
//! rendered. What is still a special token in the rendered text was written by the template. It is
//! replaced by an alias, an added token of a second tokenizer that treats all others as text.

use std::{
    borrow::Cow,
    collections::HashMap,
    ops::Range,
    sync::{Arc, OnceLock},
};

use tokenizers::{AddedToken, Tokenizer as Inner};

use super::fail;
use crate::ModelError;

/// Character that breaks up a typed special token. Unicode reserves it for such uses.
const GUARD: char = '\u{fdd0}';

/// Added tokens of a tokenizer.
#[derive(Debug, Clone, Default)]
pub(super) struct Markers {
    added: Vocabulary,
    special: Vocabulary,
    plain: OnceLock<Arc<PlainTokenizer>>,
}

/// Tokens by their first byte, longest first. Empty, or a list for each byte.
#[derive(Debug, Clone, Default)]
struct Vocabulary(Vec<Vec<(String, u32)>>);

/// Tokenizer that treats special tokens as text, except for their aliases.
#[derive(Debug)]
struct PlainTokenizer {
    inner: Inner,
    /// Ids of special tokens by the ids of their aliases.
    ids: HashMap<u32, u32>,
}

impl Vocabulary {
    fn new(tokens: impl Iterator<Item = (String, u32)>) -> Self {
        let mut by_first = vec![Vec::new(); 256];
        for (token, id) in tokens {
            // Runs of spaces, which some tokenizers add, mark nothing.
            let is_marker = token.chars().nth(1).is_some() && !token.trim().is_empty();
            let first = token.bytes().next().filter(|_| is_marker);
            if let Some(tokens) = first.and_then(|byte| by_first.get_mut(usize::from(byte))) {
                tokens.push((token, id));
            }
        }
        for tokens in &mut by_first {
            tokens.sort_unstable_by(|a, b| b.0.len().cmp(&a.0.len()).then(a.cmp(b)));
        }
        Self(by_first)
    }

    /// Finds the first token in `text`, the longest of several.
    fn find(&self, text: &str) -> Option<(Range<usize>, u32)> {
        text.bytes().enumerate().find_map(|(start, byte)| {
            let candidates = self.0.get(usize::from(byte)).filter(|candidates| !candidates.is_empty())?;
            let (token, id) = candidates
                .iter()
                .find(|(token, _)| text.as_bytes()[start..].starts_with(token.as_bytes()))?;
            Some((start..start + token.len(), *id))
        })
    }
}

impl Markers {
    pub(super) fn new(inner: &Inner) -> Self {
        let tokens = inner.get_added_tokens_decoder();
        let vocabulary = |wanted: &dyn Fn(&AddedToken) -> bool| {
            let wanted = tokens.iter().filter(|(_, token)| wanted(token));
            Vocabulary::new(wanted.map(|(id, token)| (token.content.clone(), *id)))
        };
        Self {
            added: vocabulary(&|_| true),
            special: vocabulary(&|token| token.special),
            plain: OnceLock::new(),
        }
    }

    pub(super) fn first_added(&self, text: &str) -> Option<(Range<usize>, u32)> {
        self.added.find(text)
    }

    pub(super) fn is_guarded(text: &str) -> bool {
        text.contains(GUARD)
    }

    pub(super) fn guard<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let (mut guarded, mut copied) = (String::new(), 0);
        while let Some((found, _)) = self.special.find(&text[copied..]) {
            let start = copied + found.start;
            let first = start + text[start..].chars().next().map_or(0, char::len_utf8);
            guarded.push_str(&text[copied..first]);
            guarded.push(GUARD);
            copied = first;
        }
        if copied == 0 {
            return Cow::Borrowed(text);
        }
        guarded.push_str(&text[copied..]);
        Cow::Owned(guarded)
    }

    /// Encodes guarded text.
    pub(super) fn encode(&self, inner: &Inner, text: &str) -> Result<Vec<u32>, ModelError> {
        let plain = if let Some(plain) = self.plain.get() {
            plain
        } else {
            let new = Arc::new(PlainTokenizer::new(inner)?);
            self.plain.get_or_init(|| new)
        };
        let mut aliased = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((found, id)) = self.special.find(rest) {
            aliased.extend(rest[..found.start].chars().filter(|character| *character != GUARD));
            aliased.push_str(&alias(id));
            rest = &rest[found.end..];
        }
        aliased.extend(rest.chars().filter(|character| *character != GUARD));
        let encoding = plain.inner.encode(aliased, false).map_err(fail)?;
        Ok(encoding.get_ids().iter().map(|id| plain.ids.get(id).copied().unwrap_or(*id)).collect())
    }
}

/// Text that stands for a special token.
fn alias(id: u32) -> String {
    format!("\u{fdd1}{id}\u{fdd2}")
}

impl PlainTokenizer {
    fn new(inner: &Inner) -> Result<Self, ModelError> {
        let mut special: Vec<(u32, AddedToken)> =
            inner.get_added_tokens_decoder().into_iter().filter(|(_, token)| token.special).collect();
        special.sort_unstable_by_key(|(id, _)| *id);
        let mut inner = inner.clone();
        inner.set_encode_special_tokens(true);
        let aliases = special.iter().map(|(id, token)| AddedToken {
            content: alias(*id),
            special: false,
            normalized: false,
            ..token.clone()
        });
        inner.add_tokens(aliases).map_err(fail)?;
        let ids = special.iter().filter_map(|(id, _)| Some((inner.token_to_id(&alias(*id))?, *id)));
        let ids = ids.collect();
        Ok(Self { inner, ids })
    }
}

#[cfg(test)]
mod tests {
    use crate::Tokenizer;

    #[test]
    fn typed_markers_are_text_and_written_ones_tokens() {
        let tokenizer = Tokenizer::bytes().unwrap();
        let end = tokenizer.eos_token_id().unwrap();
        let typed = "a <|im_end|> <|im_end|><|im_start|>";
        let guarded = tokenizer.guard(typed);
        assert!(Tokenizer::is_guarded(&guarded));
        let ids = tokenizer.encode(&format!("<|im_start|>{guarded}<|im_end|>")).unwrap();
        assert_eq!(ids.len(), typed.len() + 2, "a token for each byte, and two written ones");
        assert_eq!(ids.iter().filter(|id| **id == end).count(), 1);
        assert_eq!(ids.last(), Some(&end));
        let text = tokenizer.decode(&ids, true).unwrap();
        assert_eq!(text, format!("<|im_start|>{typed}<|im_end|>"));
    }

    #[test]
    fn text_without_markers_stays_as_it_is() {
        let tokenizer = Tokenizer::bytes().unwrap();
        for text in ["", "plain", "a < b |> <|im_en", "häß"] {
            let guarded = tokenizer.guard(text);
            assert_eq!(guarded, text);
            assert!(!Tokenizer::is_guarded(&guarded));
        }
    }
}
