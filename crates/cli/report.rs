//! `prospect report`: a sweep's directory to a page, figures and tables.

use std::path::{Path, PathBuf};

use anyhow::bail;
use prospect_runs::SweepDir;
use prospect_sweep::summarise;

use crate::output;

/// Arguments of `prospect report`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The sweep's name (below runs/) or directory
    sweep: PathBuf,
    /// Where to put the report [default: reports/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Summarises what is finished of a sweep, renders it, and prints where the page is.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let named = Path::new("runs").join(&args.sweep);
    let directory = if args.sweep.join("experiment.json").exists() { args.sweep.clone() } else { named };
    if !directory.join("experiment.json").exists() {
        bail!("{} is no sweep: it holds no experiment.json; `prospect sweep` makes one", directory.display());
    }
    let sweep = SweepDir::at(directory.clone());
    summarise(&sweep)?;
    let name = directory.file_name().unwrap_or_default();
    let out = args.out.clone().unwrap_or_else(|| Path::new("reports").join(name));
    output::print(render(&sweep, &out)?.display())?;
    Ok(())
}

/// Renders a summarised sweep.
pub(crate) fn render(sweep: &SweepDir, out: &Path) -> anyhow::Result<PathBuf> {
    Ok(prospect_report::render(sweep, out)?)
}
