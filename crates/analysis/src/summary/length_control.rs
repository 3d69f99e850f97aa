//! Length-controlled win rates.
//!
//! Judges prefer longer completions, whatever they say. Dubois, Galambosi, Liang and Hashimoto
//! (2024, arXiv 2404.04475) therefore predict wins by a logistic regression on the difference of
//! lengths, and report the win rate that it predicts where that difference is 0. Theirs has a term
//! for the difficulty of each instruction too, estimated from many models; this one has not.

/// A comparison with lengths.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Comparison {
    /// 1 for a win, ½ for a tie, 0 for a loss.
    pub(super) score: f64,
    /// Length of the completion minus that of the other one.
    pub(super) longer: f64,
}

/// Precision of the normal prior on both coefficients, which keeps them finite where lengths
/// predict every win. With 100 comparisons and more it hardly moves a rate; with ten times as much,
/// a judge that only likes length no longer gives one half.
const RIDGE: f64 = 0.1;

/// Most Newton steps. The likelihood is concave, and a dozen are enough.
const STEPS: usize = 100;

/// Least number, and least share, of the comparisons in which the completion is not longer, and
/// in which it is not shorter. Beyond them, equal lengths are an extrapolation.
const OVERLAP: (f64, f64) = (5.0, 0.05);

/// Returns values whose mean is the length-controlled win rate and whose variance is that of its
/// estimate, one for each comparison; None if the lengths of the two sides do not overlap.
///
/// The rate is σ(θ) in P(win) = σ(θ + φ·tanh(Δ/s)), with the difference of lengths Δ and its
/// standard deviation s. A value is the rate plus the influence of its comparison: the change that
/// its omission makes, to first order and corrected for leverage.
pub(super) fn length_controlled(comparisons: &[Comparison]) -> Option<Vec<f64>> {
    let count = comparisons.len() as f64;
    let share = |is: &dyn Fn(f64) -> bool| comparisons.iter().filter(|own| is(own.longer)).count() as f64;
    let least = OVERLAP.0.max(OVERLAP.1 * count);
    if share(&|longer| longer <= 0.0) < least || share(&|longer| longer >= 0.0) < least {
        return None;
    }
    let mean = comparisons.iter().map(|own| own.longer).sum::<f64>() / count;
    let deviation = (comparisons.iter().map(|own| (own.longer - mean).powi(2)).sum::<f64>() / count).sqrt();
    let term = |longer: f64| if deviation > 0.0 { (longer / deviation).tanh() } else { 0.0 };
    let rows: Vec<(f64, f64)> = comparisons.iter().map(|own| (term(own.longer), own.score)).collect();
    let Fit { intercept, slope, inverse } = fit(&rows);
    let rate = sigmoid(intercept);
    let influence = |(x, score): &(f64, f64)| {
        let predicted = sigmoid(intercept + slope * x);
        let weight = predicted * (1.0 - predicted);
        let [[a, b], [_, d]] = inverse;
        let leverage = weight * (a + 2.0 * b * x + d * x * x);
        count * rate * (1.0 - rate) * (a + b * x) * (score - predicted) / (1.0 - leverage).max(0.1)
    };
    let influences: Vec<f64> = rows.iter().map(influence).collect();
    let centre = influences.iter().sum::<f64>() / count;
    Some(influences.into_iter().map(|influence| rate + influence - centre).collect())
}

/// A logistic regression with one predictor.
struct Fit {
    intercept: f64,
    slope: f64,
    /// Inverse of the penalised information.
    inverse: [[f64; 2]; 2],
}

/// Fits by Newton's method with halved steps.
fn fit(rows: &[(f64, f64)]) -> Fit {
    let loss = |[intercept, slope]: [f64; 2]| {
        let of_row = |(x, score): &(f64, f64)| {
            let z = intercept + slope * x;
            // −ln of the likelihood, for scores between 0 and 1.
            (-z.abs()).exp().ln_1p() + z.max(0.0) - score * z
        };
        rows.iter().map(of_row).sum::<f64>() + 0.5 * RIDGE * (intercept * intercept + slope * slope)
    };
    let mut at = [0.0, 0.0];
    for _ in 0..STEPS {
        let (gradient, inverse) = derivatives(rows, at);
        let step = [0, 1].map(|row| inverse[row][0] * gradient[0] + inverse[row][1] * gradient[1]);
        if step[0].abs().max(step[1].abs()) < 1e-10 {
            break;
        }
        let moved = |scale: f64| [at[0] - scale * step[0], at[1] - scale * step[1]];
        let before = loss(at);
        let mut scale = 1.0;
        while loss(moved(scale)) > before && scale > 1e-6 {
            scale *= 0.5;
        }
        at = moved(scale);
    }
    let (_, inverse) = derivatives(rows, at);
    Fit { intercept: at[0], slope: at[1], inverse }
}

/// Returns the gradient of the penalised loss, and the inverse of its Hessian.
fn derivatives(rows: &[(f64, f64)], [intercept, slope]: [f64; 2]) -> ([f64; 2], [[f64; 2]; 2]) {
    let mut gradient = [RIDGE * intercept, RIDGE * slope];
    let (mut a, mut b, mut d) = (RIDGE, 0.0, RIDGE);
    for (x, score) in rows {
        let predicted = sigmoid(intercept + slope * x);
        let weight = predicted * (1.0 - predicted);
        gradient[0] += predicted - score;
        gradient[1] += (predicted - score) * x;
        a += weight;
        b += weight * x;
        d += weight * x * x;
    }
    let determinant = a * d - b * b;
    (gradient, [[d / determinant, -b / determinant], [-b / determinant, a / determinant]])
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

#[cfg(test)]
mod tests {
    use prospect_core::{draw::Draw, sample::mean};

    use super::*;
    use crate::stats::{Observation, Sample, Scale};

    /// A uniform number in (0, 1).
    fn uniform(draw: &Draw, what: &str, prompt: usize, seed: usize) -> f64 {
        (draw.bits(&format!("{what} {prompt} {seed}")) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Comparisons of a policy whose completions are longer by `shift` on average, where the judge
    /// has a taste for length and, by `skill`, for the policy.
    fn comparisons(
        simulation: u64,
        prompts: usize,
        skill: f64,
        taste: f64,
        shift: f64,
    ) -> Vec<Vec<Comparison>> {
        let draw = Draw::new(simulation, "simulated judgements");
        let seed = |seed: usize| -> Vec<Comparison> {
            let comparison = |prompt: usize| {
                // Both prompt and seed make completions longer.
                let part = |seed| uniform(&draw, "length", prompt, seed) - 0.5;
                let longer = (200.0 * (shift + part(99) + part(seed))).round();
                let chance = sigmoid(skill + taste * longer / 100.0);
                Comparison {
                    score: f64::from(u8::from(uniform(&draw, "win", prompt, seed) < chance)),
                    longer,
                }
            };
            (0..prompts).map(comparison).collect()
        };
        (0..3).map(seed).collect()
    }

    fn rate(runs: &[Vec<Comparison>]) -> f64 {
        mean(length_controlled(&runs.concat()).unwrap()).unwrap()
    }

    #[test]
    fn a_judge_that_only_likes_length_gives_half() {
        // Longer texts always win, and the policy writes longer ones.
        let longest_wins = |simulation: u64| {
            let mut runs = comparisons(simulation, 100, 0.0, 0.0, 0.3);
            for comparison in runs.iter_mut().flatten() {
                comparison.score = prospect_runs::preference(comparison.longer, 0.0);
            }
            let raw = mean(runs.iter().flatten().map(|own| own.score)).unwrap();
            assert!(raw > 0.6, "{raw}");
            rate(&runs)
        };
        let rates: Vec<f64> = (0..40).map(longest_wins).collect();
        assert!(rates.iter().all(|rate| (rate - 0.5).abs() < 0.25), "{rates:?}");
        assert!((mean(rates.iter().copied()).unwrap() - 0.5).abs() < 0.03, "{rates:?}");
        // A noisy taste for length.
        let rates: Vec<f64> =
            (0..100).map(|simulation| rate(&comparisons(simulation, 100, 0.0, 2.0, 0.3))).collect();
        assert!((mean(rates.iter().copied()).unwrap() - 0.5).abs() < 0.015, "{rates:?}");
    }

    #[test]
    fn without_a_taste_for_length_the_rate_stays() {
        let runs = comparisons(1, 400, 1.0, 0.0, 0.2);
        let raw = mean(runs.iter().flatten().map(|own| own.score)).unwrap();
        assert!((raw - 0.73).abs() < 0.03 && (rate(&runs) - raw).abs() < 0.02, "{raw} {}", rate(&runs));
        // Equal lengths: the regression has nothing to control for.
        let equal: Vec<Comparison> =
            (0..40).map(|n| Comparison { score: f64::from(n % 4 / 3), longer: 0.0 }).collect();
        assert!((mean(length_controlled(&equal).unwrap()).unwrap() - 0.25).abs() < 5e-3);
    }

    #[test]
    fn swapping_the_sides_gives_the_complement() {
        let runs = comparisons(2, 60, 0.5, 1.0, 0.1);
        let swapped = |run: &Vec<Comparison>| {
            run.iter().map(|own| Comparison { score: 1.0 - own.score, longer: -own.longer }).collect()
        };
        let other: Vec<Vec<Comparison>> = runs.iter().map(swapped).collect();
        assert!((rate(&runs) + rate(&other) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn lengths_that_do_not_overlap_have_no_rate() {
        let always =
            |longer| (0..50).map(|n| Comparison { score: f64::from(n % 2), longer }).collect::<Vec<_>>();
        assert_eq!(length_controlled(&always(20.0)), None);
        assert_eq!(length_controlled(&always(-20.0)), None);
        assert!(length_controlled(&always(0.0)).is_some());
        assert_eq!(length_controlled(&[]), None);
    }

    #[test]
    fn intervals_by_prompt_and_seed_cover_the_rate() {
        // Lengths of the same prompt are alike under all seeds, so prompts are clusters.
        for (skill, taste) in [(0.0, 2.0), (1.0, 1.0)] {
            let simulations = 200;
            let is_covered = |simulation: &u64| {
                let runs = comparisons(*simulation, 60, skill, taste, 0.2);
                let values = length_controlled(&runs.concat()).unwrap();
                let ids: Vec<String> = (0..60).map(|prompt| format!("{prompt:02}")).collect();
                let observations: Vec<Vec<Observation<'_>>> = values
                    .chunks(60)
                    .map(|run| {
                        let pairs = run.iter().zip(&ids);
                        pairs.map(|(value, id)| Observation { pair: id, prompt: id, value: *value }).collect()
                    })
                    .collect();
                let range = Scale::Range { low: 0.0, high: 1.0 };
                let interval = Sample::new(&observations, range).unwrap().estimate();
                interval.low <= sigmoid(skill) && sigmoid(skill) <= interval.high
            };
            let covered = (0..simulations).filter(is_covered).count() as f64 / simulations as f64;
            assert!(covered > 0.91, "{skill} {taste}: {covered}");
        }
    }
}
