//! The `prospect` binary: glue between the command line and the crates that do the work.
//!
//! Every subcommand is one file with `Args` and `run`. Data goes to standard output, everything else to standard
//! error. The exit code is 0 for success, 1 for a failure and 2 for a command line that makes no sense.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use prospect_core::progress::say;

mod locate;
mod output;
mod overrides;
mod prepare;

// Training allocates and frees the same large buffers step after step; this allocator retains them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Human feedback to KTO-versus-DPO comparisons.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Turn raw human feedback into a dataset (binary and paired parquet)
    Prepare(prepare::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Prepare(args) => prepare::run(&args),
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
