//! `prospect demo`: the whole pipeline on synthetic feedback, without network, data or a model.

use std::path::PathBuf;

use prospect_sweep::{LoadedExperiment, RecipeSources};

use crate::{
    locate::locate,
    recipes::{self, RecipeKind},
    sweep::{ExecutionArgs, carry_out},
};

/// Arguments of `prospect demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Output directory for runs and report
    #[arg(long, value_name = "DIR", default_value = "runs/demo")]
    out: PathBuf,
}

/// Runs the built-in experiment and prints the path of its report.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let model = |path: &str| recipes::open_built_in(RecipeKind::Models, path);
    let data = |path: &str| recipes::open_built_in(RecipeKind::Pipelines, path);
    let experiment =
        LoadedExperiment::read("demo", recipes::open_built_in(RecipeKind::Experiments, "demo")?, &[])?;
    let sources = RecipeSources { recipe: &model, data: &data, locate: &locate };
    carry_out(
        &experiment,
        &sources,
        &args.out,
        Some(&args.out.join("report")),
        &["prospect demo".to_owned()],
        &ExecutionArgs::default(),
    )
}
