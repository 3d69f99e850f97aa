//! Simulated sweeps, and how often our intervals and verdicts are right about them.

#![expect(clippy::unwrap_used, reason = "simulated runs always have the same pairs")]

use prospect_analysis::stats::{
    Difference, Observation, Sample, Scale, SeedLayout, holm, pool_differences, pool_levels,
};
use prospect_core::draw::Draw;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use statrs::function::erf::{erfc, erfc_inv};

/// A sweep of methods that are equally accurate at one x or several.
///
/// The log-ratio margin of a method, seed and prompt is a sum of normal effects with variance 1 in
/// total; a pair is ranked correctly if its margin is positive. Each effect is partly common to all
/// methods, as with the same prompts, seeds and data order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct World {
    /// Methods, the baseline included.
    pub(crate) methods: usize,
    /// Values of x. Seeds vary `x_spread` times as much at the last one as at the others.
    pub(crate) xs: usize,
    pub(crate) x_spread: f64,
    pub(crate) seeds: usize,
    pub(crate) prompts: usize,
    pub(crate) accuracy: f64,
    pub(crate) variance: SeedVariation,
    /// Standard deviation of a further effect of seeds on one method, in units of the margin's.
    pub(crate) outlier: f64,
    /// Gives that effect to the baseline rather than to the first other method.
    pub(crate) outlier_is_baseline: bool,
}

/// Variance between seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SeedVariation {
    Low,
    High,
    /// Hardly any, so that single verdicts dominate and seeds often agree by luck.
    Least,
}

/// Shares of the margin's variance, and correlations of each effect between methods.
struct Effects {
    seed: f64,
    seed_correlation: f64,
    prompt: f64,
    prompt_correlation: f64,
    noise_correlation: f64,
}

impl SeedVariation {
    fn effects(self) -> Effects {
        match self {
            Self::Low => Effects {
                seed: 0.01,
                seed_correlation: 0.5,
                prompt: 0.6,
                prompt_correlation: 0.9,
                noise_correlation: 0.9,
            },
            Self::High => Effects {
                seed: 0.1,
                seed_correlation: 0.3,
                prompt: 0.5,
                prompt_correlation: 0.8,
                noise_correlation: 0.8,
            },
            Self::Least => Effects {
                seed: 0.004,
                seed_correlation: 0.5,
                prompt: 0.86,
                prompt_correlation: 0.86,
                noise_correlation: 0.25,
            },
        }
    }
}

impl World {
    /// A sweep of 11 methods at one x.
    pub(crate) const PLAIN: Self = Self {
        methods: 11,
        xs: 1,
        x_spread: 1.0,
        seeds: 3,
        prompts: 200,
        accuracy: 0.6,
        variance: SeedVariation::Low,
        outlier: 0.0,
        outlier_is_baseline: false,
    };

    /// Returns margins by x, method, seed and prompt.
    pub(crate) fn draw(&self, random: &mut Normal) -> Vec<Vec<Vec<Vec<f64>>>> {
        let effects = self.variance.effects();
        let noise = 1.0 - effects.seed - effects.prompt;
        let skill = quantile(self.accuracy);
        let ease = random.correlated(self.methods, self.prompts, effects.prompt, effects.prompt_correlation);
        let at_x = |x: usize, random: &mut Normal| -> Vec<Vec<Vec<f64>>> {
            let spread = if x + 1 == self.xs { self.x_spread } else { 1.0 };
            let luck = random.correlated(self.methods, self.seeds, effects.seed, effects.seed_correlation);
            let noises =
                random.correlated(self.methods, self.seeds * self.prompts, noise, effects.noise_correlation);
            let run = |method: usize, seed: usize, random: &mut Normal| -> Vec<f64> {
                let further = if self.is_outlier(method) { self.outlier * random.next() } else { 0.0 };
                let level = skill + spread * luck[method][seed] + further;
                let noises = &noises[method][seed * self.prompts..(seed + 1) * self.prompts];
                ease[method].iter().zip(noises).map(|(ease, noise)| level + ease + noise).collect()
            };
            let method = |method: usize, random: &mut Normal| -> Vec<Vec<f64>> {
                (0..self.seeds).map(|seed| run(method, seed, random)).collect()
            };
            (0..self.methods).map(|index| method(index, random)).collect()
        };
        (0..self.xs).map(|x| at_x(x, random)).collect()
    }

    fn is_outlier(&self, method: usize) -> bool {
        self.outlier > 0.0 && method == usize::from(!self.outlier_is_baseline)
    }

    /// True accuracy of a method at an x.
    fn truth(&self, x: usize, method: usize) -> f64 {
        let spread = if x + 1 == self.xs { self.x_spread } else { 1.0 };
        let further = if self.is_outlier(method) { self.outlier } else { 0.0 };
        let more = self.variance.effects().seed * (spread * spread - 1.0) + further * further;
        share(quantile(self.accuracy) / (1.0 + more).sqrt())
    }
}

/// Intervals that contain the truth, and the mean of half their widths.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Coverage {
    pub(crate) intervals: u64,
    pub(crate) covered: u64,
    half_widths: f64,
}

impl Coverage {
    fn add(&mut self, truth: f64, low: f64, high: f64) {
        self.intervals += 1;
        self.covered += u64::from(low <= truth && truth <= high);
        self.half_widths += (high - low) / 2.0;
    }

    pub(crate) fn share(&self) -> f64 {
        self.covered as f64 / self.intervals as f64
    }

    pub(crate) fn half_width(&self) -> f64 {
        self.half_widths / self.intervals as f64
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.intervals += other.intervals;
        self.covered += other.covered;
        self.half_widths += other.half_widths;
    }
}

/// Results over simulated sweeps.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) sweeps: u64,
    /// Accuracies, with the variance between seeds of the method alone.
    pub(crate) alone: Coverage,
    /// Accuracies, with pooled variance between seeds.
    pub(crate) accuracy: Coverage,
    /// Differences between ordinary methods.
    pub(crate) difference: Coverage,
    /// Differences whose seeds agree to less than a tenth of what single verdicts allow.
    pub(crate) lucky: Coverage,
    /// Differences of the method whose seeds vary more, or at the x where seeds vary more.
    pub(crate) outlier: Coverage,
    /// Differences of smoothed accuracies between ordinary methods.
    pub(crate) smoothed: Coverage,
    /// Sweeps with a significant difference that is none.
    pub(crate) family_errors: u64,
    /// Half-widths at the level of the first step of Holm's method.
    pub(crate) holm: Coverage,
}

impl Tally {
    pub(crate) fn family_error(&self) -> f64 {
        self.family_errors as f64 / self.sweeps as f64
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.sweeps += other.sweeps;
        self.family_errors += other.family_errors;
        let own =
            [&mut self.alone, &mut self.accuracy, &mut self.difference, &mut self.lucky, &mut self.outlier];
        let others = [&other.alone, &other.accuracy, &other.difference, &other.lucky, &other.outlier];
        for (own, other) in own.into_iter().zip(others) {
            own.merge(other);
        }
        self.smoothed.merge(&other.smoothed);
        self.holm.merge(&other.holm);
    }
}

/// Simulates `sweeps` sweeps. The same `seed` gives the same ones.
pub(crate) fn simulate(world: &World, sweeps: u64, seed: u64) -> Tally {
    let mut random = Normal::new(seed);
    let ids: Vec<String> = (0..world.prompts).map(|prompt| format!("{prompt:05}")).collect();
    let mut tally = Tally::default();
    for _ in 0..sweeps {
        let margins = world.draw(&mut random);
        tally.sweeps += 1;
        tally_sweep(world, &margins, &ids, &mut tally);
    }
    tally
}

fn sample(runs: &[Vec<f64>], ids: &[String], scale: Scale, value: impl Fn(f64, f64) -> f64) -> Sample {
    let run = |margins: &Vec<f64>| -> Vec<Observation<'_>> {
        let square = margins.iter().map(|margin| margin * margin).sum::<f64>() / margins.len() as f64;
        let root = square.sqrt();
        let observation = |(id, margin)| Observation { pair: id, prompt: id, value: value(margin, root) };
        ids.iter().map(String::as_str).zip(margins.iter().copied()).map(observation).collect()
    };
    Sample::new(&runs.iter().map(run).collect::<Vec<_>>(), scale).unwrap()
}

/// Sample of the accuracy of runs with these margins.
pub(crate) fn accuracy_sample(runs: &[Vec<f64>], ids: &[String]) -> Sample {
    sample(runs, ids, Scale::Share, |margin, _| f64::from(u8::from(margin > 0.0)))
}

fn tally_sweep(world: &World, margins: &[Vec<Vec<Vec<f64>>>], ids: &[String], tally: &mut Tally) {
    let smoothed = |margin: f64, root: f64| share(margin / root);
    let accuracies: Vec<Vec<Sample>> = samples(margins, |runs| accuracy_sample(runs, ids));
    let levels = pool_levels(&accuracies.iter().flatten().map(Sample::run_means).collect::<Vec<_>>());
    let mut levels = levels.into_iter();
    for (x, methods) in accuracies.iter().enumerate() {
        for (method, sample) in methods.iter().enumerate() {
            let truth = world.truth(x, method);
            let (alone, pooled) = (sample.estimate(), sample.estimate_with(levels.next().flatten()));
            tally.alone.add(truth, alone.low, alone.high);
            tally.accuracy.add(truth, pooled.low, pooled.high);
        }
    }
    let differences = differences(&accuracies);
    let p: Vec<f64> = differences.iter().flatten().map(Difference::p_value).collect();
    let mut p_holm = holm(&p).into_iter();
    let mut is_wrong = false;
    for (x, differences) in differences.iter().enumerate() {
        for (index, difference) in differences.iter().enumerate() {
            let truth = world.truth(x, index + 1) - world.truth(x, 0);
            let estimate = difference.estimate();
            let is_outlier = world.is_outlier(index + 1)
                || world.outlier_is_baseline
                || (world.x_spread > 1.0 && x + 1 == world.xs);
            let coverage = if is_outlier { &mut tally.outlier } else { &mut tally.difference };
            coverage.add(truth, estimate.low, estimate.high);
            if is_lucky(&margins[x][index + 1], &margins[x][0]) {
                tally.lucky.add(truth, estimate.low, estimate.high);
            }
            let half = difference.half_width(0.05 / p.len() as f64);
            tally.holm.add(truth, estimate.value - half, estimate.value + half);
            // Rejecting 0 is wrong if 0 is true; with an outlier, if the interval misses its truth.
            let significant = p_holm.next().is_some_and(|p| p < 0.05);
            is_wrong |= if truth.abs() < 1e-9 { significant } else { (estimate.value - truth).abs() > half };
        }
    }
    tally.family_errors += u64::from(is_wrong);
    let range = Scale::Range { low: 0.0, high: 1.0 };
    let smoothed = self::differences(&samples(margins, |runs| sample(runs, ids, range, smoothed)));
    if world.outlier == 0.0 && world.x_spread <= 1.0 {
        for difference in smoothed.iter().flatten() {
            let estimate = difference.estimate();
            tally.smoothed.add(0.0, estimate.low, estimate.high);
        }
    }
}

fn samples(margins: &[Vec<Vec<Vec<f64>>>], sample: impl Fn(&[Vec<f64>]) -> Sample) -> Vec<Vec<Sample>> {
    margins.iter().map(|methods| methods.iter().map(|runs| sample(runs)).collect()).collect()
}

/// Differences from the baseline by x and method, with pooled variance between seeds.
pub(crate) fn differences(samples: &[Vec<Sample>]) -> Vec<Vec<Difference>> {
    let layout = |methods: &Vec<Sample>| SeedLayout {
        baseline: methods[0].run_means(),
        others: methods[1..].iter().map(Sample::run_means).collect(),
    };
    let pools = pool_differences(&samples.iter().map(layout).collect::<Vec<_>>());
    let of_x = |(methods, pools): (&Vec<Sample>, Vec<_>)| {
        let others = methods[1..].iter().zip(pools);
        others.map(|(sample, pool)| sample.minus(&methods[0]).unwrap().with_seed_variance(pool)).collect()
    };
    samples.iter().zip(pools.differences).map(of_x).collect()
}

/// True if the seeds of a difference agree to less than a tenth of the residual mean square.
fn is_lucky(a: &[Vec<f64>], b: &[Vec<f64>]) -> bool {
    let verdict = |margin: f64| f64::from(u8::from(margin > 0.0));
    let runs: Vec<Vec<f64>> = a
        .iter()
        .zip(b)
        .map(|(a, b)| a.iter().zip(b).map(|(a, b)| verdict(*a) - verdict(*b)).collect())
        .collect();
    let (seeds, prompts) = (runs.len() as f64, runs[0].len() as f64);
    let means: Vec<f64> = runs.iter().map(|run| run.iter().sum::<f64>() / prompts).collect();
    let grand = means.iter().sum::<f64>() / seeds;
    let seed = prompts * means.iter().map(|mean| (mean - grand).powi(2)).sum::<f64>() / (seeds - 1.0);
    let mut residual = 0.0;
    for prompt in 0..runs[0].len() {
        let column = runs.iter().map(|run| run[prompt]).sum::<f64>() / seeds;
        for (run, mean) in runs.iter().zip(&means) {
            residual += (run[prompt] - column - mean + grand).powi(2);
        }
    }
    seed < 0.1 * residual / ((seeds - 1.0) * (prompts - 1.0))
}

/// Standard normal distribution function.
fn share(z: f64) -> f64 {
    0.5 * erfc(-z / std::f64::consts::SQRT_2)
}

/// Inverse of [`share`].
pub(crate) fn quantile(share: f64) -> f64 {
    -std::f64::consts::SQRT_2 * erfc_inv(2.0 * share)
}

/// Keyed source of standard normal numbers.
pub(crate) struct Normal {
    bits: ChaCha8Rng,
    spare: Option<f64>,
}

impl Normal {
    pub(crate) fn new(seed: u64) -> Self {
        Self { bits: ChaCha8Rng::from_seed(Draw::new(seed, "simulation").key()), spare: None }
    }

    /// Box and Muller's method.
    pub(crate) fn next(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let mut uniform = || (f64::from(self.bits.next_u32()) + 0.5) / 2.0_f64.powi(32);
        let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), std::f64::consts::TAU * uniform());
        self.spare = Some(radius * angle.sin());
        radius * angle.cos()
    }

    /// Normal numbers of the given `variance` for each method, correlated between methods.
    fn correlated(&mut self, methods: usize, count: usize, variance: f64, correlation: f64) -> Vec<Vec<f64>> {
        let (common, own) = ((variance * correlation).sqrt(), (variance * (1.0 - correlation)).sqrt());
        let shared: Vec<f64> = (0..count).map(|_| common * self.next()).collect();
        (0..methods).map(|_| shared.iter().map(|shared| shared + own * self.next()).collect()).collect()
    }
}
