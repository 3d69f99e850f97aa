//! Intervals over seeds and prompts by the variance that each brings.

use prospect_runs::Estimate;

use super::{
    Outcome, StatsError,
    grid::Grid,
    student::{critical, two_sided},
};

/// Probability outside a 95 % interval.
const OUTSIDE: f64 = 0.05;

/// The mean outcome over seeds and pairs with its 95 % interval.
///
/// `outcomes` holds one list per seed, all over the same pairs in any order. Seeds and prompts are crossed: every run is
/// judged on the same prompts. With a variance `A` of the mean that seeds bring and a variance `B` that prompts bring, both
/// from the mean squares of that two-way layout, half the interval is `√(t²·A + t′²·B)`, where t and t′ are Student's
/// quantiles at the degrees of freedom of seeds and of prompts. That the mean square of seeds also holds the chance by which
/// verdicts on a pair differ from run to run makes the interval wide rather than narrow: simulated, it covers 95 to 98 %
/// for 2, 3, 5 and 8 seeds, however much seeds differ. Two seeds say little of how seeds differ, and the interval is as wide
/// as that is (t is 12.7, with three seeds 4.3). With one seed it speaks of that seed alone, with one prompt of that prompt.
///
/// Where outcomes are verdicts, right or wrong, the variance of prompts is that with one more prompt on which the verdict is the
/// opposite, as Agresti and Min (2005) have it for matched proportions: that 50 prompts show no difference does not say that
/// there is none.
pub fn estimate(outcomes: &[Vec<Outcome<'_>>]) -> Result<Estimate, StatsError> {
    Ok(Components::of(&Grid::align(outcomes)?).estimate())
}

/// The mean of `a − b`, paired by seed (same place in both lists) and held-out pair, with its interval as
/// [`estimate`] gives it. `contrast(b, a)` is its exact negative.
pub fn contrast(a: &[Vec<Outcome<'_>>], b: &[Vec<Outcome<'_>>]) -> Result<Difference, StatsError> {
    Ok(Difference(Components::of(&Grid::align(a)?.minus(&Grid::align(b)?)?)))
}

/// A difference of two methods.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference(Components);

impl Difference {
    /// The difference with its 95 % interval.
    pub fn estimate(&self) -> Estimate {
        self.0.estimate()
    }

    /// The largest p at which the interval of level 1 − p excludes 0; 1 where a single seed's single prompt says nothing of
    /// chance, or nothing differs.
    pub fn p_value(&self) -> f64 {
        self.0.p_value()
    }

    /// How many seeds it takes to tell a difference of `effect` in four of five cases, if seeds and prompts differ as they
    /// did here; None where seeds alone would not do, since the choice of prompts weighs too much, or where a single seed
    /// says nothing of how seeds differ.
    pub fn seeds_needed(&self, effect: f64) -> Option<usize> {
        self.0.seeds_needed(effect)
    }
}

/// A mean and where its variance comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Components {
    mean: f64,
    /// Variance of the mean that seeds bring, with that of single verdicts.
    of_seeds: f64,
    /// Variance of the mean that prompts bring.
    of_prompts: f64,
    seeds: usize,
    prompts: usize,
}

impl Components {
    fn of(grid: &Grid) -> Self {
        let (seeds, prompts) = (grid.runs.len(), grid.prompt_count);
        let (table, mean) = by_prompt(grid);
        let of_seed: Vec<f64> = table.iter().map(|row| average(row)).collect();
        let of_prompt: Vec<f64> = (0..prompts)
            .map(|prompt| average(&table.iter().map(|row| row[prompt]).collect::<Vec<_>>()))
            .collect();
        let squares = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
        let residual = table.iter().zip(&of_seed).flat_map(|(row, seed)| {
            row.iter().zip(&of_prompt).map(move |(value, prompt)| (value - seed - prompt).powi(2))
        });
        let per = |sum: f64, freedom: usize| if freedom == 0 { 0.0 } else { sum / freedom as f64 };
        let cells = (seeds * prompts) as f64;
        let mean_square_of_seeds = per(prompts as f64 * squares(&of_seed), seeds - 1);
        let mean_square_of_prompts = per(seeds as f64 * squares(&of_prompt), prompts - 1);
        let noise = per(residual.sum(), (seeds - 1) * (prompts - 1));
        let opposite = if grid.verdicts && prompts > 1 { 1.0 / (prompts as f64).powi(2) } else { 0.0 };
        Self {
            mean,
            of_seeds: mean_square_of_seeds / cells,
            of_prompts: (mean_square_of_prompts - noise).max(0.0) / cells + opposite,
            seeds,
            prompts,
        }
    }

    /// Half the width of the interval that leaves out a probability of `outside`.
    fn half(&self, outside: f64) -> f64 {
        let part = |variance: f64, count: usize| {
            if variance > 0.0 { critical(outside, (count - 1) as f64).powi(2) * variance } else { 0.0 }
        };
        (part(self.of_seeds, self.seeds) + part(self.of_prompts, self.prompts)).sqrt()
    }

    fn estimate(&self) -> Estimate {
        let half = self.half(OUTSIDE);
        Estimate { value: self.mean, low: self.mean - half, high: self.mean + half }
    }

    fn p_value(&self) -> f64 {
        if self.mean == 0.0 || self.seeds * self.prompts < 2 {
            return 1.0;
        }
        match (self.of_seeds > 0.0, self.of_prompts > 0.0) {
            (false, false) => return 0.0,
            (true, false) => return two_sided(self.mean / self.of_seeds.sqrt(), (self.seeds - 1) as f64),
            (false, true) => return two_sided(self.mean / self.of_prompts.sqrt(), (self.prompts - 1) as f64),
            (true, true) => {}
        }
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..40 {
            let middle = f64::midpoint(low, high);
            if self.half(middle) > self.mean.abs() {
                low = middle;
            } else {
                high = middle;
            }
        }
        f64::midpoint(low, high)
    }

    fn seeds_needed(&self, effect: f64) -> Option<usize> {
        if self.seeds < 2 {
            return None;
        }
        let of_one_seed = self.of_seeds * self.seeds as f64;
        // The interval must not reach 0, and the effect must not fall short in more than one of five cases.
        let enough = |seeds: &usize| {
            let freedom = (seeds - 1) as f64;
            let of_seeds = of_one_seed / *seeds as f64;
            let t = critical(OUTSIDE, freedom);
            let t_of_prompts = critical(OUTSIDE, (self.prompts.max(2) - 1) as f64);
            let half = (t * t * of_seeds + t_of_prompts.powi(2) * self.of_prompts).sqrt();
            half + 0.8416 * (of_seeds + self.of_prompts).sqrt() <= effect.abs()
        };
        (2..=64).find(enough)
    }
}

/// For each run and prompt, how far the prompt's pairs together are from the mean, per mean number of pairs: the average
/// of a run's row is the run's deviation. And the mean.
fn by_prompt(grid: &Grid) -> (Vec<Vec<f64>>, f64) {
    let mean = average(&grid.runs.iter().map(|run| average(run)).collect::<Vec<_>>());
    let pairs_per_prompt = grid.prompts.len() as f64 / grid.prompt_count as f64;
    let row = |run: &Vec<f64>| {
        let mut sums = vec![0.0; grid.prompt_count];
        for (value, prompt) in run.iter().zip(&grid.prompts) {
            sums[*prompt] += (value - mean) / pairs_per_prompt;
        }
        sums
    };
    (grid.runs.iter().map(row).collect(), mean)
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prospect_core::draw::Draw;
    use rand_chacha::{
        ChaCha8Rng,
        rand_core::{Rng, SeedableRng},
    };

    use super::*;

    /// Outcomes of runs given as values; pairs `2i` and `2i + 1` share a prompt.
    fn outcomes<'a>(runs: &[Vec<f64>], ids: &'a [String]) -> Vec<Vec<Outcome<'a>>> {
        let outcome = |(index, value): (usize, &f64)| Outcome {
            pair: &ids[index],
            prompt: &ids[index / 2],
            value: *value,
        };
        runs.iter().map(|run| run.iter().enumerate().map(outcome).collect()).collect()
    }

    fn ids(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("{index:04}")).collect()
    }

    fn random(seed: u64) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(Draw::new(seed, "simulation").key())
    }

    /// A standard normal number, nearly: the sum of twelve uniform ones less its mean.
    fn normal(random: &mut ChaCha8Rng) -> f64 {
        (0..12).map(|_| f64::from(random.next_u32()) / f64::from(u32::MAX)).sum::<f64>() - 6.0
    }

    /// Whether a run's log-ratio margin is above 0: skill, the prompt's ease, the run's luck, the pair's noise.
    #[derive(Debug, Clone, Copy)]
    struct Simulation {
        skill: f64,
        prompt: f64,
        seed: f64,
        noise: f64,
    }

    impl Simulation {
        fn runs(&self, seeds: usize, ease: &[f64], random: &mut ChaCha8Rng) -> Vec<Vec<f64>> {
            let run = |random: &mut ChaCha8Rng| {
                let luck = self.seed * normal(random);
                let verdict = |pair: usize, noise: f64| {
                    let margin = self.skill + self.prompt * ease[pair / 2] + luck + self.noise * noise;
                    f64::from(u8::from(margin > 0.0))
                };
                (0..2 * ease.len()).map(|pair| verdict(pair, normal(random))).collect()
            };
            (0..seeds).map(|_| run(random)).collect()
        }

        fn truth(&self, random: &mut ChaCha8Rng) -> f64 {
            let ease: Vec<f64> = (0..250).map(|_| normal(random)).collect();
            average(&self.runs(400, &ease, random).iter().map(|run| average(run)).collect::<Vec<_>>())
        }
    }

    const DATASETS: u64 = 400;

    /// The share of simulated datasets whose interval, as `of` has it, holds the true accuracy.
    fn coverage(
        simulation: Simulation,
        seeds: usize,
        of: impl Fn(&[Vec<f64>], &mut ChaCha8Rng) -> [f64; 2],
    ) -> f64 {
        let mut random = random(7);
        let truth = average(&(0..8).map(|_| simulation.truth(&mut random)).collect::<Vec<_>>());
        let covered = (0..DATASETS).filter(|_| {
            let ease: Vec<f64> = (0..60).map(|_| normal(&mut random)).collect();
            let runs = simulation.runs(seeds, &ease, &mut random);
            let [low, high] = of(&runs, &mut random);
            low <= truth && truth <= high
        });
        covered.count() as f64 / DATASETS as f64
    }

    fn ours(runs: &[Vec<f64>], _: &mut ChaCha8Rng) -> [f64; 2] {
        let estimate = estimate(&outcomes(runs, &ids(120))).unwrap();
        [estimate.low, estimate.high]
    }

    /// The percentile bootstrap that draws seeds, and prompts for all of them.
    fn bootstrap(runs: &[Vec<f64>], random: &mut ChaCha8Rng) -> [f64; 2] {
        const DRAWS: usize = 200;
        let mut means: Vec<f64> = (0..DRAWS)
            .map(|_| {
                let mut draw = |count: usize| random.next_u32() as usize % count;
                let seeds: Vec<_> = runs.iter().map(|_| &runs[draw(runs.len())]).collect();
                let prompts: Vec<usize> = (0..60).map(|_| draw(60)).collect();
                let of_seed = |run: &&Vec<f64>| {
                    prompts
                        .iter()
                        .map(|prompt| f64::midpoint(run[2 * prompt], run[2 * prompt + 1]))
                        .sum::<f64>()
                };
                seeds.iter().map(of_seed).sum::<f64>() / (60 * runs.len()) as f64
            })
            .collect();
        means.sort_by(f64::total_cmp);
        [means[DRAWS / 40], means[DRAWS - 1 - DRAWS / 40]]
    }

    #[test]
    fn intervals_cover_the_truth_at_least_as_often_as_they_say() {
        // 400 datasets measure a coverage of 95 % to within 2.2 points (two standard errors).
        for seed in [0.0, 0.1, 0.5] {
            for seeds in [1, 2, 3, 5] {
                if seeds == 1 && seed > 0.0 {
                    continue;
                }
                let simulation = Simulation { skill: 0.4, prompt: 1.0, seed, noise: 0.5 };
                let coverage = coverage(simulation, seeds, ours);
                assert!((0.928..=0.995).contains(&coverage), "{seeds} seeds of {seed}: {coverage}");
            }
        }
    }

    #[test]
    fn a_bootstrap_of_few_seeds_claims_too_much() {
        // Why there is none here. Prompts alone it does well.
        let alike = Simulation { skill: 0.4, prompt: 1.0, seed: 0.0, noise: 0.5 };
        let of_prompts = coverage(alike, 3, bootstrap);
        assert!(of_prompts > 0.91, "{of_prompts}");
        let apart = Simulation { seed: 0.5, ..alike };
        let of_three = coverage(apart, 3, bootstrap);
        assert!(of_three < 0.9, "{of_three}");
    }

    #[test]
    fn equal_methods_are_told_apart_no_more_often_than_claimed() {
        let (ids, mut random) = (ids(120), random(11));
        for (seeds, seed) in [(2, 0.3), (3, 0.3), (5, 0.1)] {
            let simulation = Simulation { skill: 0.4, prompt: 1.0, seed, noise: 0.5 };
            let told = (0..DATASETS).filter(|_| {
                let ease: Vec<f64> = (0..60).map(|_| normal(&mut random)).collect();
                let [a, b] = [(); 2].map(|()| simulation.runs(seeds, &ease, &mut random));
                let difference = contrast(&outcomes(&a, &ids), &outcomes(&b, &ids)).unwrap();
                let Estimate { low, high, .. } = difference.estimate();
                let excluded = low > 0.0 || high < 0.0;
                assert_eq!(excluded, difference.p_value() < OUTSIDE, "{difference:?}");
                excluded
            });
            let share = told.count() as f64 / DATASETS as f64;
            assert!(share <= 0.072, "{seeds} seeds: {share}");
        }
    }

    #[test]
    fn as_many_seeds_as_said_tell_the_effect() {
        let (ids, mut random) = (ids(400), random(5));
        let better = Simulation { skill: 0.8, prompt: 1.0, seed: 0.15, noise: 0.5 };
        let worse = Simulation { skill: 0.4, ..better };
        let mut pair = |seeds: usize| {
            let ease: Vec<f64> = (0..200).map(|_| normal(&mut random)).collect();
            let [a, b] = [better, worse].map(|method| method.runs(seeds, &ease, &mut random));
            contrast(&outcomes(&a, &ids), &outcomes(&b, &ids)).unwrap()
        };
        let known = pair(60);
        let needed = known.seeds_needed(known.estimate().value).unwrap();
        assert!((2..12).contains(&needed), "{needed}");
        let told = (0..200).filter(|_| pair(needed).estimate().low > 0.0).count();
        assert!(told >= 150, "{needed} seeds: {told} of 200");
        assert!(known.seeds_needed(2.0 * known.estimate().value).unwrap() <= needed);
        assert_eq!(known.seeds_needed(1e-6), None);
    }

    #[test]
    fn no_difference_on_some_prompts_is_not_no_difference() {
        let ids = ids(100);
        let right: Vec<Vec<f64>> = vec![vec![1.0; 100]; 3];
        let same = contrast(&outcomes(&right, &ids), &outcomes(&right, &ids)).unwrap();
        // t of 49 degrees of freedom, over 50 prompts.
        let half = 2.009_575 / 50.0;
        let Estimate { value, low, high } = same.estimate();
        assert!(value == 0.0 && (high - half).abs() < 1e-6 && (low + half).abs() < 1e-6, "{same:?}");
        assert_eq!((same.p_value(), same.seeds_needed(0.02)), (1.0, None));
        // Of the accuracy too.
        let Estimate { low, .. } = estimate(&outcomes(&right, &ids)).unwrap();
        assert!(low < 1.0 - 1.0 / 30.0, "{low}");
    }

    #[test]
    fn one_prompt_leaves_the_seeds_and_one_seed_the_prompts() {
        let of = |runs: &[Vec<f64>]| estimate(&outcomes(runs, &ids(runs[0].len()))).unwrap();
        // t of 2 degrees of freedom times √(1/3).
        let seeds = of(&[vec![1.0; 2], vec![2.0; 2], vec![3.0; 2]]);
        assert!((seeds.high - 2.0 - 4.302_653 / 3.0_f64.sqrt()).abs() < 1e-5, "{seeds:?}");
        let prompts = of(&[vec![1.0, 1.0, 2.0, 2.0, 3.0, 3.0]]);
        assert!((prompts.high - seeds.high).abs() < 1e-9, "{prompts:?}");
        assert_eq!(of(&[vec![1.0; 2]]), Estimate { value: 1.0, low: 1.0, high: 1.0 });
    }

    proptest! {
        #[test]
        fn intervals_hold_the_value_and_do_not_heed_order(
            runs in (1usize..4, 1usize..9).prop_flat_map(|(seeds, pairs)| {
                prop::collection::vec(prop::collection::vec(-5.0f64..5.0, pairs), seeds)
            }),
        ) {
            let ids = ids(runs[0].len());
            let mut shuffled = outcomes(&runs, &ids);
            let estimate_ = estimate(&shuffled).unwrap();
            prop_assert!(estimate_.low <= estimate_.value && estimate_.value <= estimate_.high);
            prop_assert!(estimate_.low.is_finite() && estimate_.high.is_finite());
            shuffled[0].reverse();
            prop_assert_eq!(estimate(&shuffled).unwrap(), estimate_);
        }

        #[test]
        fn contrasts_are_antisymmetric_and_nothing_differs_from_itself(
            runs in (1usize..4, 1usize..9).prop_flat_map(|(seeds, pairs)| {
                prop::collection::vec(prop::collection::vec(-5.0f64..5.0, pairs), 2 * seeds)
            }),
        ) {
            let ids = ids(runs[0].len());
            let all = outcomes(&runs, &ids);
            let (a, b) = all.split_at(all.len() / 2);
            let (forward, backward) = (contrast(a, b).unwrap(), contrast(b, a).unwrap());
            let Estimate { value, low, high } = backward.estimate();
            prop_assert_eq!(forward.estimate(), Estimate { value: -value, low: -high, high: -low });
            prop_assert_eq!(forward.p_value(), backward.p_value());
            let same = contrast(a, a).unwrap();
            prop_assert_eq!(same.estimate(), Estimate { value: 0.0, low: 0.0, high: 0.0 });
            prop_assert_eq!(same.p_value(), 1.0);
        }
    }
}
