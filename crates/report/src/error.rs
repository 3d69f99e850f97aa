//! Errors of this crate.

use std::{io, path::PathBuf};

use prospect_runs::RunsError;

/// Error of writing a report, a comparison or an export.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The files of the sweep cannot be read.
    #[error("cannot read the sweep in {}: {source}; give a directory that `prospect sweep` wrote", path.display())]
    Sweep {
        /// Directory of the sweep.
        path: PathBuf,
        /// Underlying error.
        source: RunsError,
    },
    /// A figure cannot be drawn.
    #[error("cannot draw figure `{figure}`: {reason}")]
    Figure {
        /// Name of the figure.
        figure: String,
        /// Error of the drawing library.
        reason: String,
    },
    /// An HTML template does not match its data.
    #[error("cannot render the HTML template: {0}")]
    Template(#[from] minijinja::Error),
    /// The output folder of an export is not empty.
    #[error("{} is not empty; choose another folder or remove it", folder.display())]
    NotEmpty {
        /// Output folder.
        folder: PathBuf,
    },
    /// No run has the requested data.
    #[error("no run of {} has {}", path.display(), if *generations {
        "generations yet; request them with `evaluate: { generations: … }` in the experiment"
    } else {
        "metrics yet"
    })]
    NothingToExport {
        /// Directory of the sweep.
        path: PathBuf,
        /// True if generations were requested, false if metrics were.
        generations: bool,
    },
    /// The file system reported an error.
    #[error("cannot write the report: {0}")]
    Io(#[from] io::Error),
}
