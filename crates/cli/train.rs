//! `prospect train`: trains one run, without an experiment file.
//!
//! Runs of several calls with the same output directory form a sweep, which `prospect report`
//! compares.

mod run_folder;

use std::path::{Path, PathBuf};

use prospect_analysis::summarise;
use prospect_core::{config::Document, shell};
use prospect_runs::{Estimate, Measure, Point, SweepDir};
use prospect_sweep::{Execution, LoadedExperiment, Parallelism, execute};
use serde_json::json;

use crate::{
    allocator,
    locate::SOURCES,
    output,
    output::say,
    overrides::MemoryArgs,
    ranks::RankArgs,
    sweep::{
        memory,
        outlook::{self, Announcer},
    },
};

/// Arguments of `prospect train`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Data recipe, for example hh (`prospect recipes`), a file or folder of feedback, or a
    /// prepared dataset
    #[arg(value_name = "RECIPE|FEEDBACK|DATASET")]
    data: PathBuf,
    /// Model recipe, for example smollm2-135m (`prospect recipes`)
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Objective: kto, dpo, or another of docs/objectives.md
    #[arg(long, value_name = "NAME", default_value = "kto")]
    objective: String,
    /// Peak learning rate
    #[arg(long, value_name = "RATE", default_value_t = 1e-4)]
    learning_rate: f64,
    /// Completions per optimizer step
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch_size: usize,
    /// Maximum tokens of prompt and completion together
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_length: usize,
    /// Seed of the adapter, the data order, imbalance and noise
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Set any other key below `train.`, `data.` or `model.`, as in `--set train.beta=0.2`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    ranks: RankArgs,
    /// Output directory
    ///
    /// Runs of several calls with the same directory can be compared with `prospect report DIR`.
    #[arg(long, value_name = "DIR", default_value = "runs/train")]
    out: PathBuf,
}

/// Setting of a run that names it among the runs of its directory.
const RUN: &str = "run";

/// Names of settings that tell runs apart.
const OBJECTIVE: &str = "objective";
const DATA: &str = "data";

impl Args {
    /// Describes the run as an experiment with one combination and one seed.
    fn experiment(&self) -> serde_json::Value {
        let Self { objective, learning_rate, batch_size, max_length, .. } = self;
        json!({
            "question": format!("How well does {objective} train on {}?", self.data.display()),
            "data": self.data,
            "model": self.model,
            "train": { "learning_rate": learning_rate, "batch_size": batch_size, "max_length": max_length },
            "linked": { RUN: { objective: { "train.objective": objective } } },
            "seeds": [self.seed],
            "report": { "x": RUN, "series": RUN, "baseline": objective },
        })
    }

    /// Settings that tell runs of one directory apart, by name.
    fn distinguishing(&self) -> Vec<(String, String)> {
        let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut settings = vec![
            (OBJECTIVE.to_owned(), self.objective.clone()),
            (DATA.to_owned(), stem(&self.data)),
            ("model".to_owned(), stem(&self.model)),
            ("learning_rate".to_owned(), self.learning_rate.to_string()),
            ("batch_size".to_owned(), self.batch_size.to_string()),
            ("max_length".to_owned(), self.max_length.to_string()),
        ];
        settings.extend(self.set.iter().filter_map(|set| {
            let (key, value) = set.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        }));
        settings
    }
}

/// Describes the result of a run, such as `kto: 9 steps, accuracy on held-out pairs 61.0 % (…)`.
fn describe(point: &Point) -> String {
    let Point { series, steps, .. } = point;
    let Some((measure, Estimate { value, low, high })) = point.headline() else {
        return format!("{series}: {steps} steps");
    };
    let measure = match measure {
        Measure::Auc => "AUC on held-out thumbs",
        Measure::Accuracy | Measure::Utility => "accuracy on held-out pairs",
    };
    let [value, low, high] = [value, low, high].map(|share| 100.0 * share);
    format!("{series}: {steps} steps, {measure} {value:.1} % (95 % interval {low:.1} to {high:.1})")
}

/// Trains the run, or resumes it if a call with the same arguments was interrupted, and prints its
/// path.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    allocator::retain();
    let mut set = args.set.clone();
    set.extend(args.memory.setting());
    let document = Document::from_text("prospect train", &args.experiment().to_string())?;
    let experiment = LoadedExperiment::read("train", document, &set)?;
    let joined = args.ranks.join()?;
    let group = &joined.process_group;
    let plan = outlook::plan(&experiment, &SOURCES, &args.out, &joined, Some(Announcer::Train))?;
    let sweep = SweepDir::at(args.out.clone());
    let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    let command = shell::command_line("prospect", arguments);
    let execution = Execution { retry_failed: true, member: group.clone(), ..Execution::default() };
    if group.is_main_process() {
        let parallelism = Parallelism { jobs: 1, ranks: group.collective.world_size(), zero: group.zero() };
        memory::check(&plan, parallelism, group.local_rank)?;
        outlook::announce(&plan, &sweep, &execution, parallelism, Announcer::Train)?;
    }
    let executed = execute(&plan, &sweep, &execution, &[command])?;
    joined.process_group.collective.finish()?;
    if !joined.process_group.is_main_process() {
        return Ok(());
    }
    anyhow::ensure!(executed.failed == 0, "training failed");
    let names = run_folder::add(&sweep, &args.distinguishing())?;
    let summary = summarise(&sweep)?;
    for point in summary.points.iter().filter(|point| names.new.contains(&point.series)) {
        say(describe(point));
    }
    if summary.points.is_empty() {
        say(&summary.verdict);
    }
    if names.all > 1 {
        say(format!(
            "{} runs in {}: `prospect report {}` compares them",
            names.all,
            args.out.display(),
            shell::word(&args.out.display().to_string())
        ));
    }
    for run in &plan.runs {
        output::print(sweep.run(&run.id).path().display())?;
    }
    Ok(())
}
