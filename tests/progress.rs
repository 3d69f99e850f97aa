//! How far a sweep has come, as a user sees it: what is left, what failed.

use std::time::Duration;

use insta::assert_snapshot;
use serde_json::Value;

use crate::{
    support::{Place, Run},
    sweep::place,
};

fn status(place: &Place, sweep: &str) -> Value {
    let run = place.run(&format!("sweep status {sweep} --json"));
    assert_eq!(run.code, Some(0), "{run}");
    serde_json::from_str(&run.stdout).unwrap()
}

fn runs(status: &Value) -> impl Iterator<Item = &Value> {
    status["runs"].as_array().unwrap().iter()
}

/// What is printed, without ids and without what depends on the machine.
fn shown(run: &Run, status: &Value) -> String {
    let all = status["runs"].as_array().unwrap().iter().chain(status["stages"].as_array().unwrap());
    let text = all.fold(run.stdout.clone(), |text, run| text.replace(run["id"].as_str().unwrap(), "[id]"));
    let mut lines = Vec::new();
    for line in text.lines() {
        // Times and rates come last.
        let timed = ["finished", "failed"].iter().find_map(|state| {
            let (before, after) = line.split_once(&format!("  {state} "))?;
            Some(format!("{before}  {state}  {}", after.split_whitespace().next()?))
        });
        let estimate = line.split_once(", about ").map(|(before, after)| {
            format!("{before}, about [time] at {}", after.split_once(" at ").unwrap().1)
        });
        lines.push(timed.or(estimate).unwrap_or_else(|| line.trim_end().to_owned()));
    }
    let text = lines.join("\n");
    // Columns are as wide as times are.
    text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_status_of_a_sweep_is_told_from_its_directory() {
    let place = place();
    place.run("sweep experiment.yaml --only method=kto --only data.imbalance.keep_desirable=1.0");
    fs_err::remove_file(place.path("experiment.yaml")).unwrap();
    let status = status(&place, "experiment");
    let run = place.run("sweep status runs/experiment");
    assert_snapshot!(shown(&run, &status), @r"
    Does it work?
    experiment: 4 runs: 1 finished, 3 to do
    left: 3 runs, about [time] at one run at a time (from 1 finished)

    == Shared stages
     run stage state step time tokens/s
     [id] sft finished 3/3

    == Runs
     run data.imbalance.keep_desirable method seed state step time tokens/s
     [id] 1.0 dpo 0 to do
     [id] 0.5 dpo 0 to do
     [id] 1.0 kto 0 finished 12/12
     [id] 0.5 kto 0 to do
    ");
    let finished: Vec<&Value> = runs(&status).filter(|run| run["state"] == "finished").collect();
    let [run] = finished[..] else { panic!("{status}") };
    assert_eq!((&run["settings"]["method"], &run["seed"]), (&Value::from("kto"), &Value::from(0)));
    assert_eq!(run["step"], run["steps"]);
    assert!(run["seconds"].as_f64().unwrap() > 0.0 && run["tokens_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!((&status["counts"]["finished"], &status["counts"]["to_do"]), (&1.into(), &3.into()));
    let each = run["seconds"].as_f64().unwrap();
    assert!((status["left"]["seconds"].as_f64().unwrap() - 3.0 * each).abs() < 1e-9);

    let nothing = place.run("sweep status nothing");
    assert_snapshot!(nothing.stderr, @"error: runs/nothing is no sweep: it holds no experiment.json; `prospect sweep` makes one");
    assert_eq!(place.run("sweep status").code, Some(2));
    assert_eq!(place.run("sweep").code, Some(2));
}

#[test]
fn a_sweep_that_another_process_works_on_can_be_looked_at() {
    let place = place();
    let mut child = place.command("sweep experiment.yaml --set train.num_train_epochs=40").spawn().unwrap();
    let begun = || {
        place.path("runs/experiment/experiment.json").exists()
            && runs(&status(&place, "experiment")).any(|run| run["state"] == "running" && run["step"] != 0)
    };
    for _ in 0..1200 {
        if begun() || child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let working = status(&place, "experiment");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(working["worked_on"], true, "{working}");
    let running = runs(&working).find(|run| run["state"] == "running").unwrap();
    assert!(running["step"].as_u64().unwrap() < running["steps"].as_u64().unwrap(), "{running}");

    let killed = status(&place, "experiment");
    assert_eq!(killed["worked_on"], false);
    assert!(
        runs(&killed).any(|run| run["state"] == "interrupted") && killed["counts"].get("running").is_none()
    );
}

#[test]
fn failed_runs_stay_as_they_are_until_asked_for() {
    let place = place();
    // Pairs there are none of: DPO fails, KTO does not.
    let sweep = "sweep experiment.yaml --set sft=null --set data.imbalance.keep_undesirable=0.0";
    assert!(place.run(sweep).stderr.contains("2 of 4 runs failed"));
    let before = status(&place, "experiment");
    assert_eq!((&before["counts"]["failed"], &before["left"]["runs"]), (&2.into(), &0.into()));
    let failed = runs(&before).find(|run| run["state"] == "failed").unwrap();
    let log = fs_err::read_to_string(place.path(failed["log"].as_str().unwrap())).unwrap();
    assert!(log.starts_with("error: ") && log.contains(failed["error"].as_str().unwrap()), "{log}");

    let again = place.run(sweep);
    assert_eq!(again.code, Some(1), "{again}");
    assert!(again.stderr.contains("0 runs finished, 2 were there already\n"), "{again}");
    assert!(again.stderr.contains("2 failed in an earlier call; --retry-failed tries them again"), "{again}");
    assert!(again.stderr.contains("2 of 4 runs failed"), "{again}");
    let retried = place.run(&format!("{sweep} --retry-failed"));
    assert!(!retried.stderr.contains("earlier call") && retried.stderr.contains("failed: "), "{retried}");
    let shown = shown(&place.run("sweep status experiment"), &before);
    assert!(shown.contains("Errors") && shown.contains("error.log"), "{shown}");
}
