//! `prospect sweep status`: remaining, failed and stopped runs.

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

/// Masks ids and values that depend on the machine in the printed status.
fn shown(run: &Run, status: &Value) -> String {
    let all = status["runs"].as_array().unwrap().iter().chain(status["stages"].as_array().unwrap());
    let text = all.fold(run.stdout.clone(), |text, run| text.replace(run["id"].as_str().unwrap(), "[id]"));
    let mut lines = Vec::new();
    for line in text.lines() {
        // Times and rates are in the last columns.
        let timed = ["finished", "failed", "stopped"].iter().find_map(|state| {
            let (before, after) = line.split_once(&format!("  {state} "))?;
            Some(format!("{before}  {state}  {}", after.split_whitespace().next()?))
        });
        let estimate = line.split_once(", about ").map(|(before, after)| {
            format!("{before}, about [time] one run {}", after.split_once(" one run ").unwrap().1)
        });
        lines.push(timed.or(estimate).unwrap_or_else(|| line.trim_end().to_owned()));
    }
    let text = lines.join("\n");
    // The width of columns depends on the times.
    text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_status_of_a_sweep_is_read_from_its_directory() {
    let place = place();
    place.run("sweep experiment.yaml --only method=kto --only data.imbalance.keep_desirable=1.0");
    fs_err::remove_file(place.path("experiment.yaml")).unwrap();
    let status = status(&place, "experiment");
    let run = place.run("sweep status runs/experiment");
    assert_snapshot!(shown(&run, &status), @r"
    Does it work?
    experiment: 4 runs: 1 finished, 3 to do
    remaining: 3 runs, about [time] one run at a time (from 1 finished)

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
    assert_snapshot!(nothing.stderr, @"error: runs/nothing is not a sweep: it has no experiment.json; create one with `prospect sweep`");
    assert_eq!(place.run("sweep status").code, Some(2));
    assert_eq!(place.run("sweep").code, Some(2));
}

#[test]
fn the_status_of_a_running_sweep_can_be_shown() {
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
fn failed_runs_are_retried_only_on_request() {
    let place = place();
    // There are no pairs: DPO fails, KTO does not.
    let sweep = "sweep experiment.yaml --set sft=null --set data.imbalance.keep_undesirable=0.0";
    assert!(place.run(sweep).stderr.contains("2 of 4 runs failed"));
    let before = status(&place, "experiment");
    assert_eq!((&before["counts"]["failed"], &before["left"]["runs"]), (&2.into(), &0.into()));
    let failed = runs(&before).find(|run| run["state"] == "failed").unwrap();
    let log = fs_err::read_to_string(place.path(failed["log"].as_str().unwrap())).unwrap();
    assert!(log.starts_with("error: ") && log.contains(failed["reason"].as_str().unwrap()), "{log}");

    let again = place.run(sweep);
    assert_eq!(again.code, Some(1), "{again}");
    assert!(again.stderr.contains("0 runs finished, 2 already done\n"), "{again}");
    assert!(
        again.stderr.contains("2 failed in an earlier call; add --retry-failed to retry them"),
        "{again}"
    );
    assert!(again.stderr.contains("2 of 4 runs failed"), "{again}");
    let retried = place.run(&format!("{sweep} --retry-failed"));
    assert!(!retried.stderr.contains("earlier call") && retried.stderr.contains("failed: "), "{retried}");
    let shown = shown(&place.run("sweep status experiment"), &before);
    assert!(shown.contains("Failed and stopped") && shown.contains("error.log"), "{shown}");
}

#[test]
fn runs_stop_early_only_if_configured() {
    let place = place();
    let plan = |also: &str| {
        place.run(&format!("sweep experiment.yaml --set evaluate={{\"every\":2}} --dry-run {also}"))
    };
    let asked = r#"--set stop={"below":{"accuracy":1.0,"after":2}}"#;
    assert_ne!(plan("").stdout, plan(asked).stdout, "runs that may stop early have other ids");

    let sweep = format!("sweep experiment.yaml --set evaluate={{\"every\":2}} {asked}");
    let run = place.run(&sweep);
    assert_eq!(run.code, Some(0), "{run}");
    let stopped = status(&place, "experiment");
    let count = stopped["counts"]["stopped"].as_u64().unwrap();
    assert!(count > 0, "{stopped}");
    assert!(run.stderr.contains(&format!("{count} stopped early, 0 already done\n")), "{run}");
    assert!(
        run.stderr
            .contains(&format!(" {count} of 4 runs were stopped early and are left out of all estimates.")),
        "{run}"
    );
    for run in runs(&stopped).filter(|run| run["state"] == "stopped") {
        assert!(run["step"].as_u64().unwrap() >= 2, "{run}");
        assert!(run["reason"].as_str().unwrap().contains(", below 1"), "{run}");
    }
    let page = fs_err::read_to_string(place.path("reports/experiment/index.html")).unwrap();
    assert!(page.contains(&format!("{count} stopped")) && page.contains(", below 1"));
    let again = place.run(&sweep);
    assert!(again.stderr.contains("0 runs finished, 4 already done\n"), "{again}");

    let mistaken =
        |stop: &str| place.run(&format!("sweep experiment.yaml --dry-run --set stop={stop}")).stderr;
    assert_snapshot!(mistaken("{}"), @"error: experiment.yaml: `stop` has no effect: set `diverged: true` or `below`");
    assert_snapshot!(mistaken(r#"{"below":{"accuracy":0.4,"after":20}}"#), @"error: experiment.yaml: `stop.below` needs evaluations between the start and the end: set `evaluate.every`");
    assert_snapshot!(mistaken(r#"{"diverge":true}"#), @"error: experiment.yaml: `stop.diverge`: unknown field `diverge`, expected `diverged` or `below`; did you mean `diverged`?");
}

#[test]
fn a_diverging_run_fails_or_is_stopped_as_configured() {
    let place = place();
    let sweep = "sweep experiment.yaml --set sft=null --set train.learning_rate=1e30";
    let run = place.run(sweep);
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.stderr.contains("4 of 4 runs failed"), "{run}");
    let run = place.run(&format!("{sweep} --set stop.diverged=true --out runs/stopped"));
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.stderr.contains("There is nothing to compare yet. 4 of 4 runs were stopped early"), "{run}");
}
