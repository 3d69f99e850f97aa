//! Which Slurm profile a command takes.

use std::path::{Path, PathBuf};

use anyhow::Context;
use prospect_core::config::Document;
use prospect_sweep::SlurmProfile;

/// The profile that is asked for, or the nearest: beside `file`, or here.
pub(crate) fn find(given: Option<&Path>, file: &Path) -> anyhow::Result<SlurmProfile> {
    let beside = file.with_file_name("slurm.yaml");
    let here = PathBuf::from("slurm.yaml");
    let nearest = || [&beside, &here].into_iter().find(|path| path.exists()).map(PathBuf::as_path);
    let path = given.or_else(nearest).with_context(|| {
        let or_here = if beside == here { String::new() } else { format!(" nor {}", here.display()) };
        format!(
            "--executor slurm needs a profile, and there is no {}{or_here}: write one (docs/slurm.md), or name it with --profile",
            beside.display()
        )
    })?;
    Ok(SlurmProfile::read(Document::open(path)?)?)
}
