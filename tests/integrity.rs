//! Damaged files of a dataset and of a sweep, from the command line: named, and made again where
//! they are a cache.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{
    sharing::{signal, steps_below, until},
    support::{MODEL, Place, files_below},
    sweep::{assert_same, results},
};

/// An SFT stage and two methods.
const EXPERIMENT: &str = "\
question: Is damage found?
data: data.yaml
model: model.yaml
sft: { learning_rate: 3e-3, max_steps: 2, batch_size: 8, max_length: 160, max_prompt_length: 100 }
train: { learning_rate: 1e-3, max_steps: 3, batch_size: 8, max_length: 160, max_prompt_length: 100 }
linked:
  method:
    dpo: { train.objective: dpo }
    kto: { train.objective: kto }
matrix: { train.beta: [0.1] }
seeds: [0]
report: { x: train.beta, series: method, baseline: dpo }
";

/// Changes a byte in the middle of a file.
fn damage(path: &Path) {
    let mut bytes = fs_err::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs_err::write(path, bytes).unwrap();
}

/// Lists the entries of a folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_damaged_dataset_is_named_by_its_readers_and_prepared_again() {
    let place = Place::with(EXPERIMENT);
    assert_eq!(place.run("prepare data.yaml --out data").code, Some(0));
    let path = place.path("data/kto/train-00000-of-00001.parquet");
    let whole = fs_err::read(&path).unwrap();
    damage(&path);
    let problem = "data/kto/train-00000-of-00001.parquet is damaged or was changed: its BLAKE3 hash is ";
    for command in [
        "inspect data",
        "preview data --model model.yaml",
        "export data --out factory",
        "train data --model model.yaml --out runs/train",
    ] {
        let run = place.run(command);
        assert_eq!(run.code, Some(1), "{run}");
        assert!(run.stderr.contains(&format!("error: {problem}")), "{run}");
        let help = "; make the dataset again with `prospect prepare PIPELINE.yaml --out data`";
        assert!(run.stderr.contains(help), "{run}");
    }
    assert!(!place.path("factory").exists() && !place.path("runs").exists());
    let run = place.run("prepare data.yaml --out data");
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.stderr.contains(&format!("warning: {problem}")), "{run}");
    assert!(run.stderr.contains("; the dataset is prepared again\n"), "{run}");
    assert!(fs_err::read(&path).unwrap() == whole);
    assert_eq!(place.run("inspect data").code, Some(0));
    let run = place.run("prepare data.yaml --out data");
    assert!(run.stderr.contains("up to date"), "{run}");
}

#[test]
fn a_damaged_file_of_a_sweep_changes_no_result() {
    let place = Place::with(EXPERIMENT);
    let run = place.run("sweep experiment.yaml");
    assert_eq!(run.code, Some(0), "{run}");
    let expected = results(&place, "runs/experiment");
    let text = fs_err::read(place.path("runs/experiment/experiment.json")).unwrap();
    let experiment: Value = serde_json::from_slice(&text).unwrap();
    let stage = experiment["stages"][0]["id"].as_str().unwrap();
    let runs = place.path("runs/experiment/runs");
    let remove_runs = || {
        for run in entries(&runs).into_iter().filter(|run| !run.ends_with(stage)) {
            fs_err::remove_dir_all(run).unwrap();
        }
    };

    // A reference log-prob of each record, and a dataset.
    let caches = entries(&place.path("runs/.reference"));
    assert_eq!(caches.len(), 1, "the stage needs no reference: {caches:?}");
    damage(&caches[0]);
    let [dataset] = &entries(&place.path("runs/experiment/data"))[..] else { panic!("one dataset") };
    damage(&dataset.join("dpo/train-00000-of-00001.parquet"));
    remove_runs();
    let run = place.run("sweep experiment.yaml");
    assert_eq!(run.code, Some(0), "{run}");
    let warning = |name: &str, text: &str| {
        run.stderr
            .lines()
            .any(|line| line.starts_with("warning: ") && line.contains(name) && line.contains(text))
    };
    assert!(warning("dpo/train-00000-of-00001.parquet is damaged", "prepared again"), "{run}");
    assert!(warning(".logps: ", "computed again"), "{run}");
    assert_same(&expected, &results(&place, "runs/experiment"));
    remove_runs();
    let run = place.run("sweep experiment.yaml");
    assert!(run.code == Some(0) && !run.stderr.contains("damaged"), "{run}");
    assert_same(&expected, &results(&place, "runs/experiment"));

    // The weights that the runs start from.
    damage(&runs.join(stage).join("model/model.safetensors"));
    remove_runs();
    let run = place.run("sweep experiment.yaml");
    assert_eq!(run.code, Some(1), "{run}");
    let folder = format!("runs/experiment/runs/{stage}");
    let problem =
        format!("error: {folder}/model/model.safetensors is damaged or was changed: its BLAKE3 hash is ");
    assert!(run.stderr.contains(&problem), "{run}");
    assert!(run.stderr.contains(&format!("; remove {folder} and run the same command again")), "{run}");
    fs_err::remove_dir_all(place.path(&folder)).unwrap();
    let run = place.run("sweep experiment.yaml");
    assert_eq!(run.code, Some(0), "{run}");
    assert_same(&expected, &results(&place, "runs/experiment"));
}

#[test]
fn verify_names_every_damaged_part_and_repair_lets_the_sweep_make_it_again() {
    let place = Place::with(EXPERIMENT);
    assert_eq!(place.run("sweep experiment.yaml").code, Some(0));
    let expected = results(&place, "runs/experiment");
    let run = place.run("verify runs");
    assert_eq!(run.code, Some(0), "{run}");
    let intact = "runs: 1 dataset, 3 runs, 1 reference cache, 1 report, 1 sweep intact\n";
    assert_eq!(run.stdout, intact, "{run}");

    let text = fs_err::read(place.path("runs/experiment/experiment.json")).unwrap();
    let experiment: Value = serde_json::from_slice(&text).unwrap();
    let runs: Vec<&str> =
        experiment["runs"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap()).collect();
    let [dataset] = &entries(&place.path("runs/experiment/data"))[..] else { panic!("one dataset") };
    let [cache] = &entries(&place.path("runs/.reference"))[..] else { panic!("one cache") };
    let damaged = [
        dataset.join("kto/train-00000-of-00001.parquet"),
        cache.clone(),
        place.path(&format!("runs/experiment/runs/{}/pairs.jsonl", runs[0])),
        place.path(&format!("runs/experiment/runs/{}/model/model.safetensors", runs[1])),
        place.path("runs/experiment/report/figures/accuracy.png"),
    ];
    for file in &damaged {
        damage(file);
    }
    let run = place.run("verify runs");
    assert_eq!(run.code, Some(1), "{run}");
    for file in &damaged {
        let name = file.strip_prefix(place.path("")).unwrap().display().to_string();
        assert!(run.stdout.contains(&name), "{name}: {run}");
    }
    assert!(run.stdout.starts_with("runs: 1 run, 1 sweep intact; 5 parts damaged\n"), "{run}");
    assert!(run.stderr.contains("error: 5 parts damaged; `--repair` sets aside"), "{run}");
    assert_eq!(
        serde_json::from_str::<Value>(&place.run("verify runs --json").stdout).unwrap()[0]["damage"]
            .as_array()
            .unwrap()
            .len(),
        5
    );

    let run = place.run("verify runs --repair");
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.stderr.contains("moved to runs/experiment/damaged/data-"), "{run}");
    let run = place.run("sweep experiment.yaml");
    assert_eq!(run.code, Some(0), "{run}");
    assert_same(&expected, &results(&place, "runs/experiment"));
    let run = place.run("verify runs");
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), intact), "{run}");
    assert_eq!(place.run("verify .").code, Some(0), "a folder of sweeps and datasets");
    fs_err::create_dir(place.path("empty")).unwrap();
    assert_eq!(place.run("verify empty").code, Some(1), "nothing to check");
}

#[test]
fn verify_names_damaged_checkpoints_and_adapters() {
    let command = "sweep experiment.yaml --set sft=null --set train.max_steps=200 --jobs 1";
    let places = [(); 2].map(|()| Place::with(EXPERIMENT));
    for place in &places {
        place.write("model.yaml", MODEL.replace("train: full", "lora: { r: 2, alpha: 8 }"));
    }
    let [undisturbed, place] = places;
    let run = undisturbed.run(command);
    assert_eq!(run.code, Some(0), "{run}");
    let expected = results(&undisturbed, "runs/experiment");

    let mut child = place.command(command).stderr(std::process::Stdio::null()).spawn().unwrap();
    until("some steps", || steps_below(&place.path("")) > 5);
    signal("TERM", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let is_checkpoint = |path: &PathBuf| path.parent().is_some_and(|folder| folder.ends_with("checkpoints"));
    let checkpoints: Vec<PathBuf> =
        files_below(&place.path("runs")).into_iter().filter(is_checkpoint).collect();
    let [checkpoint] = &checkpoints[..] else { panic!("the interrupted run wrote one: {checkpoints:?}") };
    damage(checkpoint);
    let name = checkpoint.strip_prefix(place.path("")).unwrap().display().to_string();
    let run = place.run("verify runs");
    assert!(run.code == Some(1) && run.stdout.contains(&format!("  checkpoint {name}: ")), "{run}");
    let run = place.run("verify runs --repair");
    assert!(
        run.code == Some(0) && run.stderr.contains("the run resumes from the checkpoint before"),
        "{run}"
    );
    assert!(!checkpoint.exists());
    assert_eq!(place.run(command).code, Some(0));
    assert_same(&expected, &results(&place, "runs/experiment"));

    let is_adapter = |path: &PathBuf| path.ends_with("adapter_model.safetensors");
    let adapter =
        files_below(&place.path("runs")).into_iter().find(is_adapter).expect("the runs keep adapters");
    damage(&adapter);
    let name =
        adapter.ancestors().nth(2).unwrap().strip_prefix(place.path("")).unwrap().display().to_string();
    let run = place.run("verify runs");
    let line = format!("  run {name}: ");
    assert!(run.code == Some(1) && run.stdout.contains(&line), "{run}");
    assert!(run.stdout.contains("adapter_model.safetensors"), "{run}");
    assert_eq!(place.run("verify runs --repair").code, Some(0));
    assert_eq!(place.run(command).code, Some(0));
    assert_same(&expected, &results(&place, "runs/experiment"));
    assert_eq!(place.run("verify runs").code, Some(0));
}

#[test]
fn gc_removes_only_what_no_run_needs() {
    let place = Place::with(EXPERIMENT);
    assert_eq!(place.run("sweep experiment.yaml").code, Some(0));
    let expected = results(&place, "runs/experiment");
    let run = place.run("gc");
    assert!(run.code == Some(0) && run.stdout.is_empty() && run.stderr == "nothing to remove\n", "{run}");

    let [dataset] = &entries(&place.path("runs/experiment/data"))[..] else { panic!("one dataset") };
    let unused = place.path("runs/experiment/data/0123456789abcdef");
    fs_err::create_dir(&unused).unwrap();
    fs_err::copy(dataset.join("manifest.json"), unused.join("manifest.json")).unwrap();
    let recent = place.path("runs/experiment/.summary.json.1.partial");
    let abandoned = place.path("runs/experiment/.summary.json.2.partial");
    for file in [&recent, &abandoned] {
        fs_err::write(file, "half").unwrap();
    }
    let hours_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(2);
    fs_err::File::options().write(true).open(&abandoned).unwrap().file().set_modified(hours_ago).unwrap();
    let checkpoints = entries(&place.path("runs/experiment/runs"))[0].join("checkpoints");
    fs_err::create_dir(&checkpoints).unwrap();
    fs_err::write(checkpoints.join("step-00000002-0123456789abcdef.safetensors"), [0; 100]).unwrap();

    let run = place.run("gc --dry-run");
    assert_eq!((run.code, run.stdout.lines().count()), (Some(0), 3), "{run}");
    assert!(
        run.stdout.contains("0123456789abcdef  ") && run.stdout.contains("left by a killed process"),
        "{run}"
    );
    assert!(unused.exists() && abandoned.exists() && checkpoints.exists(), "a dry run removes nothing");
    let run = place.run("gc");
    assert_eq!(run.code, Some(0), "{run}");
    assert!(!unused.exists() && !abandoned.exists() && !checkpoints.exists());
    assert!(recent.exists() && dataset.exists());
    assert_same(&expected, &results(&place, "runs/experiment"));
    let run = place.run("sweep experiment.yaml");
    assert!(run.code == Some(0) && !run.stderr.contains("prepared"), "{run}");
}

#[test]
fn repair_leaves_a_sweep_alone_that_a_process_works_on() {
    let place = Place::with(EXPERIMENT);
    assert_eq!(place.run("sweep experiment.yaml").code, Some(0));
    let [dataset] = &entries(&place.path("runs/experiment/data"))[..] else { panic!("one dataset") };
    let damaged = dataset.join("kto/train-00000-of-00001.parquet");
    damage(&damaged);
    let claims = prospect_runs::SweepDir::at(place.path("runs/experiment")).claims();
    let claim = claims.take("a-run").unwrap().unwrap();
    let run = place.run("verify runs --repair");
    assert_eq!(run.code, Some(1), "{run}");
    let holder = format!(": left alone, since process {} on ", std::process::id());
    assert!(run.stderr.contains(&holder), "{run}");
    let error = "error: 1 damaged part left alone, because a process is working on the sweep: repeat the command when \
                 it has ended\n";
    assert!(run.stderr.ends_with(error), "{run}");
    assert!(damaged.exists() && !place.path("runs/experiment/damaged").exists());
    drop(claim);
    let run = place.run("verify runs --repair");
    assert_eq!(run.code, Some(0), "{run}");
    assert!(!damaged.exists());
}

#[test]
fn a_missing_folder_is_named_with_the_one_that_was_meant() {
    let place = Place::with(EXPERIMENT);
    fs_err::create_dir_all(place.path("runs/experiment")).unwrap();
    for (command, error) in [
        (
            "verify runs/experimnt",
            "error: runs/experimnt does not exist: give the folder of a sweep or a dataset, or a folder of these, such as \
             runs; did you mean `experiment`?\n",
        ),
        (
            "gc elsewhere",
            "error: elsewhere does not exist: give the folder of a sweep or a dataset, or a folder of these, such as runs\n",
        ),
        (
            "gc model.yaml",
            "error: model.yaml is a file: give the folder of a sweep or a dataset, or a folder of these\n",
        ),
    ] {
        let run = place.run(command);
        assert_eq!((run.code, run.stderr.as_str()), (Some(1), error), "{run}");
    }
}
