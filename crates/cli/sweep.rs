//! `prospect sweep`: an experiment file to finished runs and a report.

use std::{
    fmt::Write,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use prospect_core::{config::Document, progress::say};
use prospect_runs::SweepDir;
use prospect_sweep::{Executed, Execution, Experiment, Only, Plan, Sources, execute, summarise};

use crate::{
    allocator,
    locate::SOURCES,
    output,
    overrides::{Memory, Overrides},
    report, theory,
};

mod estimate;
mod plan;
mod room;
mod status;

/// Arguments of `prospect sweep`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The experiment, for example experiments/imbalance.yaml
    #[arg(required = true)]
    experiment: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    memory: Memory,
    /// Where to put the sweep [default: runs/NAME for NAME.yaml]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    how: How,
}

/// What else there is to do with a sweep.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show how far a sweep has come, also while another process works on it
    Status(status::Args),
}

/// How to go about a sweep.
#[derive(Debug, clap::Args)]
pub(crate) struct How {
    /// Runs that train side by side, over one copy of the weights that they start from; results do not depend on it
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN)]
    jobs: NonZeroUsize,
    /// Do the runs of this setting only, as in method=kto or seed=0; given again, those that have all of them
    #[arg(long, value_name = "KEY=VALUE")]
    only: Vec<String>,
    /// Begin no more runs after so many hours; the same command goes on with them
    #[arg(long, value_name = "HOURS", value_parser = hours)]
    max_hours: Option<Duration>,
    /// Try runs again that failed in an earlier call
    #[arg(long)]
    retry_failed: bool,
    /// Print the plan, with how long each series trains, and stop
    #[arg(long)]
    dry_run: bool,
    /// Measure a few steps of each kind of run that is to do, print what they all will take, and stop; with --max-hours, how
    /// many runs fit
    #[arg(long, conflicts_with = "dry_run")]
    estimate: bool,
}

impl Default for How {
    fn default() -> Self {
        let jobs = NonZeroUsize::MIN;
        // For commands that do not have the option.
        Self { jobs, only: Vec::new(), max_hours: None, retry_failed: true, dry_run: false, estimate: false }
    }
}

fn hours(text: &str) -> Result<Duration, String> {
    let hours = text.parse::<f64>().map_err(|error| error.to_string())?;
    Duration::try_from_secs_f64(3600.0 * hours).map_err(|error| error.to_string())
}

/// Does what is missing of an experiment, and prints where its report is.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(Command::Status(args)) = &args.command {
        return status::run(args);
    }
    let file = args.experiment.as_deref().context("name an experiment file")?;
    let path = file.display().to_string();
    let mut set = args.overrides.given().to_vec();
    set.extend(args.memory.setting());
    let document = Document::open(file)?;
    if theory::is_theory(&document) {
        let How { jobs, only, max_hours, retry_failed, estimate, dry_run: _ } = &args.how;
        let given = !only.is_empty() || max_hours.is_some() || *retry_failed || *estimate;
        if given || *jobs > NonZeroUsize::MIN {
            bail!(
                "--jobs, --only, --max-hours, --retry-failed and --estimate are for runs, and a theory file has none: \
                 leave them out"
            );
        }
        return theory::run(file, document, &set, args.out.as_deref(), args.how.dry_run);
    }
    let experiment = Experiment::read(&path, document, &set)?;
    let out = args.out.clone().unwrap_or_else(|| Path::new("runs").join(&experiment.name));
    let mut command = format!("prospect sweep {}", shell_word(&path));
    for given in &set {
        write!(command, " --set {}", shell_word(given))?;
    }
    let report = Path::new(report::REPORTS).join(&experiment.name);
    carry_out(&experiment, &SOURCES, &out, &report, &[command], &args.how)
}

/// Plans, and unless that is all that is wanted, executes, summarises and reports.
pub(crate) fn carry_out(
    experiment: &Experiment,
    sources: &Sources<'_>,
    out: &Path,
    report: &Path,
    commands: &[String],
    how: &How,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let plan = Plan::new(experiment, sources, &out.join("data"))?;
    let sweep = SweepDir::at(out.to_owned());
    let only = Only::read(&how.only, &plan)?;
    if how.dry_run {
        return plan::print(&plan, &sweep, &only, how.jobs.get());
    }
    room::check(&plan, how.jobs.get())?;
    allocator::retain();
    let until = how.max_hours.and_then(|hours| started.checked_add(hours));
    let execution = Execution { jobs: how.jobs, only, until, retry_failed: how.retry_failed };
    if how.estimate {
        return estimate::print(&plan, &sweep, &execution, how.max_hours);
    }
    let Executed { runs, finished, stopped, already, failed, failed_earlier, left } =
        execute(&plan, &sweep, &execution, commands)?;
    let left = if left > 0 { format!(", {left} are left to do") } else { String::new() };
    let stopped = if stopped > 0 { format!(", {stopped} were stopped early") } else { String::new() };
    say(format!("{finished} runs finished{stopped}, {already} were there already{left}"));
    if failed_earlier > 0 {
        say(format!("{failed_earlier} failed in an earlier call; --retry-failed tries them again"));
    }
    let summary = summarise(&sweep)?;
    say(&summary.verdict);
    output::print(report::render(&sweep, report)?.display())?;
    if failed + failed_earlier > 0 {
        bail!(
            "{} of {} runs failed; their errors stand in the report, and `prospect sweep status {}` names their logs",
            failed + failed_earlier,
            runs,
            shell_word(&out.display().to_string())
        );
    }
    Ok(())
}

/// A word as a shell takes it.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@,+".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
