//! State of submitted jobs, from `squeue` and `sacct`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use prospect_runs::SweepDir;
use serde::Serialize;

use super::{SubmittedJob, slurm_folder};
use crate::SweepError;

/// State of a sweep's workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlurmStatus {
    /// Job id of the array.
    pub job: String,
    /// Tasks that Slurm reports.
    pub tasks: Vec<SlurmTask>,
    /// Explanation of missing tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A worker: a task of an array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlurmTask {
    /// Task number, or the range of tasks that are pending together.
    pub task: String,
    /// State, as Slurm names it.
    pub state: String,
    /// Node.
    pub node: String,
    /// Elapsed time.
    pub time: String,
    /// Reason for waiting or for the end, as Slurm names it.
    pub reason: String,
    /// Log file.
    pub log: PathBuf,
}

/// Final states of a job.
const FINAL_STATES: [&str; 10] = [
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
];

impl SlurmStatus {
    /// Returns the state of the workers last submitted for a sweep; None if there never were any.
    pub fn read(sweep: &SweepDir) -> Result<Option<Self>, SweepError> {
        let folder = slurm_folder(sweep);
        Ok(SubmittedJob::read(&folder)?.map(|job| Self::query(&job, &folder)))
    }

    /// Asks `squeue` for the job's tasks, and `sacct` for those that `squeue` no longer lists.
    pub(super) fn query(job: &SubmittedJob, folder: &Path) -> Self {
        let mut errors = Vec::new();
        let mut rows = match squeue(job) {
            Answer::Rows(rows) => rows,
            Answer::UnknownJob => Vec::new(),
            Answer::Error(error) => {
                errors.push(error);
                Vec::new()
            }
        };
        let is_known = |rows: &[TaskRow], task: &str| rows.iter().any(|row| row.task == task);
        let missing = |rows: &[TaskRow]| -> Vec<String> {
            (0..job.workers).map(|task| task.to_string()).filter(|task| !is_known(rows, task)).collect()
        };
        if !missing(&rows).is_empty() {
            match sacct(job) {
                Answer::Rows(older) => {
                    let older: Vec<TaskRow> =
                        older.into_iter().filter(|row| !is_known(&rows, &row.task)).collect();
                    rows.extend(older);
                }
                Answer::UnknownJob => {}
                Answer::Error(error) => errors.push(error),
            }
        }
        let missing = missing(&rows);
        let note = if missing.is_empty() {
            errors.into_iter().next()
        } else {
            let cause = if errors.is_empty() { String::new() } else { format!(" ({})", errors.join("; ")) };
            Some(format!(
                "Slurm no longer knows {} {}{cause}; the table of runs shows what they have done",
                if missing.len() == 1 { "task" } else { "tasks" },
                missing.join(", ")
            ))
        };
        rows.sort_by_key(|row| row.task.parse::<usize>().unwrap_or(usize::MAX));
        let tasks = rows.into_iter().map(|TaskRow { task, state, node, time, reason }| SlurmTask {
            log: folder.join(format!("{}_{task}.log", job.id)),
            task,
            state,
            node,
            time,
            reason: if reason == "None" { String::new() } else { reason },
        });
        Self { job: job.id.clone(), tasks: tasks.collect(), note }
    }
}

/// Returns true if a task of the job is queued or running.
pub(super) fn is_active(job: &SubmittedJob) -> Result<bool, SweepError> {
    match squeue(job) {
        Answer::Rows(rows) => Ok(rows.iter().any(|row| !FINAL_STATES.contains(&row.state.as_str()))),
        Answer::UnknownJob => Ok(false),
        Answer::Error(error) => Err(SweepError::Slurm(format!(
            "cannot tell whether job {} is still active, so nothing is submitted: {error}",
            job.id
        ))),
    }
}

/// Columns of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TaskRow {
    task: String,
    state: String,
    node: String,
    time: String,
    reason: String,
}

/// Answer of a Slurm program about a job.
enum Answer {
    Rows(Vec<TaskRow>),
    /// The job is unknown, or no longer known.
    UnknownJob,
    /// No answer.
    Error(String),
}

fn squeue(job: &SubmittedJob) -> Answer {
    let options = ["--noheader", "--array", "--states=all", "--format=%K|%T|%N|%M|%r", "--jobs"];
    match query("squeue", &options, &job.id) {
        Ok(text) => Answer::Rows(text.lines().filter_map(TaskRow::parse).collect()),
        Err(error) if error.contains("Invalid job id") => Answer::UnknownJob,
        Err(error) => Answer::Error(error),
    }
}

fn sacct(job: &SubmittedJob) -> Answer {
    let options = [
        "--noheader",
        "--allocations",
        "--parsable2",
        "--format=JobID,State,NodeList,Elapsed,ExitCode",
        "--jobs",
    ];
    match query("sacct", &options, &job.id) {
        Ok(text) => Answer::Rows(text.lines().filter_map(TaskRow::parse_accounting).collect()),
        Err(error) => Answer::Error(error),
    }
}

impl TaskRow {
    /// Parses a line of `squeue`.
    fn parse(line: &str) -> Option<Self> {
        let mut columns = line.trim().splitn(5, '|').map(str::to_owned);
        Some(Self {
            task: columns.next()?,
            state: columns.next()?,
            node: columns.next()?,
            time: columns.next()?,
            reason: columns.next()?,
        })
    }

    /// Parses a line of `sacct` into the same columns: job `12_0` is task 0, `CANCELLED by 0` is
    /// `CANCELLED`, and an exit code becomes the reason.
    fn parse_accounting(line: &str) -> Option<Self> {
        let Self { task: job, state, node, time, reason: code } = Self::parse(line)?;
        let task = job.split_once('_').map_or(job.as_str(), |(_, task)| task).to_owned();
        let state = state.split_whitespace().next().unwrap_or_default().to_owned();
        let reason = if code == "0:0" { String::new() } else { format!("exit code {code}") };
        Some(Self { task, state, node, time, reason })
    }
}

/// Runs a Slurm program on a job and returns its output or its error message.
fn query(program: &str, options: &[&str], job: &str) -> Result<String, String> {
    let output = Command::new(program).args(options).arg(job).output();
    let output = output.map_err(|error| format!("cannot start `{program}`: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(format!("`{program}`: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(row: &TaskRow) -> [&str; 5] {
        [&row.task, &row.state, &row.node, &row.time, &row.reason]
    }

    #[test]
    fn rows_of_both_programs_are_alike() {
        let queued = TaskRow::parse("3|RUNNING|n1|0:02|None\n").unwrap();
        assert_eq!(columns(&queued), ["3", "RUNNING", "n1", "0:02", "None"]);
        let accounted = TaskRow::parse_accounting("7_3|CANCELLED by 0|n1|00:00:02|0:15").unwrap();
        assert_eq!(columns(&accounted), ["3", "CANCELLED", "n1", "00:00:02", "exit code 0:15"]);
        assert_eq!(TaskRow::parse("nothing"), None);
    }

    #[test]
    fn no_damaged_row_panics() {
        for row in ["3|RUNNING|n1|0:02|None", "7_3|CANCELLED by 0|n1|00:00:02|0:15"] {
            for round in 0..prospect_testkit::fuzz_rounds(1000) {
                let damaged = prospect_testkit::mutated(row.as_bytes(), round);
                let damaged = String::from_utf8_lossy(&damaged);
                let _ = (TaskRow::parse(&damaged), TaskRow::parse_accounting(&damaged));
            }
        }
    }
}
