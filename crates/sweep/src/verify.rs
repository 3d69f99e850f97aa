//! Finds damaged files below a folder: everything that has a recorded hash, and records that cannot
//! be read.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use prospect_core::{checksums, files::is_temporary};
use prospect_eval::judge::{damaged_answers, is_answers_file, remove_damaged_answers};
use prospect_runs::{Holder, RunDir, RunsError, SweepDir};
use prospect_train::ReferenceCache;
use serde::Serialize;
use strum::Display;

/// Folder of a sweep that receives what [`Damage::set_aside`] moves.
pub(crate) const ASIDE: &str = "damaged";

/// Something that is made, and can be made again, as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Display)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// A prepared dataset.
    #[strum(to_string = "dataset")]
    Dataset,
    /// Weights or an adapter outside of a sweep.
    #[strum(to_string = "model")]
    Model,
    /// A run of a sweep, with its records, weights and adapter.
    #[strum(to_string = "run")]
    Run,
    /// A checkpoint of a run.
    #[strum(to_string = "checkpoint")]
    Checkpoint,
    /// Reference log-probs.
    #[strum(to_string = "reference cache")]
    ReferenceCache,
    /// Answers of a judge, or scores of a reward model.
    #[strum(to_string = "answer file")]
    Answers,
    /// A report.
    #[strum(to_string = "report")]
    Report,
    /// Plan and summary of a sweep.
    #[strum(to_string = "sweep")]
    Sweep,
}

/// A damaged part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// What is damaged.
    pub part: Part,
    /// Folder or file of the part.
    pub path: PathBuf,
    /// What was found, with the name of the file.
    pub problem: String,
    /// Sweep that the part belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sweep: Option<PathBuf>,
}

/// How a damaged part is made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Damaged entries were removed; the next run that needs them computes them.
    Removed,
    /// The part was moved here; the next call of `prospect sweep` makes it again.
    SetAside(PathBuf),
    /// The next call of the command that wrote it writes it again.
    Rewritten,
    /// Only its author knows how it was made.
    Unknown,
    /// Nothing was done: this process is working on the sweep.
    InUse(Holder),
}

/// Parts below a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Numbers of intact parts.
    pub intact: BTreeMap<Part, usize>,
    /// Damaged parts, in the order of their paths.
    pub damage: Vec<Damage>,
}

impl Verification {
    /// Checks everything below `root`. Symbolic links are not followed.
    pub fn of(root: &Path) -> io::Result<Self> {
        let mut found = Self::default();
        found.visit(root, None)?;
        Ok(found)
    }

    /// Checks a folder, which is in `sweep`, and those below it.
    fn visit<'a>(&mut self, folder: &'a Path, mut sweep: Option<&'a Path>) -> io::Result<()> {
        let has = |name: &str| folder.join(name).exists();
        if has("experiment.json") {
            sweep = Some(folder);
            let read = read_sweep(&SweepDir::at(folder.to_owned())).err();
            self.add(Part::Sweep, folder, sweep, read.map(|error| error.to_string()));
        }
        if has("config.json") && has("status.json") {
            return self.visit_run(folder, sweep);
        }
        if has(checksums::FILE) {
            let part = match folder {
                _ if has("manifest.json") => Part::Dataset,
                _ if has("index.html") => Part::Report,
                _ => Part::Model,
            };
            self.add(part, folder, sweep, damaged_files(folder).err());
            return Ok(());
        }
        for path in sorted(folder)? {
            let kind = fs_err::symlink_metadata(&path)?.file_type();
            let is_aside = path.ends_with(ASIDE) && sweep == Some(folder);
            if kind.is_dir() && !is_aside && !is_temporary(&path) {
                self.visit(&path, sweep)?;
            } else if kind.is_file() && ReferenceCache::is_cache_file(&path) {
                let problem = ReferenceCache::damage(&path)?;
                self.add(Part::ReferenceCache, &path, sweep, problem);
            } else if kind.is_file() && is_answers_file(&path, sweep) {
                let problem = damaged_answers(&path)?;
                self.add(Part::Answers, &path, sweep, problem);
            }
        }
        Ok(())
    }

    /// Checks a run: its records, its weights, and its checkpoints.
    fn visit_run(&mut self, folder: &Path, sweep: Option<&Path>) -> io::Result<()> {
        let mut problems = Vec::new();
        for part in sorted(folder)?.into_iter().filter(|path| path.join(checksums::FILE).exists()) {
            problems.extend(damaged_files(&part).err());
        }
        if folder.join(checksums::FILE).exists() {
            problems.extend(damaged_files(folder).err());
        }
        if problems.is_empty() {
            let unreadable = RunDir::at(folder.to_owned()).check_records().err();
            problems.extend(unreadable.map(|error| error.to_string()));
        }
        let problem = (!problems.is_empty()).then(|| problems.join("; "));
        self.add(Part::Run, folder, sweep, problem);
        let checkpoints = folder.join("checkpoints");
        let is_here = checkpoints.is_dir() && !checkpoints.is_symlink();
        let files = if is_here { sorted(&checkpoints)? } else { Vec::new() };
        for path in files.into_iter().filter(|path| !is_temporary(path)) {
            let problem = checksums::check_named(&path).err().map(|error| error.to_string());
            self.add(Part::Checkpoint, &path, sweep, problem);
        }
        Ok(())
    }

    fn add(&mut self, part: Part, path: &Path, sweep: Option<&Path>, problem: Option<String>) {
        match problem {
            Some(problem) => {
                let (path, sweep) = (path.to_owned(), sweep.map(Path::to_owned));
                self.damage.push(Damage { part, path, problem, sweep });
            }
            None => *self.intact.entry(part).or_default() += 1,
        }
    }
}

impl Damage {
    /// Removes damaged entries of a cache, and moves a damaged part of a sweep aside, so that the
    /// command that made it makes it again. Nothing else is removed, and a sweep that a process is
    /// working on is left alone.
    pub fn set_aside(&self) -> io::Result<Remedy> {
        if self.part == Part::ReferenceCache {
            // Locks the file, so that it may be in use.
            ReferenceCache::remove_damage(&self.path)?;
            return Ok(Remedy::Removed);
        }
        if let Some(sweep) = &self.sweep
            && let Some(holder) = SweepDir::at(sweep.clone()).claims().held()?.into_values().next()
        {
            return Ok(Remedy::InUse(holder));
        }
        match (self.part, &self.sweep) {
            (Part::Dataset | Part::Run | Part::Checkpoint, Some(sweep)) => {
                let inside = self.path.strip_prefix(sweep).unwrap_or(&self.path);
                let name = inside.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "-");
                let folder = sweep.join(ASIDE);
                if folder.is_symlink() {
                    return Err(io::Error::other(format!(
                        "{} is a symbolic link, which Prospect does not move files through: remove it",
                        folder.display()
                    )));
                }
                fs_err::create_dir_all(&folder)?;
                let mut target = folder.join(&name);
                let mut number = 1;
                while target.exists() {
                    number += 1;
                    target = folder.join(format!("{name}.{number}"));
                }
                if !self.path.exists() {
                    return Ok(Remedy::Rewritten); // moved with the run that it is in
                }
                fs_err::rename(&self.path, &target)?;
                Ok(Remedy::SetAside(target))
            }
            (Part::Answers, _) => {
                remove_damaged_answers(&self.path)?;
                Ok(Remedy::Removed)
            }
            (Part::Report | Part::Sweep, _) => Ok(Remedy::Rewritten),
            (Part::Dataset | Part::Run | Part::Checkpoint | Part::Model | Part::ReferenceCache, _) => {
                Ok(Remedy::Unknown)
            }
        }
    }
}

/// Lists what is in a folder.
fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> =
        fs_err::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    Ok(paths)
}

/// Names the files of a folder that differ from their recorded hashes.
fn damaged_files(folder: &Path) -> Result<(), String> {
    let damage = checksums::find_damage(folder).map_err(|error| error.to_string())?;
    let damage: Vec<String> = damage.iter().map(ToString::to_string).collect();
    if damage.is_empty() { Ok(()) } else { Err(damage.join("; ")) }
}

fn read_sweep(sweep: &SweepDir) -> Result<(), RunsError> {
    sweep.experiment()?;
    sweep.summary()?;
    sweep.comparison()?;
    sweep.jobs()?;
    sweep.judges()?;
    Ok(())
}
