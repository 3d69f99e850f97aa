//! `prospect completions`: prints the completion script of a shell.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::{Cli, output};

/// Arguments of `prospect completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Shell, as in
    /// `prospect completions bash > ~/.local/share/bash-completion/completions/prospect`
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "prospect", &mut script);
    script.flush()?;
    Ok(output::print(String::from_utf8(script)?.trim_end())?)
}
