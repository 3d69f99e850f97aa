//! `prospect cli-docs`: the command line's own documentation as Markdown, kept in `docs/cli.md`.

use std::fmt::Write;

use clap::CommandFactory;

use crate::{Cli, output};

/// Prints the help of every subcommand.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut text = format!("# Command line\n\n```text\n{}```\n", command.render_long_help());
    for subcommand in
        command.get_subcommands_mut().filter(|command| !command.is_hide_set() && command.get_name() != "help")
    {
        let help = subcommand.render_long_help().to_string();
        write!(text, "\n## prospect {}\n\n```text\n{help}```\n", subcommand.get_name())?;
    }
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    Ok(output::print(lines.join("\n"))?)
}
