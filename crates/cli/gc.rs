//! `prospect gc`: removes files that no run needs.

use std::path::PathBuf;

use prospect_sweep::Garbage;

use crate::{output, plan::human_bytes};

/// Arguments of `prospect gc`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folders: sweeps, or folders of sweeps and datasets
    #[arg(default_value = "runs", value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// List what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON instead of lines
    #[arg(long)]
    json: bool,
}

/// Lists what is not needed, and removes it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut found: Vec<Garbage> = Vec::new();
    for folder in &args.folders {
        found.extend(Garbage::below(folder)?);
    }
    if args.json {
        output::print(serde_json::to_string_pretty(&found)?)?;
    }
    for garbage in &found {
        if !args.json {
            let size = human_bytes(garbage.bytes);
            output::print(format!("{}  {size}  {}", garbage.path.display(), garbage.reason))?;
        }
        if !args.dry_run {
            garbage.remove()?;
        }
    }
    let total = human_bytes(found.iter().map(|garbage| garbage.bytes).sum());
    match (found.is_empty(), args.dry_run) {
        (true, _) => output::say("nothing to remove"),
        (false, true) => output::say(format!("{total} would be removed")),
        (false, false) => output::say(format!("{total} removed")),
    }
    Ok(())
}
