//! `prospect man`: writes the manual pages.

use std::{io::Write, path::PathBuf};

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use prospect_core::files::write_whole;

use crate::{Cli, output};

/// Arguments of `prospect man`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder for `prospect.1`, `prospect-prepare.1` and so on
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes a page for the binary and each of its commands, and prints the folder.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut command = Cli::command();
    command.build();
    write_pages(&command, args)?;
    Ok(output::print(args.folder.display())?)
}

/// Writes the pages of a command and of those below it.
fn write_pages(command: &Command, args: &Args) -> anyhow::Result<()> {
    let man = Man::new(command.clone());
    let mut text = Vec::new();
    man.render(&mut text)?;
    write_whole(&args.folder.join(man.get_filename()), |file| file.write_all(&text))?;
    let is_shown = |command: &&Command| !command.is_hide_set() && command.get_name() != "help";
    command.get_subcommands().filter(is_shown).try_for_each(|below| write_pages(below, args))
}
