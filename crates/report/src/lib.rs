//! A sweep's directory to figures, tables and one HTML page.
//!
//! [`render`] reads what the sweep left (`experiment.json`, `summary.json` and the runs) and writes
//!
//! ```text
//! <out>/
//!   index.html            the whole report in one file; needs nothing beside it
//!   figures/<name>.svg    every figure, also as .png
//!   tables/<name>.csv     every table, and what figures were drawn from
//!   report.json           what [`list`] says of it
//! ```
//!
//! Nothing is estimated here: intervals, the diagnosis and the verdict come from `summary.json`. A sweep that is still running
//! has none yet; its page says so and shows the runs so far. The same sweep gives the same bytes.
//!
//! ```no_run
//! use prospect_runs::SweepDir;
//!
//! let page = prospect_report::render(&SweepDir::at("runs/imbalance".into()), "reports/imbalance".as_ref(), None)?;
//! # Ok::<(), prospect_report::ReportError>(())
//! ```
//!
//! [`compare`] puts two sweeps side by side, [`list`] lists the reports of a folder.
//!
//! [`export`] writes what runs left for other tools: TensorBoard, CSV readers, AlpacaEval.
//!
//! [`overview`] is the other kind of page: facts about one thing, as plain values, for a terminal and as HTML.
//!
//! Inside: `sweep` reads; `estimates` (over `facets` of the x axis), `reference`, `transfer`, `curves` (of `metrics`) and `classes`
//! turn what was read into a `figure`, which is plain data; `draw` draws any figure on a `canvas`, and `image` turns that into SVG
//! and PNG; `grids`, `rows`, `findings`, `said`, `wins` and `running` make what stands between figures, and `tables` and `page`
//! write all of it.

mod axis;
mod canvas;
mod classes;
mod compare;
mod curves;
mod draw;
mod estimates;
mod export;
mod facets;
mod figure;
mod findings;
mod grids;
mod image;
mod list;
mod look;
mod metrics;
pub mod overview;
mod page;
mod reference;
mod rows;
mod running;
mod said;
mod script;
mod sweep;
mod tables;
mod text;
mod transfer;
mod tree;
mod wins;

#[cfg(test)]
mod tests;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

pub use export::{Exported, Format, export};
use prospect_core::files::write_whole;
use prospect_runs::{RunsError, SweepDir};

use crate::{draw::Sheet, figure::Figure, image::Frame, sweep::Sweep};

/// Why a report was not written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The sweep's own files cannot be read.
    #[error("cannot read the sweep in {}: {source}; give the directory that `prospect sweep` wrote", path.display())]
    Sweep {
        /// The sweep's directory.
        path: PathBuf,
        /// What is wrong with it.
        source: RunsError,
    },
    /// A figure cannot be drawn.
    #[error("cannot draw the figure {figure}: {reason}")]
    Figure {
        /// The figure's name.
        figure: String,
        /// What the drawing library says.
        reason: String,
    },
    /// The page's template does not fit its data.
    #[error("cannot fill in the page: {0}")]
    Template(#[from] minijinja::Error),
    /// There is no room for an export.
    #[error("{} is not empty; choose another place or remove it", folder.display())]
    NotEmpty {
        /// Where it was to go.
        folder: PathBuf,
    },
    /// There is nothing to export.
    #[error("no run of {} has {}", path.display(), if *generations {
        "said anything yet; the experiment asks for it by `evaluate: { generations: … }`"
    } else {
        "metrics yet"
    })]
    Nothing {
        /// The sweep's directory.
        path: PathBuf,
        /// Whether what policies say is wanted.
        generations: bool,
    },
    /// The file system refused.
    #[error("cannot write the report: {0}")]
    Io(#[from] io::Error),
}

/// Writes the report of `sweep` into the folder `out` and returns the path of its page, which loads itself again every `reload`.
pub fn render(sweep: &SweepDir, out: &Path, reload: Option<Duration>) -> Result<PathBuf, ReportError> {
    let sweep = Sweep::read(sweep)?;
    let grids = page::Grids::of(&sweep);
    let figures = page::Figures::of(&sweep, &grids);
    for figure in figures.all() {
        write_figure(figure, out)?;
    }
    for table in tables::all(&sweep, grids.tables()) {
        write_text(&out.join("tables").join(format!("{}.csv", table.name)), &table.csv())?;
    }
    let page = out.join("index.html");
    write_text(&page, &page::html(&sweep, &figures, &grids, reload)?)?;
    list::Entry::of(&sweep).write(out)?;
    Ok(page)
}

/// Writes the page that lists the reports in the folders of `reports`, and returns its path.
pub fn list(reports: &Path) -> Result<PathBuf, ReportError> {
    let page = reports.join("index.html");
    write_text(&page, &list::html(reports)?)?;
    Ok(page)
}

/// Writes a page that puts two sweeps side by side into the folder `out` and returns its path.
pub fn compare(one: &SweepDir, other: &SweepDir, out: &Path) -> Result<PathBuf, ReportError> {
    let comparison = compare::Comparison::of([Sweep::read(one)?, Sweep::read(other)?]);
    for figure in comparison.figures() {
        write_figure(figure, out)?;
    }
    let table = comparison.table();
    write_text(&out.join("tables").join(format!("{}.csv", table.name)), &table.csv())?;
    let page = out.join("index.html");
    write_text(&page, &comparison.html()?)?;
    comparison.entry().write(out)?;
    Ok(page)
}

/// Writes a figure as SVG and PNG below `out`.
fn write_figure(figure: &Figure, out: &Path) -> Result<(), ReportError> {
    let sheet = Sheet::of(figure);
    let file = |ending: &str| out.join("figures").join(format!("{}.{ending}", figure.name));
    write_text(&file("svg"), &image::svg(&sheet, figure, Frame::File)?)?;
    image::write_png(&sheet, figure, &file("png"))
}

fn write_text(path: &Path, text: &str) -> io::Result<()> {
    write_whole(path, |writer| writer.write_all(text.as_bytes()))
}
