//! `prospect export`: a model to a folder that `transformers` and `peft` load, a dataset to one that LLaMA-Factory loads.

use std::path::PathBuf;

use prospect_core::progress::say;
use prospect_data::export_llama_factory;
use prospect_model::ModelFile;

use crate::{locate::locate, output, overrides::Overrides};

/// Arguments of `prospect export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A model recipe, for example models/smollm2-135m.yaml, for a folder that transformers and peft load; or a dataset
    /// that `prospect prepare` made, for a folder that LLaMA-Factory loads
    #[arg(value_name = "MODEL|DATASET")]
    from: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Writes the model in Hugging Face layout or the dataset in LLaMA-Factory's, and prints where it is.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.from.is_dir() {
        anyhow::ensure!(args.overrides.given().is_empty(), "`--set` has no effect on a dataset; remove it");
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
    output::print(args.out.display())?;
    Ok(())
}
