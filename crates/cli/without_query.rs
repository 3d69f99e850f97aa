//! Commands that need the feature `query`, in a build without it.

use std::path::Path;

use anyhow::bail;
use prospect_runs::SweepDir;

use crate::{inspect, query};

/// Fails, because this build answers no queries.
pub(crate) fn query(_: &query::Args) -> anyhow::Result<()> {
    missing("query")
}

/// Fails, because this build summarises no datasets.
pub(crate) fn inspect(_: &inspect::Args) -> anyhow::Result<()> {
    missing("inspect")
}

fn missing(command: &str) -> anyhow::Result<()> {
    bail!(
        "this build cannot run `prospect {command}`: it was made without the feature `query`; use another build, or \
         build with --features query"
    )
}

/// Fails, because this build writes no parquet tables of a report.
pub(crate) fn write_tables(_: &SweepDir, _: &Path) -> anyhow::Result<()> {
    bail!("this build has no feature `query`")
}
