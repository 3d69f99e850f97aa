//! Every objective, from an experiment file to a report.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{MODEL, Place};

/// Number of objectives.
const COUNT: usize = 22;

/// Name, further options, the loss before the first step if known, and a metric of the objective.
const OBJECTIVES: [(&str, &str, Option<f64>, &str); COUNT] = [
    ("kto", "train.kl_partners: 2", Some(0.5), "kl"),
    ("apo_zero_unpaired", "train.desirable_weight: 1", Some(0.5), "rewards/chosen"),
    ("bco", "train.humanline: true", Some(std::f64::consts::LN_2), "delta"),
    ("dpo", "train.humanline: [-1.0, 1.5]", Some(std::f64::consts::LN_2), "humanline/unclamped"),
    ("cdpo", "train.label_smoothing: 0.2", Some(std::f64::consts::LN_2), "rewards/margins"),
    ("robust_dpo", "train.label_smoothing: 0.2", Some(std::f64::consts::LN_2), "rewards/margins"),
    ("hinge", "train.beta: 0.05", Some(1.0), "rewards/margins"),
    ("ipo", "train.beta: 0.05", Some(100.0), "rewards/margins"),
    ("ppo", "train.optimizer: rmsprop, train.kl_coef: 0.2", Some(0.0), "ppo/unclipped"),
    ("apo_zero", "train.sync_every: 1", Some(1.0), "rewards/margins"),
    ("apo_down", "train.beta: 0.2", Some(1.0), "rewards/margins"),
    ("exo_pair", "train.label_smoothing: 0.01", None, "rewards/margins"),
    ("nca_pair", "train.beta: 0.2", Some(2.0 * std::f64::consts::LN_2), "rewards/margins"),
    ("sppo_hard", "train.beta: 0.1", Some(50.0), "rewards/margins"),
    ("aot", "train.label_smoothing: 0.1", Some(std::f64::consts::LN_2), "rewards/margins"),
    ("aot_unpaired", "train.beta: 0.2", Some(std::f64::consts::LN_2), "rewards/margins"),
    ("{ dpo: 1.0, sft: 0.2 }", "train.beta: 0.3", None, "rewards/margins"),
    ("simpo", "train.simpo_gamma: 1.0", None, "rewards/margins"),
    ("orpo", "train.beta: 0.1", None, "log_odds_ratio"),
    ("slic", "train.lambda_coef: 0.2", None, "nll_loss"),
    ("sft", "train.warmup_steps: 1", None, "logps/chosen"),
    ("csft", "train.control_tokens: { desirable: '<|up|>', undesirable: '<|down|>' }", None, "logps/chosen"),
];

fn place() -> Place {
    let place = Place::new();
    let methods: Vec<_> = OBJECTIVES
        .iter()
        .map(|(name, options, ..)| format!("    '{name}': {{ train.objective: {name}, {options} }}"))
        .collect();
    let methods = methods.join("\n");
    place.write(
        "experiment.yaml",
        format!(
            "question: Does every objective run?
data: data.yaml
model: model.yaml
train: {{ learning_rate: 1e-2, max_steps: 2, batch_size: 8, max_length: 160, max_prompt_length: 110 }}
linked:
  method:
{methods}
matrix: {{ data.imbalance.keep_desirable: [0.8] }}
seeds: [0]
evaluate: {{ pairs: 8 }}
report: {{ x: data.imbalance.keep_desirable, series: method, baseline: dpo }}
"
        ),
    );
    place.write("model.yaml", MODEL);
    place.write("data.yaml", "source: { kind: synthetic, pairs: 60 }\nsplit: { test_fraction: 0.2 }\n");
    place
}

/// Reads the metrics of a run: training steps and evaluations.
fn records(place: &Place, id: &str) -> Vec<serde_json::Value> {
    let text =
        fs_err::read_to_string(place.path("runs/experiment/runs").join(id).join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_objective_trains_and_is_evaluated_on_the_same_pairs() {
    let place = place();
    let run = place.run("sweep experiment.yaml");
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.stderr.contains(&format!("{COUNT} runs finished")), "{run}");

    let plan = fs_err::read_to_string(place.path("runs/experiment/experiment.json")).unwrap();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let ids: BTreeMap<String, String> = plan["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| {
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            (text(&run["settings"]["method"]), text(&run["id"]))
        })
        .collect();
    let mut policies = BTreeSet::new();
    for (name, _, start, metric) in OBJECTIVES {
        let records = records(&place, &ids[name]);
        assert_eq!(records.len(), 4, "{name}: two steps between two evaluations");
        let (step, after) = (&records[1], &records[3]);
        for key in ["loss", "grad_norm", metric] {
            assert!(step[key].as_f64().is_some_and(f64::is_finite), "{name}: {key} in {step}");
        }
        assert!(step["grad_norm"].as_f64().unwrap() > 0.0, "{name}");
        let evaluated = ["eval_loss", "eval_rewards/margins", "eval_rewards/accuracies", "eval_logps/chosen"];
        for key in evaluated {
            assert!(after[key].as_f64().is_some_and(f64::is_finite), "{name}: {key} in {after}");
        }
        let at_start = records[0]["eval_loss"].as_f64().unwrap();
        // Before training, policy and reference are equal, so the held-out margin is 0.
        assert_eq!(records[0]["eval_rewards/margins"].as_f64(), Some(0.0), "{name}");
        assert!(start.is_none_or(|start| (start - at_start).abs() < 1e-12), "{name}: {at_start}");
        assert_ne!(after["eval_loss"].as_f64(), Some(at_start), "{name}");
        policies.insert(after["eval_logps/chosen"].to_string());
    }
    assert_eq!(policies.len(), COUNT, "each objective trains another policy");
}

#[test]
fn an_option_of_another_objective_is_an_error_that_names_its_objective() {
    let place = place();
    let run = place.run("sweep experiment.yaml --set train.z0=micro_batch");
    assert_eq!(run.code, Some(1), "{run}");
    insta::assert_snapshot!(run.stderr, @"error: experiment.yaml: training settings: `z0` has no effect on `objective: apo_zero_unpaired`; it belongs to kto");
}

#[test]
fn plans_and_validation_show_what_a_preset_resolves_to() {
    let place = place();
    let file = fs_err::read_to_string(place.path("experiment.yaml")).unwrap();
    let file = file.replace("train: { learning_rate: 1e-2,", "train: { preset: halos, learning_rate: 1e-2,");
    place.write("experiment.yaml", file);
    // Explicit keys override the preset, here the learning rate.
    let shown = "preset halos: objective {bco:{beta:0.1}}, humanline {low:-1.0,high:1.5}, learning_rate 0.01, \
                 schedule constant, warmup_steps 0, warmup_ratio 0.1, length {steps:2}, batch_size 8, \
                 micro_batch_size 4, max_grad_norm 1.0, weight_decay 0.01";
    let plan = place.run("sweep experiment.yaml --dry-run");
    assert!(plan.stdout.contains(shown), "{plan}");
    let validated = place.run("validate experiment.yaml");
    assert!(validated.stdout.contains(shown), "{validated}");
}
