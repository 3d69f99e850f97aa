//! Answers of queries.

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::bail;
use prospect_core::files::write_whole;
use prospect_data::is_dataset;
use prospect_query::{Database, QueryError};

use super::{Args, Format};
use crate::{
    output,
    report::{open_sweep, sweep_directory},
};

/// Prints or writes the answer of the query, or the list of tables.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let format = format(args)?;
    let database = open(&args.from)?;
    let answer = match &args.sql {
        Some(sql) => database.query(sql)?,
        None => database.describe(),
    };
    let text = match (format, &args.out) {
        (Format::Parquet, None) => bail!("--format parquet writes a file; name it with --out"),
        (Format::Parquet, Some(out)) => return Ok(answer.write_parquet(out)?),
        (Format::Table, _) => answer.table() + "\n",
        (Format::Csv, _) => answer.csv()?,
        (Format::Jsonl, _) => answer.json_lines(),
    };
    match &args.out {
        Some(out) => Ok(write_whole(out, |file| file.write_all(text.as_bytes()))?),
        None => Ok(output::print_all(&text)?),
    }
}

/// Opens the dataset or sweep of this name or directory.
fn open(given: &Path) -> anyhow::Result<Database> {
    if is_dataset(given) {
        return Ok(Database::of_dataset(given));
    }
    if !sweep_directory(given).join("experiment.json").exists() {
        return Err(QueryError::Unknown(given.to_owned()).into());
    }
    Ok(Database::of_sweep(&open_sweep(given)?)?)
}

/// Returns the format that the arguments ask for.
fn format(args: &Args) -> anyhow::Result<Format> {
    let by_extension = |out: &PathBuf| match out.extension()?.to_str()? {
        "csv" => Some(Format::Csv),
        "jsonl" => Some(Format::Jsonl),
        "parquet" => Some(Format::Parquet),
        "txt" => Some(Format::Table),
        _ => None,
    };
    match (args.format, &args.out) {
        (Some(format), _) => Ok(format),
        (None, Some(out)) => match by_extension(out) {
            Some(format) => Ok(format),
            None => bail!("{}: no format has this extension; add --format", out.display()),
        },
        (None, None) if std::io::stdout().is_terminal() => Ok(Format::Table),
        (None, None) => Ok(Format::Csv),
    }
}
