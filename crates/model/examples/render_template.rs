//! Renders chat templates, for `benches/peers/check_templates.py`.
//!
//! A line of the standard input is a request, a line of the output its answer, both in JSON.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Write},
};

use prospect_model::{ChatMessage, ChatTemplate, ModelError, Tokenizer};
use serde::Deserialize;

/// Request to render a conversation.
#[derive(Deserialize)]
struct Request {
    template: String,
    /// Special tokens by name.
    variables: BTreeMap<String, String>,
    messages: Vec<Message>,
    add_generation_prompt: bool,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tokenizer = Tokenizer::bytes()?;
    let mut output = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let answer = match render(serde_json::from_str(&line?)?, &tokenizer) {
            Ok(text) => serde_json::json!({ "text": text }),
            Err(error) => serde_json::json!({ "error": error.to_string() }),
        };
        writeln!(output, "{answer}")?;
    }
    Ok(())
}

fn render(request: Request, tokenizer: &Tokenizer) -> Result<String, ModelError> {
    let Request { template, variables, messages, add_generation_prompt } = request;
    let messages: Vec<ChatMessage<'_>> =
        messages.iter().map(|Message { role, content }| ChatMessage { role, content }).collect();
    ChatTemplate::new(&template, tokenizer, variables)?.render(&messages, add_generation_prompt)
}
