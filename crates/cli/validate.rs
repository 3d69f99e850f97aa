//! `prospect validate`: checks YAML files without running anything.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use anyhow::bail;
use prospect_core::{config::Document, errors};
use prospect_data::PipelineFile;
use prospect_model::ModelFile;
use prospect_sweep::{
    CheckedExperiment, LoadedExperiment, PricesFile, RecipeSources, SlurmProfile, SweepError, check,
};
use prospect_theory::TheoryFile;
use serde::Serialize;

use crate::{kind::FileKind, locate::SOURCES, output};

/// Arguments of `prospect validate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Data recipes, model recipes, experiments, Slurm profiles and prices
    ///
    /// The kind of a file is detected from its keys or its folder.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print JSON instead of lines
    #[arg(long)]
    json: bool,
}

/// Result for a file as `--json` prints it.
#[derive(Serialize)]
struct ValidationJson<'a> {
    file: &'a Path,
    valid: bool,
    /// Kind of the file and what it holds, or the error.
    message: &'a str,
}

/// Prints a line per file: that it is valid, or the error with its position.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let results: Vec<(&Path, Result<String, String>)> =
        args.files.iter().map(|path| (path.as_path(), examine(path))).collect();
    if args.json {
        let results = results.iter().map(|(file, result)| {
            let (Ok(message) | Err(message)) = result;
            ValidationJson { file, valid: result.is_ok(), message }
        });
        output::print(serde_json::to_string_pretty(&results.collect::<Vec<_>>())?)?;
    } else {
        for (path, result) in &results {
            match result {
                Ok(finding) => output::print(format!("{}: ok ({finding})", path.display()))?,
                Err(error) => output::print(error)?,
            }
        }
    }
    let invalid = results.iter().filter(|(_, result)| result.is_err()).count();
    if invalid > 0 {
        bail!("{invalid} of {} files are invalid", args.files.len());
    }
    Ok(())
}

/// Describes a valid file, or returns the error behind file and line.
fn examine(path: &Path) -> Result<String, String> {
    let is_feedback = ["jsonl", "csv", "tsv", "parquet", "gz"];
    if path.is_file() && path.extension().is_some_and(|kind| is_feedback.iter().any(|known| kind == *known)) {
        let file = path.display();
        return Err(format!("{file}: not a YAML file; `prospect prepare {file}` checks feedback"));
    }
    let document = Document::open(path).map_err(|error| chain(&error))?;
    let Some((kind, evidence)) = FileKind::detect(path, &document) else {
        return Err(document.blame(
            "unknown kind of file: add `source` (pipeline), `weights` (model), `question` (experiment), `workers` (Slurm profile) or \
             `devices` (prices)",
        ));
    };
    let finding = format!("{kind}, {evidence}");
    let in_context = |error: String| format!("{error} ({finding})");
    let in_sweep = |error: SweepError| match error {
        SweepError::Config(error) => in_context(chain(&error)),
        error => chain(&error),
    };
    match kind {
        FileKind::Pipeline => {
            let file = document.read::<PipelineFile>().map_err(|error| in_context(chain(&error)))?;
            file.check().map_err(|error| document.blame(&chain(&error)))?;
        }
        FileKind::Model => {
            let file = document.read::<ModelFile>().map_err(|error| in_context(chain(&error)))?;
            file.resolve(&|address| Ok(address.into())).map_err(|error| document.blame(&chain(&error)))?;
        }
        FileKind::Theory => {
            let file = document.read::<TheoryFile>().map_err(|error| in_context(chain(&error)))?;
            file.resolve().map_err(|error| document.blame(&chain(&error)))?;
        }
        FileKind::Slurm => {
            SlurmProfile::read(document).map_err(in_sweep)?;
        }
        FileKind::Prices => {
            PricesFile::read(&document).map_err(in_sweep)?;
        }
        FileKind::Experiment => {
            let name = path.display().to_string();
            let experiment =
                LoadedExperiment::read(&name, document, &[]).map_err(|error| in_context(chain(&error)))?;
            let sources = RecipeSources { locate: &|address| Ok(address.into()), ..SOURCES };
            let CheckedExperiment { runs, presets } =
                check(&experiment, &sources).map_err(|error| chain(&error))?;
            let summary = format!("{finding}, {runs} runs");
            return Ok(std::iter::once(summary).chain(presets).collect::<Vec<_>>().join("; "));
        }
    }
    Ok(finding)
}

/// Joins an error and its causes on one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    errors::chain(error).join(": ")
}
