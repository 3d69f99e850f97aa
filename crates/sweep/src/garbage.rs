//! Finds files below a folder that no run needs.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use prospect_core::{
    disk::used_by,
    files::{is_abandoned, is_temporary},
};
use prospect_runs::SweepDir;
use serde::Serialize;
use strum::Display;

use crate::verify::ASIDE;

/// Why a file or folder is not needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Display)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A killed process left it half-written.
    #[strum(to_string = "left by a killed process")]
    Unfinished,
    /// No run of the sweep's plan uses this dataset.
    #[strum(to_string = "dataset that no run of the plan uses")]
    UnusedDataset,
    /// The run has ended.
    #[strum(to_string = "checkpoints of a run that has ended")]
    Checkpoints,
    /// Moved aside because it was damaged.
    #[strum(to_string = "damaged, and set aside")]
    SetAside,
}

/// A file or folder that can be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Garbage {
    /// Its path.
    pub path: PathBuf,
    /// Why it is not needed.
    pub reason: Reason,
    /// Size.
    pub bytes: u64,
}

impl Garbage {
    /// Lists what is not needed below `root`, by path. Symbolic links are not followed, and sweeps
    /// that a process is working on are left alone.
    pub fn below(root: &Path) -> io::Result<Vec<Self>> {
        let mut found = Vec::new();
        visit(root, &mut found)?;
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Removes it.
    pub fn remove(&self) -> io::Result<()> {
        if fs_err::symlink_metadata(&self.path)?.is_dir() {
            fs_err::remove_dir_all(&self.path)
        } else {
            fs_err::remove_file(&self.path)
        }
    }

    fn new(path: PathBuf, reason: Reason) -> Self {
        let bytes = match fs_err::metadata(&path) {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            _ => used_by(&path),
        };
        Self { path, reason, bytes }
    }
}

fn visit(folder: &Path, found: &mut Vec<Garbage>) -> io::Result<()> {
    if folder.join("experiment.json").exists() {
        let sweep = SweepDir::at(folder.to_owned());
        if !sweep.claims().held()?.is_empty() {
            return Ok(());
        }
        found.extend(of_sweep(&sweep)?);
    }
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if is_temporary(&path) {
            if is_abandoned(&path)? {
                found.push(Garbage::new(path, Reason::Unfinished));
            }
        } else if kind.is_dir() && !found.iter().any(|garbage| garbage.path == path) {
            visit(&path, found)?;
        }
    }
    Ok(())
}

/// Lists what the plan of a sweep does not need.
fn of_sweep(sweep: &SweepDir) -> io::Result<Vec<Garbage>> {
    let mut found = Vec::new();
    let aside = sweep.path().join(ASIDE);
    if aside.exists() {
        found.push(Garbage::new(aside, Reason::SetAside));
    }
    // Without a readable plan, everything may be needed.
    let Ok(experiment) = sweep.experiment() else { return Ok(found) };
    let used: BTreeSet<OsString> =
        experiment.data.iter().filter_map(|data| Some(data.path.file_name()?.to_owned())).collect();
    for dataset in folders(&sweep.path().join("data"))? {
        let is_dataset = dataset.join("manifest.json").exists();
        if is_dataset && dataset.file_name().is_some_and(|name| !used.contains(name)) {
            found.push(Garbage::new(dataset, Reason::UnusedDataset));
        }
    }
    for run in folders(&sweep.path().join("runs"))? {
        let id = run.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let run = sweep.run(&id);
        let has_ended = run.is_finished() || run.is_stopped();
        if has_ended && run.checkpoints().exists() {
            found.push(Garbage::new(run.checkpoints(), Reason::Checkpoints));
        }
    }
    Ok(found)
}

/// Lists the folders in a folder, which may be missing. Nothing is listed behind a symbolic link.
fn folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    if !folder.is_dir() || folder.is_symlink() {
        return Ok(Vec::new());
    }
    let mut folders = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}
