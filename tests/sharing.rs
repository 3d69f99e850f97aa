//! Several processes that share a sweep: they divide the work, take over what a dead one held, and come to the same results.

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

/// A process of a machine called `host`, which beats fast.
fn start(place: &Place, host: &str, args: &str) -> Child {
    let mut command = place.command(args);
    command.env("PROSPECT_HOST", host).env("PROSPECT_HEARTBEAT", "0.5");
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What a process that must succeed said.
fn end(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

/// How many runs a process says that it finished.
fn finished(said: &str) -> usize {
    let line = said.lines().find(|line| line.contains(" runs finished")).unwrap();
    line.split(' ').next().unwrap().parse().unwrap()
}

pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_mins(5), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn status(place: &Place, sweep: &str) -> Option<Value> {
    serde_json::from_str(&place.run(&format!("sweep status {sweep} --json")).stdout).ok()
}

/// The runs that are worked on and have come to a checkpoint, and who is at them.
pub(crate) fn at_work(place: &Place, sweep: &str) -> Vec<(PathBuf, String)> {
    let Some(status) = status(place, sweep) else { return Vec::new() };
    let runs = status["runs"].as_array().unwrap().iter();
    runs.filter_map(|run| Some((run["id"].as_str()?, run["worker"].as_str()?)))
        .map(|(id, worker)| (place.path(sweep).join("runs").join(id), worker.to_owned()))
        .filter(|(run, _)| has_checkpoint(run))
        .collect()
}

/// Whether there is a whole checkpoint.
fn has_checkpoint(run: &Path) -> bool {
    let mut entries = fs_err::read_dir(run.join("checkpoints")).into_iter().flatten();
    entries.any(|entry| !entry.unwrap().file_name().to_string_lossy().ends_with(".partial"))
}

pub(crate) fn signal(name: &str, pid: u32) {
    let kill = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
    assert!(kill.unwrap().success(), "kill -{name} {pid}");
}

/// Runs of some seconds with a checkpoint every few steps.
pub(crate) const LONG: &str = "--set train.num_train_epochs=12 --set checkpoints.every=5";

#[test]
fn processes_that_share_a_sweep_come_to_the_results_of_one() {
    let place = place();
    let search = r#"--set search={"settings":{"train.learning_rate":{"log_uniform":[1e-4,1e-2]}},"trials":2,"halving":{"rungs":2,"factor":2}} --set data.split.test_fraction=0.4"#;
    for (name, more, how, runs) in [("plain", "", "", 4), ("search", search, "--executor worker", 12)] {
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
fn the_run_of_a_killed_process_is_taken_over_from_its_checkpoint() {
    let place = place();
    let sweep = format!("sweep experiment.yaml {LONG} --out runs");
    let alone = place.run(&format!("{sweep}/one"));
    assert_eq!(alone.code, Some(0), "{alone}");
    let left_behind = || -> Option<PathBuf> {
        let mut first = start(&place, "a", &format!("{sweep}/two"));
        until("a run at work", || {
            !at_work(&place, "runs/two").is_empty() || first.try_wait().unwrap().is_some()
        });
        first.kill().unwrap();
        first.wait().unwrap();
        let runs = fs_err::read_dir(place.path("runs/two/runs")).unwrap();
        runs.map(|entry| entry.unwrap().path()).find(|run| has_checkpoint(run))
    };
    // Between the look and the kill the run may have ended; there are four.
    let run = (0..4).find_map(|_| left_behind()).unwrap();
    let second = start(&place, "b", &format!("{sweep}/two"));
    let config = || fs_err::metadata(run.join("config.json")).unwrap().modified().unwrap();
    let before = config();
    let said = end(second);
    assert!(said.contains("waiting for ") || finished(&said) > 0, "{said}");
    assert_eq!(config(), before, "the run went on and was not begun anew");
    assert_same(&results(&place, "runs/one"), &results(&place, "runs/two"));
}

#[test]
fn a_process_that_stood_still_leaves_the_run_that_another_one_has_taken() {
    let place = place();
    let sweep = format!("sweep experiment.yaml {LONG} --only method=kto --out runs");
    let alone = place.run(&format!("{sweep}/one"));
    assert_eq!(alone.code, Some(0), "{alone}");
    let mut first = start(&place, "a", &format!("{sweep}/two"));
    until("a run at work", || !at_work(&place, "runs/two").is_empty() || first.try_wait().unwrap().is_some());
    signal("STOP", first.id());
    let second = start(&place, "b", &format!("{sweep}/two"));
    until("a run taken over", || at_work(&place, "runs/two").iter().any(|(_, who)| who.ends_with(" on b")));
    signal("CONT", first.id());
    let said = [first, second].map(end);
    assert_eq!(said.iter().map(|said| finished(said)).sum::<usize>(), 2, "{said:#?}");
    assert_same(&results(&place, "runs/one"), &results(&place, "runs/two"));
}

#[test]
fn a_worker_leaves_when_others_are_at_all_that_is_left() {
    let place = place();
    let sweep = "sweep experiment.yaml --set train.num_train_epochs=400 --only method=kto --only data.imbalance.keep_desirable=0.5";
    let mut first = start(&place, "a", sweep);
    until("a run at work", || {
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
