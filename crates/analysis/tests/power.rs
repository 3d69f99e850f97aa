//! Simulated comparisons of the size that a plan asks for: how often they find the planned gain, and
//! how well their results measure the variation that plans are made with.

// Helpers fail the test, like the tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "../examples/simulate/study.rs"]
#[expect(dead_code, reason = "only its random numbers are needed")]
mod study;

use prospect_analysis::stats::{Difference, Observation, Scale, Variation, contrast};
use study::Normal;

/// Level of the tests.
const ALPHA: f64 = 0.05;

/// Draws a comparison whose true difference is `gain`.
fn draw(variation: &Variation, gain: f64, seeds: usize, pairs: usize, random: &mut Normal) -> Difference {
    let ids: Vec<String> = (0..pairs).map(|pair| format!("{pair:05}")).collect();
    let ease: Vec<f64> = (0..pairs).map(|_| variation.prompt.sqrt() * random.next()).collect();
    let run = |values: Vec<f64>| -> Vec<Observation<'_>> {
        let values = ids.iter().map(String::as_str).zip(values);
        values.map(|(id, value)| Observation { pair: id, prompt: id, value }).collect()
    };
    let mut ours = Vec::new();
    for _ in 0..seeds {
        let level = gain + variation.seed_deviation * random.next();
        let noise = variation.residual.sqrt();
        ours.push(run(ease.iter().map(|ease| level + ease + noise * random.next()).collect()));
    }
    let theirs = vec![run(vec![0.0; pairs]); seeds];
    contrast(&ours, &theirs, Scale::Unbounded).unwrap()
}

/// Share of simulated comparisons that find the gain.
fn power(variation: &Variation, gain: f64, seeds: usize, pairs: usize) -> f64 {
    const SWEEPS: usize = 300;
    let mut random = Normal::new(seeds as u64);
    let found = (0..SWEEPS).filter(|_| {
        let difference = draw(variation, gain, seeds, pairs, &mut random);
        difference.p_value() < ALPHA && difference.mean() > 0.0
    });
    found.count() as f64 / SWEEPS as f64
}

#[test]
fn planned_comparisons_find_the_gain_in_four_of_five_cases() {
    for (variation, gain, seeds) in [
        (Variation::ASSUMED, 0.06, 5),
        (Variation::ASSUMED, 0.05, 10),
        (Variation { seed_deviation: 0.02, prompt: 0.05, residual: 0.2 }, 0.08, 4),
    ] {
        let pairs = variation.pairs_needed(gain, seeds, 1, ALPHA).unwrap();
        let share = power(&variation, gain, seeds, pairs);
        // The factor of few seeds is Cochran's, which is a little conservative; 300 sweeps leave a
        // standard error of 2.3 points.
        assert!((0.74..=0.93).contains(&share), "{variation:?}: {share} with {seeds} seeds, {pairs} pairs");
        let fewer = power(&variation, gain, seeds, pairs / 4);
        assert!(fewer < share - 0.1, "a quarter of the pairs finds {fewer} instead of {share}");
    }
}

#[test]
fn no_gain_is_found_at_the_level_of_the_test() {
    let share = power(&Variation::ASSUMED, 0.0, 5, 200);
    assert!(share <= 0.05, "one-sided, half of the level: {share}");
}

#[test]
fn results_measure_the_variation_that_they_were_drawn_with() {
    let truth = Variation { seed_deviation: 0.03, prompt: 0.1, residual: 0.2 };
    let mut random = Normal::new(7);
    let measured: Vec<Variation> =
        (0..60).map(|_| draw(&truth, 0.02, 20, 600, &mut random).variation().unwrap().0).collect();
    let mean = |value: fn(&Variation) -> f64| measured.iter().map(value).sum::<f64>() / measured.len() as f64;
    for (name, value, expected) in [
        ("seed", mean(|one| one.seed_deviation.powi(2)), truth.seed_deviation.powi(2)),
        ("prompt", mean(|one| one.prompt), truth.prompt),
        ("residual", mean(|one| one.residual), truth.residual),
    ] {
        // The standard error of the variance between seeds is 6 %. (With few seeds and pairs, it is
        // cut off at 0 so often that its mean is too large.)
        assert!((0.85..1.15).contains(&(value / expected)), "{name}: {value} for {expected}");
    }
}
