//! Learning curves: accuracy over the number of training rows, extrapolated with its uncertainty.
//!
//! The curve is a power law with an offset, `a − b·n^(−c)` (Hestness et al., 2017), fitted by least
//! squares. The interval of a prediction comes from a bootstrap: every replicate draws the held-out
//! prompts with replacement, the same ones at every size, and moves each mean by Student's t times
//! the standard error between seeds, whose variance is pooled over sizes. It does not cover that the
//! true curve may have another form, so predictions go no further than [`FURTHEST`] times the
//! largest size.

use prospect_core::{draw::Draw, sample::mean};
use prospect_runs::Estimate;

/// Fewest sizes that determine a curve.
pub const LEAST_SIZES: usize = 3;

/// Largest predicted size in units of the largest measured one.
pub const FURTHEST: f64 = 4.0;

/// Exponents that are considered, and their number. Larger ones describe curves that have flattened
/// already, which noisy results would suggest too often.
const EXPONENTS: [f64; 2] = [0.1, 1.0];
const GRID: usize = 40;

/// Replicates of the bootstrap.
const REPLICATES: usize = 1000;

/// Tail on either side of a 95 % interval.
const TAIL: f64 = 0.025;

/// Results of runs with the same number of training rows.
#[derive(Debug, Clone, PartialEq)]
pub struct SizeResults {
    /// Training rows.
    pub rows: f64,
    /// Value of each held-out prompt, by seed. The prompts are the same at every size, in one order.
    pub seeds: Vec<Vec<f64>>,
}

/// A fitted curve.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedCurve {
    /// Accuracy at infinitely many rows, `a`.
    pub limit: f64,
    /// Exponent `c`.
    pub exponent: f64,
    /// Prediction at each wanted size.
    pub predictions: Vec<Prediction>,
}

/// Predicted value at one size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// Training rows.
    pub rows: f64,
    /// Predicted value, from 0 to 1.
    pub value: Estimate,
    /// Predicted gain over the largest measured size.
    pub gain: Estimate,
}

/// Reason why results give no learning curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoCurve {
    /// Too few sizes.
    #[error("a learning curve needs {LEAST_SIZES} numbers of training rows, and there are {0}")]
    Sizes(usize),
    /// A size has one seed, so the variance between seeds is unknown.
    #[error("a learning curve needs two seeds at each number of training rows")]
    OneSeed,
    /// The prompts differ.
    #[error("the runs were evaluated on different held-out prompts")]
    Prompts,
}

/// Fits a curve to results in any order, and predicts the values at `wanted` sizes.
pub fn learning_curve(results: &[SizeResults], wanted: &[f64]) -> Result<FittedCurve, NoCurve> {
    let mut sorted: Vec<&SizeResults> = results.iter().collect();
    sorted.sort_by(|a, b| a.rows.total_cmp(&b.rows));
    let mut sizes: Vec<f64> = sorted.iter().map(|size| size.rows).collect();
    sizes.dedup();
    if sizes.len() < LEAST_SIZES || sizes.len() < sorted.len() {
        return Err(NoCurve::Sizes(sizes.len()));
    }
    let prompts = sorted[0].seeds.first().map_or(0, Vec::len);
    if prompts == 0 || sorted.iter().flat_map(|size| &size.seeds).any(|seed| seed.len() != prompts) {
        return Err(NoCurve::Prompts);
    }
    if sorted.iter().any(|size| size.seeds.len() < 2) {
        return Err(NoCurve::OneSeed);
    }
    let by_prompt: Vec<Vec<f64>> = sorted.iter().map(|size| means_by_prompt(size, prompts)).collect();
    let means: Vec<f64> = by_prompt.iter().map(|values| average(values)).collect();
    let fitted = PowerLaw::fit(&sizes, &means);
    let replicates = replicates(&sorted, &by_prompt, &means);
    let laws: Vec<PowerLaw> = replicates.iter().map(|means| PowerLaw::fit(&sizes, means)).collect();
    let largest = sizes[sizes.len() - 1];
    let last: Vec<f64> = replicates.iter().map(|means| means[means.len() - 1]).collect();
    // A prediction is not more certain than the largest size that was measured, and nothing is more
    // certain than one prompt.
    let (measured, resolution) = (means[means.len() - 1], 1.0 / prompts as f64);
    let slack = {
        let [low, high] = quantiles(last);
        [(measured - low).max(resolution), (high - measured).max(resolution)]
    };
    let predictions = wanted.iter().map(|rows| {
        let value = fitted.at(*rows);
        let gain = value - fitted.at(largest);
        let [low, high] = quantiles(laws.iter().map(|law| law.at(*rows)).collect());
        let [least, most] = quantiles(laws.iter().map(|law| law.at(*rows) - law.at(largest)).collect());
        Prediction {
            rows: *rows,
            value: Estimate { value, low: low.min(value - slack[0]), high: high.max(value + slack[1]) }
                .clamped(0.0, 1.0),
            gain: Estimate {
                value: gain,
                low: least.min(gain - resolution),
                high: most.max(gain + resolution),
            },
        }
    });
    Ok(FittedCurve { limit: fitted.limit, exponent: fitted.exponent, predictions: predictions.collect() })
}

/// Mean over seeds of each prompt's value.
fn means_by_prompt(size: &SizeResults, prompts: usize) -> Vec<f64> {
    (0..prompts)
        .map(|prompt| average(&size.seeds.iter().map(|seed| seed[prompt]).collect::<Vec<_>>()))
        .collect()
}

/// Draws the means of all sizes again, [`REPLICATES`] times.
fn replicates(sizes: &[&SizeResults], by_prompt: &[Vec<f64>], means: &[f64]) -> Vec<Vec<f64>> {
    let prompts = by_prompt.first().map_or(0, Vec::len);
    let (mut squares, mut df) = (0.0, 0);
    for (size, mean) in sizes.iter().zip(means) {
        squares += size.seeds.iter().map(|seed| (average(seed) - mean).powi(2)).sum::<f64>();
        df += size.seeds.len() - 1;
    }
    let variance = squares / df.max(1) as f64;
    let mut stream = Stream::new(Draw::new(0, "learning curve").bits("replicates"));
    let mut replicate = || {
        let mut counts = vec![0.0_f64; prompts];
        for _ in 0..prompts {
            counts[stream.below(prompts)] += 1.0;
        }
        // One draw of the pooled variance for all sizes: its square root over a normal number is
        // Student's t.
        let chi_squared: f64 = (0..df).map(|_| stream.normal().powi(2)).sum();
        let spread = (variance * df as f64 / chi_squared.max(f64::MIN_POSITIVE)).sqrt();
        let size = |(size, values): (&&SizeResults, &Vec<f64>)| {
            let drawn: f64 = values.iter().zip(&counts).map(|(value, count)| value * count).sum();
            drawn / prompts as f64 + spread / (size.seeds.len() as f64).sqrt() * stream.normal()
        };
        sizes.iter().zip(by_prompt).map(size).collect::<Vec<f64>>()
    };
    (0..REPLICATES).map(|_| replicate()).collect()
}

/// `limit − scale·(n/largest)^(−exponent)`.
#[derive(Debug, Clone, Copy)]
struct PowerLaw {
    limit: f64,
    scale: f64,
    exponent: f64,
    largest: f64,
}

impl PowerLaw {
    /// Least squares over a grid of exponents, each with the best limit and scale.
    fn fit(sizes: &[f64], means: &[f64]) -> Self {
        let largest = sizes.iter().copied().fold(1.0, f64::max);
        let [least, most] = EXPONENTS;
        let mut best: Option<(f64, Self)> = None;
        for step in 0..GRID {
            let exponent = least * (most / least).powf(step as f64 / (GRID - 1) as f64);
            let terms: Vec<f64> = sizes.iter().map(|size| (size / largest).powf(-exponent)).collect();
            let (term, value) = (average(&terms), average(means));
            let covariance: f64 = terms.iter().zip(means).map(|(t, y)| (t - term) * (y - value)).sum();
            let variance: f64 = terms.iter().map(|t| (t - term).powi(2)).sum();
            let scale = -covariance / variance.max(f64::MIN_POSITIVE);
            let law = Self { limit: value + scale * term, scale, exponent, largest };
            let error: f64 = terms.iter().zip(means).map(|(t, y)| (y - law.limit + scale * t).powi(2)).sum();
            if best.is_none_or(|(least, _)| error < least) {
                best = Some((error, law));
            }
        }
        best.map_or(Self { limit: average(means), scale: 0.0, exponent: 1.0, largest }, |(_, law)| law)
    }

    /// Value at a number of rows, from 0 to 1.
    fn at(&self, rows: f64) -> f64 {
        (self.limit - self.scale * (rows / self.largest).powf(-self.exponent)).clamp(0.0, 1.0)
    }
}

/// The 2.5 and 97.5 % quantiles.
fn quantiles(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1) as f64;
    [TAIL, 1.0 - TAIL].map(|p| values.get((p * last).round() as usize).copied().unwrap_or(f64::NAN))
}

fn average(values: &[f64]) -> f64 {
    mean(values.iter().copied()).unwrap_or(f64::NAN)
}

/// Pseudo-random numbers (SplitMix64), the same on every machine.
struct Stream {
    state: u64,
    spare: Option<f64>,
}

impl Stream {
    fn new(state: u64) -> Self {
        Self { state, spare: None }
    }

    fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform number above 0 and below 1.
    fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Uniform index below `count`.
    fn below(&mut self, count: usize) -> usize {
        ((self.unit() * count as f64) as usize).min(count.saturating_sub(1))
    }

    /// Standard normal number, by Box and Muller's method.
    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let (radius, angle) = ((-2.0 * self.unit().ln()).sqrt(), std::f64::consts::TAU * self.unit());
        self.spare = Some(radius * angle.sin());
        radius * angle.cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [f64; 4] = [200.0, 400.0, 800.0, 1600.0];

    /// Accuracy of the simulated worlds.
    fn truth(rows: f64) -> f64 {
        0.75 - 1.2 * rows.powf(-0.4)
    }

    /// Runs of three seeds on 300 prompts, whose difficulty is the same for all runs.
    fn world(seed: u64, seeds: usize) -> Vec<SizeResults> {
        let mut stream = Stream::new(seed);
        let ease: Vec<f64> = (0..300).map(|_| 0.3 * (stream.unit() - 0.5)).collect();
        let mut run = |rows: f64| -> Vec<f64> {
            let luck = 0.01 * stream.normal();
            ease.iter().map(|ease| f64::from(u8::from(stream.unit() < truth(rows) + luck + ease))).collect()
        };
        SIZES.map(|rows| SizeResults { rows, seeds: (0..seeds).map(|_| run(rows)).collect() }).to_vec()
    }

    #[test]
    fn a_power_law_is_recovered() {
        let sizes = [100.0, 300.0, 1000.0, 3000.0];
        let law = PowerLaw::fit(&sizes, &sizes.map(|rows: f64| 0.8 - 2.0 * rows.powf(-0.5)));
        assert!((law.at(12_000.0) - (0.8 - 2.0 * 12_000.0_f64.powf(-0.5))).abs() < 1e-3, "{law:?}");
        assert!((law.exponent - 0.5).abs() < 0.05 && (law.limit - 0.8).abs() < 0.01, "{law:?}");
    }

    #[test]
    fn predictions_are_covered_by_their_intervals() {
        let (mut covered, mut gains, mut widths) = (0, 0, 0.0);
        let worlds = 120;
        for seed in 0..worlds {
            let curve = learning_curve(&world(seed, 3), &[3200.0]).unwrap();
            let Prediction { value, gain, .. } = curve.predictions[0];
            covered += usize::from(value.low <= truth(3200.0) && truth(3200.0) <= value.high);
            let true_gain = truth(3200.0) - truth(1600.0);
            gains += usize::from(gain.low <= true_gain && true_gain <= gain.high);
            widths += value.high - value.low;
        }
        // Two standard errors below 95 %.
        let least = worlds as usize * 91 / 100;
        assert!(covered >= least && gains >= least, "{covered} and {gains} of {worlds}");
        assert!(widths / (worlds as f64) < 0.3, "{}", widths / worlds as f64);
    }

    #[test]
    fn more_seeds_and_nearer_sizes_are_more_certain() {
        let width = |estimate: Estimate| estimate.high - estimate.low;
        let total = |seeds: usize, rows: f64| -> f64 {
            let curves = (0..20).map(|seed| learning_curve(&world(seed, seeds), &[rows]).unwrap());
            curves.map(|curve| width(curve.predictions[0].gain)).sum()
        };
        assert!(total(8, 3200.0) < total(2, 3200.0));
        assert!(total(3, 3200.0) < total(3, 6400.0));
    }

    #[test]
    fn too_little_evidence_gives_no_curve() {
        let all = world(1, 2);
        assert_eq!(learning_curve(&all[..2], &[]).unwrap_err(), NoCurve::Sizes(2));
        let twice = [&all[..3], &all[..1]].concat();
        assert_eq!(learning_curve(&twice[1..], &[]).map(|_| ()), Ok(()));
        let repeated = vec![all[0].clone(), all[0].clone(), all[1].clone()];
        assert_eq!(learning_curve(&repeated, &[]).unwrap_err(), NoCurve::Sizes(2));
        assert_eq!(learning_curve(&world(1, 1), &[]).unwrap_err(), NoCurve::OneSeed);
        let mut shorter = all.clone();
        shorter[1].seeds[0].pop();
        assert_eq!(learning_curve(&shorter, &[]).unwrap_err(), NoCurve::Prompts);
    }

    #[test]
    fn constant_results_keep_an_interval() {
        let results = SIZES.map(|rows| SizeResults { rows, seeds: vec![vec![1.0; 50]; 3] });
        let curve = learning_curve(&results, &[3200.0]).unwrap();
        let Prediction { value, gain, .. } = curve.predictions[0];
        assert!(value.value > 0.999 && gain.low < 0.0 && gain.high > 0.0, "{curve:?}");
    }
}
