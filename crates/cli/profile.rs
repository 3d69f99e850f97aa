//! Lookup of the Slurm profile.

use std::path::{Path, PathBuf};

use anyhow::Context;
use prospect_core::config::Document;
use prospect_sweep::SlurmProfile;

/// Reads the given profile, or `slurm.yaml` next to `file` or in the current directory.
pub(crate) fn find(given: Option<&Path>, file: &Path) -> anyhow::Result<SlurmProfile> {
    let sibling = file.with_file_name("slurm.yaml");
    let here = PathBuf::from("slurm.yaml");
    let nearest = || [&sibling, &here].into_iter().find(|path| path.exists()).map(PathBuf::as_path);
    let path = given.or_else(nearest).with_context(|| {
        let or_here = if sibling == here { String::new() } else { format!(" or {}", here.display()) };
        format!(
            "--executor slurm needs a profile, but there is no {}{or_here}; write one (docs/slurm.md) or give it with --profile",
            sibling.display()
        )
    })?;
    Ok(SlurmProfile::read(Document::open(path)?)?)
}
