//! Several processes that share a sweep: they divide the runs, resume those of a dead process, and
//! give the same results.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    support::Place,
    sweep::{assert_same, place, results},
};

/// Starts a process with the host name `host` and a short heartbeat interval.
fn start(place: &Place, host: &str, args: &str) -> Child {
    let mut command = place.command(args);
    command.env("PROSPECT_HOST", host).env("PROSPECT_HEARTBEAT", "0.5");
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for a process, which must succeed, and returns its standard error.
fn end(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

/// Parses the number of runs that a process has finished.
fn finished(said: &str) -> usize {
    let line = said.lines().find(|line| line.contains(" runs finished")).unwrap();
    line.split(' ').next().unwrap().parse().unwrap()
}

pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_mins(5), "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Counts the optimizer steps in all records below a folder, which processes may be working on.
pub(crate) fn steps_below(folder: &Path) -> usize {
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    let steps = |path: PathBuf| match path {
        path if path.is_symlink() => 0,
        path if path.is_dir() => steps_below(&path),
        path if path.ends_with("metrics.jsonl") => {
            fs_err::read_to_string(path).unwrap_or_default().matches("\"train\"").count()
        }
        _ => 0,
    };
    entries.map(|entry| steps(entry.path())).sum()
}

pub(crate) fn status(place: &Place, sweep: &str) -> Option<Value> {
    serde_json::from_str(&place.run(&format!("sweep status {sweep} --json")).stdout).ok()
}

/// Returns the running runs that have a checkpoint, with their workers.
pub(crate) fn running(place: &Place, sweep: &str) -> Vec<(PathBuf, String)> {
    let Some(status) = status(place, sweep) else { return Vec::new() };
    let runs = status["runs"].as_array().unwrap().iter();
    runs.filter_map(|run| Some((run["id"].as_str()?, run["worker"].as_str()?)))
        .map(|(id, worker)| (place.path(sweep).join("runs").join(id), worker.to_owned()))
        .filter(|(run, _)| has_checkpoint(run))
        .collect()
}

/// Returns true if the run has a complete checkpoint.
fn has_checkpoint(run: &Path) -> bool {
    let mut entries = fs_err::read_dir(run.join("checkpoints")).into_iter().flatten();
    entries.any(|entry| !entry.unwrap().file_name().to_string_lossy().ends_with(".partial"))
}

pub(crate) fn signal(name: &str, pid: u32) {
    let kill = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
    assert!(kill.unwrap().success(), "kill -{name} {pid}");
}

/// Options for runs of a few seconds with a checkpoint every few steps.
pub(crate) const LONG: &str = "--set train.num_train_epochs=12 --set checkpoints.every=5";

#[test]
fn processes_that_share_a_sweep_give_the_results_of_one() {
    let place = place();
    let search = r#"--set search={"settings":{"train.learning_rate":{"log_uniform":[1e-4,1e-2]}},"trials":2,"halving":{"rungs":2,"factor":2}} --set data.split.test_fraction=0.4"#;
    for (name, more, how, runs) in [("plain", "", "", 4), ("search", search, "--executor worker", 16)] {
        let sweep = format!("sweep experiment.yaml {more} --out runs");
        let alone = place.run(&format!("{sweep}/{name}-one"));
        assert_eq!(alone.code, Some(0), "{alone}");
        let several = ["a", "b"].map(|host| start(&place, host, &format!("{sweep}/{name} {how}")));
        let said = several.map(end);
        assert_eq!(said.iter().map(|said| finished(said)).sum::<usize>(), runs, "{said:#?}");
        assert_same(&results(&place, &format!("runs/{name}-one")), &results(&place, &format!("runs/{name}")));
        for file in ["experiment.json", "summary.json"] {
            let read = |sweep: &str| {
                let text = fs_err::read_to_string(place.path(&format!("runs/{sweep}")).join(file)).unwrap();
                text.replace(&format!("runs/{name}-one"), &format!("runs/{name}"))
            };
            assert!(read(name) == read(&format!("{name}-one")), "{file}");
        }
    }
}

#[test]
fn the_run_of_a_killed_process_is_resumed_from_its_checkpoint() {
    let place = place();
    let sweep = format!("sweep experiment.yaml {LONG} --out runs");
    let alone = place.run(&format!("{sweep}/one"));
    assert_eq!(alone.code, Some(0), "{alone}");
    let left_behind = || -> Option<PathBuf> {
        let mut first = start(&place, "a", &format!("{sweep}/two"));
        until("a running run", || {
            !running(&place, "runs/two").is_empty() || first.try_wait().unwrap().is_some()
        });
        first.kill().unwrap();
        first.wait().unwrap();
        let runs = fs_err::read_dir(place.path("runs/two/runs")).unwrap();
        runs.map(|entry| entry.unwrap().path()).find(|run| has_checkpoint(run))
    };
    // The run may have ended before the kill, so try each of the four.
    let run = (0..4).find_map(|_| left_behind()).unwrap();
    let second = start(&place, "b", &format!("{sweep}/two"));
    let config = || fs_err::metadata(run.join("config.json")).unwrap().modified().unwrap();
    let before = config();
    let said = end(second);
    assert!(said.contains("waiting for ") || finished(&said) > 0, "{said}");
    assert_eq!(config(), before, "the run was resumed, not restarted");
    assert_same(&results(&place, "runs/one"), &results(&place, "runs/two"));
}

#[test]
fn a_suspended_process_gives_up_the_run_that_another_has_taken_over() {
    let place = place();
    let sweep = format!("sweep experiment.yaml {LONG} --only method=kto --out runs");
    let alone = place.run(&format!("{sweep}/one"));
    assert_eq!(alone.code, Some(0), "{alone}");
    let mut first = start(&place, "a", &format!("{sweep}/two"));
    until("a running run", || !running(&place, "runs/two").is_empty() || first.try_wait().unwrap().is_some());
    signal("STOP", first.id());
    let second = start(&place, "b", &format!("{sweep}/two"));
    until("a run taken over", || running(&place, "runs/two").iter().any(|(_, who)| who.ends_with(" on b")));
    signal("CONT", first.id());
    let said = [first, second].map(end);
    assert_eq!(said.iter().map(|said| finished(said)).sum::<usize>(), 2, "{said:#?}");
    assert_same(&results(&place, "runs/one"), &results(&place, "runs/two"));
}

#[test]
fn a_worker_exits_when_others_hold_all_remaining_runs() {
    let place = place();
    let sweep = "sweep experiment.yaml --set train.num_train_epochs=400 --only method=kto --only data.imbalance.keep_desirable=0.5";
    let mut first = start(&place, "a", sweep);
    until("a running run", || {
        first.try_wait().unwrap().is_some()
            || status(&place, "runs/experiment").is_some_and(|status| {
                status["runs"].as_array().unwrap().iter().any(|run| run.get("worker").is_some())
            })
    });
    let shown = place.run("sweep status experiment");
    let said = end(start(&place, "b", &format!("{sweep} --executor worker")));
    let living = first.try_wait().unwrap().is_none();
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(living, "the first process ended too early for this test");
    assert!(shown.stdout.contains(&format!(": process {} on a\n", first.id())), "{shown}");
    assert!(said.contains("waiting for runs of "), "{said}");
    assert!(said.ends_with("0 runs finished, 0 already done, 4 remaining\n"), "{said}");
    assert!(!place.path("reports").exists());
}
