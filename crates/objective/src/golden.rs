//! Compares losses and gradients with `golden.json`, computed by
//! `benches/peers/check_objectives.py` with TRL's formulas and PyTorch's autograd in float64.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::*;

#[derive(Debug, Deserialize)]
struct GoldenCase {
    objective: String,
    options: BTreeMap<String, f64>,
    policy: Vec<f64>,
    reference: Vec<f64>,
    #[serde(default)]
    tokens: Vec<usize>,
    /// Number of desirable completions, for unpaired data; they come first.
    #[serde(default)]
    desirable: usize,
    weights: Vec<f64>,
    #[serde(default)]
    mismatched_policy: Vec<f64>,
    #[serde(default)]
    mismatched_reference: Vec<f64>,
    loss: f64,
    gradient: Vec<f64>,
}

fn log_probs(policy: &[f64], reference: &[f64], tokens: &[usize]) -> Vec<LogProb> {
    let tokens = tokens.iter().copied().chain(std::iter::repeat(1));
    let both = policy.iter().zip(reference).zip(tokens);
    both.map(|((policy, reference), tokens)| LogProb { policy: *policy, reference: *reference, tokens })
        .collect()
}

impl GoldenCase {
    fn log_probs(&self) -> Vec<LogProb> {
        log_probs(&self.policy, &self.reference, &self.tokens)
    }

    fn unpaired(&self) -> Vec<Unpaired> {
        let rows = self.log_probs().into_iter().zip(&self.weights).enumerate();
        rows.map(|(index, (log_prob, weight))| Unpaired {
            log_prob,
            desirable: index < self.desirable,
            weight: *weight,
        })
        .collect()
    }

    fn pairs(&self) -> Vec<PreferencePair> {
        let all = self.log_probs();
        let (chosen, rejected) = all.split_at(all.len() / 2);
        let pairs = chosen.iter().zip(rejected).zip(&self.weights);
        pairs
            .map(|((chosen, rejected), weight)| PreferencePair {
                chosen: *chosen,
                rejected: *rejected,
                weight: *weight,
            })
            .collect()
    }

    fn mismatched(&self) -> Vec<LogProb> {
        log_probs(&self.mismatched_policy, &self.mismatched_reference, &[])
    }

    /// PPO's log-probs are those of tokens, and so is its gradient.
    fn ppo(&self) -> BatchLoss {
        let option = |name: &str| self.options[name];
        let options = Ppo {
            clip_ratio: [option("clip_low"), option("clip_high")],
            kl_coef: option("kl_coef"),
            discount: option("discount"),
        };
        let whitening = options.whitening(
            self.tokens.iter().enumerate().map(|(index, tokens)| (index < self.desirable, *tokens)),
        );
        let ratios: Vec<f64> =
            self.policy.iter().zip(&self.reference).map(|(policy, reference)| policy - reference).collect();
        let (mut batch, mut surrogates, mut start) = (Vec::new(), Vec::new(), 0);
        for (index, (tokens, weight)) in self.tokens.iter().zip(&self.weights).enumerate() {
            let part = start..start + tokens;
            start += tokens;
            let sum = |values: &[f64]| values[part.clone()].iter().sum();
            let (policy, reference) = (sum(&self.policy), sum(&self.reference));
            let log_prob = LogProb { policy, reference, tokens: *tokens };
            let desirable = index < self.desirable;
            batch.push(Unpaired { log_prob, desirable, weight: *weight });
            surrogates.push(options.surrogate(whitening, desirable, &ratios[part]));
        }
        let values: Vec<f64> = surrogates.iter().map(|surrogate| surrogate.value).collect();
        let evaluated = ppo(&batch, &values);
        let slopes = surrogates.iter().zip(&evaluated.gradient);
        let gradient = slopes
            .flat_map(|(surrogate, gradient)| surrogate.slopes.iter().map(move |slope| slope * gradient));
        BatchLoss { gradient: gradient.collect(), ..evaluated.clone() }
    }

    fn evaluate(&self) -> BatchLoss {
        let option = |name: &str| self.options[name];
        let beta = self.options.get("beta").copied().unwrap_or_default();
        let weighted = || Kto {
            beta,
            weights: ClassWeights {
                desirable: option("desirable_weight"),
                undesirable: option("undesirable_weight"),
            },
        };
        let smoothed = || SmoothedDpo { beta, label_smoothing: option("label_smoothing") };
        match self.objective.as_str() {
            "kto" | "kto_log_sigmoid" | "kto_identity" => {
                let value = match self.objective.as_str() {
                    "kto_log_sigmoid" => KtoValue::LogSigmoid,
                    "kto_identity" => KtoValue::Identity,
                    _ => KtoValue::Sigmoid,
                };
                let z0 = reference_point(&self.mismatched());
                kto_with_value(&weighted(), value, &[(&self.unpaired(), z0)])
            }
            "kto_reference_free" => {
                let mut batch = self.unpaired();
                for example in &mut batch {
                    example.log_prob.reference = 0.0;
                }
                kto(&weighted(), &[(&batch, entropy_point(&self.mismatched()))])
            }
            "ppo" => self.ppo(),
            "apo_zero_unpaired" => apo_zero_unpaired(&weighted(), &self.unpaired()),
            "bco" => {
                let (options, batch) = (Bco { beta }, self.unpaired());
                bco(&options, &batch, options.observe(RunningMean::default(), &batch).mean)
            }
            "dpo" => dpo(&Dpo { beta }, &self.pairs()),
            "cdpo" => cdpo(&smoothed(), &self.pairs()),
            "robust_dpo" => robust_dpo(&smoothed(), &self.pairs()),
            "hinge" => hinge(&Hinge { beta }, &self.pairs()),
            "ipo" => ipo(&Ipo { beta }, &self.pairs()),
            "simpo" => simpo(&Simpo { beta, simpo_gamma: option("simpo_gamma") }, &self.pairs()),
            "orpo" => orpo(&Orpo { beta }, &self.pairs()),
            "slic" => slic(&Slic { beta, lambda_coef: option("lambda_coef") }, &self.pairs()),
            "apo_zero" => apo_zero(&Dpo { beta }, &self.pairs()),
            "apo_down" => apo_down(&Dpo { beta }, &self.pairs()),
            "exo_pair" => exo_pair(&Exo { beta, label_smoothing: option("label_smoothing") }, &self.pairs()),
            "nca_pair" => nca_pair(&Dpo { beta }, &self.pairs()),
            "sppo_hard" => sppo_hard(&Dpo { beta }, &self.pairs()),
            "aot" => aot(&smoothed(), &self.pairs()),
            "aot_unpaired" => aot_unpaired(&smoothed(), &self.pairs()),
            "sft" => {
                let completions =
                    self.log_probs().into_iter().zip(&self.weights).map(|(log_prob, weight)| Supervised {
                        policy: log_prob.policy,
                        tokens: log_prob.tokens,
                        weight: *weight,
                    });
                sft(&completions.collect::<Vec<_>>())
            }
            other => panic!("golden.json: no objective is called {other}"),
        }
    }
}

#[test]
fn losses_and_gradients_equal_those_of_torch() {
    let cases: Vec<GoldenCase> = serde_json::from_str(include_str!("golden.json")).unwrap();
    let mut names: Vec<_> = cases.iter().map(|case| case.objective.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 23, "every objective has golden values: {names:?}");
    for case in &cases {
        let BatchLoss { loss, gradient, .. } = case.evaluate();
        let GoldenCase { objective, options, .. } = case;
        assert!((loss - case.loss).abs() < 1e-9, "{objective} {options:?}: {loss}");
        assert_eq!(gradient.len(), case.gradient.len());
        for (ours, theirs) in gradient.iter().zip(&case.gradient) {
            assert!((ours - theirs).abs() < 1e-9, "{objective} {options:?}: {ours} {theirs}");
        }
    }
}
