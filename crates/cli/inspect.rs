//! `prospect inspect`: shows a dataset as tables, a page or JSON.

use std::path::PathBuf;

#[cfg(feature = "query")]
mod summary;

#[cfg(not(feature = "query"))]
pub(crate) use crate::without_query::inspect as run;
#[cfg(feature = "query")]
pub(crate) use summary::run;

/// Arguments of `prospect inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory of a prepared dataset
    #[arg(value_name = "DIR")]
    dataset: PathBuf,
    /// Also write a self-contained HTML page with figures
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Model recipe, to also count tokens with its tokenizer and chat template
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Example rows of each split and label, and of those changed by noise
    #[arg(long, value_name = "N", default_value_t = 2)]
    examples: usize,
}
