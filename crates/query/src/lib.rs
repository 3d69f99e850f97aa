//! SQL over datasets and sweeps.
//!
//! A [`Database`] has the tables of a dataset (`rows`, `pairs`, `rejected`) or of a sweep (`runs`,
//! `metrics`, `heldout`, `generations`, `samples`, `questions`, `judgements`, and those of its
//! datasets). [`Database::query`] answers a query on them; an [`Answer`] is written as text, CSV,
//! JSON lines or parquet. [`write_tables`] writes the tables of a sweep for other tools. [`summarise`]
//! computes the overview of a dataset that `prospect inspect` shows.
//!
//! Queries run in polars, which parses and optimises them. Parquet files and records of runs are
//! read by the crates that write them, and only the columns that a query needs.
//!
//! ```
//! use prospect_core::config::Document;
//! use prospect_data::{PipelineFile, prepare};
//! use prospect_query::Database;
//!
//! let recipe = Document::from_text("recipe.yaml", "source: {kind: synthetic, pairs: 50}")?;
//! let pipeline = recipe.read::<PipelineFile>()?.resolve(&|path| Ok(path.into()))?;
//! let out = tempfile::tempdir()?;
//! let dataset = out.path().join("synthetic");
//! prepare(&pipeline, &dataset)?;
//! let query = "SELECT label, COUNT(*) AS n FROM rows WHERE split = 'test' GROUP BY label ORDER BY label";
//! assert_eq!(Database::of_dataset(&dataset).query(query)?.csv()?, "label,n\nfalse,5\ntrue,5\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | content |
//! |---|---|
//! | `table` | tables with described columns, read as Arrow arrays |
//! | `dataset`, `sweep` | the tables of datasets and sweeps |
//! | `scan` | tables as lazy frames |
//! | `database` | SQL, and errors that name the nearest table or column |
//! | `answer`, `parquet_file` | output |
//! | `summary` | overview of a dataset |

mod answer;
mod database;
mod dataset;
mod error;
mod parquet_file;
mod scan;
mod summary;
mod sweep;
mod table;

#[cfg(test)]
mod tests;

pub use answer::Answer;
pub use database::Database;
pub use error::QueryError;
pub use parquet_file::write_tables;
pub use summary::{
    DatasetSummary, DomainSummary, Example, LengthHistogram, Lengths, RejectedExample, Rejections, RowCounts,
    SplitSummary, TextLengths, summarise,
};
pub use table::{Column, ColumnType, Table};
