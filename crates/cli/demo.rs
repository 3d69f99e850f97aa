//! `prospect demo`: the whole pipeline on synthetic feedback, without network, data or a model.

use std::{num::NonZeroUsize, path::PathBuf};

use prospect_core::config::Document;
use prospect_sweep::{LoadedExperiment, RecipeSources};

use crate::{
    locate::locate,
    sweep::{ExecutionArgs, carry_out},
};

/// Arguments of `prospect demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Output directory for runs and report
    #[arg(long, value_name = "DIR", default_value = "runs/demo")]
    out: PathBuf,
}

/// Files of the demo, embedded from the repository.
const FILES: [(&str, &str); 3] = [
    ("experiments/demo.yaml", include_str!("../../experiments/demo.yaml")),
    ("pipelines/worlds.yaml", include_str!("../../pipelines/worlds.yaml")),
    ("models/tiny.yaml", include_str!("../../models/tiny.yaml")),
];

/// Runs the embedded experiment and prints the path of its report.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let open = |path: &str| {
        let text = FILES.iter().find(|(name, _)| *name == path).map_or("", |(_, text)| text);
        Document::from_text(path, text)
    };
    let experiment = LoadedExperiment::read(FILES[0].0, open(FILES[0].0)?, &[])?;
    let sources = RecipeSources { recipe: &open, data: &open, locate: &locate };
    carry_out(
        &experiment,
        &sources,
        &args.out,
        Some(&args.out.join("report")),
        &["prospect demo".to_owned()],
        // Two runs at a time use two cores better than one run does. Results do not depend on it.
        &ExecutionArgs::with_jobs(NonZeroUsize::MIN.saturating_add(1)),
    )
}
