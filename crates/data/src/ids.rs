//! Names of prompts, rows and pairs: hashes of their content, and of nothing else.
//!
//! Every part goes in with its length before it, so that two different lists of turns cannot hash alike
//! because their concatenations do.

use crate::row::Message;

/// Names a prompt: the hash of its roles and texts.
pub(crate) fn prompt_id(prompt: &[Message]) -> String {
    digest("prospect 2026 prompt id v1", &turns(prompt))
}

/// Names a prompt with a completion, whatever its label.
pub(crate) fn row_id(prompt_id: &str, completion: &[Message]) -> String {
    let mut parts = vec![prompt_id];
    parts.extend(turns(completion));
    digest("prospect 2026 row id v1", &parts)
}

/// Names a pair by its prompt and the rows of its two sides, in the order of the source.
pub(crate) fn pair_id(prompt_id: &str, chosen_id: &str, rejected_id: &str) -> String {
    digest("prospect 2026 pair id v1", &[prompt_id, chosen_id, rejected_id])
}

fn turns(messages: &[Message]) -> Vec<&str> {
    messages.iter().flat_map(|message| [message.role.as_str(), message.content.as_str()]).collect()
}

/// Sixteen hexadecimal digits.
fn digest(kind: &str, parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key(kind);
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turn_boundaries_and_roles_count() {
        let one = [Message::user("ab"), Message::assistant("c")];
        let two = [Message::user("a"), Message::assistant("bc")];
        let three = [Message::user("abc")];
        let four = [Message::assistant("ab"), Message::user("c")];
        let ids: std::collections::BTreeSet<_> = [&one[..], &two, &three, &four].map(prompt_id).into();
        assert_eq!(ids.len(), 4);
        assert_ne!(pair_id("p", "a", "b"), pair_id("p", "b", "a"));
    }
}
