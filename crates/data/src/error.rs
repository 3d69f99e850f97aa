//! What can go wrong between a recipe and a dataset.

use std::path::{Path, PathBuf};

/// Why a dataset cannot be prepared or read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A value of the recipe is outside its range.
    #[error("`{key}` is {value}: {message}")]
    Value {
        /// Dotted path of the key.
        key: &'static str,
        /// The value given.
        value: String,
        /// What the key accepts.
        message: &'static str,
    },
    /// The input of a source cannot be found.
    #[error("`source.path`: cannot find `{address}`")]
    Locate {
        /// The path or address given.
        address: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An input folder does not hold the files it should.
    #[error("{}: {message}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What is missing or ambiguous, and what to do.
        message: String,
    },
    /// A gzip file is damaged.
    #[error(
        "{}: damaged gzip data after {records} whole records ({bytes} bytes of text); fetch the file again",
        file.display()
    )]
    Gzip {
        /// The file.
        file: PathBuf,
        /// Whole records read before the damage.
        records: usize,
        /// Bytes of text read before the damage.
        bytes: u64,
        /// What the decompressor says.
        source: std::io::Error,
    },
    /// A gzip file unpacks to far more than text does.
    #[error(
        "{}: more than {bytes} bytes of text in a gzip file of this size, as in data made to fill memories; \
         if it is what you expect, unpack it first",
        file.display()
    )]
    GzipTooLarge {
        /// The file.
        file: PathBuf,
        /// Bytes of text read before giving up.
        bytes: u64,
    },
    /// A setting of a source that its kind does not know.
    #[error("`source.{setting}` has no effect on feedback of kind {kind}; remove it")]
    NoEffect {
        /// The setting.
        setting: &'static str,
        /// The kind.
        kind: &'static str,
    },
    /// Labels are asked for by score, and there is none.
    #[error("source {0}: `binarise` has no effect: no completion has a score")]
    NoScores(String),
    /// A CSV or TSV file cannot be read.
    #[error("{}: {message}", file.display())]
    Table {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// What kind of feedback a file holds cannot be told from it.
    #[error(
        "{}: cannot tell what kind of feedback this is ({found}); say it with `source.kind` (hh, shp, oasst, pairs, \
         labels, scores) and, for names of your own, `source.columns`",
        file.display()
    )]
    UnknownKind {
        /// The file.
        file: PathBuf,
        /// What it holds.
        found: String,
    },
    /// A row is unusable, and the recipe is run strictly.
    #[error("{file}:{line}: {reason}: {detail}; with `--strict` no row may be rejected")]
    Strict {
        /// Name of the file.
        file: String,
        /// Line of the row, from 1.
        line: usize,
        /// Why it cannot be used.
        reason: String,
        /// What exactly.
        detail: String,
    },
    /// A larger share of the rows is unusable than the recipe allows.
    #[error(
        "{rejected} of {read} rows cannot be used, more than `max_rejected: {allowed}` allows:\n{summary}\n\
         look at these lines, then repair the input or raise `max_rejected`"
    )]
    TooManyRejected {
        /// Rows rejected.
        rejected: u64,
        /// Rows read.
        read: u64,
        /// The largest share allowed.
        allowed: f64,
        /// The most frequent reasons, each with its first rows.
        summary: String,
    },
    /// The recipe takes more rows than there are.
    #[error("{0}")]
    NotEnough(String),
    /// The recipe names a source that gave no row.
    #[error("`mix` names the source `{name}`, but the rows come from: {known}")]
    UnknownSource {
        /// The name given.
        name: String,
        /// The sources that there are.
        known: String,
    },
    /// There are more rows than can be counted.
    #[error("the input has more than 4 billion rows or 65,536 sources and domains; prepare parts of it")]
    TooManyRows,
    /// The second reading did not give what the first gave.
    #[error("the input changed while it was read; prepare it again")]
    InputChanged,
    /// Rows do not fit into columns.
    #[error("cannot make columns of the rows")]
    Columns(#[source] arrow::error::ArrowError),
    /// No row is left to train on.
    #[error("the training split is empty: {0}")]
    EmptyTrain(String),
    /// The output directory holds something else.
    #[error("{} exists and is not a dataset made by `prospect prepare`; choose another place or remove it", .0.display())]
    Occupied(PathBuf),
    /// A dataset file is missing.
    #[error("{} does not exist; make the dataset with `prospect prepare PIPELINE.yaml --out {}`", file.display(), dataset.display())]
    Missing {
        /// The file.
        file: PathBuf,
        /// The dataset directory.
        dataset: PathBuf,
    },
    /// A dataset file was made by something else, or by another version.
    #[error("{}: {column}{message}; make the dataset again with `prospect prepare PIPELINE.yaml --force`", file.display())]
    Schema {
        /// The file.
        file: PathBuf,
        /// The column, as "column `x` ", or nothing.
        column: String,
        /// What is wrong with it.
        message: String,
    },
    /// A parquet file cannot be read or written.
    #[error("{}: cannot read or write parquet", file.display())]
    Parquet {
        /// The file.
        file: PathBuf,
        /// What the parquet library says.
        source: parquet::errors::ParquetError,
    },
    /// A file of a sharded preparation is damaged.
    #[error("{}: not a whole shard; make it again with `--shard`", .0.display())]
    Shard(PathBuf),
    /// A text cannot be turned into tokens.
    #[error("cannot count tokens: {0}")]
    Tokens(Box<dyn std::error::Error + Send + Sync>),
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl DataError {
    /// A column of a dataset file is not what it should be.
    pub(crate) fn column(file: &Path, column: &str, message: impl Into<String>) -> Self {
        Self::Schema { file: file.to_owned(), column: format!("column `{column}` "), message: message.into() }
    }

    /// The parquet library failed on `file`.
    pub(crate) fn parquet(file: &Path) -> impl Fn(parquet::errors::ParquetError) -> Self {
        move |source| Self::Parquet { file: file.to_owned(), source }
    }

    /// The arrow library failed on `file`.
    pub(crate) fn arrow(file: &Path) -> impl Fn(arrow::error::ArrowError) -> Self {
        move |source| Self::Parquet { file: file.to_owned(), source: source.into() }
    }
}
