//! Export of metrics and generations for other tools.

mod alpaca_eval;
mod csv;
mod tensorboard;

use std::path::Path;

use prospect_core::files::WholeDir;
use prospect_runs::{SweepDir, run_names};

use crate::{
    ReportError,
    sweep_data::{RunData, SweepData},
};

/// Format of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// TensorBoard event files, one folder for each run.
    TensorBoard,
    /// One CSV file for each run, with one column for each metric.
    Csv,
    /// Generations as AlpacaEval's `model_outputs`, and the chosen completions as
    /// `reference_outputs.json`.
    AlpacaEval,
}

/// Number of exported runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportSummary {
    /// Runs and shared stages that were written.
    pub runs: usize,
    /// Runs and shared stages without the requested data.
    pub empty: usize,
}

/// Writes the metrics or generations of all runs of `sweep` into the folder `out`, atomically.
///
/// # Errors
///
/// Fails if `out` exists and is not empty, or if no run has the requested data.
pub fn export(sweep: &SweepDir, format: ExportFormat, out: &Path) -> Result<ExportSummary, ReportError> {
    if out.exists() && fs_err::read_dir(out)?.next().is_some() {
        return Err(ReportError::NotEmpty { folder: out.to_owned() });
    }
    let path = sweep.path().to_owned();
    let sweep = SweepData::read(sweep)?;
    let named = named_runs(&sweep);
    let dir = WholeDir::create(out)?;
    let runs = match format {
        ExportFormat::TensorBoard => tensorboard::write(&named, dir.path())?,
        ExportFormat::Csv => csv::write(&sweep, &named, dir.path())?,
        ExportFormat::AlpacaEval => alpaca_eval::write(&sweep.experiment.name, &named, dir.path())?,
    };
    if runs == 0 {
        return Err(ReportError::NothingToExport { path, generations: format == ExportFormat::AlpacaEval });
    }
    dir.commit()?;
    Ok(ExportSummary { runs, empty: named.len() - runs })
}

/// A run or a shared stage with a name that is valid as a file name.
struct NamedRun<'a> {
    name: String,
    run: &'a RunData,
}

/// Returns all stages and runs under unique names.
fn named_runs(sweep: &SweepData) -> Vec<NamedRun<'_>> {
    let stages = sweep.stages.iter().map(|(_, run)| run);
    let runs = stages.chain(&sweep.runs);
    let names = run_names(&sweep.experiment);
    names.into_iter().zip(runs).map(|((_, name), run)| NamedRun { name, run }).collect()
}
