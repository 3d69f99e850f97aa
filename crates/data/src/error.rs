//! Errors of preparing and reading datasets.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use prospect_core::{checksums::ChecksumError, config::did_you_mean};

use crate::config::guess::guess;

/// Error of preparing or reading a dataset.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A value of the recipe is out of range.
    #[error("`{key}` is {value}: {message}")]
    Value {
        /// Dotted path of the key.
        key: Cow<'static, str>,
        /// Value given.
        value: String,
        /// Values that the key accepts.
        message: &'static str,
    },
    /// The input of a source cannot be found.
    #[error("`{key}`: {source}")]
    Locate {
        /// Dotted path of the key with the path or address.
        key: Cow<'static, str>,
        /// Cause, which names the path or address.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A list of ids cannot be found.
    #[error("`{key}`: cannot find `{address}`")]
    LocateList {
        /// Key of the recipe.
        key: &'static str,
        /// Path or address given.
        address: String,
        /// Cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A folder does not hold the expected files.
    #[error("{}: {message}", folder.display())]
    Folder {
        /// Folder.
        folder: PathBuf,
        /// Files that are missing or ambiguous, and how to fix it.
        message: String,
    },
    /// A compressed file is damaged.
    #[error(
        "{}: damaged {compression} data after {records} whole records ({bytes} bytes of text); fetch the file again",
        file.display()
    )]
    Compressed {
        /// File.
        file: PathBuf,
        /// Name of its compression.
        compression: &'static str,
        /// Complete records read before the damage.
        records: usize,
        /// Bytes of text read before the damage.
        bytes: u64,
        /// Error of the decompressor.
        source: std::io::Error,
    },
    /// A compressed file is far larger decompressed than text can be.
    #[error(
        "{}: more than {bytes} bytes of text in a compressed file of this size, which suggests a decompression bomb; \
         if the size is right, decompress the file first",
        file.display()
    )]
    ExpandsTooMuch {
        /// File.
        file: PathBuf,
        /// Bytes of text read so far.
        bytes: u64,
    },
    /// A setting does not apply to the kind of its source.
    #[error("`{key}` has no effect on feedback of kind {kind}; remove it")]
    NoEffect {
        /// Dotted path of the key.
        key: Cow<'static, str>,
        /// Kind of the source.
        kind: &'static str,
    },
    /// `binarise` needs scores, and the source has none.
    #[error("source {0}: `binarise` has no effect: no completion has a score")]
    NoScores(String),
    /// A table or an array of records cannot be read further.
    #[error("{}: {message}", file.display())]
    Table {
        /// File.
        file: PathBuf,
        /// Defect.
        message: String,
    },
    /// A source of questions cannot be used.
    #[error("{}: {message}", path.display())]
    Questions {
        /// File or folder.
        path: PathBuf,
        /// Defect, and how to fix it.
        message: String,
    },
    /// The kind of feedback in a file cannot be detected.
    #[error(
        "{}: cannot detect the kind of feedback ({found}); set `source.kind` (hh, shp, oasst, pairs, labels, \
         scores, ranks, comparisons, chats, judgements) and, for other column names, `source.columns`{}",
        file.display(), guess(file, columns)
    )]
    UnknownKind {
        /// File.
        file: PathBuf,
        /// Keys of its first records.
        found: String,
        /// The same keys, from which columns are guessed.
        columns: Vec<String>,
    },
    /// A row was rejected in a strict preparation.
    #[error("{file}:{line}: {reason}: {detail}; with `--strict` no row may be rejected")]
    Strict {
        /// Name of the file.
        file: String,
        /// Line of the row, from 1.
        line: usize,
        /// Reason for rejection.
        reason: String,
        /// Details.
        detail: String,
    },
    /// More rows were rejected than the recipe allows.
    #[error(
        "{rejected} of {read} rows cannot be used, more than `max_rejected: {allowed}` allows:\n{summary}\n\
         look at these lines, then repair the input or raise `max_rejected`"
    )]
    TooManyRejected {
        /// Rows rejected.
        rejected: u64,
        /// Rows read.
        read: u64,
        /// Largest fraction allowed.
        allowed: f64,
        /// Most frequent reasons, each with its first rows.
        summary: String,
    },
    /// The recipe needs more rows, prompts or domains than the input has.
    #[error("{0}")]
    NotEnough(String),
    /// `mix` names a source without rows.
    #[error("`mix` names the source `{name}`, but the rows come from: {}{}", known.join(", "), did_you_mean(name, known.iter().map(String::as_str)))]
    UnknownSource {
        /// Name given.
        name: String,
        /// Sources of the rows.
        known: Vec<String>,
    },
    /// A dataset holds an id that is no content hash.
    #[error("`{0}` is no id of a dataset made by `prospect prepare`; prepare the dataset again")]
    ForeignId(String),
    /// The input exceeds the index types of the table.
    #[error("the input has more than 4 billion rows or 65,536 sources and domains; prepare parts of it")]
    TooManyRows,
    /// The second pass read other groups than the first.
    #[error("the input changed while it was read; prepare it again")]
    InputChanged,
    /// Rows cannot be converted to Arrow columns.
    #[error("cannot convert rows to columns")]
    Columns(#[source] arrow_schema::ArrowError),
    /// No training rows remain.
    #[error("the training split is empty: {0}")]
    EmptyTrain(String),
    /// The output directory holds something other than a dataset.
    #[error("{} exists and is not a dataset made by `prospect prepare`; choose another directory or remove it", .0.display())]
    Occupied(PathBuf),
    /// A dataset file is missing.
    #[error("{} does not exist; make the dataset with `prospect prepare PIPELINE.yaml --out {}`", file.display(), dataset.display())]
    Missing {
        /// File.
        file: PathBuf,
        /// Dataset directory.
        dataset: PathBuf,
    },
    /// A dataset file differs from its recorded hash.
    #[error("{damage}; make the dataset again with `prospect prepare PIPELINE.yaml --out {}`", dataset.display())]
    Damaged {
        /// File and hashes.
        damage: ChecksumError,
        /// Dataset directory.
        dataset: PathBuf,
    },
    /// A dataset file has an unexpected format: it is from another tool or version.
    #[error("{}: {column}{message}; make the dataset again with `prospect prepare PIPELINE.yaml --force`", file.display())]
    Schema {
        /// File.
        file: PathBuf,
        /// "column `x` ", or empty.
        column: String,
        /// Defect.
        message: String,
    },
    /// A parquet file cannot be read or written.
    #[error("{}: cannot read or write parquet", file.display())]
    Parquet {
        /// File.
        file: PathBuf,
        /// Error of the parquet library.
        source: parquet::errors::ParquetError,
    },
    /// A shard of a preparation is damaged.
    #[error("{}: incomplete or damaged shard; make it again with `--shard`", .0.display())]
    Shard(PathBuf),
    /// A text cannot be tokenised.
    #[error("cannot count tokens: {0}")]
    Tokens(Box<dyn std::error::Error + Send + Sync>),
    /// A file system operation failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl DataError {
    /// Names the source by its position, as in `source[1].path`, if it is one of several.
    pub(crate) fn in_list(self, count: usize, index: usize) -> Self {
        let number = |key: Cow<'static, str>| match key.strip_prefix("source.") {
            Some(rest) if count > 1 => format!("source[{index}].{rest}").into(),
            _ => key,
        };
        match self {
            Self::Value { key, value, message } => Self::Value { key: number(key), value, message },
            Self::Locate { key, source } => Self::Locate { key: number(key), source },
            Self::NoEffect { key, kind } => Self::NoEffect { key: number(key), kind },
            other => other,
        }
    }

    /// Makes an error about a column of a dataset file.
    pub(crate) fn column(file: &Path, column: &str, message: impl Into<String>) -> Self {
        Self::Schema { file: file.to_owned(), column: format!("column `{column}` "), message: message.into() }
    }

    /// Returns a function that adds `file` to errors of the parquet library.
    pub(crate) fn parquet(file: &Path) -> impl Fn(parquet::errors::ParquetError) -> Self {
        move |source| Self::Parquet { file: file.to_owned(), source }
    }

    /// Returns a function that adds `file` to errors of the arrow library.
    pub(crate) fn arrow(file: &Path) -> impl Fn(arrow_schema::ArrowError) -> Self {
        move |source| Self::Parquet { file: file.to_owned(), source: source.into() }
    }
}
