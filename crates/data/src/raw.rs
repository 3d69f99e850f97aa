//! What a source hands over: input rows, each with the groups it gives or all that is wrong with it.
//!
//! A source is read twice, once to decide and once to write, and gives the same rows in the same order both times.

use std::sync::Arc;

use crate::{DataError, Message, Split};

/// A prompt and its judged completions.
///
/// Every completion with a label gives one binary row. Every completion of a pair that has no label of its own
/// gives one binary row per pair: desirable where it is chosen, undesirable where it is rejected. A completion
/// without a label that is in no pair gives nothing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawGroup {
    /// The split the source puts it in, where the source has splits.
    pub(crate) split: Option<Split>,
    /// What the `source` column says.
    pub(crate) source: Arc<str>,
    /// What the `domain` column says.
    pub(crate) domain: Arc<str>,
    pub(crate) prompt: Vec<Message>,
    pub(crate) completions: Vec<RawCompletion>,
    /// Which completion was preferred over which: (chosen, rejected), as indices into `completions`.
    pub(crate) pairs: Vec<(usize, usize)>,
}

/// A completion and what the source says of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawCompletion {
    pub(crate) messages: Vec<Message>,
    /// Higher is better.
    pub(crate) score: Option<f64>,
    /// Whether people found it desirable, where they said so of the completion alone.
    pub(crate) label: Option<bool>,
}

/// One row of an input file.
#[derive(Debug)]
pub(crate) struct RawRow {
    /// Name of the file, without folders.
    pub(crate) file: Arc<str>,
    /// Its line (of JSON lines and CSV) or its number (in a JSON array or a parquet file), from 1.
    pub(crate) line: usize,
    /// The groups the row gives, or all that is wrong with it. A row that was filtered out gives no group.
    pub(crate) outcome: Result<Vec<RawGroup>, Vec<Flaw>>,
    /// What was done to the row, or is odd about it.
    pub(crate) remarks: Vec<Remark>,
}

/// Something worth counting, by the name it has in the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Remark {
    /// Put right.
    Repaired(&'static str),
    /// Odd, and kept as it is.
    Noted(&'static str),
    /// Left out by a rule of the source or a setting of the recipe.
    Filtered(&'static str),
}

/// Takes what a source reads.
pub(crate) trait Sink: Send {
    /// Takes the next rows of the input, in its order.
    fn rows(&mut self, rows: Vec<RawRow>) -> Result<(), DataError>;
    /// Takes a remark on the input that belongs to no row that can be used.
    fn remark(&mut self, remark: Remark, times: u64);
}

/// Hands rows on in blocks that are worth the work of several threads, whatever the source gives at a time.
pub(crate) struct Blocks<'a> {
    sink: &'a mut dyn Sink,
    rows: Vec<RawRow>,
    bytes: usize,
}

impl<'a> Blocks<'a> {
    const ROWS: usize = 2048;
    const BYTES: usize = 4 << 20;

    pub(crate) fn new(sink: &'a mut dyn Sink) -> Self {
        Self { sink, rows: Vec::new(), bytes: 0 }
    }

    /// Hands on what is left.
    pub(crate) fn finish(&mut self) -> Result<(), DataError> {
        self.bytes = 0;
        if self.rows.is_empty() { Ok(()) } else { self.sink.rows(std::mem::take(&mut self.rows)) }
    }
}

impl Sink for Blocks<'_> {
    fn rows(&mut self, mut rows: Vec<RawRow>) -> Result<(), DataError> {
        self.bytes += rows.iter().map(RawRow::bytes).sum::<usize>();
        self.rows.append(&mut rows);
        if self.rows.len() >= Self::ROWS || self.bytes >= Self::BYTES { self.finish() } else { Ok(()) }
    }

    fn remark(&mut self, remark: Remark, times: u64) {
        self.sink.remark(remark, times);
    }
}

impl RawRow {
    /// Bytes of its texts.
    fn bytes(&self) -> usize {
        let messages =
            |messages: &[Message]| messages.iter().map(|message| message.content.len()).sum::<usize>();
        let group = |group: &RawGroup| {
            let completions = group.completions.iter().map(|completion| messages(&completion.messages));
            messages(&group.prompt) + completions.sum::<usize>()
        };
        self.outcome.iter().flatten().map(group).sum()
    }
}

/// Why a row cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    BadValue,
    DuplicateKey,
    EmptyCompletion,
    EmptyPrompt,
    HumanTurnLast,
    IdenticalCompletions,
    MissingField,
    NoAssistantTurn,
    NotJson,
    NotUtf8,
    TextBeforeFirstTurn,
    TooLong,
    UnequalPrompts,
    UnevenRow,
    UnknownRole,
    WrongType,
}

impl Reason {
    /// The reason as files and messages name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BadValue => "bad_value",
            Self::DuplicateKey => "duplicate_key",
            Self::EmptyCompletion => "empty_completion",
            Self::EmptyPrompt => "empty_prompt",
            Self::HumanTurnLast => "human_turn_last",
            Self::IdenticalCompletions => "identical_completions",
            Self::MissingField => "missing_field",
            Self::NoAssistantTurn => "no_assistant_turn",
            Self::NotJson => "not_json",
            Self::NotUtf8 => "not_utf8",
            Self::TextBeforeFirstTurn => "text_before_first_turn",
            Self::TooLong => "too_long",
            Self::UnequalPrompts => "unequal_prompts",
            Self::UnevenRow => "uneven_row",
            Self::UnknownRole => "unknown_role",
            Self::WrongType => "wrong_type",
        }
    }
}

/// One thing that is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) reason: Reason,
    pub(crate) detail: String,
}
