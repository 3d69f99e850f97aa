//! `prospect sweep --executor slurm`: submits workers to a cluster.

use std::{num::NonZeroUsize, path::Path};

use anyhow::Context;
use prospect_core::shell;
use prospect_report::overview::{ContentBlock, DisplayTable, Section, TableCell};
use prospect_runs::SweepDir;
use prospect_sweep::{
    Execution, LoadedExperiment, SlurmStatus, SlurmTask, Submission, SubmissionOutcome, SweepPlan,
    count_pending, record_plan,
};

use super::ExecutionArgs;
use crate::{output, output::say, profile};

/// Submits workers for the remaining runs, or prints their script. Returns false if no runs
/// remain.
pub(super) fn submit(
    experiment: &LoadedExperiment,
    plan: &SweepPlan,
    sweep: &SweepDir,
    execution: &Execution,
    commands: &[String],
    options: &ExecutionArgs,
) -> anyhow::Result<bool> {
    let left = count_pending(plan, sweep, execution)?;
    let Some(max_workers) = NonZeroUsize::new(left.div_ceil(execution.jobs.most())) else { return Ok(false) };
    let profile = profile::find(options.profile.as_deref(), Path::new(&experiment.file))?;
    let out = sweep.path().display().to_string();
    let command = commands.first().context("a sweep has a command")?;
    let mut words = vec![
        command.strip_prefix("prospect ").unwrap_or(command).to_owned(),
        format!("--out {}", shell::word(&out)),
    ];
    words.extend(options.worker_options());
    words.push("--executor worker".to_owned());
    let arguments = words.join(" ");
    let submission =
        Submission { name: &experiment.name, sweep, profile: &profile, arguments: &arguments, max_workers };
    if options.planning.dry_run {
        output::print(submission.script()?.trim_end())?;
        return Ok(true);
    }
    record_plan(plan, sweep, commands)?;
    let job = match submission.submit()? {
        SubmissionOutcome::Submitted { job, workers } => {
            say(format!("submitted job {job}: {workers} workers for {left} remaining runs"));
            job
        }
        SubmissionOutcome::AlreadyActive(status) => {
            say(format!(
                "job {} already has workers for the {left} remaining runs ({}): submitted none",
                status.job,
                count_states(&status)
            ));
            status.job
        }
    };
    say(format!(
        "see progress with `prospect sweep status {}`, cancel with `scancel {job}`; run this command again when they have ended",
        shell::word(&out)
    ));
    output::print(job)?;
    Ok(true)
}

/// Counts the tasks in each state.
pub(super) fn count_states(status: &SlurmStatus) -> String {
    let mut states: Vec<(String, usize)> = Vec::new();
    for task in &status.tasks {
        let state = task.state.to_lowercase().replace('_', " ");
        match states.iter_mut().find(|(other, _)| *other == state) {
            Some((_, count)) => *count += 1,
            None => states.push((state, 1)),
        }
    }
    states.into_iter().map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
}

/// Builds the section of the status that lists the workers.
pub(super) fn section(status: &SlurmStatus) -> Section {
    let columns = ["task", "state", "node", "time", "reason", "log"].map(str::to_owned).to_vec();
    let row = |task: &SlurmTask| {
        let SlurmTask { task, state, node, time, reason, log } = task;
        let log = if log.exists() { log.display().to_string() } else { String::new() };
        let texts = [task, &state.to_lowercase().replace('_', " "), node];
        let mut row: Vec<TableCell> = texts.into_iter().cloned().map(TableCell::Text).collect();
        row.extend([TableCell::Number(time.clone()), TableCell::Text(reason.clone()), TableCell::Text(log)]);
        row
    };
    let rows: Vec<_> = status.tasks.iter().map(row).collect();
    let mut blocks = Vec::new();
    if !rows.is_empty() {
        blocks.push(ContentBlock::Table(DisplayTable { title: String::new(), columns, rows }));
    }
    blocks.extend(status.note.clone().map(ContentBlock::Note));
    Section { title: format!("Workers: Slurm job {}", status.job), blocks }
}
