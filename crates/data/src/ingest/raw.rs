//! What a source hands over: input rows, each with the groups it gives or all that is wrong with it.
//!
//! A source is read twice, once to decide and once to write, and gives the same rows in the same order both times.

use std::sync::Arc;

use prospect_core::progress::Progress;
use serde::{Deserialize, Serialize};

use crate::{DataError, Message, Split};

/// A prompt and its judged completions.
///
/// Every completion with a label gives one binary row. Every completion of a pair that has no label of its own
/// gives one binary row per pair: desirable where it is chosen, undesirable where it is rejected. A completion
/// without a label that is in no pair gives nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RawGroup {
    /// The split the source puts it in, where the source has splits.
    pub(crate) split: Option<Split>,
    /// What the `source` column says.
    #[serde(with = "shared_text")]
    pub(crate) source: Arc<str>,
    /// What the `domain` column says.
    #[serde(with = "shared_text")]
    pub(crate) domain: Arc<str>,
    pub(crate) prompt: Vec<Message>,
    pub(crate) completions: Vec<RawCompletion>,
    /// Which completion was preferred over which: (chosen, rejected), as indices into `completions`.
    pub(crate) pairs: Vec<(usize, usize)>,
}

/// Text that many groups share, as plain text.
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

/// A completion and what the source says of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// Takes the groups of a source when it is read again for its texts.
pub(crate) trait Texts: Send {
    /// Takes the next groups of the input, in its order.
    fn groups(&mut self, groups: Vec<RawGroup>) -> Result<(), DataError>;
}

/// As many rows or groups as are worth the work of several threads, or so many bytes of texts.
const BLOCK: (usize, usize) = (2048, 4 << 20);

/// Hands rows on in blocks, whatever the source gives at a time.
pub(crate) struct Blocks<'a> {
    sink: &'a mut dyn Sink,
    progress: Progress,
    rows: Vec<RawRow>,
    bytes: usize,
}

impl<'a> Blocks<'a> {
    pub(crate) fn new(sink: &'a mut dyn Sink) -> Self {
        Self { sink, progress: Progress::open_ended("reading", "rows"), rows: Vec::new(), bytes: 0 }
    }

    /// Hands on what is left.
    pub(crate) fn finish(&mut self) -> Result<(), DataError> {
        self.bytes = 0;
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = self.rows.len() as u64;
        self.sink.rows(std::mem::take(&mut self.rows))?;
        self.progress.advance(rows, "");
        Ok(())
    }
}

impl Sink for Blocks<'_> {
    fn rows(&mut self, mut rows: Vec<RawRow>) -> Result<(), DataError> {
        self.bytes +=
            rows.iter().flat_map(|row| row.outcome.iter().flatten()).map(RawGroup::bytes).sum::<usize>();
        self.rows.append(&mut rows);
        if self.rows.len() >= BLOCK.0 || self.bytes >= BLOCK.1 { self.finish() } else { Ok(()) }
    }

    fn remark(&mut self, remark: Remark, times: u64) {
        self.sink.remark(remark, times);
    }
}

/// Hands groups on in blocks. A block ends with the group that fills it: blocks depend on the groups alone, not on how
/// many the source gives at a time.
pub(crate) struct GroupBlocks<'a> {
    texts: &'a mut dyn Texts,
    progress: Progress,
    groups: Vec<RawGroup>,
    bytes: usize,
}

impl<'a> GroupBlocks<'a> {
    /// `total` groups will come.
    pub(crate) fn new(texts: &'a mut dyn Texts, label: &str, total: usize) -> Self {
        Self { texts, progress: Progress::new(label, "prompts", total as u64), groups: Vec::new(), bytes: 0 }
    }

    pub(crate) fn add(&mut self, groups: impl IntoIterator<Item = RawGroup>) -> Result<(), DataError> {
        for group in groups {
            self.bytes += group.bytes();
            self.groups.push(group);
            if self.groups.len() >= BLOCK.0 || self.bytes >= BLOCK.1 {
                self.finish()?;
            }
        }
        Ok(())
    }

    /// Hands on what is left.
    pub(crate) fn finish(&mut self) -> Result<(), DataError> {
        self.bytes = 0;
        let groups = std::mem::take(&mut self.groups);
        let count = groups.len() as u64;
        self.texts.groups(groups)?;
        self.progress.advance(count, "");
        Ok(())
    }
}

impl Sink for GroupBlocks<'_> {
    fn rows(&mut self, rows: Vec<RawRow>) -> Result<(), DataError> {
        self.add(rows.into_iter().filter_map(|row| row.outcome.ok()).flatten())
    }

    fn remark(&mut self, _remark: Remark, _times: u64) {}
}

impl RawGroup {
    /// Bytes of its texts.
    fn bytes(&self) -> usize {
        let messages =
            |messages: &[Message]| messages.iter().map(|message| message.content.len()).sum::<usize>();
        let completions = self.completions.iter().map(|completion| messages(&completion.messages));
        messages(&self.prompt) + completions.sum::<usize>()
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
