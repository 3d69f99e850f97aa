//! What the runs of a sweep left, as files that other tools read.

mod alpaca_eval;
mod columns;
mod tensorboard;

use std::path::Path;

use prospect_core::files::WholeDir;
use prospect_runs::SweepDir;

use crate::{
    ReportError,
    sweep::{Run, Sweep},
    text,
};

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Event files, one folder for each run.
    TensorBoard,
    /// One CSV file for each run, a column for each metric.
    Csv,
    /// What policies say, as AlpacaEval's `model_outputs`, and `reference_outputs.json`, what people chose.
    AlpacaEval,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// Runs and shared stages that had something to write.
    pub runs: usize,
    /// Those that had nothing.
    pub empty: usize,
}

/// Writes what the runs of `sweep` left so far into the folder `out`, whole or not at all.
pub fn export(sweep: &SweepDir, format: Format, out: &Path) -> Result<Exported, ReportError> {
    if out.exists() && fs_err::read_dir(out)?.next().is_some() {
        return Err(ReportError::NotEmpty { folder: out.to_owned() });
    }
    let path = sweep.path().to_owned();
    let sweep = Sweep::read(sweep)?;
    let named = named(&sweep);
    let dir = WholeDir::create(out)?;
    let runs = match format {
        Format::TensorBoard => tensorboard::write(&named, dir.path())?,
        Format::Csv => columns::write(&sweep, &named, dir.path())?,
        Format::AlpacaEval => alpaca_eval::write(&sweep.experiment.name, &named, dir.path())?,
    };
    if runs == 0 {
        return Err(ReportError::Nothing { path, generations: format == Format::AlpacaEval });
    }
    dir.commit()?;
    Ok(Exported { runs, empty: named.len() - runs })
}

/// A run or a shared stage under a name that files can have.
struct Named<'a> {
    name: String,
    run: &'a Run,
}

/// All of them, each under a name of its own: the values of its settings, and its seed.
fn named(sweep: &Sweep) -> Vec<Named<'_>> {
    let of_run = |run: &'_ Run| {
        let settings = run.planned.settings.values().map(text::setting);
        file_name(&settings.chain([format!("seed {}", run.planned.seed)]).collect::<Vec<_>>().join(" "))
    };
    let stages = sweep.stages.iter().map(|(name, run)| Named { name: file_name(name), run });
    let runs = sweep.runs.iter().map(|run| Named { name: of_run(run), run });
    let mut all: Vec<Named<'_>> = stages.chain(runs).collect();
    let names: Vec<String> = all.iter().map(|named| named.name.clone()).collect();
    for named in &mut all {
        if names.iter().filter(|name| **name == named.name).count() > 1 {
            named.name = format!("{}-{}", named.name, named.run.planned.id);
        }
    }
    all
}

/// Letters, digits, dots, plus signs and underscores stay; what is between them becomes one hyphen.
fn file_name(text: &str) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || ".+_".contains(c);
    let words = text.split(|c| !kept(c)).filter(|word| !word.trim_matches('.').is_empty());
    words.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_any_folder() {
        for (text, name) in [
            ("swap 10 % kto seed 0", "swap-10-kto-seed-0"),
            ("0.25 kto-auto-4/3 seed 1", "0.25-kto-auto-4-3-seed-1"),
            ("../../etc/passwd", "etc-passwd"),
            ("<script> é", "script"),
        ] {
            assert_eq!(file_name(text), name);
        }
    }
}
