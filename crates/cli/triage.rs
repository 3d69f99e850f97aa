//! `prospect triage`: ranks the labels of a dataset that look wrong.

mod overview;
mod summary;

use std::{
    io::Write,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use prospect_core::{
    files::{write_json, write_whole},
    shell,
};
use prospect_data::{TriageRow, is_dataset, write_table};
use prospect_runs::SweepDir;
use prospect_sweep::{Execution, Jobs, Parallelism, RankedItem, Ranking, Triage, TriageOptions};
use prospect_train::ObjectiveName;
use strum::VariantArray;

use crate::{
    allocator, locate::SOURCES, output, output::say, overrides::MemoryArgs, sweep::memory,
    triage::summary::TriageSummary,
};

/// Arguments of `prospect triage`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory of a prepared dataset
    #[arg(value_name = "DATASET")]
    dataset: PathBuf,
    /// Model recipe, for example smollm2-135m (`prospect recipes`)
    ///
    /// One policy is trained for each fold, and judges the prompts that it did not train on.
    /// Without a model, only signals that need none are looked for.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    #[command(flatten)]
    policies: PolicyArgs,
    /// Judgements in the table, and with their texts on the page [default: 20, and 200]
    #[arg(long, value_name = "N")]
    show: Option<usize>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Output directory [default: runs/triage-NAME for the dataset NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Options of the policies, which have no effect without a model.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Policies")]
struct PolicyArgs {
    /// Number of folds, and of policies: 3 or more [default: 4]
    #[arg(long, value_name = "N", requires = "model")]
    folds: Option<usize>,
    /// Objective, see docs/objectives.md [default: dpo if all feedback is pairs, else kto]
    #[arg(long, value_name = "NAME", requires = "model")]
    objective: Option<String>,
    /// Passes over the training data of a fold [default: 1; 3 for random weights]
    #[arg(long, value_name = "N", requires = "model")]
    epochs: Option<u64>,
    /// Completions per optimizer step [default: 16]
    #[arg(long, value_name = "N", requires = "model")]
    batch_size: Option<usize>,
    /// Peak learning rate [default: 1e-4 for adapters, 5e-6 for full fine-tuning]
    #[arg(long, value_name = "RATE", requires = "model")]
    learning_rate: Option<f64>,
    /// Maximum tokens of prompt and completion together [default: 512, or the limit of the model]
    #[arg(long, value_name = "N", requires = "model")]
    max_length: Option<usize>,
    /// Train an SFT stage first; random weights always have one
    #[arg(long, requires = "model")]
    sft: bool,
    /// Seed of the folds, the adapter and the data order [default: 0]
    #[arg(long, value_name = "N", requires = "model")]
    seed: Option<u64>,
    /// Set any other key below `train.`, `sft.` or `model.`, as in `--set train.beta=0.2`
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "model")]
    set: Vec<String>,
    #[command(flatten)]
    memory: MemoryArgs,
    /// Number of policies to train in parallel [default: 1]
    #[arg(long, value_name = "N", requires = "model")]
    jobs: Option<NonZeroUsize>,
}

impl Args {
    fn out(&self) -> PathBuf {
        let name = self.dataset.file_name().unwrap_or_default().to_string_lossy();
        self.out.clone().unwrap_or_else(|| Path::new("runs").join(format!("triage-{name}")))
    }

    fn options(&self, model: &Path) -> anyhow::Result<TriageOptions> {
        let policies = &self.policies;
        let objective = policies.objective.as_deref().map(objective).transpose()?;
        let mut settings = policies.set.clone();
        if let Some(setting) = settings.iter().find(|setting| setting.starts_with("data.")) {
            bail!("--set {setting}: the dataset is prepared already; set it in `prospect prepare`");
        }
        settings.extend(policies.memory.setting());
        Ok(TriageOptions {
            dataset: self.dataset.clone(),
            model: model.display().to_string(),
            objective,
            folds: policies.folds.unwrap_or(4),
            epochs: policies.epochs,
            batch_size: policies.batch_size.unwrap_or(16),
            learning_rate: policies.learning_rate,
            max_length: policies.max_length,
            sft: policies.sft,
            seed: policies.seed.unwrap_or_default(),
            settings,
        })
    }
}

/// Parses the name of an objective.
fn objective(name: &str) -> anyhow::Result<ObjectiveName> {
    let found = ObjectiveName::VARIANTS.iter().find(|objective| objective.to_string() == name);
    found.copied().with_context(|| format!("--objective: there is no `{name}`; see docs/objectives.md"))
}

/// Ranks the judgements, writes the results, and prints them.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if !is_dataset(&args.dataset) {
        bail!("{} is no prepared dataset; make one with `prospect prepare`", args.dataset.display());
    }
    let out = args.out();
    let triage = Triage::read(&args.dataset)?;
    let ranking = match &args.model {
        None => triage.rank_by_signals(),
        Some(model) => by_model(triage, args, model, &out)?,
    };
    let name = args.dataset.display().to_string();
    let summary = TriageSummary::new(&name, &ranking);
    let files = write(&out, &name, &summary, &ranking, args)?;
    if args.json {
        output::print(serde_json::to_string_pretty(&summary)?)?;
    } else {
        output::print(overview::terminal(&summary, &ranking, args.show).text())?;
    }
    for (what, path) in files {
        say(format!("{what}: {}", path.display()));
    }
    Ok(())
}

/// Trains the policies of all folds, or resumes them.
fn by_model(triage: Triage, args: &Args, model: &Path, out: &Path) -> anyhow::Result<Ranking> {
    allocator::retain();
    let plan = triage.plan(&args.options(model)?, &SOURCES, out)?;
    let jobs = args.policies.jobs.unwrap_or(NonZeroUsize::MIN);
    memory::check(&plan.sweep, Parallelism { ranks: 1, zero: None, jobs: jobs.get() }, 0)?;
    let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    let command = shell::command_line("prospect", arguments);
    let execution = Execution { jobs: Jobs::Fixed(jobs), retry_failed: true, ..Execution::default() };
    Ok(triage.rank(&plan, &SweepDir::at(out.to_owned()), &execution, &command)?)
}

/// Writes table, list, JSON and page, and returns their paths.
fn write(
    out: &Path,
    name: &str,
    summary: &TriageSummary,
    ranking: &Ranking,
    args: &Args,
) -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
    fs_err::create_dir_all(out)?;
    let rows: Vec<TriageRow<'_>> = ranking.items.iter().map(RankedItem::row).collect();
    let [table, list, json, page] =
        ["triage.parquet", "suspects.txt", "triage.json", "index.html"].map(|file| out.join(file));
    write_table(&table, &rows)?;
    let entries: String = ranking.items.iter().filter_map(entry).collect();
    write_whole(&list, |file| file.write_all(entries.as_bytes()))?;
    write_json(&json, summary)?;
    let html = overview::page(name, summary, ranking, args.show).html()?;
    write_whole(&page, |file| file.write_all(html.as_bytes()))?;
    Ok(vec![
        ("table", table),
        ("list for `exclude` or `flip` of a recipe", list),
        ("summary", json),
        ("page", page),
    ])
}

/// Line of a ranked judgement in the list.
fn entry(item: &RankedItem) -> Option<String> {
    let rank = item.rank?;
    let disagreement = item.disagreement.map(|value| format!(", {value:.3}")).unwrap_or_default();
    let signals = item.row().signals();
    Some(format!("{} # {rank}{disagreement}, {signals}\n", item.item.list_entry()))
}
