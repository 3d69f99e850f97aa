//! `prospect report`: renders a sweep as a page, figures and tables.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use prospect_analysis::summarise;
use prospect_core::{checksums, config::did_you_mean};
#[cfg(feature = "query")]
use prospect_query::write_tables;
use prospect_report::export_paper;
use prospect_runs::SweepDir;

#[cfg(not(feature = "query"))]
use crate::without_query::write_tables;
use crate::{
    output::{self, say, warn},
    recipes::{self, RecipeKind},
    theory,
};

mod place;
mod watch;

pub(crate) use place::ReportPlace;

/// Arguments of `prospect report`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name (below runs/) or directory of the sweep
    #[arg(required_unless_present = "compare")]
    sweep: Option<PathBuf>,
    /// Compare two sweeps side by side
    #[arg(long, num_args = 2, value_names = ["SWEEP", "SWEEP"], conflicts_with = "sweep")]
    compare: Vec<PathBuf>,
    /// Output directory [default: report/ in the sweep, with a link in reports/]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write PDF figures at column width and LaTeX tables (booktabs) into this directory
    #[arg(long, value_name = "DIR", conflicts_with_all = ["compare", "watch"])]
    export: Option<PathBuf>,
    /// Update the report as runs progress, until all have ended; the page reloads itself
    #[arg(long, conflicts_with = "compare")]
    watch: bool,
}

/// Directory of the list of reports, of links to them, and of comparisons.
pub(crate) const REPORTS: &str = "reports";

/// Summarises the finished runs of a sweep, renders them, and prints the path of the page.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let theory = args.sweep.iter().flat_map(|given| [given.clone(), Path::new("runs").join(given)]);
    if let Some(folder) = theory.into_iter().find(|folder| theory::has_findings(folder)) {
        anyhow::ensure!(
            !args.watch && args.export.is_none(),
            "--watch and --export have no effect: a theory file has no runs; remove them"
        );
        return theory::report(
            &folder,
            &output_dir(args.out.as_deref(), folder.file_name().unwrap_or_default()),
        );
    }
    let given = args.sweep.iter().chain(&args.compare);
    let find = if args.watch { watch::wait_for_plan } else { open_sweep };
    let sweeps = given.map(|given| find(given)).collect::<anyhow::Result<Vec<_>>>()?;
    let page = match sweeps.as_slice() {
        [one, other] => {
            let names: Vec<_> = sweeps.iter().filter_map(|sweep| sweep.path().file_name()).collect();
            let name = names.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>().join("-beside-");
            summarise(one)?;
            summarise(other)?;
            update_list(prospect_report::compare(
                one,
                other,
                &output_dir(args.out.as_deref(), name.as_ref()),
            )?)?
        }
        sweeps => {
            let sweep = sweeps.first().context("name a sweep")?;
            let place = ReportPlace::new(sweep, args.out.as_deref())?;
            if args.watch {
                watch::update_until_ended(sweep, &place)?
            } else {
                summarise_and_render(sweep, &place, None)?
            }
        }
    };
    if let (Some(out), [sweep]) = (&args.export, sweeps.as_slice()) {
        say(format!("{} includes the exported figures and tables", export_paper(sweep, out)?.display()));
    }
    output::print(page.display())?;
    Ok(())
}

/// Returns `out`, or the default directory of the report called `name`.
pub(crate) fn output_dir(out: Option<&Path>, name: &OsStr) -> PathBuf {
    out.map_or_else(|| Path::new(REPORTS).join(name), Path::to_owned)
}

/// Resolves the name or path of a sweep to its directory.
pub(crate) fn sweep_directory(given: &Path) -> PathBuf {
    let named = Path::new("runs").join(given);
    // `runs/x` is a path, even if there is none.
    let is_path = given.components().count() > 1 && !named.exists();
    if given.join("experiment.json").exists() || is_path || !named.exists() && given.exists() {
        given.to_owned()
    } else {
        named
    }
}

/// Opens the sweep of this name or directory.
pub(crate) fn open_sweep(given: &Path) -> anyhow::Result<SweepDir> {
    let directory = sweep_directory(given);
    if !directory.join("experiment.json").exists() {
        let known = sweeps_below(directory.parent().unwrap_or(Path::new("")));
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        let is_built_in = recipes::built_in(RecipeKind::Experiments).any(|recipe| recipe.name() == name);
        bail!(
            "{} is not a sweep: it has no experiment.json; create one with `prospect sweep{}`{}",
            directory.display(),
            if is_built_in { format!(" {name}") } else { String::new() },
            did_you_mean(&name, known.iter().map(String::as_str))
        );
    }
    Ok(SweepDir::at(directory))
}

/// Lists the names of the sweeps in a folder.
fn sweeps_below(folder: &Path) -> Vec<String> {
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    let sweeps = entries.filter(|entry| entry.path().join("experiment.json").exists());
    sweeps.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Renders a summarised sweep, and writes its tables as parquet.
pub(crate) fn render(
    sweep: &SweepDir,
    place: &ReportPlace,
    reload: Option<Duration>,
) -> anyhow::Result<PathBuf> {
    let page = prospect_report::render(sweep, place.folder(), reload)?;
    // Like the page, which shows an unreadable file with its run, this must not stop the others.
    if let Err(error) = write_tables(sweep, &place.folder().join("tables")) {
        warn(format!("warning: the parquet tables of the report are not up to date: {error}"));
    }
    record_hashes(place.folder())?;
    place.publish(sweep)?;
    Ok(page)
}

/// Records the hashes of a report's page, figures and tables.
fn record_hashes(report: &Path) -> anyhow::Result<()> {
    let mut names = vec!["index.html".to_owned()];
    for folder in ["figures", "tables"] {
        for entry in fs_err::read_dir(report.join(folder)).into_iter().flatten() {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(format!("{folder}/{}", entry.file_name().to_string_lossy()));
            }
        }
    }
    Ok(checksums::record(report, &names)?)
}

/// Summarises the finished runs of a sweep and renders them.
pub(crate) fn summarise_and_render(
    sweep: &SweepDir,
    place: &ReportPlace,
    reload: Option<Duration>,
) -> anyhow::Result<PathBuf> {
    summarise(sweep)?;
    render(sweep, place, reload)
}

/// Updates the list of reports if `page` is one of them.
fn update_list(page: PathBuf) -> anyhow::Result<PathBuf> {
    let folder = page.parent().and_then(Path::parent);
    if folder.is_some_and(|folder| folder == Path::new(REPORTS)) {
        prospect_report::list(Path::new(REPORTS))?;
    }
    Ok(page)
}
