//! What Slurm says of a sweep's workers.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use prospect_runs::SweepDir;
use serde::Serialize;

use super::{Job, folder};
use crate::SweepError;

/// How the workers of a sweep stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlurmStanding {
    /// The number of the array.
    pub job: String,
    /// Its tasks, as far as Slurm knows them.
    pub tasks: Vec<Task>,
    /// What is not known of them, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A worker: a task of an array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Task {
    /// Its number, or the range of those that wait together.
    pub task: String,
    /// Slurm's word for how it stands.
    pub state: String,
    /// Where it runs or ran.
    pub node: String,
    /// For how long.
    pub time: String,
    /// Why it waits or ended, in Slurm's word.
    pub reason: String,
    /// What it printed.
    pub log: PathBuf,
}

/// States that a job does not come back from.
const ENDED: [&str; 10] = [
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

impl SlurmStanding {
    /// How the workers stand that were last submitted for a sweep; None if there never were any.
    pub fn read(sweep: &SweepDir) -> Result<Option<Self>, SweepError> {
        let folder = folder(sweep);
        Ok(Job::read(&folder)?.map(|job| standing_of(&job, &folder)))
    }
}

/// Whether a task of the job is queued or running.
pub(super) fn is_at_work(job: &Job) -> Result<bool, SweepError> {
    match squeue(job) {
        Answer::Rows(rows) => Ok(rows.iter().any(|row| !ENDED.contains(&row[1].as_str()))),
        Answer::Unknown => Ok(false),
        Answer::None(why) => Err(SweepError::Slurm(format!(
            "cannot tell whether workers of job {} are at work, so none are submitted: {why}",
            job.id
        ))),
    }
}

/// How the job's tasks stand: by `squeue`, and where that knows them no longer, by `sacct`.
pub(super) fn standing_of(job: &Job, folder: &Path) -> SlurmStanding {
    let mut notes = Vec::new();
    let mut rows = match squeue(job) {
        Answer::Rows(rows) => rows,
        Answer::Unknown => Vec::new(),
        Answer::None(why) => {
            notes.push(why);
            Vec::new()
        }
    };
    let known = |rows: &[Row], task: &str| rows.iter().any(|row| row[0] == task);
    let missing = |rows: &[Row]| -> Vec<String> {
        (0..job.workers).map(|task| task.to_string()).filter(|task| !known(rows, task)).collect()
    };
    if !missing(&rows).is_empty() {
        match sacct(job) {
            Answer::Rows(older) => {
                let older: Vec<Row> = older.into_iter().filter(|row| !known(&rows, &row[0])).collect();
                rows.extend(older);
            }
            Answer::Unknown => {}
            Answer::None(why) => notes.push(why),
        }
    }
    let forgotten = missing(&rows);
    if !forgotten.is_empty() {
        let why = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
        notes = vec![format!(
            "Slurm tells nothing of {} {}{why}; what their runs have come to stands above",
            if forgotten.len() == 1 { "task" } else { "tasks" },
            forgotten.join(", ")
        )];
    }
    let number = |row: &Row| row[0].parse::<usize>().unwrap_or(usize::MAX);
    rows.sort_by_key(number);
    let log = |task: &str| folder.join(format!("{}_{task}.log", job.id));
    let tasks = rows.into_iter().map(|[task, state, node, time, reason]| Task {
        log: log(&task),
        task,
        state,
        node,
        time,
        reason: if reason == "None" { String::new() } else { reason },
    });
    SlurmStanding { job: job.id.clone(), tasks: tasks.collect(), note: notes.into_iter().next() }
}

/// Task, state, node, time and reason.
type Row = [String; 5];

enum Answer {
    Rows(Vec<Row>),
    /// It knows no such job (any longer).
    Unknown,
    /// It does not answer, and why.
    None(String),
}

fn squeue(job: &Job) -> Answer {
    let options = ["--noheader", "--array", "--states=all", "--format=%K|%T|%N|%M|%r", "--jobs"];
    match ask("squeue", &options, &job.id) {
        Ok(text) => Answer::Rows(text.lines().filter_map(row).collect()),
        Err(why) if why.contains("Invalid job id") => Answer::Unknown,
        Err(why) => Answer::None(why),
    }
}

fn sacct(job: &Job) -> Answer {
    let options = [
        "--noheader",
        "--allocations",
        "--parsable2",
        "--format=JobID,State,NodeList,Elapsed,ExitCode",
        "--jobs",
    ];
    match ask("sacct", &options, &job.id) {
        Ok(text) => Answer::Rows(text.lines().filter_map(row).map(of_accounting).collect()),
        Err(why) => Answer::None(why),
    }
}

fn row(line: &str) -> Option<Row> {
    let columns: Vec<String> = line.trim().splitn(5, '|').map(str::to_owned).collect();
    columns.try_into().ok()
}

/// A row of `sacct` like those of `squeue`: `12_0` is task 0, and who cancelled it is no state.
fn of_accounting([job, state, node, time, code]: Row) -> Row {
    let task = job.split_once('_').map_or(job.as_str(), |(_, task)| task).to_owned();
    let state = state.split_whitespace().next().unwrap_or_default().to_owned();
    let reason = if code == "0:0" { String::new() } else { format!("exit code {code}") };
    [task, state, node, time, reason]
}

/// What a program says of a job, or why it says nothing.
fn ask(program: &str, options: &[&str], job: &str) -> Result<String, String> {
    let output = Command::new(program).args(options).arg(job).output();
    let output = output.map_err(|error| format!("`{program}` cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(format!("`{program}`: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_both_programs_are_alike() {
        let of_queue = row("3|RUNNING|n1|0:02|None\n").unwrap();
        assert_eq!(of_queue, ["3", "RUNNING", "n1", "0:02", "None"]);
        let of_account = row("7_3|CANCELLED by 0|n1|00:00:02|0:15").map(of_accounting).unwrap();
        assert_eq!(of_account, ["3", "CANCELLED", "n1", "00:00:02", "exit code 0:15"]);
        assert_eq!(row("nothing"), None);
    }
}
