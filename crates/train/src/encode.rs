//! Conversations to tokens.
//!
//! Prompt and completion are tokenized together, as one text. If the prompt's own tokens are not a
//! prefix of the result (a merge across the boundary), the completion starts at the first token
//! that differs; [`Encoded::boundary_merged`] marks the case.
//!
//! Truncation of a prompt does not depend on its completion: it drops whole turns, oldest first,
//! but never the system turn and never the last one. A completion that is too long loses its tail,
//! and with it the end marker.
//!
//! Turns that the chat template refuses are adapted (`shape`). A conversation that it still refuses
//! is dropped with the reason.

mod cache;
mod counts;
mod cut;
mod shape;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use prospect_core::files::fingerprint;
use prospect_data::{Message, TokenCounter};
use prospect_model::{ChatMessage, ChatTemplate, EndMarker, Model, ModelError, Recipe, Tokenizer};

pub use cache::EncodingCache;
pub use counts::{DropReason, DroppedRow, EncodingCounts};

use crate::TrainError;
use cut::first_fitting;
use shape::{PromptShape, ShapeRules, Turn};

/// Tokens of a prompt and its completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Tokens of the prompt; at least one.
    pub prompt: Vec<u32>,
    /// Tokens of the completion, at least one. Ends with the end marker unless truncated.
    pub completion: Vec<u32>,
    /// Truncated parts.
    pub truncation: Truncation,
    /// Changes other than truncation.
    pub adaptation: Adaptation,
    /// True if the end of the prompt shares a token with the completion.
    pub boundary_merged: bool,
}

/// Tokens of a conversation as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedConversation {
    /// Tokens; at least one.
    pub tokens: Vec<u32>,
    /// Truncated parts.
    pub truncation: Truncation,
}

/// Parts of a conversation that were truncated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Truncation {
    /// The prompt lost turns.
    pub prompt: bool,
    /// The completion lost its tail.
    pub completion: bool,
}

/// Changes of a conversation that its chat template or its text made necessary.
#[expect(clippy::struct_excessive_bools, reason = "independent changes, each counted by itself")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Adaptation {
    /// Consecutive turns of one role were joined.
    pub turns_merged: bool,
    /// A system turn was written at the start of a user turn.
    pub system_folded: bool,
    /// Leading turns of the assistant were left out.
    pub cut_to_user: bool,
    /// Special tokens that a person typed were encoded as text.
    pub markers_as_text: bool,
    /// The completion was written after the prompt that the template renders without it.
    pub apart: bool,
    /// The template wrote the completion in other words than given.
    pub rewritten: bool,
}

/// Converts conversations to tokens, within length limits.
#[derive(Debug, Clone, Copy)]
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    template: &'a ChatTemplate,
    max_length: usize,
    max_prompt_length: usize,
    /// Cache, and the hash of tokenizer and template.
    cache: Option<(&'a EncodingCache, &'a str)>,
}

/// Returns a counter of tokens, end marker included, for the tokenizer and chat template of a
/// recipe. Conversations that the template refuses have none.
pub fn token_counter(recipe: &Recipe) -> Result<TokenCounter, ModelError> {
    let (tokenizer, template) = recipe.load_text()?;
    let name = fingerprint(&(tokenizer.to_json()?, template.source(), template.bos_token()))?;
    let count = move |prompt: &[Message], completion: &[Message]| {
        let encoder = Encoder::from_text(&tokenizer, &template, usize::MAX, usize::MAX);
        let encoded = encoder.encode(prompt, completion)?;
        Ok(encoded.map_or((0, 0), |encoded| (encoded.prompt.len(), encoded.completion.len())))
    };
    Ok(TokenCounter::new(name, Arc::new(count)))
}

/// Prompt within `max_prompt_length`, to be followed by completions.
#[derive(Debug)]
struct FittedPrompt {
    /// Roles and guarded contents of the turns.
    turns: Vec<(String, String)>,
    /// Rendered turns, without the control text.
    text: String,
    /// Tokens of the rendered turns and the control text.
    tokens: Vec<u32>,
    truncated: bool,
    adaptation: Adaptation,
}

impl FittedPrompt {
    fn as_messages(&self) -> Vec<ChatMessage<'_>> {
        self.turns.iter().map(|(role, content)| ChatMessage { role, content }).collect()
    }
}

/// Reason why a conversation has no tokens.
enum EncodeError {
    Dropped(DropReason),
    Failed(TrainError),
}

impl From<ModelError> for EncodeError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Template(message) => Self::Dropped(DropReason::Refused(message)),
            other => Self::Failed(other.into()),
        }
    }
}

/// Separates dropped conversations from errors.
fn drop_reason<T>(result: Result<T, EncodeError>) -> Result<Result<T, DropReason>, TrainError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(EncodeError::Dropped(reason)) => Ok(Err(reason)),
        Err(EncodeError::Failed(error)) => Err(error),
    }
}

impl<'a> Encoder<'a> {
    /// Creates an encoder for `model`. Prompt and completion together have at most `max_length`
    /// tokens, the prompt at most `max_prompt_length`.
    pub fn new(model: &'a Model, max_length: usize, max_prompt_length: usize) -> Self {
        Self::from_text(&model.tokenizer, &model.template, max_length, max_prompt_length)
    }

    /// Creates an encoder for a tokenizer and a chat template.
    pub fn from_text(
        tokenizer: &'a Tokenizer,
        template: &'a ChatTemplate,
        max_length: usize,
        max_prompt_length: usize,
    ) -> Self {
        Self { tokenizer, template, max_length, max_prompt_length, cache: None }
    }

    /// Takes conversations from `cache` and adds new ones to it. `model` must be the encoder's.
    #[must_use]
    pub fn with_cache(mut self, model: &'a Model, cache: &'a EncodingCache) -> Self {
        self.cache = Some((cache, &model.text_fingerprint));
        self
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &'a Tokenizer {
        self.tokenizer
    }

    /// The end of a completion.
    pub fn end_marker(&self) -> &'a EndMarker {
        self.template.end_marker()
    }

    /// Tokens that end generation.
    pub fn stop_token_ids(&self) -> &'a [u32] {
        self.template.stop_token_ids()
    }

    /// Encodes a prompt to generate from, with a control text at its end. Returns `None` if the
    /// prompt was dropped.
    pub fn encode_prompt(&self, prompt: &[Message], control: &str) -> Result<Option<Vec<u32>>, TrainError> {
        Ok(self.fit_prompt(prompt, control)?.ok().map(|fitted| fitted.tokens.clone()))
    }

    /// Encodes a conversation. Returns `None` if it was dropped.
    pub fn encode(&self, prompt: &[Message], completion: &[Message]) -> Result<Option<Encoded>, TrainError> {
        self.encode_after(prompt, "", completion)
    }

    /// Like [`encode`](Self::encode), with a control text between prompt and completion.
    ///
    /// The text follows the header of the assistant's turn. It is plain text to the tokenizer,
    /// counts towards the prompt's length, and is not scored.
    pub fn encode_after(
        &self,
        prompt: &[Message],
        control: &str,
        completion: &[Message],
    ) -> Result<Option<Encoded>, TrainError> {
        Ok(self.try_encode(prompt, control, completion)?.ok())
    }

    /// Like [`encode_after`](Self::encode_after), with the reason if the conversation was dropped.
    pub fn try_encode(
        &self,
        prompt: &[Message],
        control: &str,
        completion: &[Message],
    ) -> Result<Result<Encoded, DropReason>, TrainError> {
        let encode = || {
            let fitted = match self.fit_prompt(prompt, control)? {
                Ok(fitted) => fitted,
                Err(reason) => return Ok(Err(reason)),
            };
            drop_reason(self.encode_completion(&fitted, control, completion))
        };
        let Some((cache, context)) = self.cache else { return encode() };
        let parts = cache::parts(prompt).chain([control]).chain(cache::parts(completion));
        cache.conversation(cache::key(context, self.key_limits(prompt), parts), encode)
    }

    /// Encodes a conversation as its template renders it whole, with what it writes after the
    /// completion: the text that reward models are trained on. The prompt is adapted and truncated
    /// as in [`encode`](Self::encode); the completion loses its tail beyond `max_length`.
    pub fn encode_conversation(
        &self,
        prompt: &[Message],
        completion: &str,
    ) -> Result<Result<EncodedConversation, DropReason>, TrainError> {
        let fitted = match self.fit_prompt(prompt, "")? {
            Ok(fitted) => fitted,
            Err(reason) => return Ok(Err(reason)),
        };
        let completion = self.tokenizer.guard(completion);
        let mut turns = fitted.as_messages();
        turns.push(ChatMessage { role: "assistant", content: &completion });
        let render = || Ok(self.tokenizer.encode(&self.template.render(&turns, false)?)?);
        let conversation = drop_reason(render())?.map(|mut tokens: Vec<u32>| {
            let completion = tokens.len() > self.max_length;
            tokens.truncate(self.max_length);
            EncodedConversation { tokens, truncation: Truncation { prompt: fitted.truncated, completion } }
        });
        Ok(conversation)
    }

    fn key_limits(&self, prompt: &[Message]) -> [usize; 3] {
        [self.max_length, self.max_prompt_length, prompt.len()]
    }

    /// Shortens a prompt until it fits, in the form that the template accepts.
    fn fit_prompt(
        &self,
        prompt: &[Message],
        control: &str,
    ) -> Result<Result<Arc<FittedPrompt>, DropReason>, TrainError> {
        let fit = || {
            let rules = ShapeRules::new(self.template.accepted_turns());
            let fitted = match self.fit_shape(prompt, control, rules) {
                Err(EncodeError::Dropped(DropReason::Refused(_))) => {
                    self.fit_shape(prompt, control, rules.strict())
                }
                result => result,
            };
            drop_reason(fitted.map(Arc::new))
        };
        let Some((cache, context)) = self.cache else { return fit() };
        let parts = cache::parts(prompt).chain([control]);
        cache.prompt(cache::key(context, self.key_limits(prompt), parts), fit)
    }

    fn fit_shape(
        &self,
        prompt: &[Message],
        control: &str,
        rules: ShapeRules,
    ) -> Result<FittedPrompt, EncodeError> {
        let shape = PromptShape::new(prompt, rules, self.tokenizer);
        let starts = shape.starts();
        // No text has more bytes per token than this; longer prompts are shortened at once.
        let is_short = shape.bytes() / 16 <= self.max_prompt_length;
        let attempt = |candidate: usize| -> Result<_, EncodeError> {
            let turns = shape.turns_from(starts.get(candidate).copied().unwrap_or_default());
            let messages: Vec<ChatMessage<'_>> = turns.iter().map(Turn::as_message).collect();
            let text = self.template.prompt(&messages)?;
            let tokens = if control.is_empty() {
                self.tokenizer.encode(&text)?
            } else {
                self.tokenizer.encode(&[&text, control].concat())?
            };
            Ok((tokens.len() <= self.max_prompt_length).then_some((turns, text, tokens)))
        };
        let Some((candidate, (turns, text, tokens))) = first_fitting(starts.len(), is_short, attempt)? else {
            return Err(EncodeError::Dropped(DropReason::PromptTooLong));
        };
        let turns = turns.into_iter().map(|turn| (turn.role.to_owned(), turn.content.into_owned())).collect();
        Ok(FittedPrompt { turns, text, tokens, truncated: candidate > 0, adaptation: shape.adaptation() })
    }

    /// Encodes a completion of a prompt.
    fn encode_completion(
        &self,
        prompt: &FittedPrompt,
        control: &str,
        completion: &[Message],
    ) -> Result<Encoded, EncodeError> {
        let completion =
            completion.iter().map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n\n");
        let completion = self.tokenizer.guard(&completion);
        let rendered = self.template.completion(&prompt.as_messages(), &prompt.text, &completion)?;
        let mut tokens = self.tokenizer.encode(&[&prompt.text, control, &rendered.text].concat())?;
        let boundary = prompt.tokens.iter().zip(&tokens).take_while(|(own, joint)| own == joint).count();
        // Neither side may be empty: the first completion token is predicted from a prompt token.
        let boundary = boundary.clamp(1, tokens.len().saturating_sub(1).max(1));
        let boundary_merged = boundary < prompt.tokens.len();
        let truncation = Truncation { prompt: prompt.truncated, completion: tokens.len() > self.max_length };
        tokens.truncate(self.max_length);
        if tokens.len() <= boundary {
            return Err(EncodeError::Dropped(DropReason::NoCompletion));
        }
        let adaptation = Adaptation {
            markers_as_text: prompt.adaptation.markers_as_text || Tokenizer::is_guarded(&completion),
            apart: rendered.apart,
            rewritten: rendered.rewritten,
            ..prompt.adaptation
        };
        let completion = tokens.split_off(boundary);
        Ok(Encoded { prompt: tokens, completion, truncation, adaptation, boundary_merged })
    }
}
