//! The `prospect` binary: parses the command line and calls the crates that do the work.
//!
//! Every subcommand is one file with `Args` and `run`. Data goes to standard output, everything
//! else to standard error.

use std::{
    iter::{once, repeat},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use prospect_core::{
    errors::{self, Resource},
    files, interrupt, shell,
};

use crate::output::warn;

mod allocator;
mod cli_docs;
mod compare;
mod completions;
mod cuda_build;
#[cfg(feature = "query")]
mod dataset_overview;
mod demo;
mod doctor;
mod export;
mod gc;
mod gpu_check;
mod inspect;
mod judge;
mod kind;
mod locate;
mod log;
mod man;
mod output;
mod overrides;
mod plan;
mod power;
mod prepare;
mod preview;
mod profile;
mod query;
mod ranks;
mod recipes;
mod report;
mod schemas;
mod sweep;
mod theory;
mod train;
mod triage;
mod validate;
mod verify;
#[cfg(not(feature = "query"))]
mod without_query;

/// Exit codes of every command, in its help and in `docs/cli.md`.
const EXIT_CODES: &str = "\
Exit codes:
  0         Success
  1         Failure: an error, or the result is negative (failed runs of a sweep, invalid files,
            no training plan that fits, failed parts of a GPU check)
  2         Invalid command line
  130, 143  Interrupted by Ctrl-C or SIGTERM; the same command continues";

/// Compare KTO and DPO on human feedback: prepare data, train, evaluate, report.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_long_help = EXIT_CODES)]
struct Cli {
    /// Log more to standard error: -v for debug, -vv for trace lines; `RUST_LOG` overrides
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Print only results, warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prepare a dataset from raw human feedback (binary and paired parquet)
    Prepare(prepare::Args),
    /// Show a dataset: counts, lengths, noise, rejected rows, examples
    Inspect(inspect::Args),
    /// Answer SQL queries on a dataset or sweep: rows, pairs, runs, metrics, held-out feedback
    Query(query::Args),
    /// Show examples as training sees them: template, scored tokens, truncation, KL partners
    Preview(preview::Args),
    /// Rank the labels of a dataset that look wrong, by signals and by policies that never saw them
    Triage(triage::Args),
    /// Check recipes, experiments, Slurm profiles and prices without running anything
    Validate(validate::Args),
    /// Find training settings that fit a memory budget
    Plan(plan::Args),
    /// Say how many pairs, prompts and seeds a comparison needs to find a gain
    Power(power::Args),
    /// Train one model on one dataset, without an experiment file
    Train(train::Args),
    /// Recommend a method for data of your own: compares methods in stages, within a budget
    Compare(compare::Args),
    /// Train the missing runs of an experiment and write its report
    Sweep(sweep::Args),
    /// Judge generations with a model behind an API or with a reward model
    Judge(judge::Args),
    /// Render the report of a sweep from its finished runs
    Report(report::Args),
    /// Run the whole pipeline on synthetic feedback, without network, data or model
    Demo(demo::Args),
    /// List the built-in recipes: data, models and experiments, used by name
    Recipes(recipes::list::Args),
    /// Write the built-in recipes into a folder, with schemas for editors and a justfile
    Init(recipes::init::Args),
    /// Show what this machine has for training: processor, memory, GPU, caches, network
    Doctor(doctor::Args),
    /// Find damaged datasets, runs, checkpoints, caches and reports
    Verify(verify::Args),
    /// Remove files that no run needs: unused datasets, checkpoints of ended runs, unfinished files
    Gc(gc::Args),
    /// Export a model, a dataset, or the metrics and generations of a sweep for other tools
    Export(export::Args),
    /// Check a GPU: CUDA kernels, rate of products, and training steps of 1B, 7B and 30B models
    GpuCheck(gpu_check::Args),
    /// Print the completion script of a shell
    Completions(completions::Args),
    /// Write a manual page for each command into a folder
    Man(man::Args),
    /// Print the command-line reference as Markdown
    #[command(hide = true)]
    CliDocs,
    /// Write the JSON Schemas of all YAML files
    #[command(hide = true)]
    Schemas(schemas::Args),
}

fn main() -> ExitCode {
    if let Err(error) = cuda_build::hand_over() {
        warn(format!("error: {error}"));
        return ExitCode::FAILURE;
    }
    let Cli { verbose, quiet, command } = Cli::parse();
    output::set_quiet(quiet);
    log::init(verbose, quiet);
    allocator::end_on_refusal();
    if let Err(error) = files::fail_beyond_size_limit() {
        tracing::debug!("no handler for the limit of file sizes: {error}");
    }
    if command.takes_long()
        && let Err(error) = interrupt::listen(&continuation())
    {
        warn(format!("warning: a signal ends this process without a checkpoint: {error}"));
    }
    let result = run(command);
    // A sweep that ended all the same has nothing to continue.
    match (result, interrupt::requested()) {
        (Ok(()), _) => ExitCode::SUCCESS,
        (Err(_), Some(interrupt)) => {
            warn(format!("{interrupt}; {}", continuation()));
            ExitCode::from(interrupt.exit_code())
        }
        (Err(error), None) => {
            let messages = errors::chain(error.as_ref());
            for (message, prefix) in messages.iter().zip(once("error").chain(repeat("  caused by"))) {
                warn(format!("{prefix}: {message}"));
            }
            if let Some(resource) = Resource::of(&messages) {
                warn(format!("{}, then run the same command again, which continues", resource.advice()));
            }
            ExitCode::FAILURE
        }
    }
}

/// Says how to go on after an interruption.
fn continuation() -> String {
    let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    format!("the same command continues: {}", shell::command_line("prospect", arguments))
}

impl Command {
    /// Returns true for commands whose interruption needs care and advice.
    fn takes_long(&self) -> bool {
        matches!(
            self,
            Self::Prepare(_)
                | Self::Triage(_)
                | Self::Train(_)
                | Self::Compare(_)
                | Self::Sweep(_)
                | Self::Judge(_)
                | Self::Report(_)
                | Self::Demo(_)
        )
    }
}

/// Runs a command.
fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Prepare(args) => prepare::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Query(args) => query::run(&args),
        Command::Preview(args) => preview::run(&args),
        Command::Triage(args) => triage::run(&args),
        Command::Validate(args) => validate::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Power(args) => power::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Sweep(args) => sweep::run(&args),
        Command::Judge(args) => judge::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Recipes(args) => recipes::list::run(&args),
        Command::Init(args) => recipes::init::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Gc(args) => gc::run(&args),
        Command::Export(args) => export::run(&args),
        Command::GpuCheck(args) => gpu_check::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::CliDocs => cli_docs::run(),
        Command::Schemas(args) => schemas::run(&args),
    }
}
