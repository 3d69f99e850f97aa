//! `prospect sweep`: trains the runs of an experiment file and writes their report.

use std::{
    fmt::Write,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::ValueEnum;
use prospect_analysis::summarise;
use prospect_core::shell;
use prospect_model::DeviceKind;
use prospect_report::terminal::differences;
use prospect_runs::SweepDir;
use prospect_sweep::{
    Execution, ExecutionSummary, Jobs, LoadedExperiment, Parallelism, RecipeSources, RunFilter, SweepPlan,
    WaitPolicy, execute,
};

use crate::{
    allocator,
    locate::{PLANNING_SOURCES, SOURCES},
    output,
    output::say,
    overrides::{MemoryArgs, Overrides},
    ranks::{JoinedGroup, RankArgs},
    recipes::{self, RecipeKind},
    report, theory,
};

mod cards;
mod estimate;
pub(crate) mod memory;
pub(crate) mod outlook;
mod plan;
mod slurm;
mod status;

pub(crate) use cards::price_table;
use outlook::Announcer;

/// Arguments of `prospect sweep`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<SweepCommand>,
    /// Experiment file, or the name of a built-in experiment, for example imbalance-quick
    #[arg(required = true)]
    experiment: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    memory: MemoryArgs,
    /// Directory of the sweep [default: runs/NAME for NAME.yaml]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    options: ExecutionArgs,
}

/// Subcommands of `prospect sweep`.
#[derive(Debug, clap::Subcommand)]
enum SweepCommand {
    /// Show the progress of a sweep, also while it is running
    Status(status::Args),
}

/// Options of the execution of a sweep.
#[derive(Debug, clap::Args)]
pub(crate) struct ExecutionArgs {
    /// Number of runs to train in parallel [default: on CPUs the fastest that fits memory, else 1]
    ///
    /// They share one copy of their initial weights. Results do not depend on the number. The
    /// default is measured in a few steps, unless the runs are short. Workers on a cluster and ranks
    /// train one run at a time by default.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    #[command(flatten)]
    ranks: RankArgs,
    /// Restrict the sweep to runs with this setting, such as method=kto or seed=0
    ///
    /// If repeated, runs must have all of the settings.
    #[arg(long, value_name = "KEY=VALUE")]
    only: Vec<String>,
    /// Prices of devices for --dry-run, as a YAML file [default: example prices]
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Start no new runs after this many hours; the same command continues later
    #[arg(long, value_name = "HOURS", value_parser = hours)]
    max_hours: Option<Duration>,
    /// Retry runs that failed in an earlier call
    #[arg(long)]
    retry_failed: bool,
    /// Executor of the runs
    #[arg(long, value_enum, default_value_t)]
    executor: Executor,
    /// Slurm profile [default: slurm.yaml next to the experiment or in the current directory]
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    #[command(flatten)]
    planning: PlanningArgs,
}

/// Options that plan a sweep instead of running it.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
struct PlanningArgs {
    /// Print the plan and the training schedule of each series, and stop
    ///
    /// With --executor slurm, print the job script instead.
    #[arg(long)]
    dry_run: bool,
    /// Estimate the time of the remaining runs from a few measured steps, and stop
    ///
    /// With --max-hours, also print how many runs fit.
    #[arg(long, conflicts_with = "dry_run")]
    estimate: bool,
    /// With --dry-run or --estimate, print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Executor of the runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Executor {
    /// This process; other processes with the same command share the work
    #[default]
    Local,
    /// Workers on a Slurm cluster
    Slurm,
    /// This process, which exits once other processes work on all remaining runs
    Worker,
}

impl Default for ExecutionArgs {
    fn default() -> Self {
        Self {
            jobs: None,
            ranks: RankArgs::default(),
            only: Vec::new(),
            prices: None,
            max_hours: None,
            // Commands without the option always retry.
            retry_failed: true,
            executor: Executor::Local,
            profile: None,
            planning: PlanningArgs::default(),
        }
    }
}

impl ExecutionArgs {
    /// Returns the number of parallel runs, or a limit for the fastest number.
    fn jobs(&self, plan: &SweepPlan, ranks: usize) -> anyhow::Result<Jobs> {
        // Other workers and ranks share this machine, or other runs of the sweep.
        let is_alone =
            self.executor == Executor::Local && ranks == 1 && DeviceKind::detect() == DeviceKind::Cpu;
        Ok(match self.jobs {
            Some(jobs) => Jobs::Fixed(jobs),
            None if is_alone && !self.planning.dry_run && !self.planning.estimate => {
                Jobs::Fastest { at_most: memory::most_jobs(plan)? }
            }
            None => Jobs::default(),
        })
    }

    /// Joins the process group that trains each run, if there is one.
    fn join(&self) -> anyhow::Result<JoinedGroup> {
        match self {
            // The workers join it, not the process that submits them.
            Self { executor: Executor::Slurm, .. } => Ok(JoinedGroup::default()),
            Self { planning: PlanningArgs { dry_run: true, .. }, .. } => {
                self.ranks.single_process("--dry-run")
            }
            Self { planning: PlanningArgs { estimate: true, .. }, .. } => {
                self.ranks.single_process("--estimate")
            }
            _ => self.ranks.join(),
        }
    }

    /// Returns the options to pass on to workers.
    fn worker_options(&self) -> Vec<String> {
        let Self { jobs, ranks, only, max_hours, retry_failed, .. } = self;
        let mut words = ranks.options();
        words.extend(jobs.map(|jobs| format!("--jobs {jobs}")));
        words.extend(only.iter().map(|only| format!("--only {}", shell::word(only))));
        words.extend(max_hours.map(|time| format!("--max-hours {}", time.as_secs_f64() / 3600.0)));
        words.extend(retry_failed.then(|| "--retry-failed".to_owned()));
        words
    }
}

fn hours(text: &str) -> Result<Duration, String> {
    let hours = text.parse::<f64>().map_err(|error| error.to_string())?;
    Duration::try_from_secs_f64(3600.0 * hours).map_err(|error| error.to_string())
}

/// Trains the missing runs of an experiment and prints the path of its report.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(SweepCommand::Status(args)) = &args.command {
        return status::run(args);
    }
    let file = args.experiment.as_deref().context("name an experiment file")?;
    let path = file.display().to_string();
    let mut set = args.overrides.given().to_vec();
    set.extend(args.memory.setting());
    let document = recipes::open(RecipeKind::Experiments, file)?;
    if theory::is_theory(&document) {
        let ExecutionArgs { executor, profile, planning, .. } = &args.options;
        if !args.options.worker_options().is_empty()
            || planning.estimate
            || planning.json
            || *executor != Executor::Local
            || profile.is_some()
        {
            bail!(
                "--jobs, --ranks, --shard, --only, --max-hours, --retry-failed, --executor, --estimate and --json have no effect \
                 on {path}: a theory file has no runs; remove them"
            );
        }
        return theory::run(file, document, &set, args.out.as_deref(), args.options.planning.dry_run);
    }
    let experiment = LoadedExperiment::read(&path, document, &set)?;
    let out = args.out.clone().unwrap_or_else(|| Path::new("runs").join(&experiment.name));
    let mut command = format!("prospect sweep {}", shell::word(&path));
    for given in &set {
        write!(command, " --set {}", shell::word(given))?;
    }
    let sources = if args.options.planning.dry_run { &PLANNING_SOURCES } else { &SOURCES };
    carry_out(&experiment, sources, &out, None, &[command], &args.options)
}

/// Describes what a call did.
fn describe(executed: &ExecutionSummary) -> String {
    let ExecutionSummary { finished, stopped, already, elsewhere, left, .. } = *executed;
    let more = |runs: usize, what: &str| if runs > 0 { format!(", {runs} {what}") } else { String::new() };
    format!(
        "{finished} runs finished{}, {already} already done{}{}",
        more(stopped, "stopped early"),
        more(elsewhere, "ended in other processes"),
        more(left, "remaining")
    )
}

/// Writes the summary and the report. Of several workers that end together, one does it.
fn conclude(sweep: &SweepDir, report: Option<&Path>, others: WaitPolicy) -> anyhow::Result<()> {
    let claims = sweep.claims();
    let _claim = loop {
        match claims.take("report")? {
            Some(claim) => break claim,
            None if others == WaitPolicy::Leave => return Ok(()),
            None => sleep(claims.pause()),
        }
    };
    let summary = summarise(sweep)?;
    say(&summary.verdict);
    let plot = differences(sweep, output::plot_style())?;
    if !plot.is_empty() {
        output::say_styled(plot);
    }
    let place = report::ReportPlace::new(sweep, report)?;
    Ok(output::print(report::render(sweep, &place, None)?.display())?)
}

/// Plans the sweep; unless only the plan is requested, executes, summarises and reports it, in the
/// folder `report` or else in the sweep.
pub(crate) fn carry_out(
    experiment: &LoadedExperiment,
    sources: &RecipeSources<'_>,
    out: &Path,
    report: Option<&Path>,
    commands: &[String],
    options: &ExecutionArgs,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let PlanningArgs { dry_run, estimate, json } = options.planning;
    if json && !estimate && (!dry_run || options.executor == Executor::Slurm) {
        bail!(
            "--json has no effect here: it prints the plan of --dry-run or the result of --estimate as JSON"
        );
    }
    let joined = options.join()?;
    let trains_here = options.executor == Executor::Local && !dry_run && !estimate;
    let announces = trains_here && joined.process_group.is_main_process();
    let plan = outlook::plan(experiment, sources, out, &joined, trains_here.then_some(Announcer::Sweep))?;
    let sweep = SweepDir::at(out.to_owned());
    let only = RunFilter::parse(&options.only, &plan)?;
    if options.profile.is_some() && options.executor != Executor::Slurm {
        bail!("--profile has no effect without --executor slurm: give both or neither");
    }
    let until = options.max_hours.and_then(|hours| started.checked_add(hours));
    let others = if options.executor == Executor::Worker { WaitPolicy::Leave } else { WaitPolicy::Wait };
    let ExecutionArgs { retry_failed, .. } = *options;
    let member = joined.process_group.clone();
    let jobs = options.jobs(&plan, member.collective.world_size())?;
    let execution = Execution { jobs, only: only.clone(), until, retry_failed, others, member };
    let submits = options.executor == Executor::Slurm && !estimate;
    if submits && slurm::submit(experiment, &plan, &sweep, &execution, commands, options)? {
        return Ok(());
    }
    if options.prices.is_some() && !dry_run {
        bail!("--prices has no effect without --dry-run: give both or neither");
    }
    if dry_run {
        return plan::print(&plan, &sweep, &only, jobs.most(), (json, options.prices.as_deref()));
    }
    // Rank 0 checks for all ranks: they are alike.
    if joined.process_group.is_main_process() {
        let (ranks, zero) = (joined.process_group.collective.world_size(), joined.process_group.zero());
        // A chosen number of runs fits into memory, or is 1.
        let given = options.jobs.map_or(1, NonZeroUsize::get);
        let local_rank = joined.process_group.local_rank;
        memory::check(&plan, Parallelism { ranks, zero, jobs: given }, local_rank)?;
        if announces {
            let parallelism = Parallelism { ranks, zero, jobs: jobs.most() };
            outlook::announce(&plan, &sweep, &execution, parallelism, Announcer::Sweep)?;
        }
    }
    allocator::retain();
    if estimate {
        return estimate::print(&plan, &sweep, &execution, options);
    }
    let executed = execute(&plan, &sweep, &execution, commands)?;
    joined.process_group.collective.finish()?;
    if !joined.process_group.is_main_process() {
        return Ok(());
    }
    say(describe(&executed));
    let ExecutionSummary { runs, failed, failed_earlier, left, .. } = executed;
    if failed_earlier > 0 {
        say(format!("{failed_earlier} failed in an earlier call; add --retry-failed to retry them"));
    }
    // A worker that leaves earlier has only a part of the results.
    if others == WaitPolicy::Wait || left == 0 {
        conclude(&sweep, report, others)?;
    }
    if failed + failed_earlier > 0 {
        bail!(
            "{} of {} runs failed; see their errors in the report and their logs in `prospect sweep status {}`",
            failed + failed_earlier,
            runs,
            shell::word(&out.display().to_string())
        );
    }
    Ok(())
}
