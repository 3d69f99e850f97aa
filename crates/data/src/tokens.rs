//! Token counting. The caller supplies the tokenizer.

use std::{fmt, sync::Arc};

use serde::{Serialize, Serializer};

use crate::{DataError, Message};

/// Function that returns the number of tokens of a prompt and of the completion that follows it.
pub type CountTokens = dyn Fn(&[Message], &[Message]) -> Result<(usize, usize), Box<dyn std::error::Error + Send + Sync>>
    + Send
    + Sync;

/// Counts tokens with the tokenizer and chat template of a model.
#[derive(Clone)]
pub struct TokenCounter {
    name: String,
    count: Arc<CountTokens>,
}

impl TokenCounter {
    /// `name` must identify everything that the counts depend on: it becomes part of fingerprints.
    pub fn new(name: String, count: Arc<CountTokens>) -> Self {
        Self { name, count }
    }

    /// Returns the tokens of a prompt and of the completion that follows it.
    pub fn count(&self, prompt: &[Message], completion: &[Message]) -> Result<(usize, usize), DataError> {
        (self.count)(prompt, completion).map_err(DataError::Tokens)
    }
}

impl fmt::Debug for TokenCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenCounter").field(&self.name).finish()
    }
}

impl Serialize for TokenCounter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}
