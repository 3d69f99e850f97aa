//! Platt scaling: probabilities from scores.

/// Newton steps; the fit converges in fewer than ten.
const STEPS: usize = 50;

/// A logistic curve from scores to probabilities: p = σ(slope · score + intercept).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlattScaling {
    /// Change of the log-odds per unit of the score.
    pub slope: f64,
    /// Log-odds at a score of 0.
    pub intercept: f64,
}

impl PlattScaling {
    /// Fits the curve to scores with binary labels, by maximum likelihood with Platt's smoothed
    /// targets, (n₊ + 1)/(n₊ + 2) and 1/(n₋ + 2), which keep the fit finite where scores separate
    /// the labels (Platt 1999; Lin, Lin and Weng 2007).
    ///
    /// Labels are weighted so that their shares are those of a sample with `base_rate` thumbs up:
    /// the scores may come from a sample with other shares. None without both labels, or if a score
    /// is not finite.
    pub fn fit(scored: &[(f64, bool)], base_rate: f64) -> Option<Self> {
        let up = scored.iter().filter(|(_, label)| *label).count() as f64;
        let down = scored.len() as f64 - up;
        let is_usable = up > 0.0 && down > 0.0 && base_rate > 0.0 && base_rate < 1.0;
        if !is_usable || scored.iter().any(|(score, _)| !score.is_finite()) {
            return None;
        }
        // Scores in units of their spread, so that one damping suits log-ratios of any size.
        let center = scored.iter().map(|(score, _)| score).sum::<f64>() / scored.len() as f64;
        let spread = (scored.iter().map(|(score, _)| (score - center).powi(2)).sum::<f64>()
            / scored.len() as f64)
            .sqrt();
        let scale = if spread > 0.0 { spread } else { 1.0 };
        let rows: Vec<WeightedScore> = scored
            .iter()
            .map(|(score, label)| WeightedScore {
                score: (score - center) / scale,
                target: if *label { (up + 1.0) / (up + 2.0) } else { 1.0 / (down + 2.0) },
                weight: if *label { base_rate / up } else { (1.0 - base_rate) / down },
            })
            .collect();
        let mut fit = Self { slope: 0.0, intercept: (base_rate / (1.0 - base_rate)).ln() };
        let mut loss = fit.loss(&rows);
        for _ in 0..STEPS {
            let Some(step) = fit.newton_step(&rows) else { break };
            // Halves the step until the loss falls.
            let halved = (0..30).map(|halvings| fit.plus(step, 0.5_f64.powi(halvings)));
            let Some((next, next_loss)) =
                halved.map(|next| (next, next.loss(&rows))).find(|(_, next_loss)| *next_loss < loss)
            else {
                break;
            };
            (fit, loss) = (next, next_loss);
        }
        let slope = fit.slope / scale;
        Some(Self { slope, intercept: fit.intercept - slope * center })
    }

    /// Returns the probability of a thumb up.
    pub fn probability(self, score: f64) -> f64 {
        sigmoid(self.slope * score + self.intercept)
    }

    fn plus(self, [slope, intercept]: [f64; 2], factor: f64) -> Self {
        Self { slope: self.slope + factor * slope, intercept: self.intercept + factor * intercept }
    }

    fn loss(self, rows: &[WeightedScore]) -> f64 {
        let of_row = |row: &WeightedScore| {
            let logit = self.slope * row.score + self.intercept;
            // −log σ(x) = log(1 + e^−x), computed without overflow.
            let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
            row.weight * (row.target * softplus(-logit) + (1.0 - row.target) * softplus(logit))
        };
        rows.iter().map(of_row).sum()
    }

    /// Returns the Newton step for slope and intercept; None where the curvature is singular.
    fn newton_step(self, rows: &[WeightedScore]) -> Option<[f64; 2]> {
        const DAMPING: f64 = 1e-9;
        let (mut gradient, mut curvature) = ([0.0; 2], [DAMPING, 0.0, DAMPING]);
        for row in rows {
            let probability = self.probability(row.score);
            let residual = row.weight * (probability - row.target);
            gradient[0] += residual * row.score;
            gradient[1] += residual;
            let weight = row.weight * probability * (1.0 - probability);
            curvature[0] += weight * row.score * row.score;
            curvature[1] += weight * row.score;
            curvature[2] += weight;
        }
        let [aa, ab, bb] = curvature;
        let determinant = aa * bb - ab * ab;
        let step = [
            -(bb * gradient[0] - ab * gradient[1]) / determinant,
            -(aa * gradient[1] - ab * gradient[0]) / determinant,
        ];
        step.iter().all(|value| value.is_finite()).then_some(step)
    }
}

/// A score to fit.
struct WeightedScore {
    score: f64,
    /// Smoothed label.
    target: f64,
    weight: f64,
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use prospect_core::draw::Draw;

    use super::*;

    /// Scores with labels drawn at σ(slope · score + intercept).
    fn sample(slope: f64, intercept: f64, rows: usize) -> Vec<(f64, bool)> {
        let draw = Draw::new(7, "platt");
        let uniform = |name: String| draw.bits(&name) as f64 / 2f64.powi(64);
        let row = |index: usize| {
            let score = 8.0 * uniform(format!("{index}/score")) - 4.0;
            (score, uniform(format!("{index}/label")) < sigmoid(slope * score + intercept))
        };
        (0..rows).map(row).collect()
    }

    fn share_up(scored: &[(f64, bool)]) -> f64 {
        scored.iter().filter(|(_, label)| *label).count() as f64 / scored.len() as f64
    }

    #[test]
    fn the_curve_that_drew_the_labels_is_found() {
        let scored = sample(1.5, -0.7, 20_000);
        let fit = PlattScaling::fit(&scored, share_up(&scored)).unwrap();
        assert!((fit.slope - 1.5).abs() < 0.06 && (fit.intercept + 0.7).abs() < 0.06, "{fit:?}");
    }

    #[test]
    fn other_class_shares_are_corrected() {
        let scored = sample(1.0, 0.0, 100_000);
        // Keeping a tenth of the thumbs up does not change the curve for the original shares.
        let mut up = 0;
        let thinned: Vec<_> = scored
            .iter()
            .copied()
            .filter(|(_, label)| {
                up += usize::from(*label);
                !*label || up % 10 == 0
            })
            .collect();
        let fit = PlattScaling::fit(&thinned, share_up(&scored)).unwrap();
        assert!((fit.slope - 1.0).abs() < 0.1 && fit.intercept.abs() < 0.1, "{fit:?}");
    }

    #[test]
    fn separable_and_constant_scores_have_finite_curves() {
        let separable = [(1.0, true), (2.0, true), (-1.0, false), (-2.0, false)];
        let fit = PlattScaling::fit(&separable, 0.5).unwrap();
        assert!(fit.slope > 0.0 && fit.probability(2.0) < 1.0 && fit.probability(2.0) > 0.7, "{fit:?}");
        let constant = [(0.0, true), (0.0, false), (0.0, false)];
        let fit = PlattScaling::fit(&constant, 0.25).unwrap();
        assert!(fit.probability(0.0) > 0.2 && fit.probability(0.0) < 0.45, "{fit:?}");
        assert_eq!(PlattScaling::fit(&[(1.0, true)], 0.5), None);
        assert_eq!(PlattScaling::fit(&[(f64::INFINITY, true), (0.0, false)], 0.5), None);
    }

    #[test]
    fn huge_scores_do_not_overflow() {
        let scored: Vec<_> =
            sample(1.0, 0.0, 500).iter().map(|(score, label)| (1e6 * score, *label)).collect();
        let fit = PlattScaling::fit(&scored, 0.5).unwrap();
        assert!((fit.slope * 1e6 - 1.0).abs() < 0.4, "{fit:?}");
    }
}
