//! Experiments about base models, and models that have been trained on instructions or preferences.

use crate::support::{MODEL, Place};

const EXPERIMENT: &str = "\
question: Does it work without SFT?
data: data.yaml
model: model.yaml
base_model: required
train:
  learning_rate: 1e-3
  max_steps: 1
  batch_size: 8
  max_length: 160
  max_prompt_length: 100
linked:
  method:
    dpo: { train.objective: dpo }
    kto: { train.objective: kto }
  budget:
    one step: {}
seeds: [0]
evaluate: { pairs: 4 }
report:
  x: budget
  series: method
  baseline: dpo
";

/// Returns a folder with the experiment and a model of the given stage.
fn place(stage: &str) -> Place {
    let place = Place::with(EXPERIMENT);
    place.write("model.yaml", format!("{MODEL}{stage}"));
    place
}

const ALIGNED: &str = "stage: aligned\nstage_source: \"a model card\"\n";

#[test]
fn an_experiment_about_base_models_refuses_others() {
    let place = place(ALIGNED);
    for command in ["sweep experiment.yaml --dry-run", "sweep experiment.yaml"] {
        let run = place.run(command);
        assert_eq!(run.code, Some(1), "{run}");
        let expected =
            "experiment.yaml:4: `base_model: required`, but the model is random (aligned: a model card)";
        assert!(run.stderr.contains(expected), "{run}");
    }
    let run = place.run("validate experiment.yaml");
    assert!(run.stdout.contains("`base_model: required`"), "{run}");
    assert!(!place.path("runs").exists());
}

#[test]
fn a_preferred_base_model_is_a_warning_in_plan_and_verdict() {
    let place = place(ALIGNED);
    let plan = place.run("sweep experiment.yaml --set base_model=preferred --dry-run");
    assert_eq!(plan.code, Some(0), "{plan}");
    let warning =
        "warning: the question is about base models, but runs start from random (aligned: a model card)";
    assert!(plan.stdout.contains(warning), "{plan}");
    let run = place.run("sweep experiment.yaml --set base_model=preferred");
    assert_eq!(run.code, Some(0), "{run}");
    let summary = fs_err::read_to_string(place.path("runs/experiment/summary.json")).unwrap();
    let verdict =
        "Warning: the question is about base models, but runs start from random (aligned: a model card).";
    assert!(summary.contains(verdict), "{summary}");
    let page = fs_err::read_to_string(place.path("reports/experiment/index.html")).unwrap();
    assert!(page.contains("runs start from random (aligned: a model card)"));
}

#[test]
fn base_weights_pass_without_a_warning() {
    // Random weights are base weights unless the recipe says otherwise.
    for stage in ["", "stage: base\n"] {
        let plan = place(stage).run("sweep experiment.yaml --dry-run");
        assert_eq!(plan.code, Some(0), "{plan}");
        assert!(!plan.stdout.contains("warning: the question"), "{plan}");
    }
}

#[test]
fn other_weights_do_not_inherit_the_stage_of_the_recipe() {
    // The recipe's own weights are base weights; of those that replace them, nothing is known.
    let place = place("stage: base\n");
    let replaced = "--set model.weights=other.gguf --set model.architecture=null --set model.tokenizer=null";
    let run = place.run(&format!("sweep experiment.yaml --dry-run {replaced}"));
    assert!(run.stderr.contains("but the model is other.gguf (of unknown stage)"), "{run}");
    let run = place.run(&format!("sweep experiment.yaml --dry-run {replaced} --set model.stage=base"));
    assert!(!run.stderr.contains("base_model"), "{run}");
    assert!(run.stderr.contains("`weights`"), "{run}");
}

#[test]
fn a_source_without_a_stage_is_an_error() {
    let run = place("stage_source: \"a model card\"\n").run("sweep experiment.yaml --dry-run");
    assert!(run.stderr.contains("`stage_source` has no effect without `stage`"), "{run}");
}
