//! Finds damaged files below a folder: everything that has a recorded hash, and records that cannot
//! be read.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use prospect_core::checksums;
use prospect_runs::{RunDir, RunsError, SweepDir};
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
        found.visit(root, &Place::default())?;
        Ok(found)
    }

    /// Checks a folder and those below it.
    fn visit(&mut self, folder: &Path, place: &Place) -> io::Result<()> {
        let mut place = place.clone();
        let has = |name: &str| folder.join(name).exists();
        if has("experiment.json") {
            place.sweep = Some(folder.to_owned());
            let read = read_sweep(&SweepDir::at(folder.to_owned())).err();
            self.add(Part::Sweep, folder, &place, read.map(|error| error.to_string()));
        }
        if has(checksums::FILE) || has("config.json") && has("status.json") {
            let part = match folder {
                _ if has("status.json") => Part::Run,
                _ if place.run.is_some() => Part::Model,
                _ if has("manifest.json") => Part::Dataset,
                _ if has("index.html") => Part::Report,
                _ => Part::Model,
            };
            if part == Part::Run {
                place.run = Some(folder.to_owned());
            }
            // Weights of a run are made again with the run.
            let (part, path) = match &place.run {
                Some(run) => (Part::Run, run.clone()),
                None => (part, folder.to_owned()),
            };
            let problem = problem_of(folder, part);
            if place.run.is_none() || path == folder || problem.is_some() {
                self.add(part, &path, &place, problem);
            }
            if part != Part::Run {
                return Ok(());
            }
        }
        let mut entries = fs_err::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs_err::DirEntry::path);
        for entry in entries {
            let (path, kind) = (entry.path(), entry.file_type()?);
            let is_aside = path.ends_with(ASIDE) && place.sweep.as_deref() == Some(folder);
            let is_unfinished = path.extension().is_some_and(|extension| extension == "partial");
            if kind.is_dir() && !is_aside && !is_unfinished {
                self.visit(&path, &place)?;
            } else if kind.is_file() && ReferenceCache::is_cache_file(&path) {
                let problem = ReferenceCache::damage(&path)?;
                self.add(Part::ReferenceCache, &path, &place, problem);
            } else if kind.is_file() && folder.ends_with("checkpoints") {
                let problem = checksums::check_named(&path).err().map(|error| error.to_string());
                self.add(Part::Checkpoint, &path, &place, problem);
            }
        }
        Ok(())
    }

    fn add(&mut self, part: Part, path: &Path, place: &Place, problem: Option<String>) {
        match problem {
            Some(problem) => {
                let (path, sweep) = (path.to_owned(), place.sweep.clone());
                self.damage.push(Damage { part, path, problem, sweep });
            }
            None => *self.intact.entry(part).or_default() += 1,
        }
    }
}

impl Damage {
    /// Removes damaged entries of a cache, and moves a damaged part of a sweep aside, so that the
    /// command that made it makes it again. Nothing else is removed.
    pub fn set_aside(&self) -> io::Result<Remedy> {
        match (self.part, &self.sweep) {
            (Part::ReferenceCache, _) => {
                ReferenceCache::remove_damage(&self.path)?;
                Ok(Remedy::Removed)
            }
            (Part::Dataset | Part::Run | Part::Checkpoint, Some(sweep)) => {
                let inside = self.path.strip_prefix(sweep).unwrap_or(&self.path);
                let name = inside.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "-");
                let folder = sweep.join(ASIDE);
                fs_err::create_dir_all(&folder)?;
                let free = |number: &usize| match number {
                    1 => folder.join(&name),
                    number => folder.join(format!("{name}.{number}")),
                };
                let target = (1..).map(|number| free(&number)).find(|target| !target.exists());
                let target = target.unwrap_or_else(|| folder.join(&name));
                // Already moved if several of its files are damaged.
                if self.path.exists() {
                    fs_err::rename(&self.path, &target)?;
                }
                Ok(Remedy::SetAside(target))
            }
            (Part::Report | Part::Sweep, _) => Ok(Remedy::Rewritten),
            (Part::Dataset | Part::Run | Part::Checkpoint | Part::Model, _) => Ok(Remedy::Unknown),
        }
    }
}

/// Where a visited folder is.
#[derive(Debug, Clone, Default)]
struct Place {
    sweep: Option<PathBuf>,
    run: Option<PathBuf>,
}

/// Describes the damage of a folder with hashes or with the records of a run.
fn problem_of(folder: &Path, part: Part) -> Option<String> {
    if folder.join(checksums::FILE).exists() {
        match checksums::check_all(folder) {
            Ok(results) => {
                let damage = results.into_iter().filter_map(|(_, result)| result.err());
                let damage: Vec<String> = damage.map(|error| error.to_string()).collect();
                if !damage.is_empty() {
                    return Some(damage.join("; "));
                }
            }
            Err(error) => return Some(error.to_string()),
        }
    }
    if part == Part::Run && folder.join("status.json").exists() {
        return RunDir::at(folder.to_owned()).check_records().err().map(|error| error.to_string());
    }
    None
}

fn read_sweep(sweep: &SweepDir) -> Result<(), RunsError> {
    sweep.experiment()?;
    sweep.summary()?;
    sweep.comparison()?;
    sweep.jobs()?;
    sweep.judges()?;
    Ok(())
}
