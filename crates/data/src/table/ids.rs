//! Ids of prompts, rows and pairs: hashes of their content only.
//!
//! Each part is hashed with its length, so that different lists of turns with the same
//! concatenation get different ids.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Message;

/// First 64 bits of a hash; written as 16 hexadecimal digits and ordered like them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Id(u64);

/// Digits of an [`Id`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Digits([u8; 16]);

impl Id {
    /// Returns the first 64 bits of a hash.
    pub(crate) fn from_hash(hash: blake3::Hash) -> Self {
        let (first, _) = hash.as_bytes().split_at(8);
        Self(first.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte)))
    }

    /// Reads the 16 hexadecimal digits of an id.
    pub(crate) fn parse(digits: &str) -> Option<Self> {
        let is_id = digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if is_id { u64::from_str_radix(digits, 16).ok().map(Self) } else { None }
    }

    /// Returns the digits, without an allocation.
    pub(crate) fn digits(self) -> Digits {
        let mut digits = [0; 16];
        for (place, digit) in digits.iter_mut().enumerate() {
            let value = (self.0 >> (60 - 4 * place)) as u8 & 15;
            *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
        }
        Digits(digits)
    }
}

impl AsRef<str> for Digits {
    fn as_ref(&self) -> &str {
        // Hexadecimal digits are valid UTF-8.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.digits().as_ref())
    }
}

/// Hashes the roles and texts of a prompt.
pub(crate) fn prompt_id(prompt: &[Message]) -> Id {
    digest("prospect 2026 prompt id v1", turns(prompt))
}

/// Hashes a prompt and a completion, without the label.
pub(crate) fn row_id(prompt_id: Id, completion: &[Message]) -> Id {
    let prompt = prompt_id.digits();
    digest("prospect 2026 row id v1", [prompt.as_ref()].into_iter().chain(turns(completion)))
}

/// Hashes a pair: its prompt and the rows of its two sides, in the order of the source.
pub(crate) fn pair_id(prompt_id: Id, chosen_id: Id, rejected_id: Id) -> Id {
    let parts = [prompt_id, chosen_id, rejected_id].map(Id::digits);
    digest("prospect 2026 pair id v1", parts.iter().map(AsRef::as_ref))
}

fn turns(messages: &[Message]) -> impl Iterator<Item = &str> {
    messages.iter().flat_map(|message| [message.role.as_str(), message.content.as_str()])
}

fn digest<'a>(kind: &str, parts: impl Iterator<Item = &'a str>) -> Id {
    let mut hasher = blake3::Hasher::new_derive_key(kind);
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    Id::from_hash(hasher.finalize())
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
        let [p, a, b] = [Id(1), Id(2), Id(3)];
        assert_ne!(pair_id(p, a, b), pair_id(p, b, a));
    }

    #[test]
    fn ids_are_the_head_of_the_hash_and_stay_what_they_are() {
        assert_eq!(Id(0x0123_4567_89ab_cdef).to_string(), "0123456789abcdef");
        let prompt = prompt_id(&[Message::user("a")]);
        let mut hasher = blake3::Hasher::new_derive_key("prospect 2026 prompt id v1");
        hasher.update(&4u64.to_le_bytes()).update(b"user").update(&1u64.to_le_bytes()).update(b"a");
        assert_eq!(prompt.to_string(), hasher.finalize().to_hex()[..16]);
        assert_eq!(prompt.to_string(), "546cb20de4275850");
        assert_eq!(Id::parse("546cb20de4275850"), Some(prompt));
        assert_eq!(Id::parse("+46cb20de4275850"), None);
        let (one, other) = (row_id(prompt, &[Message::assistant("b")]), row_id(prompt, &[]));
        assert_eq!(pair_id(prompt, one, other).to_string(), "79c772a80e584517");
    }
}
