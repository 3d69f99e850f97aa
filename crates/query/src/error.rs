//! Errors of queries.

use std::path::PathBuf;

use arrow_schema::ArrowError;
use parquet::errors::ParquetError;
use polars::error::PolarsError;
use prospect_data::DataError;
use prospect_runs::RunsError;

/// Error of a query.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The directory is neither a dataset nor a sweep.
    #[error(
        "{} is neither a dataset nor a sweep: it has no manifest.json and no experiment.json; \
         create one with `prospect prepare` or `prospect sweep`",
        .0.display()
    )]
    Unknown(PathBuf),
    /// The query names a table or column that does not exist.
    #[error("the query names an unknown {kind}: `{name}`{advice}")]
    Name {
        /// `table` or `column`.
        kind: &'static str,
        /// Name in the query.
        name: String,
        /// Similar name or known names, after a semicolon.
        advice: String,
    },
    /// The query cannot be parsed or computed.
    #[error("cannot answer the query: {0}")]
    Query(String),
    /// An expression cannot be computed.
    #[error(transparent)]
    Expression(#[from] PolarsError),
    /// A dataset cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A sweep cannot be read.
    #[error(transparent)]
    Runs(#[from] RunsError),
    /// Columns do not fit together.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// A parquet file cannot be written.
    #[error("{}: {source}", file.display())]
    Parquet {
        /// File.
        file: PathBuf,
        /// Error of the writer.
        source: ParquetError,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
