//! The definition of human-aware losses (HALOs), tested on every objective.
//!
//! From the third version of the paper on (definition 3.4 and theorem 3.5), a HALO is
//! `f = E[a·v(r_θ − E_Q[r_θ])] + C` with r_θ = ±log(π/π_ref), a ∈ {−1, +1}, and a value function v
//! that is non-decreasing, and concave in gains. The fifth version adds that nothing but Q may
//! depend on π or π_ref. So with π_θ = π_ref = π, where every r_θ is 0, the loss must not depend on
//! π.
//!
//! Each condition is evaluated with the functions used in training, with a reference point of 0. A
//! completion's gain is z: the log-ratio of a desirable completion, minus that of an undesirable
//! one, or the margin of a pair.

use prospect_objective::{
    Bco, Dpo, Exo, Hinge, Ipo, Kto, KtoValue, LogProb, Orpo, Ppo, PreferencePair, Simpo, Slic, SmoothedDpo,
    Supervised, Unpaired, aot, aot_unpaired, apo_down, apo_zero, apo_zero_unpaired, bco, cdpo, dpo, exo_pair,
    hinge, ipo, kto, kto_with_value, nca_pair, orpo, robust_dpo, sft, simpo, slic, sppo_hard,
};
use serde::{Deserialize, Serialize};

use crate::clip;

/// Result of the HALO test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HaloFinding {
    /// True if the test agrees with theorem 3.5 on DPO, KTO, SLiC and conditional SFT, and with
    /// PPO-Clip if its gains are ratios.
    pub holds: bool,
    /// Result for each objective.
    pub objectives: Vec<HaloTest>,
}

/// Conditions that an objective meets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HaloTest {
    /// The objective.
    pub objective: String,
    /// Difference between the largest and the smallest loss over policies π_θ = π_ref.
    pub spread_at_reference: f64,
    /// True if the implied value never falls as the gain grows.
    pub is_monotone: bool,
    /// True if the implied value is concave in gains.
    pub is_concave: bool,
    /// First gain from which the value is not concave.
    pub convex_from: Option<f64>,
    /// True if all conditions are met.
    pub is_halo: bool,
}

/// Side of the judgement that a gain belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// The desirable completion gains log-probability.
    Desirable,
    /// The undesirable completion loses log-probability.
    Undesirable,
}

/// Two completions of one prompt, one of them preferred.
#[derive(Debug, Clone, Copy)]
struct Judged {
    chosen: LogProb,
    rejected: LogProb,
}

type Loss = fn(Judged) -> f64;

/// An objective, and what the paper says about it.
#[derive(Clone, Copy)]
struct Candidate {
    name: &'static str,
    loss: Loss,
    /// Theorem 3.5, with our reading of it; None if the paper makes no claim.
    claim: Option<bool>,
}

/// log π of both completions where π_θ = π_ref, in nats.
const REFERENCES: [(f64, f64); 4] = [(-20.0, -20.0), (-3.0, -45.0), (-45.0, -3.0), (-31.5, -22.25)];
/// Tokens of each completion.
const TOKENS: usize = 10;
/// log π_ref of both completions in the tests of the value function.
const ORIGIN: f64 = -100.0;
/// Gains per nat of the grid.
const FINENESS: i32 = 20;
/// Largest gain, in nats.
const MAX_GAIN: i32 = 80;
/// Differences below this are rounding errors.
const ROUNDING: f64 = 1e-9;

/// Tests every objective.
pub(crate) fn check() -> HaloFinding {
    let tested: Vec<(HaloTest, Option<bool>)> =
        candidates().iter().map(|candidate| (test(candidate), candidate.claim)).collect();
    let holds = tested.iter().all(|(test, claim)| claim.is_none_or(|claim| claim == test.is_halo));
    HaloFinding { holds, objectives: tested.into_iter().map(|(test, _)| test).collect() }
}

fn test(candidate: &Candidate) -> HaloTest {
    let at_reference = REFERENCES.map(|(chosen, rejected)| {
        (candidate.loss)(Judged { chosen: unmoved(chosen), rejected: unmoved(rejected) })
    });
    let least = at_reference.iter().copied().fold(f64::INFINITY, f64::min);
    let most = at_reference.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let values = [Side::Desirable, Side::Undesirable].map(|side| values(candidate.loss, side));
    let is_monotone = values.iter().all(|values| values.windows(2).all(|pair| pair[1] >= pair[0] - ROUNDING));
    let convex_from = values.iter().filter_map(|values| convex_from(values)).reduce(f64::min);
    let spread_at_reference = most - least;
    HaloTest {
        objective: candidate.name.to_owned(),
        spread_at_reference,
        is_monotone,
        is_concave: convex_from.is_none(),
        convex_from,
        is_halo: spread_at_reference < ROUNDING && is_monotone && convex_from.is_none(),
    }
}

/// Returns the implied value, minus the loss, over the grid of gains.
fn values(loss: Loss, side: Side) -> Vec<f64> {
    let grid = -MAX_GAIN * FINENESS..=MAX_GAIN * FINENESS;
    grid.map(|step| -loss(gain(f64::from(step) / f64::from(FINENESS), side))).collect()
}

/// Returns the first gain above 0 from which the value is not concave.
fn convex_from(values: &[f64]) -> Option<f64> {
    let origin = (MAX_GAIN * FINENESS) as usize;
    let gains = values.get(origin..).unwrap_or_default();
    let bends = gains.windows(3).position(|value| value[2] - value[1] > value[1] - value[0] + ROUNDING);
    bends.map(|index| index as f64 / f64::from(FINENESS))
}

/// Returns two completions, one of which has moved from the reference by `z` in its own direction.
fn gain(z: f64, side: Side) -> Judged {
    let moved = |by: f64| LogProb { policy: ORIGIN + by, ..unmoved(ORIGIN) };
    match side {
        Side::Desirable => Judged { chosen: moved(z), rejected: unmoved(ORIGIN) },
        Side::Undesirable => Judged { chosen: unmoved(ORIGIN), rejected: moved(-z) },
    }
}

fn unmoved(log_prob: f64) -> LogProb {
    LogProb { policy: log_prob, reference: log_prob, tokens: TOKENS }
}

fn pair(Judged { chosen, rejected }: Judged) -> [PreferencePair; 1] {
    [PreferencePair { chosen, rejected, weight: 1.0 }]
}

fn thumbs(Judged { chosen, rejected }: Judged) -> [Unpaired; 2] {
    let thumb = |log_prob, desirable| Unpaired { log_prob, desirable, weight: 1.0 };
    [thumb(chosen, true), thumb(rejected, false)]
}

fn supervised(log_prob: LogProb) -> Supervised {
    Supervised { policy: log_prob.policy, tokens: TOKENS, weight: 1.0 }
}

fn candidates() -> Vec<Candidate> {
    [unpaired_candidates(), paired_candidates(), candidates_without_reference()].concat()
}

fn candidate(name: &'static str, claim: Option<bool>, loss: Loss) -> Candidate {
    Candidate { name, loss, claim }
}

fn unpaired_candidates() -> Vec<Candidate> {
    vec![
        candidate("kto", Some(true), |judged| kto(&Kto::default(), &[(&thumbs(judged), 0.0)]).loss),
        candidate("kto, log_sigmoid", None, |judged| kto_as(KtoValue::LogSigmoid, judged)),
        candidate("kto, identity", None, |judged| kto_as(KtoValue::Identity, judged)),
        candidate("apo_zero_unpaired", None, |judged| {
            apo_zero_unpaired(&Kto::default(), &thumbs(judged)).loss
        }),
        candidate("bco", None, |judged| bco(&Bco::default(), &thumbs(judged), 0.0).loss),
        candidate("ppo", None, |judged| ppo_loss(Ppo::default().kl_coef, judged)),
        candidate("ppo, clip only", None, |judged| ppo_loss(0.0, judged)),
        // Gains z of the grid stand for ratios 1 + z and, for undesirable completions, 1 − z.
        candidate("ppo, clip only, gain in ratios", Some(true), |judged| {
            let ratio = |log_prob: LogProb| 1.0 + log_prob.policy - log_prob.reference;
            clip::loss_of_ratio(ratio(judged.chosen), 1.0) + clip::loss_of_ratio(ratio(judged.rejected), -1.0)
        }),
    ]
}

fn kto_as(value: KtoValue, judged: Judged) -> f64 {
    kto_with_value(&Kto::default(), value, &[(&thumbs(judged), 0.0)]).loss
}

/// Returns the loss of offline PPO on completions of one token each.
fn ppo_loss(kl_coef: f64, judged: Judged) -> f64 {
    let ppo = Ppo { kl_coef, ..Ppo::default() };
    let whitening = ppo.whitening([(true, 1), (false, 1)]);
    let surrogate =
        |log_prob: LogProb, desirable| ppo.surrogate(whitening, desirable, &[log_prob.ratio()]).value;
    -surrogate(judged.chosen, true) - surrogate(judged.rejected, false)
}

fn paired_candidates() -> Vec<Candidate> {
    vec![
        candidate("dpo", Some(true), |judged| dpo(&Dpo::default(), &pair(judged)).loss),
        candidate("cdpo", None, |judged| cdpo(&SmoothedDpo::default(), &pair(judged)).loss),
        candidate("robust_dpo", None, |judged| robust_dpo(&SmoothedDpo::default(), &pair(judged)).loss),
        candidate("hinge", None, |judged| hinge(&Hinge::default(), &pair(judged)).loss),
        candidate("ipo", None, |judged| ipo(&Ipo::default(), &pair(judged)).loss),
        candidate("apo_zero", None, |judged| apo_zero(&Dpo::default(), &pair(judged)).loss),
        candidate("apo_down", None, |judged| apo_down(&Dpo::default(), &pair(judged)).loss),
        candidate("exo_pair", None, |judged| exo_pair(&Exo::default(), &pair(judged)).loss),
        candidate("nca_pair", None, |judged| nca_pair(&Dpo::default(), &pair(judged)).loss),
        candidate("sppo_hard", None, |judged| sppo_hard(&Dpo::default(), &pair(judged)).loss),
        // In a batch of one pair, sorting changes nothing.
        candidate("aot", None, |judged| {
            aot(&SmoothedDpo { label_smoothing: 0.0, ..SmoothedDpo::default() }, &pair(judged)).loss
        }),
        candidate("aot_unpaired", None, |judged| {
            aot_unpaired(&SmoothedDpo { label_smoothing: 0.0, ..SmoothedDpo::default() }, &pair(judged)).loss
        }),
    ]
}

fn candidates_without_reference() -> Vec<Candidate> {
    vec![
        candidate("simpo", None, |judged| simpo(&Simpo::default(), &pair(judged)).loss),
        candidate("orpo", None, |judged| orpo(&Orpo::default(), &pair(judged)).loss),
        candidate("slic", Some(false), |judged| slic(&Slic::default(), &pair(judged)).loss),
        candidate("slic, calibration only", Some(false), |judged| {
            slic(&Slic { lambda_coef: 0.0, ..Slic::default() }, &pair(judged)).loss
        }),
        candidate("sft", None, |judged| sft(&[supervised(judged.chosen)]).loss),
        candidate("csft", Some(false), |judged| {
            sft(&[supervised(judged.chosen), supervised(judged.rejected)]).loss
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(objective: &str) -> HaloTest {
        check().objectives.into_iter().find(|test| test.objective == objective).unwrap()
    }

    #[test]
    fn the_test_agrees_with_the_theorem() {
        let found = check();
        assert!(found.holds, "{found:?}");
        let halos: Vec<&str> =
            found.objectives.iter().filter(|test| test.is_halo).map(|test| test.objective.as_str()).collect();
        let expected = [
            "kto",
            "kto, log_sigmoid",
            "kto, identity",
            "apo_zero_unpaired",
            "bco",
            "ppo, clip only, gain in ratios",
            "dpo",
            "robust_dpo",
            "hinge",
            "apo_zero",
            "apo_down",
            "aot",
            "aot_unpaired",
        ];
        assert_eq!(halos, expected);
    }

    #[test]
    fn a_loss_without_a_reference_depends_on_the_policy_where_it_equals_the_reference() {
        for objective in ["slic", "slic, calibration only", "sft", "csft", "simpo", "orpo"] {
            assert!(of(objective).spread_at_reference > 1e-3, "{objective}");
        }
        for objective in ["kto", "dpo", "ipo", "cdpo", "bco"] {
            assert_eq!(of(objective).spread_at_reference, 0.0, "{objective}");
        }
    }

    #[test]
    fn losses_with_an_optimum_at_a_finite_margin_have_no_monotone_value() {
        for objective in ["ipo", "cdpo", "exo_pair", "nca_pair", "sppo_hard"] {
            assert!(!of(objective).is_monotone, "{objective}");
        }
        // SLiC's calibration alone is monotone and concave: a HALO by the first version's
        // definition, which asks for no reference model.
        let calibration = of("slic, calibration only");
        assert!(calibration.is_monotone && calibration.is_concave && !calibration.is_halo);
    }

    #[test]
    fn the_clipped_ratio_is_convex_in_the_log_ratio_up_to_the_clip() {
        assert_eq!(of("ppo, clip only").convex_from, Some(0.0));
        assert_eq!(of("ppo, clip only, gain in ratios").convex_from, None);
        // The KL term rewards undesirable completions for their log-probability.
        assert!(!of("ppo").is_monotone && of("ppo, clip only").is_monotone);
    }
}
