//! `prospect preview`: shows examples of a dataset as training sees them.

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
};

use prospect_core::config::Document;
use prospect_data::Split;
use prospect_model::ModelFile;
use prospect_train::{Preview, PreviewStyle, TrainFile, preview, render_previews};

use crate::{
    locate::{locate, model},
    output,
    output::say,
};

/// Arguments of `prospect preview`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory of a prepared dataset
    #[arg(value_name = "DIR")]
    dataset: PathBuf,
    /// Model recipe, for its tokenizer and chat template
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Number of examples
    #[arg(short = 'n', long, value_name = "N", default_value_t = 5)]
    count: usize,
    /// Split: training examples in the order of the first epoch, or held-out feedback
    #[arg(long, value_enum, default_value = "train")]
    split: SplitName,
    /// Objective: labelled completions with their KL partners (kto), or pairs (dpo)
    #[arg(long, value_enum, default_value = "kto")]
    objective: PreviewObjective,
    /// Maximum tokens of prompt and completion together
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    max_length: usize,
    /// Maximum tokens of the prompt [default: half of --max-length]
    #[arg(long, value_name = "TOKENS")]
    max_prompt_length: Option<usize>,
    /// Completions per batch, from which KL partners are chosen
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch_size: usize,
    /// Seed of the order of the examples
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum SplitName {
    Train,
    Test,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum, strum::Display)]
#[strum(serialize_all = "lowercase")]
enum PreviewObjective {
    Kto,
    Dpo,
}

/// Prints the examples.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let file: ModelFile = model(&args.model.display().to_string())?.read()?;
    let model = file.resolve(&locate)?.load()?;
    let mut settings = Document::from_text("preview", "learning_rate: 1")?;
    settings.set("objective", args.objective.to_string().into())?;
    settings.set("max_length", args.max_length.into())?;
    settings.set("batch_size", args.batch_size.into())?;
    if let Some(tokens) = args.max_prompt_length {
        settings.set("max_prompt_length", tokens.into())?;
    }
    let settings = settings.read::<TrainFile>()?.resolve()?;
    let split = match args.split {
        SplitName::Train => Split::Train,
        SplitName::Test => Split::Test,
    };
    let Preview { examples, left_out } =
        preview(&args.dataset, split, &model, &settings, args.seed, args.count)?;
    for sentence in left_out {
        say(sentence);
    }
    if examples.len() < args.count {
        say(format!("the split has {} examples; all are shown", examples.len()));
    }
    let colour = io::stdout().is_terminal() && output::colours();
    let style = if colour { PreviewStyle::Colour } else { PreviewStyle::Plain };
    output::print(render_previews(&examples, style))?;
    Ok(())
}
