//! `prospect export`: a model recipe to a folder that `transformers` and `peft` load.

use std::path::PathBuf;

use prospect_model::ModelFile;

use crate::{locate::locate, output, overrides::Overrides};

/// Arguments of `prospect export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model recipe, for example models/smollm2-135m.yaml
    model: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Loads the model, writes it in Hugging Face layout and prints where it is.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let file: ModelFile = args.overrides.open(&args.model)?.read()?;
    file.resolve(&locate)?.load()?.save(&args.out)?;
    output::print(args.out.display())?;
    Ok(())
}
