//! Chat templates: a conversation to the text that a model sees.

use crate::{ModelError, Tokenizer};
use minijinja::{Environment, ErrorKind, Value, context, syntax::SyntaxConfig};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn<'a> {
    /// Who speaks: `system`, `user` or `assistant`.
    pub role: &'a str,
    /// What is said.
    pub content: &'a str,
}

/// ChatML's own marker for the end of a turn.
const CHATML_END: &str = "<|im_end|>";

/// A chat template in Jinja, as in `tokenizer_config.json`.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
    begin: String,
    end: String,
}

impl ChatTemplate {
    /// `<|im_start|>ROLE\nCONTENT<|im_end|>\n` for each turn: the default, where a model brings no template.
    ///
    /// Where `<|im_end|>` is no token of the model, its own end-of-sequence token stands there, so that an end is one
    /// token that the model knows. The token that the tokenizer would put before a text, if any, comes first, once.
    pub fn chatml(tokenizer: &Tokenizer) -> Result<Self, ModelError> {
        let begin = if tokenizer.begin().is_empty() { "" } else { "{{ bos_token }}" };
        let end = if tokenizer.has_token(CHATML_END) { CHATML_END } else { "{{ eos_token }}" };
        let source = format!(
            "{begin}{{% for message in messages %}}<|im_start|>{{{{ message.role }}}}\n{{{{ message.content }}}}{end}\n{{% endfor %}}{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
        );
        Self::new(&source, tokenizer.begin(), tokenizer.end())
    }

    /// Compiles `source`; `begin` and `end` are its `bos_token` and `eos_token`.
    pub fn new(source: &str, begin: &str, end: &str) -> Result<Self, ModelError> {
        let mut environment = Environment::new();
        // As transformers sets Jinja up.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| ModelError::Template(format!("{error:#}")))?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment
            .add_template_owned("chat", source.to_owned())
            .map_err(|error| ModelError::Template(format!("{error:#}")))?;
        Ok(Self { source: source.to_owned(), environment, begin: begin.to_owned(), end: end.to_owned() })
    }

    /// The template's `bos_token`; empty if there is none.
    pub fn begin(&self) -> &str {
        &self.begin
    }

    /// The template's Jinja text.
    pub fn source(&self) -> &str {
        &self.source
    }

    fn render(&self, turns: &[Turn<'_>], add_generation_prompt: bool) -> Result<String, ModelError> {
        let messages: Vec<Value> = turns
            .iter()
            .map(|turn| {
                Value::from_pairs([("role", turn.role.to_owned()), ("content", turn.content.to_owned())])
            })
            .collect();
        let values = context! {
            messages, add_generation_prompt, bos_token => self.begin.as_str(), eos_token => self.end.as_str(),
        };
        let template = self.environment.get_template("chat");
        let rendered = template.and_then(|template| template.render(values));
        rendered.map_err(|error| ModelError::Template(format!("{error:#}")))
    }

    /// The text of a prompt, up to where the assistant starts to speak.
    pub fn prompt(&self, prompt: &[Turn<'_>]) -> Result<String, ModelError> {
        self.render(prompt, true)
    }

    /// The text of a prompt and a completion, from the start to exactly one end marker.
    ///
    /// What a template writes after the end marker (ChatML: a line break) belongs to the next turn and is left out;
    /// if it writes no marker, the end-of-sequence token is appended.
    pub fn conversation(&self, prompt: &[Turn<'_>], completion: &str) -> Result<String, ModelError> {
        let mut turns = prompt.to_vec();
        turns.push(Turn { role: "assistant", content: completion });
        let mut text = self.render(&turns, false)?;
        match text.rfind(completion.trim_end()) {
            Some(at) if text[at + completion.trim_end().len()..].trim().is_empty() => {
                text.truncate(at + completion.trim_end().len());
                text.push_str(&self.end);
            }
            _ => text.truncate(text.trim_end().len()),
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: Turn<'static> = Turn { role: "user", content: "hi" };

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
