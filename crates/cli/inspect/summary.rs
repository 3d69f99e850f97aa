//! Summary of a dataset.

use std::{io::Write, path::Path};

use prospect_core::{files::write_whole, progress::Progress};
use prospect_data::{TokenCounter, read_manifest};
use prospect_model::ModelFile;
use prospect_query::{DatasetSummary, summarise};
use prospect_train::token_counter;

use super::Args;
use crate::{
    dataset_overview,
    locate::{locate, model},
    output,
    output::say,
};

/// Summarises the dataset and prints the summary.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let summary = match &args.model {
        None => summary(args, None)?,
        Some(path) => {
            let file: ModelFile = model(&path.display().to_string())?.read()?;
            summary(args, Some(&token_counter(&file.resolve(&locate)?)?))?
        }
    };
    if let Some(path) = &args.html {
        let html = dataset_overview::overview(&args.dataset.display().to_string(), &summary).html()?;
        write_whole(path, |file| file.write_all(html.as_bytes()))?;
        say(format!("page: {}", path.display()));
    }
    if args.json {
        output::print(serde_json::to_string_pretty(&summary)?)?;
    } else {
        output::print(dataset_overview::overview(&args.dataset.display().to_string(), &summary).text())?;
    }
    Ok(())
}

fn summary(args: &Args, tokens: Option<&TokenCounter>) -> anyhow::Result<DatasetSummary> {
    let dataset: &Path = &args.dataset;
    let Some(tokens) = tokens else {
        return Ok(summarise(dataset, None, args.examples, &|_| {})?);
    };
    let manifest = read_manifest(dataset)?;
    let rows =
        [manifest.train, manifest.test].iter().map(|split| split.n_desirable + split.n_undesirable).sum();
    let progress = Progress::new("reading", "rows", rows);
    Ok(summarise(dataset, Some(tokens), args.examples, &|rows| progress.advance(rows, ""))?)
}
