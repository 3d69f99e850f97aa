//! `prospect report --watch` while a sweep is running.

use std::{
    io::Read,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use crate::support::Place;

const EXPERIMENT: &str = "\
question: Does it grow?
data: data.yaml
model: model.yaml
train: { learning_rate: 1e-3, max_steps: 4, batch_size: 8, max_length: 160, max_prompt_length: 100 }
linked:
  method:
    dpo: { train.objective: dpo }
    kto: { train.objective: kto }
matrix:
  data.imbalance.keep_desirable: [0.5]
seeds: [0]
report: { x: data.imbalance.keep_desirable, series: method, baseline: dpo }
";

fn place() -> Place {
    Place::with(EXPERIMENT)
}

fn copy(from: &Path, to: &Path) {
    fs_err::create_dir_all(to).unwrap();
    for entry in fs_err::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs_err::copy(&path, &target).unwrap();
        }
    }
}

/// Waits until the page contains `text`.
fn until(page: &Path, text: &str) -> String {
    let started = Instant::now();
    loop {
        let html = fs_err::read_to_string(page).unwrap_or_default();
        if html.contains(text) {
            return html;
        }
        assert!(started.elapsed() < Duration::from_mins(2), "the page never contained `{text}`: {html}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const REFRESH: &str = "http-equiv=\"refresh\"";

#[test]
fn the_page_follows_a_sweep_until_it_ends() {
    let place = place();
    let run = place.run("sweep experiment.yaml --out whole");
    assert_eq!(run.code, Some(0), "{run}");
    let (whole, grows) = (place.path("whole"), place.path("runs/grows"));
    fs_err::create_dir_all(&grows).unwrap();
    let mut watch =
        place.command("report grows --watch").stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let page = place.path("reports/grows/index.html");
    // First there is only a plan, then a run in progress, then one finished and one failed run.
    std::thread::sleep(Duration::from_millis(300));
    fs_err::copy(whole.join("experiment.json"), grows.join("experiment.json")).unwrap();
    let html = until(&page, "2 runs: 2 not started");
    assert!(html.contains(REFRESH) && !html.contains("Running now"));

    let runs: Vec<_> = fs_err::read_dir(whole.join("runs")).unwrap().map(|run| run.unwrap().path()).collect();
    let [one, other] = runs.as_slice() else { panic!("{runs:?}") };
    let half = place.path("half");
    copy(one, &half);
    let lines = fs_err::read_to_string(half.join("metrics.jsonl")).unwrap();
    let head: Vec<&str> = lines.lines().take(3).collect();
    // The last line is still being written.
    fs_err::write(half.join("metrics.jsonl"), head.join("\n") + "\n{\"kind\":\"tr").unwrap();
    fs_err::write(half.join("status.json"), r#"{"state":"running","seconds":0.0,"tokens":0}"#).unwrap();
    let target = grows.join("runs").join(one.file_name().unwrap());
    fs_err::create_dir_all(grows.join("runs")).unwrap();
    fs_err::rename(&half, &target).unwrap();
    let html = until(&page, "2 runs: 1 running, 1 not started");
    assert!(html.contains(REFRESH) && html.contains("Running now"));
    assert!(html.contains("seed 0: step 2 of 4"), "{html}");

    copy(other, &half);
    fs_err::rename(&half, grows.join("runs").join(other.file_name().unwrap())).unwrap();
    until(&page, "2 runs: 1 finished, 1 running");
    let failed = r#"{"state":"failed","seconds":0.0,"tokens":0,"error":"the loss is not finite"}"#;
    fs_err::write(target.join("status.json"), failed).unwrap();
    let html = until(&page, "2 runs: 1 finished, 1 failed");
    assert!(!html.contains(REFRESH) && html.contains("the loss is not finite"));

    assert_eq!(watch.wait().unwrap().code(), Some(0));
    let (mut stdout, mut stderr) = (String::new(), String::new());
    watch.stdout.unwrap().read_to_string(&mut stdout).unwrap();
    watch.stderr.unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(stdout, "runs/grows/report/index.html\n");
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines[0], "waiting for runs/grows/experiment.json");
    assert!(
        lines[1..].iter().all(|line| line.starts_with("runs/grows/report/index.html: 2 runs: ")),
        "{stderr}"
    );
    assert!(lines.len() >= 5 && lines[lines.len() - 1].ends_with("1 finished, 1 failed"), "{stderr}");
}

#[test]
fn a_running_sweep_can_be_watched() {
    let place = place();
    fs_err::create_dir_all(place.path("runs/experiment")).unwrap();
    let mut watch = place.command("report experiment --watch").stderr(Stdio::null()).spawn().unwrap();
    let sweep = place.run("sweep experiment.yaml --set train.max_steps=40");
    assert_eq!(sweep.code, Some(0), "{sweep}");
    assert_eq!(watch.wait().unwrap().code(), Some(0));
    let html = fs_err::read_to_string(place.path("reports/experiment/index.html")).unwrap();
    assert!(html.contains("2 runs: 2 finished") && !html.contains(REFRESH) && !html.contains("Not finished"));
}

#[test]
fn watching_needs_a_sweep() {
    let place = place();
    let error = place.run("report nothing --watch").stderr;
    assert_eq!(
        error,
        "error: runs/nothing is not a sweep: it has no experiment.json; create one with `prospect sweep`\n"
    );
    assert_eq!(place.run("report --compare a b --watch").code, Some(2));
}
