//! Chat templates, which render a conversation to the text that a model reads.

mod clock;
mod environment;
mod methods;
mod named;
mod probe;
mod python;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use minijinja::{Environment, Error, ErrorKind, Value};

pub(crate) use named::{NamedTemplates, TemplateField, additional_templates};
pub use probe::{AcceptedTurns, EndMarker};

use crate::{ModelError, Tokenizer};
use environment::{LimitedOutput, NAME, compile, describe};
use probe::Probed;

/// Message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage<'a> {
    /// Author: `system`, `user` or `assistant`.
    pub role: &'a str,
    /// Text of the message.
    pub content: &'a str,
}

/// ChatML's end-of-message token.
const CHATML_END: &str = "<|im_end|>";

/// Chat template in Jinja, as in `tokenizer_config.json`, rendered as transformers does.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
    /// `bos_token`, `eos_token` and other special tokens by name.
    variables: BTreeMap<String, String>,
    probed: Probed,
    stop_token_ids: Vec<u32>,
}

/// Completion as a template renders it after a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedCompletion {
    /// Text that follows the prompt, ending with the end marker.
    pub text: String,
    /// The template renders the prompt differently if a completion follows. The completion is then
    /// written after the prompt that the model generates from.
    pub apart: bool,
    /// The template writes the completion in other words than given.
    pub rewritten: bool,
}

impl ChatTemplate {
    /// Creates the default template, `<|im_start|>ROLE\nCONTENT<|im_end|>\n` for each message.
    ///
    /// If `<|im_end|>` is not in the vocabulary, the end-of-sequence token takes its place, so that
    /// a message ends with one token that the model knows. The text starts with the
    /// beginning-of-sequence token if the tokenizer adds one.
    pub fn chatml(tokenizer: &Tokenizer) -> Result<Self, ModelError> {
        let begin = if tokenizer.bos_token().is_empty() { "" } else { "{{ bos_token }}" };
        let end = if tokenizer.has_token(CHATML_END) { CHATML_END } else { "{{ eos_token }}" };
        let source = format!(
            "{begin}{{% for message in messages %}}<|im_start|>{{{{ message.role }}}}\n{{{{ message.content }}}}{end}\n{{% endfor %}}{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
        );
        Self::new(&source, tokenizer, BTreeMap::new())
    }

    /// Compiles `source` and finds out how it ends a completion. `variables` are special tokens by
    /// name; `bos_token` and `eos_token` default to the tokenizer's.
    pub fn new(
        source: &str,
        tokenizer: &Tokenizer,
        mut variables: BTreeMap<String, String>,
    ) -> Result<Self, ModelError> {
        let environment = compile(source).map_err(|error| ModelError::Template(describe(&error)))?;
        variables.entry("bos_token".to_owned()).or_insert_with(|| tokenizer.bos_token().to_owned());
        variables.entry("eos_token".to_owned()).or_insert_with(|| tokenizer.eos_token().to_owned());
        let probed =
            probe::probe(&|turns, prompt| render(&environment, &variables, turns, prompt), tokenizer)?;
        let mut stop_token_ids = vec![probed.end.id, tokenizer.eos_token_id()?];
        stop_token_ids.dedup();
        Ok(Self { source: source.to_owned(), environment, variables, probed, stop_token_ids })
    }

    /// Returns the template's `bos_token`, empty if there is none.
    pub fn bos_token(&self) -> &str {
        self.variables.get("bos_token").map_or("", String::as_str)
    }

    /// Returns the values of the template's variables, special tokens by name.
    pub(crate) fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// Returns the Jinja source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns the end of a completion. Templates that write no token after it end with the
    /// tokenizer's end-of-sequence token.
    pub fn end_marker(&self) -> &EndMarker {
        &self.probed.end
    }

    /// Returns the tokens that end generation: the [end marker](Self::end_marker), and the
    /// tokenizer's end-of-sequence token, with which base models end a text.
    pub fn stop_token_ids(&self) -> &[u32] {
        &self.stop_token_ids
    }

    /// Returns the conversations that the template renders completely.
    pub fn accepted_turns(&self) -> AcceptedTurns {
        self.probed.accepts
    }

    /// Renders messages, with the start of the assistant's message if `add_generation_prompt` is
    /// set.
    pub fn render(
        &self,
        messages: &[ChatMessage<'_>],
        add_generation_prompt: bool,
    ) -> Result<String, ModelError> {
        render(&self.environment, &self.variables, messages, add_generation_prompt)
            .map_err(|error| ModelError::Template(describe(&error)))
    }

    /// Renders a prompt up to the start of the assistant's message.
    pub fn prompt(&self, prompt: &[ChatMessage<'_>]) -> Result<String, ModelError> {
        self.render(prompt, true)
    }

    /// Renders a completion of `prompt`, whose rendered text is `prompt_text`. It ends with exactly
    /// one [end marker](Self::end_marker); what the template writes after that belongs to the next
    /// message and is dropped.
    pub fn completion(
        &self,
        prompt: &[ChatMessage<'_>],
        prompt_text: &str,
        completion: &str,
    ) -> Result<RenderedCompletion, ModelError> {
        let mut messages = prompt.to_vec();
        messages.push(ChatMessage { role: "assistant", content: completion });
        let text = self.render(&messages, false)?;
        let text = self.without_end(&text, completion);
        let (after, apart) = match text.strip_prefix(prompt_text) {
            Some(after) => (after.to_owned(), false),
            None => (written_apart(text, prompt_text, completion)?, true),
        };
        let rewritten = !after.contains(completion.trim());
        let end = &self.probed.end.text;
        // Without a marker of the template, white space after the completion belongs to the next
        // message.
        let is_written = self.probed.suffix.starts_with(end.as_str());
        let after = if is_written { after.as_str() } else { after.trim_end() };
        Ok(RenderedCompletion { text: [after, end].concat(), apart, rewritten })
    }

    /// Renders a prompt and a completion, ending with exactly one end marker.
    pub fn conversation(&self, prompt: &[ChatMessage<'_>], completion: &str) -> Result<String, ModelError> {
        let text = self.prompt(prompt)?;
        let completion = self.completion(prompt, &text, completion)?;
        Ok(text + &completion.text)
    }

    /// Removes what the template writes after the last completion.
    fn without_end<'t>(&self, text: &'t str, completion: &str) -> &'t str {
        if let Some(text) = text.strip_suffix(self.probed.suffix.as_str()) {
            return text;
        }
        let completion = completion.trim();
        text.rfind(completion).map_or(text.trim_end(), |at| &text[..at + completion.len()])
    }
}

/// Returns what follows the prompt that the model generates from, for a template that renders the
/// prompt differently in `text`: the completion as in `text`, after the space that precedes it
/// there.
fn written_apart(text: &str, prompt_text: &str, completion: &str) -> Result<String, ModelError> {
    let at = text.rfind(completion).or_else(|| text.rfind(completion.trim())).ok_or_else(|| {
        ModelError::Template("it renders neither the prompt nor the completion as given".to_owned())
    })?;
    let (before, completion) = text.split_at(at);
    let space = &before[before.trim_end().len()..];
    let own = &prompt_text[prompt_text.trim_end().len()..];
    Ok([space.strip_prefix(own).unwrap_or_default(), completion].concat())
}

fn render(
    environment: &Environment<'_>,
    variables: &BTreeMap<String, String>,
    messages: &[ChatMessage<'_>],
    add_generation_prompt: bool,
) -> Result<String, Error> {
    let message = |message: &ChatMessage<'_>| {
        Value::from_pairs([("role", Value::from(message.role)), ("content", Value::from(message.content))])
    };
    let messages: Vec<Value> = messages.iter().map(message).collect();
    let given = [
        ("messages", Value::from(messages)),
        ("tools", Value::from(())),
        ("documents", Value::from(())),
        ("add_generation_prompt", Value::from(add_generation_prompt)),
    ];
    let variables = variables.iter().map(|(name, token)| (name.as_str(), Value::from(token.as_str())));
    let mut output = LimitedOutput::default();
    let template = environment.get_template(NAME)?;
    template.render_captured_to(Value::from_pairs(variables.chain(given)), &mut output)?;
    String::from_utf8(output.0).map_err(|_| Error::new(ErrorKind::WriteFailure, "the text is not UTF-8"))
}
