//! Reports of sweeps: figures, tables and one self-contained HTML page.
//!
//! [`render`] reads a sweep (`experiment.json`, `summary.json` and the files of its runs) and
//! writes
//!
//! ```text
//! <out>/
//!   index.html            the report as one file without external resources
//!   figures/<name>.svg    every figure, also as .png
//!   tables/<name>.csv     every table, and the data behind the figures
//!   report.json           the entry that `list` shows
//! ```
//!
//! The report computes no statistics: intervals, diagnosis and verdict come from `summary.json`.
//! While a sweep has no summary, the page says so and shows the runs so far. Rendering is
//! deterministic: the same sweep gives the same bytes.
//!
//! ```no_run
//! use prospect_runs::SweepDir;
//!
//! let sweep = SweepDir::at("runs/imbalance".into());
//! let page = prospect_report::render(&sweep, "reports/imbalance".as_ref(), None)?;
//! println!("{}", page.display());
//! # Ok::<(), prospect_report::ReportError>(())
//! ```
//!
//! - [`compare`] shows two sweeps side by side, and [`list`] links the reports of a folder.
//! - [`export`] writes metrics and generations for TensorBoard, CSV readers and AlpacaEval.
//! - [`export_paper`] writes PDF figures and LaTeX tables.
//! - [`terminal`] plots the differences of a sweep for a terminal.
//! - [`overview`] formats facts about a dataset, plan or device for a terminal and as HTML.
//!
//! # Modules
//!
//! Each module uses only modules above it in this table.
//!
//! | module | content |
//! |---|---|
//! | `format` | numbers and settings as text |
//! | `render` | figures as plain data, and drawing them as SVG and PNG; HTML templates |
//! | `sweep_data` | the files of a sweep, read once; its x axis |
//! | `sections` | figures and table rows for each section of the page |
//! | `tables` | CSV tables |
//! | `page` | the report page, assembled from its sections |
//! | `list`, `compare`, `export`, `paper`, [`terminal`], [`overview`] | the other outputs |

mod compare;
mod error;
mod export;
mod format;
mod list;
pub mod overview;
mod page;
mod paper;
mod render;
mod sections;
mod sweep_data;
mod tables;
pub mod terminal;

#[cfg(test)]
mod tests;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use prospect_core::files::write_whole;
use prospect_runs::SweepDir;

use crate::{
    compare::SweepComparison, list::ReportEntry, page::PageFigures, render::image::write_figure,
    sections::means::MeanTables, sweep_data::SweepData,
};
pub use crate::{
    error::ReportError,
    export::{ExportFormat, ExportSummary, export},
    paper::export_paper,
};

/// Writes the report of `sweep` into the folder `out` and returns the path of its page.
///
/// With `reload`, the page reloads itself at that interval.
pub fn render(sweep: &SweepDir, out: &Path, reload: Option<Duration>) -> Result<PathBuf, ReportError> {
    let sweep = SweepData::read(sweep)?;
    let means = MeanTables::new(&sweep);
    let figures = PageFigures::new(&sweep, &means);
    for figure in figures.iter() {
        write_figure(figure, out)?;
    }
    for table in tables::all(&sweep, &means) {
        table.write(out)?;
    }
    let page = out.join("index.html");
    write_text(&page, &page::html(&sweep, &figures, &means, reload)?)?;
    ReportEntry::new(&sweep).write(out)?;
    Ok(page)
}

/// Returns the folder in a sweep for its report: `report`, unless that holds a report of the same
/// runs with other settings (x axis, series, baseline or primary comparison).
pub fn folder_in(sweep: &SweepDir) -> Result<PathBuf, ReportError> {
    list::folder_in(sweep)
}

/// Writes `index.html` into the folder `reports`, with a link to every report in it, and returns
/// its path.
pub fn list(reports: &Path) -> Result<PathBuf, ReportError> {
    let page = reports.join("index.html");
    write_text(&page, &list::html(reports)?)?;
    Ok(page)
}

/// Writes a page that shows two sweeps side by side into the folder `out` and returns its path.
pub fn compare(first: &SweepDir, second: &SweepDir, out: &Path) -> Result<PathBuf, ReportError> {
    let comparison = SweepComparison::new([SweepData::read(first)?, SweepData::read(second)?]);
    for figure in comparison.figures() {
        write_figure(figure, out)?;
    }
    comparison.table().write(out)?;
    let page = out.join("index.html");
    write_text(&page, &comparison.html()?)?;
    comparison.entry().write(out)?;
    Ok(page)
}

/// Writes a text file atomically.
fn write_text(path: &Path, text: &str) -> io::Result<()> {
    write_bytes(path, text.as_bytes())
}

/// Writes a file atomically.
fn write_bytes(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_whole(path, |writer| writer.write_all(bytes))
}
