//! Small feedback tables for the tests of this crate.

use crate::{
    Message, Split,
    ingest::{
        digest::{DigestOptions, digest_group},
        raw::{RawCompletion, RawGroup},
    },
    table::{feedback::Feedback, log_entry::LogEntry},
};

/// Makes a group of one pair.
pub(crate) fn raw_pair(prompt: &str, chosen: &str, rejected: &str, split: Option<Split>) -> RawGroup {
    RawGroup {
        split,
        source: "s".into(),
        domain: "d".into(),
        log: LogEntry::default(),
        prompt: vec![Message::user(prompt)],
        completions: vec![completion(chosen, None), completion(rejected, None)],
        pairs: vec![(0, 1)],
    }
}

/// Makes a completion without a score.
pub(crate) fn completion(text: &str, label: Option<bool>) -> RawCompletion {
    RawCompletion { messages: vec![Message::assistant(text)], score: None, label }
}

impl Feedback {
    /// Makes the table of some groups.
    pub(crate) fn new(groups: impl IntoIterator<Item = RawGroup>) -> Self {
        let mut feedback = Self::default();
        for group in groups {
            let digest = digest_group(&group, &DigestOptions { sign: true, max_tokens: None }).unwrap();
            feedback.add(digest, &group.source, &group.domain).unwrap();
        }
        feedback
    }
}

/// Makes a table of pairs with distinct prompts.
pub(crate) fn distinct_pairs(pairs: usize) -> Feedback {
    Feedback::new((0..pairs).map(|n| raw_pair(&format!("p{n}"), "yes", "no", None)))
}
