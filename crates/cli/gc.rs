//! `prospect gc`: removes files that no run needs.

use std::path::{Path, PathBuf};

use anyhow::bail;
use prospect_core::config::did_you_mean;
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
        check_exists(folder)?;
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

/// Fails if there is no folder at this path, and names the most similar one beside it.
pub(crate) fn check_exists(folder: &Path) -> anyhow::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if folder.exists() {
        bail!(
            "{} is a file: give the folder of a sweep or a dataset, or a folder of these",
            folder.display()
        );
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = fs_err::read_dir(parent).into_iter().flatten().flatten();
    let names: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    bail!(
        "{} does not exist: give the folder of a sweep or a dataset, or a folder of these, such as runs{}",
        folder.display(),
        did_you_mean(&name, names.iter().map(String::as_str))
    )
}
