//! Chat templates, which render a conversation to the text that a model reads.

use crate::{ModelError, Tokenizer};
use minijinja::{Environment, ErrorKind, Value, context, syntax::SyntaxConfig};

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

/// Chat template in Jinja, as in `tokenizer_config.json`.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
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
        Self::new(&source, tokenizer.bos_token(), tokenizer.eos_token())
    }

    /// Compiles `source`, with these values of its variables `bos_token` and `eos_token`.
    pub fn new(source: &str, bos_token: &str, eos_token: &str) -> Result<Self, ModelError> {
        let mut environment = Environment::new();
        // Same Jinja settings as transformers.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| ModelError::Template(format!("{error:#}")))?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment
            .add_template_owned("chat", source.to_owned())
            .map_err(|error| ModelError::Template(format!("{error:#}")))?;
        Ok(Self {
            source: source.to_owned(),
            environment,
            bos_token: bos_token.to_owned(),
            eos_token: eos_token.to_owned(),
        })
    }

    /// Returns the template's `bos_token`, empty if there is none.
    pub fn bos_token(&self) -> &str {
        &self.bos_token
    }

    /// Returns the Jinja source.
    pub fn source(&self) -> &str {
        &self.source
    }

    fn render(
        &self,
        messages: &[ChatMessage<'_>],
        add_generation_prompt: bool,
    ) -> Result<String, ModelError> {
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| {
                Value::from_pairs([
                    ("role", message.role.to_owned()),
                    ("content", message.content.to_owned()),
                ])
            })
            .collect();
        let values = context! {
            messages, add_generation_prompt, bos_token => self.bos_token.as_str(), eos_token => self.eos_token.as_str(),
        };
        let template = self.environment.get_template("chat");
        let rendered = template.and_then(|template| template.render(values));
        rendered.map_err(|error| ModelError::Template(format!("{error:#}")))
    }

    /// Renders a prompt up to the start of the assistant's message.
    pub fn prompt(&self, prompt: &[ChatMessage<'_>]) -> Result<String, ModelError> {
        self.render(prompt, true)
    }

    /// Renders a prompt and a completion, ending with exactly one end-of-message token.
    ///
    /// Text after that token (a line break in ChatML) belongs to the next message and is dropped.
    /// If the template writes no such token, the end-of-sequence token is appended.
    pub fn conversation(&self, prompt: &[ChatMessage<'_>], completion: &str) -> Result<String, ModelError> {
        let mut messages = prompt.to_vec();
        messages.push(ChatMessage { role: "assistant", content: completion });
        let mut text = self.render(&messages, false)?;
        match text.rfind(completion.trim_end()) {
            Some(at) if text[at + completion.trim_end().len()..].trim().is_empty() => {
                text.truncate(at + completion.trim_end().len());
                text.push_str(&self.eos_token);
            }
            _ => text.truncate(text.trim_end().len()),
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: ChatMessage<'static> = ChatMessage { role: "user", content: "hi" };

    #[test]
    fn chatml_has_one_end_marker() {
        let template = ChatTemplate::chatml(&Tokenizer::bytes().unwrap()).unwrap();
        let prompt = template.prompt(&[USER]).unwrap();
        assert_eq!(prompt, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
        assert_eq!(template.conversation(&[USER], "yo").unwrap(), format!("{prompt}yo<|im_end|>"));
    }

    #[test]
    fn a_template_without_end_marker_gets_one() {
        let source = "{{ bos_token }}{% for m in messages %}{{ m['role'].upper() }}: {{ m['content'].strip() }}\n{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}";
        let template = ChatTemplate::new(source, "<s>", "</s>").unwrap();
        assert_eq!(template.prompt(&[USER]).unwrap(), "<s>USER: hi\nASSISTANT:");
        assert_eq!(template.conversation(&[USER], "yo").unwrap(), "<s>USER: hi\nASSISTANT: yo</s>");
    }

    #[test]
    fn a_template_may_refuse() {
        let template = ChatTemplate::new("{{ raise_exception('no system turns') }}", "", "").unwrap();
        assert!(template.prompt(&[USER]).unwrap_err().to_string().contains("no system turns"));
        assert!(ChatTemplate::new("{% if %}", "", "").is_err());
    }
}
