//! Conversations to tokens.
//!
//! Prompt and completion are tokenised together, as one text. Where the prompt's own tokens are not a prefix of that
//! (a merge across the boundary), the completion starts at the first token that differs, and the case is counted.
//! A prompt is cut the same way whatever completion follows: whole turns, oldest first, never the last one. A
//! completion that is too long loses its tail and with it the end marker.

use std::{cell::Cell, sync::Arc};

use prospect_core::files::fingerprint;
use prospect_data::{Message, TokenCounter};
use prospect_model::{ChatMessage, ChatTemplate, Model, ModelError, Recipe, Tokenizer};
use serde::Serialize;

use crate::TrainError;

/// Tokens of a prompt and of a completion that ends with its end marker, unless it was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// At least one token.
    pub prompt: Vec<u32>,
    /// At least one token.
    pub completion: Vec<u32>,
}

/// What happened while encoding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct EncodingCounts {
    /// Conversations encoded.
    pub encoded: u64,
    /// Prompts that lost turns.
    pub prompts_cut: u64,
    /// Completions that lost their tail.
    pub completions_cut: u64,
    /// Conversations dropped because the prompt's last turn alone is too long.
    pub prompt_too_long: u64,
    /// Conversations whose prompt and completion share a token.
    pub boundary_merges: u64,
}

/// Turns conversations into tokens.
#[derive(Debug)]
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    template: &'a ChatTemplate,
    max_length: usize,
    max_prompt_length: usize,
    counts: Cell<EncodingCounts>,
}

/// Counts tokens, the end marker included, as the tokenizer and the chat template of a recipe make them.
pub fn token_counter(recipe: &Recipe) -> Result<TokenCounter, ModelError> {
    let (tokenizer, template) = recipe.load_text()?;
    let name = fingerprint(&(tokenizer.to_json()?, template.source(), template.bos_token()))?;
    let count = move |prompt: &[Message], completion: &[Message]| {
        let encoded =
            Encoder::of(&tokenizer, &template, usize::MAX, usize::MAX).encode(prompt, completion)?;
        Ok(encoded.map_or((0, 0), |encoded| (encoded.prompt.len(), encoded.completion.len())))
    };
    Ok(TokenCounter::new(name, Arc::new(count)))
}

fn turns(messages: &[Message]) -> Vec<ChatMessage<'_>> {
    messages.iter().map(|message| ChatMessage { role: &message.role, content: &message.content }).collect()
}

impl<'a> Encoder<'a> {
    /// An encoder for `model` that keeps at most `max_length` tokens, `max_prompt_length` of them for the prompt.
    pub fn new(model: &'a Model, max_length: usize, max_prompt_length: usize) -> Self {
        Self::of(&model.tokenizer, &model.template, max_length, max_prompt_length)
    }

    fn of(
        tokenizer: &'a Tokenizer,
        template: &'a ChatTemplate,
        max_length: usize,
        max_prompt_length: usize,
    ) -> Self {
        Self { tokenizer, template, max_length, max_prompt_length, counts: Cell::default() }
    }

    /// What happened so far.
    pub fn counts(&self) -> EncodingCounts {
        self.counts.get()
    }

    fn count(&self, change: impl FnOnce(&mut EncodingCounts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    /// What turns text into tokens.
    pub fn tokenizer(&self) -> &'a Tokenizer {
        self.tokenizer
    }

    /// The tokens of a prompt to be continued, with a control text at its end; None if its last turn is too long.
    pub fn encode_prompt(&self, prompt: &[Message], control: &str) -> Result<Option<Vec<u32>>, TrainError> {
        Ok(self.cut_prompt(prompt, control)?.map(|(_, _, tokens)| tokens))
    }

    /// The tokens of a conversation; None, and counted, if its prompt's last turn is too long.
    pub fn encode(&self, prompt: &[Message], completion: &[Message]) -> Result<Option<Encoded>, TrainError> {
        self.encode_after(prompt, "", completion)
    }

    /// Like [`encode`](Self::encode), with a control text at the end of the prompt, where the assistant's turn has opened:
    /// it is read as plain text and not scored.
    pub fn encode_after(
        &self,
        prompt: &[Message],
        control: &str,
        completion: &[Message],
    ) -> Result<Option<Encoded>, TrainError> {
        let Some((kept, prompt_text, prompt_tokens)) = self.cut_prompt(prompt, control)? else {
            self.count(|counts| counts.prompt_too_long += 1);
            return Ok(None);
        };
        let completion =
            completion.iter().map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n\n");
        let text = self.template.conversation(&kept, &completion)?;
        let Some(after_prompt) = text.strip_prefix(&prompt_text) else {
            return Err(TrainError::Examples(
                "the chat template renders a conversation's prompt differently when a completion follows; set chat_template: chatml"
                    .to_owned(),
            ));
        };
        let mut tokens = self.tokenizer.encode(&[&prompt_text, control, after_prompt].concat())?;
        let boundary = prompt_tokens.iter().zip(&tokens).take_while(|(ours, theirs)| ours == theirs).count();
        // Neither side may be empty: something must predict, and something must be predicted.
        let boundary = boundary.clamp(1, tokens.len().saturating_sub(1).max(1));
        let merged = boundary < prompt_tokens.len();
        let cut = tokens.len() > self.max_length;
        tokens.truncate(self.max_length);
        if tokens.len() <= boundary {
            return Err(TrainError::Examples(format!("a completion has no tokens: {completion:?}")));
        }
        let completion = tokens.split_off(boundary);
        self.count(|counts| {
            counts.encoded += 1;
            counts.completions_cut += u64::from(cut);
            counts.boundary_merges += u64::from(merged);
        });
        Ok(Some(Encoded { prompt: tokens, completion }))
    }

    /// Drops the oldest turns (a leading system turn stays) until the prompt fits with its control text; None if its last
    /// turn does not. The tokens are those of both texts, the text is the prompt's.
    #[expect(clippy::type_complexity, reason = "three parts of one prompt, used in one place")]
    fn cut_prompt<'b>(
        &self,
        prompt: &'b [Message],
        control: &str,
    ) -> Result<Option<(Vec<ChatMessage<'b>>, String, Vec<u32>)>, TrainError> {
        let mut kept = turns(prompt);
        let first = usize::from(kept.first().is_some_and(|turn| turn.role == "system"));
        loop {
            let text = self.template.prompt(&kept)?;
            let tokens = self.tokenizer.encode(&[&text, control].concat())?;
            if tokens.len() <= self.max_prompt_length {
                if kept.len() < prompt.len() {
                    self.count(|counts| counts.prompts_cut += 1);
                }
                return Ok(Some((kept, text, tokens)));
            }
            if kept.len() <= first + 1 {
                return Ok(None);
            }
            kept.remove(first);
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
        let counts = Cell::default();
        test(&Encoder { tokenizer: &tokenizer, template: &template, max_length, max_prompt_length, counts })
    }

    // In ChatML a user turn of n bytes takes n + 8 tokens, the assistant's opening 11.
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
            assert_eq!(encoder.counts().completions_cut, 1);
        });
    }

    #[test]
    fn old_turns_go_first_and_the_last_never() {
        let prompt = [message("user", "0123456789"), message("assistant", "abc"), message("user", "hi")];
        with_encoder(60, 25, |encoder| {
            let encoded = encoder.encode(&prompt, &[message("assistant", "y")]).unwrap().unwrap();
            let text = encoder.tokenizer.decode(&encoded.prompt, true).unwrap();
            assert_eq!(text, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
            assert_eq!(encoder.counts().prompts_cut, 1);
        });
        with_encoder(60, 20, |encoder| {
            assert_eq!(encoder.encode(&prompt, &[message("assistant", "y")]).unwrap(), None);
            assert_eq!(encoder.counts().prompt_too_long, 1);
        });
    }

    /// The tokenizers of real models, with the default template.
    #[expect(clippy::print_stderr, reason = "says that a test is skipped")]
    fn real_models() -> Vec<(&'static str, Model)> {
        let Some(data) = std::env::var_os("PROSPECT_TEST_DATA") else {
            eprintln!("skipped: set PROSPECT_TEST_DATA");
            return Vec::new();
        };
        let folder = std::path::Path::new(&data).join("tokenizers");
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
    fn prompt_and_completion_are_tokenised_as_one_text_by_real_tokenizers() {
        let prompt = [message("user", "How are you?")];
        for (name, model) in real_models() {
            let encoder = Encoder::new(&model, 200, 100);
            let end = model.tokenizer.eos_token_id().unwrap();
            for completion in ["Fine.", " Fine.", "\n\nFine.", "12 ½"] {
                let encoded = encoder.encode(&prompt, &[message("assistant", completion)]).unwrap().unwrap();
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
            // The line break that ends the prompt and those that begin the completion become one token, but where every
            // byte of white space has its own (sentencepiece) or line breaks are never merged.
            let merges = encoder.counts().boundary_merges;
            let expected = u64::from(name.starts_with("gpt") || name.starts_with("smollm2"));
            assert_eq!((encoder.counts().encoded, merges), (4, expected), "{name}");
        }
    }
}
