//! Detectors of training faults.

use prospect_runs::{Measure, MetricsRecord, RecordKind};

use super::{
    Evidence, HeldOutResult,
    metric_series::{Jump, MetricSeries, MetricValue, mean},
};

/// Fewest jumps that are instability, and fewest in 100 steps: single batches are unusual in every
/// run, and long runs have more of them.
const JUMPS: usize = 2;
const JUMPS_PER_HUNDRED: usize = 1;

/// Repeated jumps of the loss per class, or of the gradient norm, above what the steps before
/// reached.
///
/// The loss of a batch depends on its share of desirable rows if classes have different weights.
/// The loss per class does not: it is the mean over both classes of the logistic loss of the mean
/// reward of the class.
pub(super) fn unstable(records: &[MetricsRecord]) -> Option<Evidence> {
    let loss = class_loss(records);
    // A loss may be near 0, so its jump must also be large in absolute terms.
    let loss_jumps = loss.jumps(|before| 3.0 * before.abs() + 0.5);
    let norm = MetricSeries::new(records, RecordKind::Train, "grad_norm");
    let norm_jumps = norm.jumps(|before| 4.0 * before);
    let is_repeated =
        |jumps: &[Jump], steps: usize| jumps.len() >= JUMPS && 100 * jumps.len() >= JUMPS_PER_HUNDRED * steps;
    let (metric, jumps, steps) = if is_repeated(&loss_jumps, loss.len()) {
        ("loss per class", loss_jumps, loss.len())
    } else if is_repeated(&norm_jumps, norm.len()) {
        ("norm of the gradient", norm_jumps, norm.len())
    } else {
        return None;
    };
    let (first, last) = (jumps.first()?, jumps.last()?);
    let largest = jumps.iter().copied().fold(*first, |a, b| if b.value > a.value { b } else { a });
    let Jump { step, value, before } = largest;
    let text = format!(
        "The {metric} jumps in {} of {steps} steps, the most at step {step}: {value:.3}, where the steps before \
         hardly exceeded {before:.3}.",
        jumps.len(),
    );
    Some(Evidence { text, steps: [first.step, last.step] })
}

/// Loss per class of each batch with both classes; the loss itself for objectives without rewards.
fn class_loss(records: &[MetricsRecord]) -> MetricSeries {
    let logistic = |reward: f64| (-reward).max(0.0) + (-reward.abs()).exp().ln_1p();
    let rewards = MetricSeries::from_values(records, RecordKind::Train, |values| {
        let (chosen, rejected) = (values.get("rewards/chosen")?, values.get("rewards/rejected")?);
        Some(f64::midpoint(logistic(*chosen), logistic(-rejected)))
    });
    if rewards.len() > 0 { rewards } else { MetricSeries::new(records, RecordKind::Train, "loss") }
}

/// Held-out accuracy, or AUC, whose interval contains chance.
pub(super) fn no_learning(records: &[MetricsRecord], held_out: Option<HeldOutResult>) -> Option<Evidence> {
    let HeldOutResult { measure, estimate } = held_out?;
    let last = records.iter().map(|record| record.step).max()?;
    if estimate.low > CHANCE || last == 0 {
        return None;
    }
    let name = if measure == Measure::Auc { "AUC" } else { "accuracy" };
    let percent = |share: f64| 100.0 * share;
    let text = format!(
        "After {last} steps the held-out {name} is {:.1} % (95 % interval {:.1} to {:.1}), no better than chance.",
        percent(estimate.value),
        percent(estimate.low),
        percent(estimate.high),
    );
    Some(Evidence { text, steps: [0, last] })
}

/// Accuracy, and AUC, of a random ranking.
const CHANCE: f64 = 0.5;

/// Nats per token of a completion above which its log-ratio to the reference counts as run away,
/// within limits for short and long completions.
const AWAY_PER_TOKEN: f64 = 1.0;
const AWAY: [f64; 2] = [20.0, 50.0];
/// The same for the mean log-ratio of mismatched completions, in nats.
const MISMATCHED_AWAY: f64 = 30.0;

/// KL divergence of the policy from the reference, estimated from its own completions, beyond what
/// useful policies reach; without generations, that of mismatched completions.
pub(super) fn ran_away(records: &[MetricsRecord]) -> Option<Evidence> {
    for (prefix, metric) in [("eval_samples", "kl"), ("eval_generations", "kl")] {
        let at_end =
            |name: &str| MetricSeries::new(records, RecordKind::Eval, &format!("{prefix}/{name}")).last();
        let Some(kl) = at_end(metric) else { continue };
        let [least, most] = AWAY;
        let limit =
            at_end("length").map_or(most, |length| (AWAY_PER_TOKEN * length.value).clamp(least, most));
        return (kl.step > 0 && kl.value > limit).then(|| Evidence {
            text: format!(
                "Completions of the policy have a mean log-ratio to the reference of {:.1} nats; useful policies stay \
                 below {limit:.0}.",
                kl.value
            ),
            steps: [0, kl.step],
        });
    }
    let kl = MetricSeries::new(records, RecordKind::Train, "kl");
    let late = kl.last_part(10);
    let steps = [late.first()?.step, late.last()?.step];
    let end = mean(late);
    (kl.len() >= 20 && end > MISMATCHED_AWAY).then(|| {
        let text = format!("The KL estimate is {end:.1} nats in the last tenth of the steps.");
        Evidence { text, steps }
    })
}

/// Generations that lose diversity.
pub(super) fn mode_collapse(records: &[MetricsRecord]) -> Option<Evidence> {
    if let (Some([distinct, distinct_end]), Some([entropy, entropy_end])) =
        (generations(records, "distinct_2"), generations(records, "entropy"))
    {
        let distinct_halved = distinct_end.value < 0.5 * distinct.value;
        let entropy_quartered =
            entropy_end.value < 0.25 * entropy.value && distinct_end.value < 0.75 * distinct.value;
        if distinct_halved || entropy_quartered {
            let text = format!(
                "Distinct pairs of words fell from {:.2} to {:.2} of all, the entropy of the next token \
                 from {:.2} to {:.2} nats.",
                distinct.value, distinct_end.value, entropy.value, entropy_end.value
            );
            return Some(Evidence { text, steps: [distinct.step, distinct_end.step] });
        }
    }
    None
}

/// Share of completions that ended, below half of the share at the start and by more than this.
const STOPPED_ENDING: f64 = 0.3;

/// Completions that ended at the start and are cut at the token limit now.
pub(super) fn no_longer_ends(records: &[MetricsRecord]) -> Option<Evidence> {
    let [ended, ended_end] = generations(records, "ended")?;
    if ended_end.value >= 0.5 * ended.value || ended_end.value > ended.value - STOPPED_ENDING {
        return None;
    }
    let text = format!(
        "{:.0} % of the completions ended at the start, {:.0} % at the end.",
        100.0 * ended.value,
        100.0 * ended_end.value
    );
    Some(Evidence { text, steps: [ended.step, ended_end.step] })
}

/// Reward that counts as a change: one nat of log-ratio at β = 0.1.
const MOVED: f64 = 0.1;

/// KTO reference point of 0 in at least 90 % of the later steps although rewards are not 0.
pub(super) fn has_clamped_reference_point(records: &[MetricsRecord]) -> bool {
    let kl = MetricSeries::new(records, RecordKind::Train, "kl");
    let late = kl.last_part(2);
    let zeros = late.iter().filter(|kl| kl.value == 0.0).count();
    let reward = |name| {
        let rewards = MetricSeries::new(records, RecordKind::Train, name);
        mean(rewards.last_part(2)).abs()
    };
    // Before the policy has changed, 0 is the true KL.
    late.len() >= 10
        && zeros as f64 >= 0.9 * late.len() as f64
        && reward("rewards/chosen").max(reward("rewards/rejected")) >= MOVED
}

/// Generations that became 1.5 times as long as at the start and 1.2 times as long as chosen
/// completions.
pub(super) fn length_blow_up(records: &[MetricsRecord]) -> Option<Evidence> {
    let [length, length_end] = generations(records, "length")?;
    let [_, chosen] = generations(records, "chosen_length")?;
    let [ended, ended_end] = generations(records, "ended")?;
    if length_end.value < 1.5 * length.value || length_end.value < 1.2 * chosen.value {
        return None;
    }
    let text = format!(
        "Completions grew from {:.1} to {:.1} tokens, where chosen ones have {:.1}; {:.0} % of them ended \
         at the start, {:.0} % at the end.",
        length.value,
        length_end.value,
        chosen.value,
        100.0 * ended.value,
        100.0 * ended_end.value
    );
    Some(Evidence { text, steps: [length.step, length_end.step] })
}

/// First and last value of a metric of generations.
fn generations(records: &[MetricsRecord], name: &str) -> Option<[MetricValue; 2]> {
    MetricSeries::new(records, RecordKind::Eval, &format!("eval_generations/{name}")).ends()
}
