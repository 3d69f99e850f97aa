//! Lengths in tokens: how many a conversation has for some model. What a token is, the caller knows.

use std::{fmt, sync::Arc};

use serde::{Serialize, Serializer};

use crate::{DataError, Message};

/// Gives the tokens of a prompt and of a completion that follows it.
pub type CountTokens = dyn Fn(&[Message], &[Message]) -> Result<(usize, usize), Box<dyn std::error::Error + Send + Sync>>
    + Send
    + Sync;

/// Counts tokens as a certain model's tokenizer and chat template make them.
#[derive(Clone)]
pub struct TokenCounter {
    name: String,
    count: Arc<CountTokens>,
}

impl TokenCounter {
    /// `name` names all that the counts depend on; counters of one name count alike.
    pub fn new(name: String, count: Arc<CountTokens>) -> Self {
        Self { name, count }
    }

    /// Tokens of a prompt and of a completion that follows it.
    pub(crate) fn count(
        &self,
        prompt: &[Message],
        completion: &[Message],
    ) -> Result<(usize, usize), DataError> {
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
