//! `prospect query`: answers SQL queries on a dataset or sweep.

use std::path::PathBuf;

#[cfg(feature = "query")]
mod answer;

#[cfg(not(feature = "query"))]
pub(crate) use crate::without_query::query as run;
#[cfg(feature = "query")]
pub(crate) use answer::run;

/// Arguments of `prospect query`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory of a dataset, or name (below runs/) or directory of a sweep
    #[arg(value_name = "DATASET|SWEEP")]
    from: PathBuf,
    /// Query, such as "SELECT domain, COUNT(*) FROM rows GROUP BY domain"
    #[arg(value_name = "SQL", required_unless_present = "tables")]
    sql: Option<String>,
    /// List the tables with their columns, types and meanings
    #[arg(long, conflicts_with = "sql")]
    tables: bool,
    /// Output format [default: by the extension of --out, else table on a terminal and csv elsewhere]
    #[arg(long)]
    format: Option<Format>,
    /// Write the answer into this file instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Aligned columns for people: long texts are cut, numbers have at most 6 digits
    Table,
    /// CSV with a line of column names
    Csv,
    /// One JSON object per line
    Jsonl,
    /// Parquet, which needs --out
    Parquet,
}
