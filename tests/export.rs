//! `prospect export` of a sweep, from the command line.

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{Place, files_below};

const EXPERIMENT: &str = "\
question: Does it export?
data: data.yaml
model: model.yaml
sft: { learning_rate: 3e-3, max_steps: 1, batch_size: 16, max_length: 160, max_prompt_length: 100 }
train: { learning_rate: 1e-3, max_steps: 2, batch_size: 8, max_length: 160, max_prompt_length: 100 }
linked:
  method:
    dpo: { train.objective: dpo }
    kto 1/1: { train.objective: kto }
matrix:
  data.imbalance.keep_desirable: [0.5]
seeds: [0]
evaluate: { generations: { prompts: 3, max_new_tokens: 8 } }
report: { x: data.imbalance.keep_desirable, series: method, baseline: dpo }
";

fn place() -> Place {
    let place = Place::with(EXPERIMENT);
    let run = place.run("sweep experiment.yaml");
    assert_eq!(run.code, Some(0), "{run}");
    place
}

/// Lists the files below a folder.
fn files(place: &Place, folder: &str) -> Vec<String> {
    let root = place.path(folder);
    let names =
        files_below(&root).into_iter().map(|path| path.strip_prefix(&root).unwrap().display().to_string());
    names.collect()
}

#[test]
fn a_sweep_is_exported_for_other_tools() {
    let place = place();
    assert_snapshot!(place.run("export experiment --format tensorboard --out board"), @r"
    exit code 0
    --- stdout
    board
    --- stderr
    3 runs and stages written
    ");
    assert_snapshot!(files(&place, "board").join("\n"), @r"
    0.5-dpo-seed-0/events.out.tfevents.0000000000.prospect
    0.5-kto-1-1-seed-0/events.out.tfevents.0000000000.prospect
    sft/events.out.tfevents.0000000000.prospect
    ");

    assert_snapshot!(place.run("export runs/experiment --format csv --out columns"), @r"
    exit code 0
    --- stdout
    columns
    --- stderr
    3 runs and stages written
    ");
    assert_snapshot!(files(&place, "columns").join("\n"), @r"
    metrics/0.5-dpo-seed-0.csv
    metrics/0.5-kto-1-1-seed-0.csv
    metrics/sft.csv
    runs.csv
    ");
    let read = |name: &str| fs_err::read_to_string(place.path(name)).unwrap();
    let metrics = read("columns/metrics/0.5-kto-1-1-seed-0.csv");
    let mut lines = metrics.lines();
    assert!(lines.next().unwrap().starts_with("step,epoch,eval_"), "{metrics}");
    assert_eq!(lines.map(|line| line.split(',').next().unwrap()).collect::<Vec<_>>(), ["0", "1", "2"]);
    assert_eq!(read("columns/runs.csv").lines().count(), 1 + 3);

    assert_snapshot!(place.run("export experiment --format alpaca-eval --out alpaca"), @r"
    exit code 0
    --- stdout
    alpaca
    --- stderr
    2 runs and stages written; 1 more have nothing to export yet
    ");
    assert_snapshot!(files(&place, "alpaca").join("\n"), @r"
    model_outputs/0.5-dpo-seed-0.json
    model_outputs/0.5-kto-1-1-seed-0.json
    reference_outputs.json
    ");
    let outputs: Vec<Value> =
        serde_json::from_str(&read("alpaca/model_outputs/0.5-dpo-seed-0.json")).unwrap();
    let references: Vec<Value> = serde_json::from_str(&read("alpaca/reference_outputs.json")).unwrap();
    assert_eq!((outputs.len(), references.len()), (3, 3));
    for output in &outputs {
        assert!(references.iter().any(|reference| reference["instruction"] == output["instruction"]));
        assert!(!output["instruction"].as_str().unwrap().starts_with("user: "), "{output}");
        assert_eq!(
            (&output["generator"], &output["dataset"]),
            (&"0.5-dpo-seed-0".into(), &"experiment".into())
        );
    }
    assert!(references.iter().all(|reference| reference["generator"] == "chosen"));
}

#[test]
fn export_errors_say_what_to_do() {
    let place = place();
    let error = |args: &str| {
        let run = place.run(args);
        assert_eq!(run.code, Some(1), "{run}");
        run.stderr
    };
    assert_snapshot!(error("export experiment --out out"), @"error: a sweep needs an export format: add --format tensorboard, csv, alpaca-eval or prompts");
    assert_snapshot!(error("export experiment --format csv --set a=1 --out out"), @"error: `--set` has no effect on a sweep; remove it");
    assert_snapshot!(error("export model.yaml --format csv --out out"), @"error: --format is for sweeps, but model.yaml has no experiment.json; remove it for a model or a dataset");
    assert_snapshot!(error("export experiment --format csv --out runs"), @"error: runs is not empty; choose another folder or remove it");
    place.write(
        "quiet.yaml",
        EXPERIMENT.replace("evaluate: { generations: { prompts: 3, max_new_tokens: 8 } }\n", ""),
    );
    place.run("sweep quiet.yaml");
    assert_snapshot!(error("export quiet --format alpaca-eval --out out"), @"error: no run of runs/quiet has generations yet; request them with `evaluate: { generations: … }` in the experiment");
    assert!(!place.path("out").exists());
}
