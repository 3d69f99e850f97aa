//! Detectors on made-up metrics; `tests/diagnosis.rs` has real runs.

use prospect_runs::{Kind, Record, Sign};

use super::diagnose;

/// A run of 60 steps in which everything is as it should be: margins grow, the norm of the gradient wiggles.
struct Made {
    train: fn(u64, &str) -> f64,
    eval: fn(u64, &str) -> f64,
}

fn wiggle(step: u64) -> f64 {
    (step as f64 * 1.7).sin()
}

fn train(step: u64, name: &str) -> f64 {
    let done = step as f64 / 60.0;
    match name {
        "loss" => 0.5 - 0.2 * done + 0.05 * wiggle(step),
        // A factor of 3 between neighbours is ordinary.
        "grad_norm" => 2.0 * (0.55 * wiggle(step)).exp(),
        "kl" => done + 0.3 * wiggle(step).abs(),
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

const HEALTHY: Made = Made { train, eval };

impl Made {
    fn signs(&self) -> Vec<Sign> {
        let values = |names: &[&str], value: fn(u64, &str) -> f64, step| {
            names.iter().map(|name| ((*name).to_owned(), value(step, name))).collect()
        };
        let mut records = Vec::new();
        for step in 0..=60 {
            if step > 0 {
                let names = ["loss", "grad_norm", "kl", "rewards/chosen", "rewards/rejected"];
                let values = values(&names, self.train, step);
                records.push(Record { kind: Kind::Train, step, values });
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
                records.push(Record { kind: Kind::Eval, step, values: values(&names, self.eval, step) });
            }
        }
        let found = diagnose(&records);
        for diagnosis in &found {
            let [from, to] = diagnosis.steps;
            assert!(from <= to && to <= 60 && !diagnosis.advice.is_empty(), "{diagnosis:?}");
            assert!(diagnosis.evidence.chars().any(|c| c.is_ascii_digit()), "{diagnosis:?}");
        }
        found.into_iter().map(|diagnosis| diagnosis.sign).collect()
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
    assert_eq!(Made { train, ..HEALTHY }.signs(), [Sign::Unstable]);
}

#[test]
fn one_leap_of_the_loss_is_instability_and_one_odd_batch_is_not() {
    let leap = |step, name: &str| train(step, name) + if name == "loss" && step == 31 { 4.0 } else { 0.0 };
    assert_eq!(Made { train: leap, ..HEALTHY }.signs(), [Sign::Unstable]);
    let odd =
        |step, name: &str| train(step, name) * if name == "grad_norm" && step == 31 { 12.0 } else { 1.0 };
    assert_eq!(Made { train: odd, ..HEALTHY }.signs(), []);
}

#[test]
fn a_flat_margin_is_no_learning() {
    let eval = |step, name: &str| if name == "eval_rewards/margins" { 1e-4 } else { eval(step, name) };
    assert_eq!(Made { eval, ..HEALTHY }.signs(), [Sign::NoLearning]);
}

#[test]
fn sameness_is_collapse_and_so_is_a_kl_that_runs_away() {
    let same = |step: u64, name: &str| match name {
        "eval_generations/distinct_2" if step > 0 => 0.2,
        "eval_generations/entropy" if step > 0 => 0.1,
        _ => eval(step, name),
    };
    assert_eq!(Made { eval: same, ..HEALTHY }.signs(), [Sign::ModeCollapse]);
    let away = |step: u64, name: &str| {
        if name == "kl" { (step as f64 / 12.0).exp() } else { train(step, name) }
    };
    assert_eq!(Made { train: away, ..HEALTHY }.signs(), [Sign::ModeCollapse]);
}

#[test]
fn a_reference_point_of_zero_is_told_once_rewards_have_moved() {
    let zero = |step, name: &str| if name == "kl" { 0.0 } else { train(step, name) };
    assert_eq!(Made { train: zero, ..HEALTHY }.signs(), [Sign::ReferencePointAtZero]);
    let still = |step, name: &str| match name {
        "kl" | "rewards/chosen" | "rewards/rejected" => 0.0,
        _ => train(step, name),
    };
    assert_eq!(Made { train: still, ..HEALTHY }.signs(), []);
}

#[test]
fn a_falling_chosen_side_is_told_where_the_margin_grows() {
    let falling = |step: u64, name: &str| {
        if name == "eval_logps/chosen" { -40.0 - step as f64 / 6.0 } else { eval(step, name) }
    };
    assert_eq!(Made { eval: falling, ..HEALTHY }.signs(), [Sign::ChosenFalling]);
}

#[test]
fn long_completions_are_told_where_people_chose_shorter_ones() {
    let long = |step: u64, name: &str| match name {
        "eval_generations/length" => 30.0 + step as f64 / 2.0,
        "eval_generations/ended" => 0.9 - step as f64 / 100.0,
        _ => eval(step, name),
    };
    assert_eq!(Made { eval: long, ..HEALTHY }.signs(), [Sign::LengthBlowUp]);
}
