//! `prospect verify`: finds damaged datasets, runs, checkpoints, caches and reports.

use std::path::{Path, PathBuf};

use anyhow::bail;
use prospect_core::shell;
use prospect_sweep::{Damage, Part, Remedy, Verification};
use serde::Serialize;

use crate::{
    gc,
    output::{self, counted},
};

/// Arguments of `prospect verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folders: sweeps, datasets, models, reports, or folders of these
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Remove damaged cache entries and move damaged parts of sweeps into SWEEP/damaged, so that
    /// `prospect sweep` makes them again
    #[arg(long)]
    repair: bool,
    /// Print JSON instead of lines
    #[arg(long)]
    json: bool,
}

/// Result for a folder as `--json` prints it.
#[derive(Serialize)]
struct FolderJson<'a> {
    folder: &'a Path,
    #[serde(flatten)]
    found: &'a Verification,
}

/// Prints a line per folder and one per damaged part.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for folder in &args.folders {
        gc::check_exists(folder)?;
        found.push((folder.as_path(), Verification::of(folder)?));
    }
    if args.json {
        let folders: Vec<_> = found.iter().map(|(folder, found)| FolderJson { folder, found }).collect();
        output::print(serde_json::to_string_pretty(&folders)?)?;
    } else {
        for (folder, found) in &found {
            output::print(format!("{}: {}", folder.display(), describe(found)))?;
            for damage in &found.damage {
                output::print(format!("  {} {}: {}", damage.part, damage.path.display(), damage.problem))?;
            }
        }
    }
    let damage: Vec<&Damage> = found.iter().flat_map(|(_, found)| &found.damage).collect();
    let mut in_use = 0;
    for damage in damage.iter().filter(|_| args.repair) {
        let remedy = damage.set_aside()?;
        in_use += usize::from(matches!(remedy, Remedy::InUse(_)));
        output::say(format!("{}: {}", damage.path.display(), advice(damage, &remedy)));
    }
    let empty = found.iter().find(|(_, found)| found.intact.is_empty() && found.damage.is_empty());
    if let Some((folder, _)) = empty {
        bail!(
            "{} holds nothing that can be checked: give a sweep, a dataset, a model or a report",
            folder.display()
        );
    }
    if in_use > 0 {
        bail!(
            "{} left alone, because a process is working on the sweep: repeat the command when it has ended",
            counted(in_use, "damaged part")
        );
    }
    if !damage.is_empty() && !args.repair {
        bail!("{} damaged; `--repair` sets aside what Prospect makes again", counted(damage.len(), "part"));
    }
    Ok(())
}

/// Says what is intact, and how much is damaged.
fn describe(found: &Verification) -> String {
    let intact = found.intact.iter().map(|(part, number)| counted(*number, &part.to_string()));
    let mut parts: Vec<String> = match found.intact.len() {
        0 => Vec::new(),
        _ => vec![format!("{} intact", intact.collect::<Vec<_>>().join(", "))],
    };
    if !found.damage.is_empty() {
        parts.push(format!("{} damaged", counted(found.damage.len(), "part")));
    }
    if parts.is_empty() { "nothing to check".to_owned() } else { parts.join("; ") }
}

/// Says what was done about a damaged part, and what makes it again.
fn advice(damage: &Damage, remedy: &Remedy) -> String {
    let again = match (damage.part, &damage.sweep) {
        (Part::Report, _) | (Part::Sweep, None) => "`prospect report SWEEP` writes it again".to_owned(),
        (Part::Sweep, Some(_)) => "the next `prospect sweep` of its experiment writes it again".to_owned(),
        (Part::Checkpoint, _) => "the run resumes from the checkpoint before, or starts again".to_owned(),
        (Part::ReferenceCache, _) => "the next run that needs them computes the damaged log-probs".to_owned(),
        (Part::Answers, _) => "the next `prospect judge` that needs them asks again".to_owned(),
        (Part::Dataset | Part::Run, Some(_)) => {
            "the next `prospect sweep` of its experiment makes it again".to_owned()
        }
        (Part::Dataset, None) => {
            let folder = shell::word(&damage.path.display().to_string());
            format!("make it again with `prospect prepare PIPELINE.yaml --out {folder}`")
        }
        (Part::Run | Part::Model, _) => "make it again with the command that wrote it".to_owned(),
    };
    match remedy {
        Remedy::Removed => format!("removed; {again}"),
        Remedy::SetAside(place) => format!("moved to {}; {again}", place.display()),
        Remedy::Rewritten | Remedy::Unknown => again,
        Remedy::InUse(holder) => format!("left alone, since {holder} is working on the sweep"),
    }
}
