//! Tokens of conversations, shared by the runs of a sweep.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use prospect_data::Message;

use super::{DropReason, Encoded, FittedPrompt};

/// Tokens that are kept at most, 128 MiB. Further conversations are encoded each time.
const MAX_TOKENS: usize = 32 << 20;

/// Hash of a conversation and of everything that its tokens depend on.
type Key = [u8; 32];

/// Encoded prompts and conversations of a process, by content. Runs that train on the same data
/// with the same tokenizer, chat template and length limits encode it once, whatever their
/// objectives.
#[derive(Debug, Default)]
pub struct EncodingCache {
    prompts: Store<Arc<FittedPrompt>>,
    conversations: Store<Encoded>,
    tokens: AtomicUsize,
}

#[derive(Debug)]
struct Store<T>(Mutex<HashMap<Key, Result<T, DropReason>>>);

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl EncodingCache {
    pub(super) fn prompt<E>(
        &self,
        key: Key,
        encode: impl FnOnce() -> Result<Result<Arc<FittedPrompt>, DropReason>, E>,
    ) -> Result<Result<Arc<FittedPrompt>, DropReason>, E> {
        // Text and turns of a prompt take about twice the memory of its tokens.
        self.prompts.get(key, &self.tokens, |prompt| 3 * prompt.tokens.len(), encode)
    }

    pub(super) fn conversation<E>(
        &self,
        key: Key,
        encode: impl FnOnce() -> Result<Result<Encoded, DropReason>, E>,
    ) -> Result<Result<Encoded, DropReason>, E> {
        let tokens = |encoded: &Encoded| encoded.prompt.len() + encoded.completion.len();
        self.conversations.get(key, &self.tokens, tokens, encode)
    }
}

impl<T: Clone> Store<T> {
    fn get<E>(
        &self,
        key: Key,
        used: &AtomicUsize,
        tokens: impl Fn(&T) -> usize,
        encode: impl FnOnce() -> Result<Result<T, DropReason>, E>,
    ) -> Result<Result<T, DropReason>, E> {
        let entries = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = entries().get(&key) {
            return Ok(known.clone());
        }
        let new = encode()?;
        let size = 32 + new.as_ref().map_or(0, tokens);
        if used.load(Ordering::Relaxed) + size <= MAX_TOKENS {
            used.fetch_add(size, Ordering::Relaxed);
            entries().insert(key, new.clone());
        }
        Ok(new)
    }
}

/// Hashes parts with their lengths, after numbers that separate what differs in meaning.
pub(super) fn key<'a>(context: &str, limits: [usize; 3], parts: impl Iterator<Item = &'a str>) -> Key {
    let mut hasher = blake3::Hasher::new();
    let mut add = |part: &[u8]| {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    };
    add(context.as_bytes());
    for limit in limits {
        add(&(limit as u64).to_le_bytes());
    }
    for part in parts {
        add(part.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// Roles and contents of messages.
pub(super) fn parts(messages: &[Message]) -> impl Iterator<Item = &str> {
    messages.iter().flat_map(|message| [message.role.as_str(), message.content.as_str()])
}
