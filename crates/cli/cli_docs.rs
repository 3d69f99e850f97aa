//! `prospect cli-docs`: prints the command-line reference as Markdown, kept in `docs/cli.md`.

use std::fmt::Write;

use clap::CommandFactory;

use crate::{Cli, output};

/// Prints the help of all subcommands.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut text = format!("# Command line\n\n```text\n{}```\n", command.render_long_help());
    describe(&mut command, "prospect", &mut text)?;
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    Ok(output::print(lines.join("\n"))?)
}

/// Appends the help of each subcommand of `command`, which is invoked as `name`.
fn describe(command: &mut clap::Command, name: &str, text: &mut String) -> std::fmt::Result {
    let shown = |command: &&mut clap::Command| !command.is_hide_set() && command.get_name() != "help";
    for subcommand in command.get_subcommands_mut().filter(shown) {
        let name = format!("{name} {}", subcommand.get_name());
        let help = subcommand.render_long_help().to_string();
        write!(text, "\n## {name}\n\n```text\n{help}```\n")?;
        describe(subcommand, &name, text)?;
    }
    Ok(())
}
