//! The `prospect` binary: glue between the command line and the crates that do the work.
//!
//! Every subcommand is one file with `Args` and `run`. Data goes to standard output, everything else to standard
//! error. The exit code is 0 for success, 1 for a failure and 2 for a command line that makes no sense.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use prospect_core::progress::say;

mod allocator;
mod cli_docs;
mod demo;
mod export;
mod facts;
mod gpu_check;
mod inspect;
mod judge;
mod kind;
mod locate;
mod log;
mod output;
mod overrides;
mod plan;
mod prepare;
mod preview;
mod profile;
mod ranks;
mod report;
mod schemas;
mod sweep;
mod theory;
mod train;
mod validate;
mod watch;

/// Human feedback to KTO-versus-DPO comparisons.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    /// Print more on standard error: debug lines, or traces when given twice (`RUST_LOG` overrides)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Turn raw human feedback into a dataset (binary and paired parquet)
    Prepare(prepare::Args),
    /// Show what a dataset holds: counts, lengths, noise, rejected rows, examples
    Inspect(inspect::Args),
    /// Show examples as training sees them: template, scored tokens, cuts, KL partners
    Preview(preview::Args),
    /// Check data recipes, model recipes, experiments and Slurm profiles without running anything
    Validate(validate::Args),
    /// Say which way to train a model fits into so much memory
    Plan(plan::Args),
    /// Train one model on one dataset, without an experiment file
    Train(train::Args),
    /// Train every run of an experiment that is missing, and report
    Sweep(sweep::Args),
    /// Have a judge compare what policies say: a model behind an address, or a reward model
    Judge(judge::Args),
    /// Render a sweep's report from what is finished
    Report(report::Args),
    /// Run the whole pipeline on synthetic feedback: needs no network, data or model
    Demo(demo::Args),
    /// Write a model for transformers and peft, a dataset for LLaMA-Factory, or a sweep's metrics and texts for other tools
    Export(export::Args),
    /// Check a GPU: our kernels on it, its rate, and steps of models of 1, 7 and 30 billion weights
    GpuCheck(gpu_check::Args),
    /// Print this documentation as Markdown
    #[command(hide = true)]
    CliDocs,
    /// Write the JSON Schemas of all YAML files
    #[command(hide = true)]
    Schemas(schemas::Args),
}

fn main() -> ExitCode {
    let Cli { verbose, command } = Cli::parse();
    log::start(verbose);
    let result = match command {
        Command::Prepare(args) => prepare::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Preview(args) => preview::run(&args),
        Command::Validate(args) => validate::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Sweep(args) => sweep::run(&args),
        Command::Judge(args) => judge::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Export(args) => export::run(&args),
        Command::GpuCheck(args) => gpu_check::run(&args),
        Command::CliDocs => cli_docs::run(),
        Command::Schemas(args) => schemas::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format!("error: {error}"));
            for cause in error.chain().skip(1) {
                say(format!("  caused by: {cause}"));
            }
            ExitCode::FAILURE
        }
    }
}
