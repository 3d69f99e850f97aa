//! `prospect man`: writes the manual pages.

use std::{io::Write, path::PathBuf};

use clap::CommandFactory;
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
    let pages = std::iter::once(&command).chain(command.get_subcommands());
    for page in pages.filter(|page| !page.is_hide_set() && page.get_name() != "help") {
        let man = Man::new(page.clone());
        let mut text = Vec::new();
        man.render(&mut text)?;
        write_whole(&args.folder.join(man.get_filename()), |file| file.write_all(&text))?;
    }
    Ok(output::print(args.folder.display())?)
}
