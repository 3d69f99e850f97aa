//! Columns of rows and pairs, made from the columns of the parquet files.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, Int64Array, ListArray, RecordBatch, StringArray, StructArray, new_null_array,
};
use arrow_schema::{ArrowError, DataType};
use prospect_data::Split;

use crate::{
    QueryError,
    table::{ColumnType, Signed},
};

/// A column of a table that is read from parquet files.
pub(super) struct FileColumn {
    pub(super) name: &'static str,
    pub(super) is_nullable: bool,
    pub(super) meaning: &'static str,
    pub(super) values: FileValues,
}

/// Values of a column, by the parquet column that they are made from.
#[derive(Debug, Clone, Copy)]
pub(super) enum FileValues {
    /// Name of the split.
    Split,
    /// The parquet column of this name and type. Files without it have nulls.
    Same(&'static str, ColumnType),
    /// Turns of a conversation, each after its role and a colon, separated by empty lines.
    Conversation(&'static str),
    /// Contents of a conversation, separated by empty lines.
    Contents(&'static str),
    /// Number of turns of a conversation.
    Turns(&'static str),
    /// Number of characters of a conversation's contents.
    Characters(&'static str),
}

impl FileValues {
    /// Type of the values.
    pub(super) fn column_type(self) -> ColumnType {
        match self {
            Self::Same(_, column_type) => column_type,
            Self::Split | Self::Conversation(_) | Self::Contents(_) => ColumnType::Text,
            Self::Turns(_) | Self::Characters(_) => ColumnType::Integer,
        }
    }

    /// Name of the parquet column.
    pub(super) fn source(self) -> Option<&'static str> {
        match self {
            Self::Split => None,
            Self::Same(name, _)
            | Self::Conversation(name)
            | Self::Contents(name)
            | Self::Turns(name)
            | Self::Characters(name) => Some(name),
        }
    }
}

/// Returns the columns of `rows`.
pub(super) fn row_columns() -> Vec<FileColumn> {
    use ColumnType::{Boolean, Number, Text};
    use FileValues::{Characters, Contents, Conversation, Same, Split, Turns};
    vec![
        column("split", Split, SPLIT),
        column(
            "id",
            Same("id", Text),
            "Hash of prompt and completion; several judgements of one completion share it",
        ),
        column("prompt_id", Same("prompt_id", Text), "Hash of the prompt"),
        nullable("pair_id", Same("pair_id", Text), "Pair that the row is a side of"),
        column("source", Same("source", Text), SOURCE),
        column("domain", Same("domain", Text), "Domain within the source"),
        nullable("group", Same("group", Text), GROUP),
        column("label", Same("label", Boolean), "Label after noise: true for desirable"),
        column("original_label", Same("original_label", Boolean), "Label before noise"),
        column("noise", Same("noise", Text), "Kinds of noise that changed the row, joined by `+`, or `none`"),
        nullable(
            "score",
            Same("score", Number),
            "Score of the completion, if the source has scores; higher is better",
        ),
        column("weight", Same("weight", Number), "Weight of the row in training"),
        column("prompt", Conversation("prompt"), PROMPT),
        column("completion", Contents("completion"), "Text of the judged completion"),
        column("prompt_turns", Turns("prompt"), "Turns of the prompt"),
        column("prompt_characters", Characters("prompt"), "Characters of the prompt, without roles"),
        column("completion_characters", Characters("completion"), "Characters of the completion"),
    ]
}

/// Returns the columns of `pairs`.
pub(super) fn pair_columns() -> Vec<FileColumn> {
    use ColumnType::{Boolean, Number, Text};
    use FileValues::{Characters, Contents, Conversation, Same, Split, Turns};
    vec![
        column("split", Split, SPLIT),
        column("pair_id", Same("pair_id", Text), "Hash of the prompt and both completions"),
        column("prompt_id", Same("prompt_id", Text), "Hash of the prompt"),
        column("source", Same("source", Text), SOURCE),
        column("domain", Same("domain", Text), "Domain within the source"),
        nullable("group", Same("group", Text), GROUP),
        column(
            "noise",
            Same("noise", Text),
            "Kinds of noise that changed the pair, joined by `+`, or `none`",
        ),
        column("swapped", Same("swapped", Boolean), "True if noise swapped the two sides"),
        nullable(
            "score_chosen",
            Same("score_chosen", Number),
            "Score of the chosen completion, if the source has scores",
        ),
        nullable(
            "score_rejected",
            Same("score_rejected", Number),
            "Score of the rejected completion, if the source has scores",
        ),
        column("prompt", Conversation("prompt"), PROMPT),
        column("chosen", Contents("chosen"), "Text of the preferred completion, after noise"),
        column("rejected", Contents("rejected"), "Text of the other completion"),
        column("prompt_turns", Turns("prompt"), "Turns of the prompt"),
        column("prompt_characters", Characters("prompt"), "Characters of the prompt, without roles"),
        column("chosen_characters", Characters("chosen"), "Characters of the chosen completion"),
        column("rejected_characters", Characters("rejected"), "Characters of the rejected completion"),
    ]
}

const SPLIT: &str = "`train` or `test`";
const SOURCE: &str = "Name of the source, such as `hh`";
const GROUP: &str = "Salted hash of the user or conversation, if the source gives it";
const PROMPT: &str = "Turns of the prompt, each after its role and a colon, separated by empty lines";

fn column(name: &'static str, values: FileValues, meaning: &'static str) -> FileColumn {
    FileColumn { name, is_nullable: false, meaning, values }
}

fn nullable(name: &'static str, values: FileValues, meaning: &'static str) -> FileColumn {
    FileColumn { name, is_nullable: true, meaning, values }
}

impl FileColumn {
    /// Returns the values of the rows of a batch of parquet columns.
    pub(super) fn array(&self, read: &RecordBatch, split: Split) -> Result<ArrayRef, QueryError> {
        let column = |name: &str| read.column_by_name(name).cloned();
        let turns = |name: &str| {
            let wrong =
                || ArrowError::SchemaError(format!("column `{name}` is not a list of {{role, content}}"));
            ConversationColumn::new(&column(name).ok_or_else(wrong)?).ok_or_else(wrong)
        };
        Ok(match self.values {
            FileValues::Split => repeated(&split.to_string(), read.num_rows()),
            FileValues::Same(name, _) => {
                column(name).unwrap_or_else(|| new_null_array(&DataType::Utf8, read.num_rows()))
            }
            FileValues::Conversation(name) => turns(name)?.texts(|text, role, content| {
                text.push_str(role);
                text.push_str(": ");
                text.push_str(content);
            }),
            FileValues::Contents(name) => turns(name)?.texts(|text, _, content| text.push_str(content)),
            FileValues::Turns(name) => turns(name)?.numbers(|contents| contents.count().signed()),
            FileValues::Characters(name) => {
                turns(name)?.numbers(|contents| contents.map(|text| text.chars().count().signed()).sum())
            }
        })
    }
}

/// Returns a column with the same text in every row.
pub(super) fn repeated(text: &str, rows: usize) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows)))
}

/// A column of conversations.
struct ConversationColumn {
    turns: ListArray,
    roles: StringArray,
    contents: StringArray,
}

impl ConversationColumn {
    /// Returns None if the column has another type.
    fn new(column: &ArrayRef) -> Option<Self> {
        let turns = column.as_any().downcast_ref::<ListArray>()?.clone();
        let fields = turns.values().as_any().downcast_ref::<StructArray>()?;
        let field = |name| fields.column_by_name(name)?.as_any().downcast_ref::<StringArray>().cloned();
        let (roles, contents) = (field("role")?, field("content")?);
        Some(Self { turns, roles, contents })
    }

    /// Positions of the turns of each conversation.
    fn ranges(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        self.turns.value_offsets().windows(2).map(|ends| ends[0] as usize..ends[1] as usize)
    }

    /// Returns the turns of each conversation, written by `write` and separated by empty lines.
    fn texts(&self, write: impl Fn(&mut String, &str, &str)) -> ArrayRef {
        let text = |range: std::ops::Range<usize>| {
            let mut text = String::new();
            for (index, turn) in range.enumerate() {
                if index > 0 {
                    text.push_str("\n\n");
                }
                write(&mut text, self.roles.value(turn), self.contents.value(turn));
            }
            text
        };
        Arc::new(StringArray::from_iter_values(self.ranges().map(text)))
    }

    /// Returns a number for the contents of each conversation.
    fn numbers(&self, number: impl Fn(&mut dyn Iterator<Item = &str>) -> i64) -> ArrayRef {
        let number = |range: std::ops::Range<usize>| number(&mut range.map(|turn| self.contents.value(turn)));
        Arc::new(Int64Array::from_iter_values(self.ranges().map(number)))
    }
}
