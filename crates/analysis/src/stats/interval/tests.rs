//! Tests of intervals; their coverage is simulated in `tests/simulation.rs`.

use proptest::prelude::*;

use super::*;

/// Observations of runs given as values; pairs `2i` and `2i + 1` share a prompt.
fn observations<'a>(runs: &[Vec<f64>], ids: &'a [String]) -> Vec<Vec<Observation<'a>>> {
    let observation = |(index, value): (usize, &f64)| Observation {
        pair: &ids[index],
        prompt: &ids[index / 2],
        value: *value,
    };
    runs.iter().map(|run| run.iter().enumerate().map(observation).collect()).collect()
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("{index:04}")).collect()
}

fn sample(runs: &[Vec<f64>], scale: Scale) -> Sample {
    Sample::new(&observations(runs, &ids(runs[0].len())), scale).unwrap()
}

fn difference(a: &[Vec<f64>], b: &[Vec<f64>], scale: Scale) -> Difference {
    sample(a, scale).minus(&sample(b, scale)).unwrap()
}

/// Runs of 0 and 1 that differ between seeds in a few pairs.
fn verdicts(seeds: usize, wrong: usize) -> Vec<Vec<f64>> {
    let value = |seed: usize, pair: usize| f64::from(u8::from((pair * 7 + seed * 3) % 40 >= wrong));
    (0..seeds).map(|seed| (0..80).map(|pair| value(seed, pair)).collect()).collect()
}

#[test]
fn one_run_of_unclustered_pairs_has_the_exact_binomial_interval() {
    let pair = |index: usize| format!("{index}");
    let names: Vec<String> = (0..10).map(pair).collect();
    let run: Vec<Observation<'_>> = names
        .iter()
        .enumerate()
        .map(|(index, name)| Observation { pair: name, prompt: name, value: f64::from(u8::from(index < 8)) })
        .collect();
    let estimate = estimate(&[run], Scale::Share).unwrap();
    assert_eq!(estimate, super::super::binomial_exact(8, 10).unwrap());
    // Two pairs of each prompt are fewer independent trials.
    let clustered =
        sample(&[vec![1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]], Scale::Share).estimate();
    assert!(clustered.low < estimate.low && clustered.high > estimate.high, "{clustered:?}");
}

#[test]
fn no_interval_has_zero_width() {
    let right = vec![vec![1.0; 20]; 3];
    let range = Scale::Range { low: -3.0, high: 3.0 };
    for scale in [Scale::Share, range, Scale::Unbounded] {
        for (seeds, pairs) in [(1, 1), (1, 2), (1, 20), (2, 2), (3, 20)] {
            for value in [0.0, 1.0] {
                let runs = vec![vec![value; pairs]; seeds];
                let Estimate { low, high, .. } = sample(&runs, scale).estimate();
                assert!(low < high && low <= value && value <= high, "{scale:?} {seeds} {pairs} {value}");
                let same = difference(&runs, &runs, scale).estimate();
                assert!(same.low < 0.0 && 0.0 < same.high, "{scale:?} {seeds} {pairs} {value}");
            }
        }
    }
    // 2.5 % would leave 10 prompts without a failure this rarely: 1 − 0.025^(1/10) = 0.308.
    let Estimate { low, .. } = sample(&right, Scale::Share).estimate();
    assert!((low - 0.025_f64.powf(0.1)).abs() < 1e-9, "{low}");
}

#[test]
fn constant_policies_differ_with_a_p_value_above_0() {
    let constant = |utility: f64| vec![vec![utility; 40]; 3];
    let range = Scale::Range { low: -4.0, high: 4.0 };
    let difference = difference(&constant(-1.0), &constant(-2.5), range);
    // One of twenty prompts could be 8 away: a standard error of 0.4.
    let Estimate { value, low, .. } = difference.estimate();
    assert!((value - 1.5).abs() < 1e-12 && (low - (1.5 - 2.093_024 * 0.4)).abs() < 1e-5, "{low}");
    assert!((1e-4..1e-2).contains(&difference.p_value()), "{}", difference.p_value());
}

#[test]
fn seeds_that_agree_by_luck_do_not_narrow_an_interval() {
    // Every seed is right about as many pairs, but about other ones.
    let run =
        |seed: usize| (0..40usize).map(|pair| f64::from(u8::from((pair + seed).is_multiple_of(4)))).collect();
    let lucky: Vec<Vec<f64>> = (0..3).map(run).collect();
    let difference = difference(&lucky, &vec![vec![0.0; 40]; 3], Scale::Share);
    assert!(difference.own_seed_variance().unwrap().variance < 1e-12);
    let squares = difference.squares;
    let seed_part = (difference.half_width(ALPHA) / difference.variance().critical(ALPHA)).powi(2)
        - difference.prompt_variance;
    assert!((seed_part - squares.residual / 60.0).abs() < 1e-12, "{squares:?}");
}

#[test]
fn one_seed_has_an_interval_but_no_p_value() {
    let (good, bad) = (vec![vec![1.0; 80]], vec![vec![0.0; 80]]);
    let one = difference(&good, &bad, Scale::Share);
    assert!(one.estimate().low > 0.5);
    assert_eq!((one.p_value(), one.detectable(0.05)), (1.0, None));
    assert_eq!(sample(&good, Scale::Share).p_value_against(0.5, None), 1.0);
}

#[test]
fn p_values_agree_with_intervals() {
    for seeds in [2, 3, 5] {
        let one = difference(&verdicts(seeds, 4), &verdicts(seeds, 12), Scale::Share);
        let p = one.p_value();
        assert!((one.half_width(p) - one.estimate().value.abs()).abs() < 1e-6, "{seeds}: {p}");
        let alone = sample(&verdicts(seeds, 12), Scale::Share);
        let low = alone.estimate().low;
        assert!((alone.p_value_against(low, None) - 0.05).abs() < 1e-6, "{seeds}");
    }
}

#[test]
fn pooled_seeds_narrow_an_interval_and_lower_what_is_detectable() {
    let alone = difference(&verdicts(2, 4), &verdicts(2, 9), Scale::Share);
    let own = alone.own_seed_variance().unwrap();
    let pooled = alone.with_seed_variance(Some(SeedVariance { df: 10.0, ..own }));
    assert!(pooled.half_width(0.005) < 0.5 * alone.half_width(0.005));
    assert!(pooled.detectable(0.005).unwrap() < alone.detectable(0.005).unwrap());
    assert!(pooled.detectable(0.05).unwrap() > pooled.half_width(0.05));
}

proptest! {
    #[test]
    fn intervals_contain_the_value_in_any_order(
        runs in (1usize..4, 1usize..9).prop_flat_map(|(seeds, pairs)| {
            prop::collection::vec(prop::collection::vec(-5.0f64..5.0, pairs), seeds)
        }),
    ) {
        let ids = ids(runs[0].len());
        let mut shuffled = observations(&runs, &ids);
        let first = estimate(&shuffled, Scale::Unbounded).unwrap();
        prop_assert!(first.low < first.value && first.value < first.high);
        prop_assert!(first.low.is_finite() && first.high.is_finite());
        shuffled[0].reverse();
        prop_assert_eq!(estimate(&shuffled, Scale::Unbounded).unwrap(), first);
    }

    #[test]
    fn shares_stay_within_0_and_1(
        runs in (1usize..4, 1usize..9).prop_flat_map(|(seeds, pairs)| {
            prop::collection::vec(prop::collection::vec((0u8..3).prop_map(|half| f64::from(half) / 2.0), pairs), seeds)
        }),
    ) {
        let Estimate { value, low, high } = sample(&runs, Scale::Share).estimate();
        prop_assert!(0.0 <= low && low <= value && value <= high && high <= 1.0 && low < high);
    }

    #[test]
    fn contrasts_are_antisymmetric_and_nothing_differs_from_itself(
        runs in (1usize..4, 1usize..9).prop_flat_map(|(seeds, pairs)| {
            prop::collection::vec(prop::collection::vec(-5.0f64..5.0, pairs), 2 * seeds)
        }),
    ) {
        let (a, b) = runs.split_at(runs.len() / 2);
        let (forward, backward) = (difference(a, b, Scale::Unbounded), difference(b, a, Scale::Unbounded));
        let Estimate { value, low, high } = backward.estimate();
        prop_assert_eq!(forward.estimate(), Estimate { value: -value, low: -high, high: -low });
        prop_assert_eq!(forward.p_value(), backward.p_value());
        let same = difference(a, a, Scale::Unbounded);
        prop_assert_eq!((same.estimate().value, same.p_value()), (0.0, 1.0));
    }
}
