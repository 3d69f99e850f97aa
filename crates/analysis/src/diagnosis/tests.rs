//! Detectors on synthetic metrics; `crates/eval/tests/integration/diagnosis.rs` has real runs.

use prospect_runs::{MetricsRecord, RecordKind, Sign};

use super::diagnose;

/// Metrics of a run of 60 steps.
struct SyntheticRun {
    train: fn(u64, &str) -> f64,
    eval: fn(u64, &str) -> f64,
}

fn oscillation(step: u64) -> f64 {
    (step as f64 * 1.7).sin()
}

fn train(step: u64, name: &str) -> f64 {
    let done = step as f64 / 60.0;
    match name {
        "loss" => 0.5 - 0.2 * done + 0.05 * oscillation(step),
        // Neighbours differ by up to a factor of 3, as in ordinary runs.
        "grad_norm" => 2.0 * (0.55 * oscillation(step)).exp(),
        "kl" => done + 0.3 * oscillation(step).abs(),
        "rewards/chosen" => 0.3 * done,
        "rewards/rejected" => -0.3 * done,
        _ => f64::NAN,
    }
}

fn eval(step: u64, name: &str) -> f64 {
    let done = step as f64 / 60.0;
    match name {
        "eval_rewards/margins" => 0.6 * done,
        "eval_rewards/accuracies" => 0.5 + 0.2 * done,
        "eval_logps/chosen" => -40.0 - 0.5 * done,
        "eval_logps/rejected" => -41.0 - 6.0 * done,
        "eval_generations/distinct_2" => 0.8 - 0.1 * done,
        "eval_generations/entropy" => 1.5 - 0.6 * done,
        "eval_generations/length" => 30.0 + 6.0 * done,
        "eval_generations/chosen_length" => 34.0,
        "eval_generations/ended" => 0.9,
        _ => f64::NAN,
    }
}

/// A run without faults: margins grow and the gradient norm varies.
const HEALTHY: SyntheticRun = SyntheticRun { train, eval };

impl SyntheticRun {
    fn signs(&self) -> Vec<Sign> {
        let values = |names: &[&str], value: fn(u64, &str) -> f64, step| {
            names.iter().map(|name| ((*name).to_owned(), value(step, name))).collect()
        };
        let mut records = Vec::new();
        for step in 0..=60 {
            if step > 0 {
                let names = ["loss", "grad_norm", "kl", "rewards/chosen", "rewards/rejected"];
                let values = values(&names, self.train, step);
                records.push(MetricsRecord { kind: RecordKind::Train, step, values });
            }
            if step % 30 == 0 {
                let names = [
                    "eval_rewards/margins",
                    "eval_rewards/accuracies",
                    "eval_logps/chosen",
                    "eval_logps/rejected",
                    "eval_generations/distinct_2",
                    "eval_generations/entropy",
                    "eval_generations/length",
                    "eval_generations/chosen_length",
                    "eval_generations/ended",
                ];
                records.push(MetricsRecord {
                    kind: RecordKind::Eval,
                    step,
                    values: values(&names, self.eval, step),
                });
            }
        }
        let diagnoses = diagnose(&records);
        for diagnosis in &diagnoses {
            let [from, to] = diagnosis.steps;
            assert!(from <= to && to <= 60 && !diagnosis.advice.is_empty(), "{diagnosis:?}");
            assert!(diagnosis.evidence.chars().any(|c| c.is_ascii_digit()), "{diagnosis:?}");
        }
        diagnoses.into_iter().map(|diagnosis| diagnosis.sign).collect()
    }
}

#[test]
fn a_healthy_run_has_no_signs() {
    assert_eq!(HEALTHY.signs(), []);
    assert_eq!(diagnose(&[]), []);
}

#[test]
fn jumps_of_the_gradient_are_instability() {
    let train = |step, name: &str| {
        let jump = if name == "grad_norm" && (step == 31 || step == 45) { 30.0 } else { 1.0 };
        jump * train(step, name)
    };
    assert_eq!(SyntheticRun { train, ..HEALTHY }.signs(), [Sign::Unstable]);
}

#[test]
fn one_jump_of_the_loss_is_instability_and_one_unusual_batch_is_not() {
    let jump = |step, name: &str| train(step, name) + if name == "loss" && step == 31 { 4.0 } else { 0.0 };
    assert_eq!(SyntheticRun { train: jump, ..HEALTHY }.signs(), [Sign::Unstable]);
    let unusual =
        |step, name: &str| train(step, name) * if name == "grad_norm" && step == 31 { 12.0 } else { 1.0 };
    assert_eq!(SyntheticRun { train: unusual, ..HEALTHY }.signs(), []);
}

#[test]
fn a_flat_margin_is_no_learning() {
    let eval = |step, name: &str| if name == "eval_rewards/margins" { 1e-4 } else { eval(step, name) };
    assert_eq!(SyntheticRun { eval, ..HEALTHY }.signs(), [Sign::NoLearning]);
}

#[test]
fn lost_diversity_and_a_growing_kl_are_mode_collapse() {
    let uniform = |step: u64, name: &str| match name {
        "eval_generations/distinct_2" if step > 0 => 0.2,
        "eval_generations/entropy" if step > 0 => 0.1,
        _ => eval(step, name),
    };
    assert_eq!(SyntheticRun { eval: uniform, ..HEALTHY }.signs(), [Sign::ModeCollapse]);
    let growing = |step: u64, name: &str| {
        if name == "kl" { (step as f64 / 12.0).exp() } else { train(step, name) }
    };
    assert_eq!(SyntheticRun { train: growing, ..HEALTHY }.signs(), [Sign::ModeCollapse]);
}

#[test]
fn a_reference_point_of_zero_is_reported_once_rewards_have_changed() {
    let zero = |step, name: &str| if name == "kl" { 0.0 } else { train(step, name) };
    assert_eq!(SyntheticRun { train: zero, ..HEALTHY }.signs(), [Sign::ReferencePointAtZero]);
    let unchanged = |step, name: &str| match name {
        "kl" | "rewards/chosen" | "rewards/rejected" => 0.0,
        _ => train(step, name),
    };
    assert_eq!(SyntheticRun { train: unchanged, ..HEALTHY }.signs(), []);
}

#[test]
fn falling_chosen_log_probs_are_reported_where_the_margin_grows() {
    let falling = |step: u64, name: &str| {
        if name == "eval_logps/chosen" { -40.0 - step as f64 / 6.0 } else { eval(step, name) }
    };
    assert_eq!(SyntheticRun { eval: falling, ..HEALTHY }.signs(), [Sign::ChosenFalling]);
}

#[test]
fn long_completions_are_reported_where_chosen_ones_are_shorter() {
    let long = |step: u64, name: &str| match name {
        "eval_generations/length" => 30.0 + step as f64 / 2.0,
        "eval_generations/ended" => 0.9 - step as f64 / 100.0,
        _ => eval(step, name),
    };
    assert_eq!(SyntheticRun { eval: long, ..HEALTHY }.signs(), [Sign::LengthBlowUp]);
}
