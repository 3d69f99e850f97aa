//! Counts of what happened to conversations on their way to tokens.

use serde::Serialize;

use super::{Adaptation, Encoded};

/// Dropped rows that a run's `config.json` names; further ones are only counted.
const NAMED_ROWS: usize = 20;

/// Reason why a conversation was dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DropReason {
    /// The last turn of the prompt, with its system turn, exceeds `max_prompt_length`.
    #[error("the last turn of the prompt is longer than max_prompt_length")]
    PromptTooLong,
    /// The chat template refuses the conversation in every form that is tried.
    #[error("the chat template refuses it: {0}")]
    Refused(String),
    /// No token of the completion is left within `max_length`.
    #[error("its completion has no tokens within max_length")]
    NoCompletion,
}

/// A row that was dropped, for other reasons than its length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DroppedRow {
    /// Id of the row's pair or prompt.
    pub id: String,
    /// Reason.
    pub reason: String,
}

/// Counts of encoded, changed and dropped conversations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
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
    /// Prompts whose system turn was written at the start of a user turn.
    pub systems_folded: u64,
    /// Prompts with consecutive turns of one role that were joined.
    pub turns_merged: u64,
    /// Prompts that lost leading turns of the assistant.
    pub cut_to_user: u64,
    /// Conversations in which a person typed special tokens, which are encoded as text.
    pub markers_as_text: u64,
    /// Completions written after the prompt that the template renders without them.
    pub rendered_apart: u64,
    /// Completions that the template writes in other words than given.
    pub rewritten: u64,
    /// Conversations dropped because the chat template refuses them.
    pub refused: u64,
    /// Conversations dropped because their completion has no tokens.
    pub without_completion: u64,
    /// The first rows dropped for other reasons than their length.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<DroppedRow>,
}

impl EncodingCounts {
    /// Adds a result of [`Encoder::try_encode`](super::Encoder::try_encode); `id` names its row.
    pub fn add(&mut self, id: &str, result: &Result<Encoded, DropReason>) {
        let Encoded { truncation, adaptation, boundary_merged, .. } = match result {
            Ok(encoded) => encoded,
            Err(reason) => return self.add_dropped(id, reason),
        };
        self.encoded += 1;
        self.prompts_cut += u64::from(truncation.prompt);
        self.completions_cut += u64::from(truncation.completion);
        self.boundary_merges += u64::from(*boundary_merged);
        let Adaptation { turns_merged, system_folded, cut_to_user, markers_as_text, apart, rewritten } =
            *adaptation;
        self.turns_merged += u64::from(turns_merged);
        self.systems_folded += u64::from(system_folded);
        self.cut_to_user += u64::from(cut_to_user);
        self.markers_as_text += u64::from(markers_as_text);
        self.rendered_apart += u64::from(apart);
        self.rewritten += u64::from(rewritten);
    }

    fn add_dropped(&mut self, id: &str, reason: &DropReason) {
        match reason {
            DropReason::PromptTooLong => {
                self.prompt_too_long += 1;
                return;
            }
            DropReason::Refused(_) => self.refused += 1,
            DropReason::NoCompletion => self.without_completion += 1,
        }
        // Both sides of a pair may be dropped.
        let is_named = self.dropped.last().is_some_and(|row| row.id == id);
        if !is_named && self.dropped.len() < NAMED_ROWS {
            tracing::warn!("{id}: dropped: {reason}");
            self.dropped.push(DroppedRow { id: id.to_owned(), reason: reason.to_string() });
        }
    }

    /// Describes dropped conversations for a message; None without any.
    pub fn describe_dropped(&self) -> Option<String> {
        let parts = [
            (self.prompt_too_long, "longer than max_prompt_length"),
            (self.refused, "refused by the chat template"),
            (self.without_completion, "without completion within max_length"),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        let example = self.dropped.first();
        let example = example.map(|row| format!(" (such as {}: {})", row.id, row.reason)).unwrap_or_default();
        (!parts.is_empty()).then(|| parts.join(", ") + &example)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Truncation, *};

    #[test]
    fn counts_sum_changes_and_dropped_conversations() {
        let encoded = |prompt, completion, boundary_merged| Encoded {
            prompt: vec![1],
            completion: vec![2],
            truncation: Truncation { prompt, completion },
            adaptation: Adaptation { turns_merged: prompt, ..Adaptation::default() },
            boundary_merged,
        };
        let mut counts = EncodingCounts::default();
        for result in [
            Ok(encoded(true, false, false)),
            Ok(encoded(true, true, true)),
            Err(DropReason::PromptTooLong),
            Err(DropReason::Refused("no".to_owned())),
        ] {
            counts.add("row", &result);
        }
        let reason = "the chat template refuses it: no".to_owned();
        let expected = EncodingCounts {
            encoded: 2,
            prompts_cut: 2,
            completions_cut: 1,
            prompt_too_long: 1,
            boundary_merges: 1,
            turns_merged: 2,
            refused: 1,
            dropped: vec![DroppedRow { id: "row".to_owned(), reason }],
            ..EncodingCounts::default()
        };
        assert_eq!(counts, expected);
        let described = counts.describe_dropped().unwrap();
        assert!(described.starts_with("1 longer than max_prompt_length, 1 refused"), "{described}");
    }
}
