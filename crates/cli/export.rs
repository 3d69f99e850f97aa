//! `prospect export`: writes a model for `transformers` and `peft`, a dataset for LLaMA-Factory, or
//! a sweep for TensorBoard, Trackio and AlpacaEval.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use prospect_data::export_llama_factory;
use prospect_eval::exchange::PromptOptions;
use prospect_model::ModelFile;
use prospect_report::{ExportFormat, ExportSummary};

use crate::{locate::locate, output, output::say, overrides::Overrides, report};

/// Arguments of `prospect export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Model recipe, dataset directory, or sweep (name below runs/ or directory)
    ///
    /// A model recipe, for example models/smollm2-135m.yaml, is exported for transformers and peft,
    /// a prepared dataset for LLaMA-Factory, and a sweep in the format given by --format.
    #[arg(value_name = "MODEL|DATASET|SWEEP")]
    from: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
    /// Format of an exported sweep
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Held-out prompts of `--format prompts` [default: those of the experiment, else 200]
    #[arg(long, value_name = "N")]
    prompts: Option<NonZeroUsize>,
    /// Maximum tokens of a completion of `--format prompts` [default: that of the experiment, else
    /// 512]
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<NonZeroUsize>,
    /// Output directory
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Format of an exported sweep.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// Metrics as event files, one directory per run
    Tensorboard,
    /// Metrics as one CSV file per run with a column per metric, for Trackio and pandas
    Csv,
    /// Generations as AlpacaEval outputs, one JSON file per run; the reference is the chosen side
    AlpacaEval,
    /// Held-out prompts for vLLM or OpenAI's batch API, with the script that generates
    Prompts,
}

/// Writes the output directory and prints its path.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let sweep = report::sweep_directory(&args.from);
    if sweep.join("experiment.json").exists() {
        ensure!(args.overrides.given().is_empty(), "`--set` has no effect on a sweep; remove it");
        let format = args.format.context(
            "a sweep needs an export format: add --format tensorboard, csv, alpaca-eval or prompts",
        )?;
        let format = match format {
            Format::Prompts => None,
            Format::Tensorboard => Some(ExportFormat::TensorBoard),
            Format::Csv => Some(ExportFormat::Csv),
            Format::AlpacaEval => Some(ExportFormat::AlpacaEval),
        };
        match format {
            None => export_prompts(args)?,
            Some(format) => {
                ensure!(
                    args.prompts.is_none() && args.max_new_tokens.is_none(),
                    "--prompts and --max-new-tokens are for --format prompts; remove them"
                );
                export_sweep(&args.from, format, &args.out)?;
            }
        }
    } else {
        ensure!(
            args.format.is_none(),
            "--format is for sweeps, but {} has no experiment.json; remove it for a model or a dataset",
            sweep.display()
        );
        export_model_or_dataset(args)?;
    }
    output::print(args.out.display())?;
    Ok(())
}

fn export_sweep(from: &Path, format: ExportFormat, out: &Path) -> anyhow::Result<()> {
    let ExportSummary { runs, empty } = prospect_report::export(&report::open_sweep(from)?, format, out)?;
    let empty = if empty > 0 { format!("; {empty} more have nothing to export yet") } else { String::new() };
    say(format!("{runs} runs and stages written{empty}"));
    Ok(())
}

/// Exports the held-out prompts of a sweep's finished runs.
fn export_prompts(args: &Args) -> anyhow::Result<()> {
    let options = PromptOptions {
        prompts: args.prompts.map(NonZeroUsize::get),
        max_new_tokens: args.max_new_tokens.map(NonZeroUsize::get),
        mode: None,
    };
    let exported =
        prospect_eval::exchange::export_prompts(&report::open_sweep(&args.from)?, options, &args.out)?;
    let left_out = match exported.left_out {
        0 => String::new(),
        runs => format!("; {runs} left out, unfinished or without trained weights"),
    };
    say(format!(
        "{} prompts of {} runs written{left_out}; README.txt says how to go on",
        exported.prompts, exported.runs
    ));
    Ok(())
}

/// Exports a model or a dataset.
fn export_model_or_dataset(args: &Args) -> anyhow::Result<()> {
    if args.from.is_dir() {
        ensure!(args.overrides.given().is_empty(), "`--set` has no effect on a dataset; remove it");
        let name = args.from.file_name().unwrap_or_default().to_string_lossy();
        let counts = export_llama_factory(&args.from, &name, &args.out)?;
        say(format!("{} rows and pairs written", counts.written));
        if counts.left_out > 0 {
            say(format!(
                "{} skipped: user and assistant do not alternate, or a reply has several turns",
                counts.left_out
            ));
        }
    } else {
        let file: ModelFile = args.overrides.open_model(&args.from)?.read()?;
        file.resolve(&locate)?.load()?.save(&args.out)?;
    }
    Ok(())
}
