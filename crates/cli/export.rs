//! `prospect export`: a model to a folder that `transformers` and `peft` load, a dataset to one that LLaMA-Factory loads, a sweep
//! to files of TensorBoard, Trackio and AlpacaEval.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use prospect_core::progress::say;
use prospect_data::export_llama_factory;
use prospect_model::ModelFile;
use prospect_report::ExportSummary;

use crate::{locate::locate, output, overrides::Overrides, report};

/// Arguments of `prospect export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A model recipe, for example models/smollm2-135m.yaml, for a folder that transformers and peft load; a dataset
    /// that `prospect prepare` made, for a folder that LLaMA-Factory loads; or a sweep (its name below runs/, or its
    /// directory), for the files that --format names
    #[arg(value_name = "MODEL|DATASET|SWEEP")]
    from: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
    /// What to write of a sweep
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// What to write of a sweep.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// Metrics as event files, a folder for each run
    Tensorboard,
    /// Metrics as a CSV file for each run, a column for each metric, as Trackio and pandas read them
    Csv,
    /// What policies say as AlpacaEval's outputs, a JSON file for each run, with those that people chose as reference
    AlpacaEval,
}

/// Writes the folder, and prints where it is.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let sweep = report::directory(&args.from);
    if sweep.join("experiment.json").exists() {
        ensure!(args.overrides.given().is_empty(), "`--set` has no effect on a sweep; remove it");
        let format = args.format.context(
            "a sweep is exported in one of several formats: add --format tensorboard, csv or alpaca-eval",
        )?;
        export_sweep(&args.from, format, &args.out)?;
    } else {
        ensure!(
            args.format.is_none(),
            "--format is for sweeps, and {} holds no experiment.json; leave it out for a model or a dataset",
            sweep.display()
        );
        export_one(args)?;
    }
    output::print(args.out.display())?;
    Ok(())
}

fn export_sweep(from: &Path, format: Format, out: &Path) -> anyhow::Result<()> {
    let format = match format {
        Format::Tensorboard => prospect_report::ExportFormat::TensorBoard,
        Format::Csv => prospect_report::ExportFormat::Csv,
        Format::AlpacaEval => prospect_report::ExportFormat::AlpacaEval,
    };
    let ExportSummary { runs, empty } = prospect_report::export(&report::found(from)?, format, out)?;
    let empty = if empty > 0 { format!("; of {empty} more there is nothing yet") } else { String::new() };
    say(format!("{runs} runs and stages written{empty}"));
    Ok(())
}

/// A model or a dataset.
fn export_one(args: &Args) -> anyhow::Result<()> {
    if args.from.is_dir() {
        ensure!(args.overrides.given().is_empty(), "`--set` has no effect on a dataset; remove it");
        let name = args.from.file_name().unwrap_or_default().to_string_lossy();
        let counts = export_llama_factory(&args.from, &name, &args.out)?;
        say(format!("{} rows and pairs written", counts.written));
        if counts.left_out > 0 {
            say(format!(
                "{} left out: user and assistant do not take turns, or a reply has several",
                counts.left_out
            ));
        }
    } else {
        let file: ModelFile = args.overrides.open(&args.from)?.read()?;
        file.resolve(&locate)?.load()?.save(&args.out)?;
    }
    Ok(())
}
