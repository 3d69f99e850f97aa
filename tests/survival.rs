//! What a sweep must survive: kills, signals, faults of the file system, little memory, and
//! others on the same file system. `docs/reliability.md` lists the promises.
//!
//! Each test runs briefly by default. `just chaos` and `just soak` run the long forms by
//! environment variables.

#![allow(clippy::print_stderr, reason = "the long forms report what they measured")]

use std::{
    collections::BTreeMap,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use prospect_core::draw::Draw;
use serde_json::Value;

use crate::support::{MODEL, Place};

mod determinism;
mod faults;
mod kill;
mod memory;
mod numerics;
mod secrets;
mod shim;
mod signals;
mod soak;

/// An SFT stage and two methods, with generations and a checkpoint at every second step.
const EXPERIMENT: &str = "\
question: Does it survive?
data: data.yaml
model: model.yaml
sft: { learning_rate: 3e-3, max_steps: 2, batch_size: 8, max_length: 160, max_prompt_length: 100 }
train: { learning_rate: 1e-3, max_steps: 6, batch_size: 8, max_length: 160, max_prompt_length: 100 }
linked:
  method:
    dpo: { train.objective: dpo }
    kto: { train.objective: kto }
matrix: { train.beta: [0.1] }
seeds: [0]
checkpoints: { every: 2 }
evaluate: { pairs: 8, every: 3, generations: { prompts: 2, max_new_tokens: 8, every: 2 } }
report: { x: train.beta, series: method, baseline: dpo }
";

/// Data of a synthetic world, with noise that moves completions between rows.
const DATA: &str = "\
source: { kind: synthetic, pairs: 60, world: { domains: [home] } }
split: { test_fraction: 0.3 }
";

/// Returns a folder with the experiment of this module.
fn place() -> Place {
    let place = Place::new();
    place.write("experiment.yaml", EXPERIMENT);
    place.write("model.yaml", MODEL);
    place.write("data.yaml", DATA);
    place
}

/// Number from an environment variable of a long form.
fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Draws a number below one from the names of what it is for.
fn fraction(names: &[&str]) -> f64 {
    let seed = number("PROSPECT_CHAOS_SEED", 0) as u64;
    Draw::new(seed, names[0]).bits(&names[1..].join("/")) as f64 / u64::MAX as f64
}

/// Reads every file below `folder` by its path, except claims and caches.
///
/// Masks what differs between two undisturbed calls: durations in `status.json`, in `jobs.json` and
/// in what a report shows of them.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(folder: &Path, root: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        let mut entries: Vec<PathBuf> =
            fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if path.is_symlink() {
                found.insert(name, fs_err::read_link(&path).unwrap().display().to_string().into_bytes());
            } else if path.is_dir() && !path.ends_with("claims") && !path.ends_with(".reference") {
                walk(&path, root, found);
            } else if path.is_file() && !has_durations(&path) {
                found.insert(name, masked(&path));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

/// Returns true for files that show durations: the choice of parallel runs, and a report's page,
/// table of runs, and the hashes of these.
fn has_durations(path: &Path) -> bool {
    let in_report = path.components().any(|part| part.as_os_str() == "report");
    let name = path.file_name().unwrap().to_string_lossy();
    name == "jobs.json"
        || in_report && (["index.html", "BLAKE3SUMS"].contains(&&*name) || name.starts_with("runs."))
}

fn masked(path: &Path) -> Vec<u8> {
    let bytes = fs_err::read(path).unwrap();
    if !path.ends_with("status.json") {
        return bytes;
    }
    let mut status: Value = serde_json::from_slice(&bytes).unwrap();
    status["seconds"] = Value::from(1.0);
    status.to_string().into_bytes()
}

/// Checks that a disturbed folder has the files of an undisturbed one and no others, and that no
/// part of it is damaged.
#[track_caller]
fn assert_same(undisturbed: &BTreeMap<String, Vec<u8>>, place: &Place, what: &str) {
    let found = files(&place.path(""));
    let only_in = |these: &BTreeMap<String, Vec<u8>>, others: &BTreeMap<String, Vec<u8>>| {
        these.keys().filter(|name| !others.contains_key(*name)).cloned().collect::<Vec<_>>()
    };
    let (missing, further) = (only_in(undisturbed, &found), only_in(&found, undisturbed));
    assert!(missing.is_empty() && further.is_empty(), "{what}: missing {missing:?}, further {further:?}");
    for (name, bytes) in undisturbed {
        assert!(*bytes == found[name], "{what}: {name} differs");
    }
    assert!(temporaries(&place.path("")).is_empty(), "{what}: {:?}", temporaries(&place.path("")));
    for folder in ["runs", "data"].iter().filter(|folder| place.path(folder).exists()) {
        let run = place.run(&format!("verify {folder}"));
        assert_eq!(run.code, Some(0), "{what}: {run}");
    }
    assert_eq!(processes_in(place), [0_u32; 0], "{what}: orphans");
}

/// Lists files and folders with temporary names.
fn temporaries(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.contains(".partial")
            || path.extension().is_some_and(|extension| extension == "link")
            || name.starts_with(".write-test")
        {
            found.push(path);
        } else if path.is_dir() && !path.is_symlink() {
            found.extend(temporaries(&path));
        }
    }
    found
}

/// Lists the processes whose current directory is the folder.
fn processes_in(place: &Place) -> Vec<u32> {
    let folder = place.path("").canonicalize().unwrap();
    let entries = fs_err::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_here = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder);
    pids.filter(is_here).collect()
}

/// Starts a command in a process group of its own.
fn start(place: &Place, args: &str, variables: &[(&str, String)]) -> Child {
    let prospect = place.command(args);
    // Signals that this process ignores, as under `nohup`, would stay ignored.
    let mut command = started_by(place, "env");
    command.arg("--default-signal=INT,TERM").arg(prospect.get_program()).args(prospect.get_args());
    command.envs(variables.iter().map(|(name, value)| (*name, value.as_str())));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().unwrap()
}

/// Starts a command after the shell has set limits.
fn start_limited(place: &Place, limits: &str, args: &str) -> Child {
    let program = assert_cmd::cargo::cargo_bin!("prospect").display().to_string();
    let mut command = started_by(place, "sh");
    command.arg("-c").arg(format!("{limits}; exec '{program}' {args}"));
    // A backtrace must not hang.
    command.env("RUST_BACKTRACE", "1").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Returns a program that is to start `prospect`, with the folder and environment of [`Place::command`].
fn started_by(place: &Place, program: &str) -> Command {
    let prospect = place.command("");
    let mut command = Command::new(program);
    command.current_dir(place.path(""));
    for (name, value) in prospect.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// Waits for a process, and kills one that takes longer than `limit`. Returns its exit code and
/// standard error; both are read by threads, so that a full pipe does not stop it.
#[track_caller]
fn end_within(mut child: Child, limit: Duration) -> (Option<i32>, String) {
    let mut stderr = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stderr, &mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let since = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if since.elapsed() > limit {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("not ended after {limit:?}: {}", reader.join().unwrap());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    (status.code(), reader.join().unwrap())
}

/// Copies a folder.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}
