//! Detectors on synthetic metrics; `crates/eval/tests/integration/diagnosis.rs` has real runs.

use prospect_runs::{Estimate, Measure, MetricsRecord, RecordKind, Sign};

use super::{HeldOutResult, diagnose, has_clamped_reference_point};

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
        "eval_generations/kl" => 8.0 * done,
        _ => f64::NAN,
    }
}

/// A run without faults: margins grow and the gradient norm varies.
const HEALTHY: SyntheticRun = SyntheticRun { train, eval };

impl SyntheticRun {
    fn records(&self) -> Vec<MetricsRecord> {
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
                    "eval_generations/kl",
                ];
                records.push(MetricsRecord {
                    kind: RecordKind::Eval,
                    step,
                    values: values(&names, self.eval, step),
                });
            }
        }
        records
    }

    fn signs(&self) -> Vec<Sign> {
        let diagnoses = diagnose(&self.records(), None);
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
    assert_eq!(diagnose(&[], None), []);
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
fn jumps_of_the_loss_per_class_are_instability_and_one_unusual_batch_is_not() {
    let jump = |step, name: &str| {
        let jumps = name == "rewards/rejected" && (step == 31 || step == 45);
        train(step, name) + if jumps { 8.0 } else { 0.0 }
    };
    assert_eq!(SyntheticRun { train: jump, ..HEALTHY }.signs(), [Sign::Unstable]);
    let once = |step, name: &str| {
        let factor = if name == "grad_norm" && step == 31 { 40.0 } else { 1.0 };
        factor * train(step, name) + if name == "rewards/rejected" && step == 31 { 8.0 } else { 0.0 }
    };
    assert_eq!(SyntheticRun { train: once, ..HEALTHY }.signs(), []);
    // The loss itself varies with the classes in the batch.
    let composition =
        |step, name: &str| train(step, name) * if name == "loss" && step % 9 == 0 { 20.0 } else { 1.0 };
    assert_eq!(SyntheticRun { train: composition, ..HEALTHY }.signs(), []);
}

#[test]
fn an_interval_that_contains_chance_is_no_learning_after_any_number_of_steps() {
    let signs = |low, measure, steps| {
        let estimate = Estimate { value: low + 0.05, low, high: low + 0.1 };
        let mut records = HEALTHY.records();
        records.retain(|record| record.step <= steps);
        let diagnoses = diagnose(&records, Some(HeldOutResult { measure, estimate }));
        diagnoses.into_iter().map(|diagnosis| diagnosis.sign).collect::<Vec<_>>()
    };
    for measure in [Measure::Accuracy, Measure::Auc] {
        assert_eq!(signs(0.48, measure, 60), [Sign::NoLearning]);
        assert_eq!(signs(0.48, measure, 3), [Sign::NoLearning]);
        assert_eq!(signs(0.51, measure, 60), []);
    }
    assert_eq!(signs(0.48, Measure::Accuracy, 0), [], "before the first step");
}

#[test]
fn a_run_that_ran_away_to_chance_is_not_told_to_learn_faster() {
    let away = |step: u64, name: &str| match name {
        "eval_generations/kl" if step > 0 => 91.0,
        _ => eval(step, name),
    };
    let advice = |run: SyntheticRun| {
        let estimate = Estimate { value: 0.5, low: 0.45, high: 0.55 };
        let result = HeldOutResult { measure: Measure::Accuracy, estimate };
        let found = diagnose(&run.records(), Some(result));
        found.into_iter().find(|found| found.sign == Sign::NoLearning).unwrap().advice
    };
    assert!(advice(HEALTHY).starts_with("Train for more steps"));
    assert!(advice(SyntheticRun { eval: away, ..HEALTHY }).starts_with("Lower learning_rate first"));
}

#[test]
fn lost_diversity_is_mode_collapse() {
    let uniform = |step: u64, name: &str| match name {
        "eval_generations/distinct_2" if step > 0 => 0.2,
        "eval_generations/entropy" if step > 0 => 0.1,
        _ => eval(step, name),
    };
    assert_eq!(SyntheticRun { eval: uniform, ..HEALTHY }.signs(), [Sign::ModeCollapse]);
}

#[test]
fn unlikely_completions_have_run_away_from_the_reference() {
    // Garbled text is diverse.
    let away = |step: u64, name: &str| match name {
        "eval_generations/kl" if step > 0 => 91.0,
        "eval_generations/distinct_2" if step > 0 => 0.95,
        _ => eval(step, name),
    };
    assert_eq!(SyntheticRun { eval: away, ..HEALTHY }.signs(), [Sign::RanAway]);
    let mut records = SyntheticRun { eval: away, ..HEALTHY }.records();
    // Samples at temperature 1 measure the divergence itself, so they take precedence.
    for record in records.iter_mut().filter(|record| record.kind == RecordKind::Eval) {
        record.values.insert("eval_samples/kl".to_owned(), 6.0);
    }
    assert_eq!(diagnose(&records, None), []);
    // Without generations, the estimate of the objective.
    let growing =
        |step: u64, name: &str| if name == "kl" { (step as f64 / 12.0).exp() } else { train(step, name) };
    let mut records = SyntheticRun { train: growing, ..HEALTHY }.records();
    for record in &mut records {
        record.values.retain(|name, _| !name.contains("generations"));
    }
    assert_eq!(diagnose(&records, None).len(), 1);
}

#[test]
fn completions_that_are_cut_no_longer_end() {
    let cut = |step: u64, name: &str| {
        if name == "eval_generations/ended" && step > 0 { 0.2 } else { eval(step, name) }
    };
    assert_eq!(SyntheticRun { eval: cut, ..HEALTHY }.signs(), [Sign::NoLongerEnds]);
}

#[test]
fn a_reference_point_of_zero_and_falling_chosen_completions_are_no_faults() {
    let zero = |step, name: &str| if name == "kl" { 0.0 } else { train(step, name) };
    let run = SyntheticRun { train: zero, ..HEALTHY };
    assert_eq!(run.signs(), []);
    assert!(has_clamped_reference_point(&run.records()));
    assert!(!has_clamped_reference_point(&HEALTHY.records()));
    let unchanged = |step, name: &str| match name {
        "kl" | "rewards/chosen" | "rewards/rejected" => 0.0,
        _ => train(step, name),
    };
    assert!(!has_clamped_reference_point(&SyntheticRun { train: unchanged, ..HEALTHY }.records()));
    let falling = |step: u64, name: &str| {
        if name == "eval_logps/chosen" { -40.0 - step as f64 / 6.0 } else { eval(step, name) }
    };
    assert_eq!(SyntheticRun { eval: falling, ..HEALTHY }.signs(), []);
}

#[test]
fn long_completions_are_reported_where_chosen_ones_are_shorter() {
    let long = |step: u64, name: &str| match name {
        "eval_generations/length" => 30.0 + step as f64 / 2.0,
        _ => eval(step, name),
    };
    assert_eq!(SyntheticRun { eval: long, ..HEALTHY }.signs(), [Sign::LengthBlowUp]);
}
