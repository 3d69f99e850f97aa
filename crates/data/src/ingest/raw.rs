//! Input rows as sources give them: each with its groups, or with all its flaws.
//!
//! A source is read twice, first to decide which rows stay, then to write them. It must give the
//! same rows in the same order both times.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{DataError, Message, Split, table::log_entry::LogEntry};

/// A prompt and its judged completions.
///
/// | completion | binary rows |
/// |---|---|
/// | with a label | one |
/// | without a label, in pairs | one per pair: desirable where chosen, undesirable where rejected |
/// | without a label, in no pair | none |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RawGroup {
    /// Split that the source assigns, if it has splits.
    pub(crate) split: Option<Split>,
    /// Value of the `source` column.
    #[serde(with = "shared_text")]
    pub(crate) source: Arc<str>,
    /// Value of the `domain` column.
    #[serde(with = "shared_text")]
    pub(crate) domain: Arc<str>,
    /// Group and time, if the source gives them.
    pub(crate) log: LogEntry,
    pub(crate) prompt: Vec<Message>,
    pub(crate) completions: Vec<RawCompletion>,
    /// Preferences: (chosen, rejected), as indices into `completions`.
    pub(crate) pairs: Vec<(usize, usize)>,
}

impl RawGroup {
    /// Returns true if it has a pair or a labelled completion, without which it gives no rows.
    pub(crate) fn is_judged(&self) -> bool {
        !self.pairs.is_empty() || self.completions.iter().any(|completion| completion.label.is_some())
    }

    /// Returns the bytes of its texts.
    pub(crate) fn bytes(&self) -> usize {
        let messages =
            |messages: &[Message]| messages.iter().map(|message| message.content.len()).sum::<usize>();
        let completions = self.completions.iter().map(|completion| messages(&completion.messages));
        messages(&self.prompt) + completions.sum::<usize>()
    }
}

/// Serialises text that many groups share as a plain string.
mod shared_text {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(deserializer).map(Arc::from)
    }
}

/// A completion with its judgements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RawCompletion {
    pub(crate) messages: Vec<Message>,
    /// Higher is better.
    pub(crate) score: Option<f64>,
    /// True if desirable, false if undesirable; None if it was not judged on its own.
    pub(crate) label: Option<bool>,
}

/// A row of an input file.
#[derive(Debug)]
pub(crate) struct RawRow {
    /// Name of the file, without folders.
    pub(crate) file: Arc<str>,
    /// Line (JSON lines, CSV) or number (JSON array, parquet) of the row, from 1.
    pub(crate) line: usize,
    /// Groups of the row, or all its flaws. A row that was filtered out has no group.
    pub(crate) outcome: Result<Vec<RawGroup>, Vec<Flaw>>,
    /// Repairs and peculiarities.
    pub(crate) remarks: Vec<Remark>,
    /// True if its text is part of groups of other rows, as messages of OASST are.
    pub(crate) in_other_rows: bool,
}

/// An event to count, by its name in the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Remark {
    /// Repaired.
    Repaired(&'static str),
    /// Unusual, but kept unchanged.
    Noted(&'static str),
    /// Excluded by a rule of the source or a setting of the recipe.
    Filtered(&'static str),
}

/// Receiver of the rows of a source.
pub(crate) trait RowSink: Send {
    /// Receives the next rows of the input, in input order.
    fn rows(&mut self, rows: Vec<RawRow>) -> Result<(), DataError>;
    /// Receives a remark that belongs to no usable row, with the number of times it applies.
    fn remark(&mut self, remark: Remark, times: u64);
}

/// Receiver of the groups of a source in a second pass, with their texts.
pub(crate) trait GroupSink: Send {
    /// Receives the next groups of the input, in input order.
    fn groups(&mut self, groups: Vec<RawGroup>) -> Result<(), DataError>;
}

/// Reason for rejecting a row. Its name in files and messages is the variant in snake case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum RejectReason {
    BadValue,
    DuplicateKey,
    EmptyCompletion,
    EmptyPrompt,
    HumanTurnLast,
    IdenticalCompletions,
    MissingField,
    NoAnswer,
    NoAssistantTurn,
    NotJson,
    NotUtf8,
    TextBeforeFirstTurn,
    TooLong,
    TurnsAsText,
    UnequalPrompts,
    UnevenRow,
    UnknownRole,
    UnknownWord,
    WrongType,
}

/// A defect that makes a row unusable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) reason: RejectReason,
    pub(crate) detail: String,
}
