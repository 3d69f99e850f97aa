//! Simulated coverage of intervals and family-wise error of verdicts, bounded to a few seconds.
//!
//! `just simulate` covers all designs with more sweeps each.

#[path = "../examples/simulate/study.rs"]
#[expect(dead_code, reason = "the example prints more of a tally than the tests check")]
mod study;

#[path = "../examples/simulate/stages.rs"]
#[expect(dead_code, reason = "the example merges outcomes of several threads")]
mod stages;

use stages::{Comparison, simulate_stages};
use study::{Coverage, SeedVariation, World, simulate};

/// Asserts that `coverage` is not significantly below `least`.
#[track_caller]
fn assert_covers(coverage: &Coverage, least: f64, what: &str) {
    // Intervals of one sweep share a baseline, so only a tenth of them count as independent.
    let error = 2.0 * (least * (1.0 - least) / (coverage.intervals as f64 / 10.0).max(1.0)).sqrt();
    assert!(coverage.share() >= least - error, "{what}: {:.3} of {}", coverage.share(), coverage.intervals);
}

#[test]
fn ordinary_differences_and_accuracies_are_covered() {
    for (accuracy, prompts, seeds, variance) in [
        (0.5, 43, 2, SeedVariation::High),
        (0.6, 200, 3, SeedVariation::Low),
        (0.6, 200, 2, SeedVariation::High),
        (0.95, 200, 3, SeedVariation::High),
        (0.6, 43, 5, SeedVariation::High),
    ] {
        let world = World { seeds, prompts, accuracy, variance, ..World::PLAIN };
        let tally = simulate(&world, 60, 1);
        let name = format!("{world:?}");
        assert_covers(&tally.difference, 0.93, &name);
        assert_covers(&tally.smoothed, 0.93, &name);
        assert_covers(&tally.accuracy, 0.93, &name);
        assert!(tally.family_errors <= 8, "{name}: {} of 60 sweeps", tally.family_errors);
    }
}

#[test]
fn differences_whose_seeds_agree_by_luck_are_covered() {
    let world = World { seeds: 3, prompts: 200, ..World::PLAIN };
    let tally = simulate(&world, 120, 2);
    assert!(tally.lucky.intervals > 10, "{}", tally.lucky.intervals);
    assert_covers(&tally.lucky, 0.93, "lucky seeds");
}

#[test]
fn a_method_whose_seeds_vary_more_is_covered() {
    let world = World { seeds: 3, prompts: 200, outlier: 0.4, ..World::PLAIN };
    let tally = simulate(&world, 120, 3);
    let (outlier, others) = (&tally.outlier, &tally.difference);
    assert!(outlier.share() >= 0.88 - 0.06, "{:.3}", outlier.share());
    assert_covers(others, 0.93, "the other methods");
    assert!(outlier.half_width() > 2.0 * others.half_width());
}

/// Asserts that at most 5 % of the comparisons end in a wrong recommendation, within two standard
/// errors.
#[track_caller]
fn assert_rarely_wrong(comparison: &Comparison<'_>, seed: u64) {
    let outcomes = simulate_stages(comparison, 200, seed);
    assert!(outcomes.share(outcomes.wrong) <= 0.05 + 0.031, "{comparison:?}: {outcomes:?}");
}

#[test]
fn comparisons_of_equal_methods_rarely_recommend_one() {
    let two: [&[usize]; 2] = [&[3, 6, 8], &[10, 12]];
    for (variance, accuracies) in [
        (SeedVariation::Low, &[0.65; 2][..]),
        (SeedVariation::High, &[0.65; 4][..]),
        (SeedVariation::Least, &[0.65; 2][..]),
    ] {
        let world = World { prompts: 120, variance, ..World::PLAIN };
        assert_rarely_wrong(&Comparison { world, accuracies, calls: &two[..1] }, 4);
        assert_rarely_wrong(&Comparison { world, accuracies, calls: &two }, 5);
    }
}

#[test]
fn comparisons_recommend_the_better_method_and_stop_early() {
    let world = World { prompts: 400, variance: SeedVariation::Low, ..World::PLAIN };
    // A baseline is recommended if it is better than all others, so three need more evidence than
    // one.
    for (accuracies, least_right) in
        [(&[0.65, 0.72][..], 0.7), (&[0.65, 0.58], 0.7), (&[0.65, 0.58, 0.57, 0.55], 0.5)]
    {
        let outcomes = simulate_stages(&Comparison { world, accuracies, calls: &[&[3, 6, 8]] }, 60, 6);
        assert_eq!(outcomes.wrong, 0, "{accuracies:?}: {outcomes:?}");
        assert!(outcomes.share(outcomes.right) >= least_right, "{accuracies:?}: {outcomes:?}");
        assert!(outcomes.runs < outcomes.full_runs, "{accuracies:?}: {outcomes:?}");
    }
}
