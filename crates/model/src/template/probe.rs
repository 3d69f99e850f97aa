//! Properties of a template, found by rendering short conversations: its end marker, and the turns
//! that it accepts.

use minijinja::Error;
use serde::Serialize;

use super::{ChatMessage, environment::is_limit};
use crate::{ModelError, Tokenizer};

/// End of a completion, as a template writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndMarker {
    /// Text that follows the completion, up to and including the token: ` </s>` in Llama 2's
    /// template.
    pub text: String,
    /// The token that ends the completion, and with it generation.
    pub token: String,
    /// Id of the token.
    pub id: u32,
}

/// Conversations that a template renders completely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptedTurns {
    /// A system turn.
    pub system: bool,
    /// Consecutive turns of one role.
    pub repeated: bool,
    /// An assistant's turn at the start.
    pub assistant_first: bool,
}

/// Results of the probes.
#[derive(Debug, Clone)]
pub(super) struct Probed {
    pub(super) end: EndMarker,
    /// Text that follows the last completion, with everything after the end marker.
    pub(super) suffix: String,
    pub(super) accepts: AcceptedTurns,
}

/// Contents that no template writes by itself.
const SYSTEM: &str = "Xsystemq1";
const USER: &str = "Xuserq2";
const ASSISTANT: &str = "Xassistantq3";
const OTHER: &str = "Xotherq4";

fn turn(role: &'static str, content: &'static str) -> ChatMessage<'static> {
    ChatMessage { role, content }
}

/// Renders a conversation; the flag adds the generation prompt.
pub(super) type Render<'a> = dyn Fn(&[ChatMessage<'_>], bool) -> Result<String, Error> + 'a;

/// Probes a template. An error means that rendering ends at no conversation at all.
pub(super) fn probe(render: &Render<'_>, tokenizer: &Tokenizer) -> Result<Probed, ModelError> {
    let plain = [turn("user", USER), turn("assistant", ASSISTANT)];
    let last = match render(&plain, false) {
        Err(error) if is_limit(&error) => {
            return Err(ModelError::Template(super::environment::describe(&error)));
        }
        Err(_) => render(&[&[turn("system", SYSTEM)], &plain[..]].concat(), false).ok(),
        Ok(text) => Some(text),
    };
    let suffix = last.as_deref().and_then(|text| after(text, ASSISTANT)).unwrap_or_default();
    let next = render(&[&plain[..], &[turn("user", OTHER)]].concat(), false).ok();
    let between = next.as_deref().and_then(|text| after(text, ASSISTANT));
    let first = |text: &str| tokenizer.first_added_token(text);
    // A header that the template always opens differs from the next turn's.
    let shared =
        between.and_then(|text| text.split_once(OTHER)).map(|(between, _)| common_prefix(suffix, between));
    let end = first(&suffix[..shared.unwrap_or(suffix.len())]).or_else(|| {
        // The last turn may end differently from those before it, but not with a header.
        let prompt = render(&plain[..1], true).ok();
        let header = prompt.as_deref().and_then(|text| after(text, USER)).unwrap_or_default();
        first(suffix).filter(|(range, _)| !header.contains(&suffix[range.clone()]))
    });
    let end = match end {
        Some((range, id)) => {
            EndMarker { text: suffix[..range.end].to_owned(), token: suffix[range].to_owned(), id }
        }
        None => EndMarker {
            text: tokenizer.eos_token().to_owned(),
            token: tokenizer.eos_token().to_owned(),
            id: tokenizer.eos_token_id()?,
        },
    };
    Ok(Probed { end, suffix: suffix.to_owned(), accepts: accepted_turns(render) })
}

fn accepted_turns(render: &Render<'_>) -> AcceptedTurns {
    // A template that leaves a turn out does not accept it.
    let accepts = |turns: &[ChatMessage<'_>]| {
        let text = render(turns, true);
        text.is_ok_and(|text| turns.iter().all(|turn| text.contains(turn.content)))
    };
    let (user, assistant) = (turn("user", USER), turn("assistant", ASSISTANT));
    let [other_user, other_assistant] = ["user", "assistant"].map(|role| turn(role, OTHER));
    AcceptedTurns {
        system: accepts(&[turn("system", SYSTEM), user.clone()]),
        repeated: accepts(&[user.clone(), other_user.clone()])
            && accepts(&[user.clone(), assistant.clone(), other_assistant, turn("user", SYSTEM)]),
        assistant_first: accepts(&[assistant, user]),
    }
}

/// Returns the text after the last occurrence of `content`.
fn after<'t>(text: &'t str, content: &str) -> Option<&'t str> {
    text.rsplit_once(content).map(|(_, after)| after)
}

/// Length in bytes of the longest common prefix.
fn common_prefix(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}
