//! `prospect sweep status`: shows the progress of a sweep.

use std::path::PathBuf;

use prospect_report::overview::{self, ContentBlock, DisplayTable, Overview, Section, TableCell};
use prospect_sweep::{Remaining, RunState, RunStatus, SlurmStatus, SweepStatus, sweep_status};
use serde::Serialize;

use super::slurm;
use crate::{output, report};

/// Arguments of `prospect sweep status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name (below runs/) or directory of the sweep
    #[arg(value_name = "SWEEP")]
    sweep: PathBuf,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// Progress as `--json` prints it.
#[derive(Serialize)]
struct StatusJson<'a> {
    #[serde(flatten)]
    status: &'a SweepStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    slurm: Option<&'a SlurmStatus>,
}

/// Prints the progress of a sweep, from its directory and from Slurm if it has workers there.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let sweep = report::open_sweep(&args.sweep)?;
    let (status, workers) = (sweep_status(&sweep)?, SlurmStatus::read(&sweep)?);
    if args.json {
        let json = StatusJson { status: &status, slurm: workers.as_ref() };
        output::print(serde_json::to_string_pretty(&json)?)?;
    } else {
        let mut overview = overview(&status);
        overview.sections.extend(workers.as_ref().map(slurm::section));
        output::print(overview.text())?;
    }
    Ok(())
}

fn overview(status: &SweepStatus) -> Overview {
    let SweepStatus { name, question, worked_on, counts, remaining, stages, runs } = status;
    let counts: Vec<String> = counts.iter().map(|(state, runs)| format!("{runs} {state}")).collect();
    let working = match runs.iter().chain(stages).filter(|run| run.worker.is_some()).count() {
        0 | 1 if *worked_on => "; running".to_owned(),
        0 => String::new(),
        several => format!("; {several} running"),
    };
    let mut sections = Vec::new();
    if !stages.is_empty() {
        sections.push(section("Shared stages", table("sft", stages)));
    }
    sections.push(section("Runs", table("", runs)));
    let workers: Vec<String> = runs.iter().chain(stages).filter_map(worker).collect();
    if !workers.is_empty() {
        let blocks = workers.into_iter().map(ContentBlock::Note).collect();
        sections.push(Section { title: "Running".to_owned(), blocks });
    }
    let reasons: Vec<ContentBlock> = runs.iter().chain(stages).filter_map(reason).collect();
    if !reasons.is_empty() {
        sections.push(Section { title: "Failed and stopped".to_owned(), blocks: reasons });
    }
    Overview {
        title: question.clone(),
        lead: vec![
            format!("{name}: {}: {}{working}", output::counted(runs.len(), "run"), counts.join(", ")),
            describe_remaining(remaining),
        ],
        warnings: Vec::new(),
        sections,
    }
}

fn describe_remaining(remaining: &Remaining) -> String {
    let Remaining { runs, stages, seconds, finished_runs } = *remaining;
    let stages = match stages {
        0 => String::new(),
        stages => format!(" and {stages} shared stages of unknown time"),
    };
    match seconds {
        _ if runs == 0 => "remaining: no runs".to_owned(),
        None => format!("remaining: {runs} runs{stages}; no time estimate until a run has finished"),
        Some(seconds) => format!(
            "remaining: {runs} runs{stages}, about {} one run at a time (from {finished_runs} finished)",
            overview::duration(seconds)
        ),
    }
}

fn section(title: &str, table: DisplayTable) -> Section {
    Section { title: title.to_owned(), blocks: vec![ContentBlock::Table(table)] }
}

/// Builds the table of runs with their settings; a run without settings shows `name`.
fn table(name: &str, runs: &[RunStatus]) -> DisplayTable {
    let mut settings: Vec<&String> = runs.iter().flat_map(|run| run.settings.keys()).collect();
    settings.sort_unstable();
    settings.dedup();
    let mut columns: Vec<String> = vec!["run".to_owned()];
    columns.extend(settings.iter().map(|name| (*name).clone()));
    if settings.is_empty() {
        columns.push("stage".to_owned());
    } else {
        columns.push("seed".to_owned());
    }
    columns.extend(["state", "step", "time", "tokens/s"].map(str::to_owned));
    let row = |run: &RunStatus| {
        let value = |key: &&String| TableCell::Text(run.settings.get(*key).map(setting).unwrap_or_default());
        let mut row = vec![TableCell::Text(run.id.clone())];
        row.extend(settings.iter().map(value));
        row.push(if settings.is_empty() {
            TableCell::Text(name.to_owned())
        } else {
            TableCell::count(run.seed)
        });
        row.push(TableCell::Text(run.state.to_string()));
        row.push(TableCell::Number(match (run.state, run.steps) {
            (RunState::ToDo, _) => String::new(),
            (_, Some(steps)) => format!("{}/{steps}", run.step),
            (_, None) => run.step.to_string(),
        }));
        row.push(TableCell::Number(run.seconds.map(overview::duration).unwrap_or_default()));
        row.push(TableCell::Number(
            run.tokens_per_second.map(|rate| format!("{rate:.0}")).unwrap_or_default(),
        ));
        row
    };
    DisplayTable { title: String::new(), columns, rows: runs.iter().map(row).collect() }
}

fn setting(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn worker(run: &RunStatus) -> Option<String> {
    Some(format!("{}: {}", run.id, run.worker.as_ref()?))
}

fn reason(run: &RunStatus) -> Option<ContentBlock> {
    let reason = run.reason.as_ref()?;
    let log = run.log.as_ref().map(|log| format!(" (log: {})", log.display())).unwrap_or_default();
    Some(ContentBlock::Note(format!("{}: {reason}{log}", run.id)))
}
