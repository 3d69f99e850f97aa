//! Export of metrics and generations for other tools.

mod alpaca_eval;
mod csv;
mod tensorboard;

use std::path::Path;

use prospect_core::files::WholeDir;
use prospect_runs::SweepDir;

use crate::{
    ReportError, format,
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
///
/// The name of a run consists of the values of its settings and the seed.
fn named_runs(sweep: &SweepData) -> Vec<NamedRun<'_>> {
    let run_name = |run: &'_ RunData| {
        let settings = run.planned.settings.values().map(format::setting);
        file_name(&settings.chain([format!("seed {}", run.planned.seed)]).collect::<Vec<_>>().join(" "))
    };
    let stages = sweep.stages.iter().map(|(name, run)| NamedRun { name: file_name(name), run });
    let runs = sweep.runs.iter().map(|run| NamedRun { name: run_name(run), run });
    let mut all: Vec<NamedRun<'_>> = stages.chain(runs).collect();
    let names: Vec<String> = all.iter().map(|named| named.name.clone()).collect();
    for named in &mut all {
        if names.iter().filter(|name| **name == named.name).count() > 1 {
            named.name = format!("{}-{}", named.name, named.run.planned.id);
        }
    }
    all
}

/// Keeps ASCII letters, digits, dots, plus signs and underscores, and replaces other characters
/// with single hyphens.
fn file_name(text: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || ".+_".contains(c);
    let words = text.split(|c| !keep(c)).filter(|word| !word.trim_matches('.').is_empty());
    words.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_file_names() {
        for (text, name) in [
            ("swap 10 % kto seed 0", "swap-10-kto-seed-0"),
            ("0.25 kto-auto-4/3 seed 1", "0.25-kto-auto-4-3-seed-1"),
            ("../../etc/passwd", "etc-passwd"),
            ("<script> é", "script"),
        ] {
            assert_eq!(file_name(text), name);
        }
    }
}
