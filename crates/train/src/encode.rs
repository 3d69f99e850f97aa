//! Conversations to tokens.
//!
//! Prompt and completion are tokenized together, as one text. If the prompt's own tokens are not a
//! prefix of the result (a merge across the boundary), the completion starts at the first token
//! that differs; [`Encoded::boundary_merged`] marks the case.
//!
//! Truncation of a prompt does not depend on its completion: it drops whole turns, oldest first,
//! but never the last one. A completion that is too long loses its tail, and with it the end
//! marker.

use std::sync::Arc;

use prospect_core::files::fingerprint;
use prospect_data::{Message, TokenCounter};
use prospect_model::{ChatMessage, ChatTemplate, Model, ModelError, Recipe, Tokenizer};
use serde::Serialize;

use crate::TrainError;

/// Tokens of a prompt and its completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Tokens of the prompt; at least one.
    pub prompt: Vec<u32>,
    /// Tokens of the completion, at least one. Ends with the end marker unless truncated.
    pub completion: Vec<u32>,
    /// Truncated parts.
    pub truncation: Truncation,
    /// True if the end of the prompt shares a token with the completion.
    pub boundary_merged: bool,
}

/// Parts of a conversation that were truncated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Truncation {
    /// The prompt lost turns.
    pub prompt: bool,
    /// The completion lost its tail.
    pub completion: bool,
}

/// Counts of encoded, truncated and dropped conversations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct EncodingCounts {
    /// Conversations encoded.
    pub encoded: u64,
    /// Prompts that lost turns.
    pub prompts_cut: u64,
    /// Completions that lost their tail.
    pub completions_cut: u64,
    /// Conversations dropped because the last turn of the prompt is too long by itself.
    pub prompt_too_long: u64,
    /// Conversations whose prompt and completion share a token.
    pub boundary_merges: u64,
}

impl EncodingCounts {
    /// Adds a result of [`Encoder::encode`].
    pub fn add(&mut self, encoded: Option<&Encoded>) {
        let Some(Encoded { truncation, boundary_merged, .. }) = encoded else {
            self.prompt_too_long += 1;
            return;
        };
        self.encoded += 1;
        self.prompts_cut += u64::from(truncation.prompt);
        self.completions_cut += u64::from(truncation.completion);
        self.boundary_merges += u64::from(*boundary_merged);
    }
}

/// Converts conversations to tokens, within length limits.
#[derive(Debug, Clone, Copy)]
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    template: &'a ChatTemplate,
    max_length: usize,
    max_prompt_length: usize,
}

/// Returns a counter of tokens, end marker included, for the tokenizer and chat template of a
/// recipe.
pub fn token_counter(recipe: &Recipe) -> Result<TokenCounter, ModelError> {
    let (tokenizer, template) = recipe.load_text()?;
    let name = fingerprint(&(tokenizer.to_json()?, template.source(), template.bos_token()))?;
    let count = move |prompt: &[Message], completion: &[Message]| {
        let encoder = Encoder::from_parts(&tokenizer, &template, usize::MAX, usize::MAX);
        let encoded = encoder.encode(prompt, completion)?;
        Ok(encoded.map_or((0, 0), |encoded| (encoded.prompt.len(), encoded.completion.len())))
    };
    Ok(TokenCounter::new(name, Arc::new(count)))
}

fn turns(messages: &[Message]) -> Vec<ChatMessage<'_>> {
    messages.iter().map(|message| ChatMessage { role: &message.role, content: &message.content }).collect()
}

/// A prompt within `max_prompt_length`.
struct FittedPrompt<'a> {
    turns: Vec<ChatMessage<'a>>,
    /// Rendered turns, without the control text.
    text: String,
    /// Tokens of the rendered turns and the control text.
    tokens: Vec<u32>,
    truncated: bool,
}

impl<'a> Encoder<'a> {
    /// Creates an encoder for `model`. Prompt and completion together have at most `max_length`
    /// tokens, the prompt at most `max_prompt_length`.
    pub fn new(model: &'a Model, max_length: usize, max_prompt_length: usize) -> Self {
        Self::from_parts(&model.tokenizer, &model.template, max_length, max_prompt_length)
    }

    fn from_parts(
        tokenizer: &'a Tokenizer,
        template: &'a ChatTemplate,
        max_length: usize,
        max_prompt_length: usize,
    ) -> Self {
        Self { tokenizer, template, max_length, max_prompt_length }
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &'a Tokenizer {
        self.tokenizer
    }

    /// Encodes a prompt to generate from, with a control text at its end. Returns `None` if the
    /// last turn is too long.
    pub fn encode_prompt(&self, prompt: &[Message], control: &str) -> Result<Option<Vec<u32>>, TrainError> {
        Ok(self.fit_prompt(prompt, control)?.map(|fitted| fitted.tokens))
    }

    /// Encodes a conversation. Returns `None` if the last turn of the prompt is too long.
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
        let Some(fitted) = self.fit_prompt(prompt, control)? else {
            return Ok(None);
        };
        let completion =
            completion.iter().map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n\n");
        let text = self.template.conversation(&fitted.turns, &completion)?;
        let Some(after_prompt) = text.strip_prefix(&fitted.text) else {
            return Err(TrainError::Examples(
                "the chat template renders a prompt differently when a completion follows; set `chat_template: chatml`"
                    .to_owned(),
            ));
        };
        let mut tokens = self.tokenizer.encode(&[&fitted.text, control, after_prompt].concat())?;
        let boundary = fitted.tokens.iter().zip(&tokens).take_while(|(own, joint)| own == joint).count();
        // Neither side may be empty: the first completion token is predicted from a prompt token.
        let boundary = boundary.clamp(1, tokens.len().saturating_sub(1).max(1));
        let boundary_merged = boundary < fitted.tokens.len();
        let truncation = Truncation { prompt: fitted.truncated, completion: tokens.len() > self.max_length };
        tokens.truncate(self.max_length);
        if tokens.len() <= boundary {
            return Err(TrainError::Examples(format!("a completion has no tokens: {completion:?}")));
        }
        let completion = tokens.split_off(boundary);
        Ok(Some(Encoded { prompt: tokens, completion, truncation, boundary_merged }))
    }

    /// Drops the oldest turns until the prompt and its control text fit. A leading system turn
    /// stays. Returns `None` if the last turn does not fit.
    fn fit_prompt<'b>(
        &self,
        prompt: &'b [Message],
        control: &str,
    ) -> Result<Option<FittedPrompt<'b>>, TrainError> {
        let mut turns = turns(prompt);
        let first = usize::from(turns.first().is_some_and(|turn| turn.role == "system"));
        loop {
            let text = self.template.prompt(&turns)?;
            let tokens = self.tokenizer.encode(&[&text, control].concat())?;
            if tokens.len() <= self.max_prompt_length {
                let truncated = turns.len() < prompt.len();
                return Ok(Some(FittedPrompt { turns, text, tokens, truncated }));
            }
            if turns.len() <= first + 1 {
                return Ok(None);
            }
            turns.remove(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prospect_model::{ChatTemplate, Tokenizer};

    fn message(role: &str, content: &str) -> Message {
        Message { role: role.to_owned(), content: content.to_owned() }
    }

    fn with_encoder<T>(
        max_length: usize,
        max_prompt_length: usize,
        test: impl FnOnce(&Encoder<'_>) -> T,
    ) -> T {
        let tokenizer = Tokenizer::bytes().unwrap();
        let template = ChatTemplate::chatml(&tokenizer).unwrap();
        test(&Encoder::from_parts(&tokenizer, &template, max_length, max_prompt_length))
    }

    // In ChatML a user turn of n bytes has n + 8 tokens, the header of the assistant's turn 11.
    #[test]
    fn a_completion_ends_with_one_end_marker() {
        with_encoder(100, 50, |encoder| {
            let encoded =
                encoder.encode(&[message("user", "hi")], &[message("assistant", "yo")]).unwrap().unwrap();
            let end = encoder.tokenizer.eos_token_id().unwrap();
            assert_eq!(encoded.prompt.len(), 10 + 11);
            assert_eq!(encoded.completion.len(), 3);
            assert_eq!(encoded.completion.iter().filter(|token| **token == end).count(), 1);
            assert_eq!(encoded.completion.last(), Some(&end));
        });
    }

    #[test]
    fn a_control_text_ends_the_prompt_and_is_not_scored() {
        with_encoder(100, 50, |encoder| {
            let (prompt, completion) = ([message("user", "hi")], [message("assistant", "yo")]);
            let plain = encoder.encode(&prompt, &completion).unwrap().unwrap();
            let encoded = encoder.encode_after(&prompt, "<|good|>", &completion).unwrap().unwrap();
            assert_eq!(encoded.completion, plain.completion);
            let text = encoder.tokenizer.decode(&encoded.prompt, true).unwrap();
            assert_eq!(text, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<|good|>");
        });
        // It counts towards the prompt's length.
        with_encoder(100, 21, |encoder| {
            let (prompt, completion) = ([message("user", "hi")], [message("assistant", "yo")]);
            assert!(encoder.encode(&prompt, &completion).unwrap().is_some());
            assert!(encoder.encode_after(&prompt, "<|good|>", &completion).unwrap().is_none());
        });
    }

    #[test]
    fn a_cut_completion_has_no_end_marker() {
        with_encoder(25, 22, |encoder| {
            let encoded =
                encoder.encode(&[message("user", "hi")], &[message("assistant", "longer")]).unwrap().unwrap();
            assert_eq!(encoder.tokenizer.decode(&encoded.completion, true).unwrap(), "long");
            assert_eq!(encoded.truncation, Truncation { prompt: false, completion: true });
        });
    }

    #[test]
    fn old_turns_go_first_and_the_last_never() {
        let prompt = [message("user", "0123456789"), message("assistant", "abc"), message("user", "hi")];
        with_encoder(60, 25, |encoder| {
            let encoded = encoder.encode(&prompt, &[message("assistant", "y")]).unwrap().unwrap();
            let text = encoder.tokenizer.decode(&encoded.prompt, true).unwrap();
            assert_eq!(text, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
            assert_eq!(encoded.truncation, Truncation { prompt: true, completion: false });
        });
        with_encoder(60, 20, |encoder| {
            assert_eq!(encoder.encode(&prompt, &[message("assistant", "y")]).unwrap(), None);
        });
    }

    mod needs_data {
        use super::*;

        /// Tokenizers of real models, with the default template.
        fn real_models() -> Vec<(&'static str, Model)> {
            let folder = prospect_testkit::test_data("tokenizers");
            ["gpt-neox-20b_tokenizer.json", "gpt2_tokenizer.json", "llama2_tokenizer.json", "smollm2_tokenizer.from_gguf.json"]
                .into_iter()
                .map(|name| {
                    let text = format!(
                        "weights: random\ntokenizer: {}\narchitecture: {{vocab_size: 51000, hidden_size: 2, intermediate_size: 2, num_hidden_layers: 1, num_attention_heads: 1, max_position_embeddings: 8}}",
                        folder.join(name).display()
                    );
                    let document = prospect_core::config::Document::from_text("model", &text).unwrap();
                    let file: prospect_model::ModelFile = document.read().unwrap();
                    (name, file.resolve(&|path| Ok(path.into())).unwrap().load().unwrap())
                })
                .collect()
        }

        #[test]
        #[ignore = "needs PROSPECT_TEST_DATA"]
        fn prompt_and_completion_are_tokenised_as_one_text_by_real_tokenizers() {
            let prompt = [message("user", "How are you?")];
            for (name, model) in real_models() {
                let encoder = Encoder::new(&model, 200, 100);
                let end = model.tokenizer.eos_token_id().unwrap();
                let mut counts = EncodingCounts::default();
                for completion in ["Fine.", " Fine.", "\n\nFine.", "12 ½"] {
                    let encoded =
                        encoder.encode(&prompt, &[message("assistant", completion)]).unwrap().unwrap();
                    counts.add(Some(&encoded));
                    let turns = [ChatMessage { role: "user", content: "How are you?" }];
                    let text = model.template.conversation(&turns, completion).unwrap();
                    let whole = [encoded.prompt.clone(), encoded.completion.clone()].concat();
                    assert_eq!(whole, model.tokenizer.encode(&text).unwrap(), "{name}: {completion:?}");
                    assert_eq!(encoded.completion.last(), Some(&end), "{name}: {completion:?}");
                    let ends = encoded.completion.iter().filter(|token| **token == end).count();
                    assert_eq!(ends, 1, "{name}: {completion:?}");

                    let cut = Encoder::new(&model, whole.len() - 1, 100);
                    let cut = cut.encode(&prompt, &[message("assistant", completion)]).unwrap().unwrap();
                    assert_eq!(cut.prompt, encoded.prompt);
                    assert_eq!(cut.completion, encoded.completion[..encoded.completion.len() - 1]);
                }
                // The line breaks at the end of the prompt and the start of the completion
                // become one token, unless the tokenizer has one token per white-space byte
                // (sentencepiece) or never merges line breaks.
                let expected = u64::from(name.starts_with("gpt") || name.starts_with("smollm2"));
                assert_eq!((counts.encoded, counts.boundary_merges), (4, expected), "{name}");
            }
        }
    }

    #[test]
    fn counts_sum_truncations_and_dropped_prompts() {
        let encoded = |prompt, completion, boundary_merged| Encoded {
            prompt: vec![1],
            completion: vec![2],
            truncation: Truncation { prompt, completion },
            boundary_merged,
        };
        let mut counts = EncodingCounts::default();
        for encoded in [Some(encoded(true, false, false)), Some(encoded(true, true, true)), None] {
            counts.add(encoded.as_ref());
        }
        let expected = EncodingCounts {
            encoded: 2,
            prompts_cut: 2,
            completions_cut: 1,
            prompt_too_long: 1,
            boundary_merges: 1,
        };
        assert_eq!(counts, expected);
    }
}
