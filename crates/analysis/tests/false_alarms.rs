//! Simulated rates of false alarms: how often the diagnosis finds a fault in stationary runs, and
//! how often it finds a fault that is there.

#![allow(clippy::unwrap_used, reason = "helpers fail the test, like the tests themselves")]

use std::collections::BTreeMap;

use prospect_analysis::{HeldOutResult, diagnose, stats::binomial_exact};
use prospect_runs::{Measure, MetricsRecord, RecordKind, Sign};

/// Runs in each design.
const RUNS: u64 = 200;

/// Random numbers of one simulated run (SplitMix64).
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller).
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.uniform().max(1e-12), self.uniform());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    fn binomial(&mut self, trials: u64, share: f64) -> u64 {
        (0..trials).filter(|_| self.uniform() < share).count() as u64
    }
}

fn record(kind: RecordKind, step: u64, values: &[(&str, f64)]) -> MetricsRecord {
    let values: BTreeMap<String, f64> =
        values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    MetricsRecord { kind, step, values }
}

/// A stationary run of KTO on batches of few desirable rows, weighted so that both classes count
/// the same.
#[derive(Clone, Copy)]
struct Batches {
    rows: u64,
    /// Share of desirable rows.
    desirable: f64,
    /// Standard deviation of a completion's reward.
    spread: f64,
    steps: u64,
}

impl Batches {
    fn records(self, random: &mut Random) -> Vec<MetricsRecord> {
        let Self { rows, desirable, spread, steps } = self;
        let weight = (1.0 - desirable) / desirable;
        let sigmoid = |value: f64| 1.0 / (1.0 + (-value).exp());
        let step = |step: u64| {
            let chosen = random.binomial(rows, desirable);
            let mut rewards = |count: u64, mean: f64| -> Vec<f64> {
                (0..count).map(|_| mean + spread * random.normal()).collect()
            };
            let classes = [rewards(chosen, 0.6), rewards(rows - chosen, -0.4)];
            let [losses, norms] = [[weight, 1.0], [weight, 1.0]].map(|weights| {
                let signs = [1.0, -1.0];
                let terms = classes.iter().zip(weights).zip(signs).flat_map(|((class, weight), sign)| {
                    class.iter().map(move |reward| weight * sigmoid(-sign * reward))
                });
                terms.collect::<Vec<f64>>()
            });
            let size = rows as f64;
            let loss = losses.iter().sum::<f64>() / size;
            // Gradients of rows have random directions.
            let norm = norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt() / size;
            let mut values = vec![("loss", loss), ("grad_norm", norm * (0.3 * random.normal()).exp())];
            for (name, class) in ["rewards/chosen", "rewards/rejected"].into_iter().zip(&classes) {
                if !class.is_empty() {
                    values.push((name, class.iter().sum::<f64>() / class.len() as f64));
                }
            }
            record(RecordKind::Train, step, &values)
        };
        (1..=steps).map(step).collect()
    }
}

/// Share of runs in which the diagnosis finds `sign`.
fn rate(sign: Sign, mut diagnosed: impl FnMut(&mut Random) -> Vec<Sign>) -> f64 {
    let found = (0..RUNS).filter(|run| diagnosed(&mut Random(1000 * *run)).contains(&sign));
    found.count() as f64 / RUNS as f64
}

fn signs(records: &[MetricsRecord]) -> Vec<Sign> {
    diagnose(records, None).into_iter().map(|diagnosis| diagnosis.sign).collect()
}

#[test]
fn stationary_batches_are_rarely_called_unstable() {
    for (rows, desirable) in [(16, 0.5), (16, 0.05), (32, 0.05), (8, 0.1)] {
        for (spread, steps) in [(0.5, 60), (0.5, 400), (3.0, 60), (3.0, 400)] {
            let batches = Batches { rows, desirable, spread, steps };
            let rate = rate(Sign::Unstable, |random| signs(&batches.records(random)));
            assert!(rate <= 0.02, "{rows} rows, {desirable} desirable, {spread}, {steps} steps: {rate}");
        }
    }
}

#[test]
fn a_run_that_breaks_in_the_middle_is_called_unstable() {
    let batches = Batches { rows: 16, desirable: 0.3, spread: 0.5, steps: 120 };
    let rate = rate(Sign::Unstable, |random| {
        let mut records = batches.records(random);
        for record in records.iter_mut().skip(60) {
            if let Some(reward) = record.values.get_mut("rewards/rejected") {
                *reward += 12.0 * random.normal().abs() + 3.0;
            }
        }
        signs(&records)
    });
    assert!(rate >= 0.95, "{rate}");
}

/// Signs of a run from the held-out pairs that it ranks correctly.
fn signs_of_accuracy(random: &mut Random, accuracy: f64, pairs: u64) -> Vec<Sign> {
    let estimate = binomial_exact(random.binomial(pairs, accuracy), pairs).unwrap();
    let held_out = HeldOutResult { measure: Measure::Accuracy, estimate };
    let records = [record(RecordKind::Train, 50, &[("loss", 0.5)])];
    diagnose(&records, Some(held_out)).into_iter().map(|diagnosis| diagnosis.sign).collect()
}

#[test]
fn runs_at_chance_are_found_and_runs_above_it_are_not() {
    for pairs in [43, 200, 480] {
        let rate = rate(Sign::NoLearning, |random| signs_of_accuracy(random, 0.5, pairs));
        assert!(rate >= 0.95, "{pairs} pairs: {rate}");
    }
    for (pairs, accuracy) in [(43, 0.8), (200, 0.65), (480, 0.6)] {
        let rate = rate(Sign::NoLearning, |random| signs_of_accuracy(random, accuracy, pairs));
        assert!(rate <= 0.03, "{pairs} pairs: {rate}");
    }
}

/// Metrics of completions at the start and at the end of a run: log-ratio, share that ended, and
/// distinct pairs of words.
fn generations(random: &mut Random, prompts: u64, kl: f64, ended: [f64; 2], distinct: [f64; 2]) -> Vec<Sign> {
    let at = |index: usize, random: &mut Random| {
        let ratios = (0..prompts).map(|_| kl + (kl + 2.0) * random.normal()).sum::<f64>() / prompts as f64;
        let share = random.binomial(prompts, ended[index]) as f64 / prompts as f64;
        let words = 20 * prompts;
        let diversity = random.binomial(words, distinct[index]) as f64 / words as f64;
        let values = [
            ("eval_generations/kl", if index == 0 { 0.0 } else { ratios }),
            ("eval_generations/ended", share),
            ("eval_generations/length", 30.0 * (0.1 * random.normal()).exp()),
            ("eval_generations/chosen_length", 30.0),
            ("eval_generations/distinct_2", diversity),
            ("eval_generations/entropy", 1.0),
        ];
        record(RecordKind::Eval, 100 * index as u64, &values)
    };
    signs(&[at(0, random), at(1, random)])
}

#[test]
fn completions_of_ordinary_policies_rarely_raise_an_alarm() {
    for prompts in [16, 32, 64] {
        for (kl, ended) in [(2.0, 0.9), (8.0, 0.7), (12.0, 0.5)] {
            let mut counts: BTreeMap<Sign, usize> = BTreeMap::new();
            for run in 0..RUNS {
                let mut random = Random(1000 * run);
                for sign in generations(&mut random, prompts, kl, [ended; 2], [0.6, 0.55]) {
                    *counts.entry(sign).or_default() += 1;
                }
            }
            let rate = |sign| counts.get(&sign).copied().unwrap_or(0) as f64 / RUNS as f64;
            for sign in [Sign::RanAway, Sign::NoLongerEnds, Sign::ModeCollapse, Sign::LengthBlowUp] {
                assert!(rate(sign) <= 0.02, "{sign:?}, {prompts} prompts, KL {kl}: {}", rate(sign));
            }
        }
    }
}

#[test]
fn broken_policies_are_found() {
    let found = |sign, kl, ended: f64, distinct: f64| {
        rate(sign, |random| generations(random, 16, kl, [0.9, ended], [0.6, distinct]))
    };
    // The log-ratios of policies that generate garbled text, which is diverse.
    assert!(found(Sign::RanAway, 91.0, 0.9, 0.9) >= 0.99);
    assert!(found(Sign::RanAway, 262.0, 0.9, 0.9) >= 0.99);
    assert!(found(Sign::NoLongerEnds, 8.0, 0.1, 0.6) >= 0.99);
    assert!(found(Sign::ModeCollapse, 8.0, 0.9, 0.15) >= 0.99);
}
