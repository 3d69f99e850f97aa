//! Detectors of training faults.

use prospect_runs::{MetricsRecord, RecordKind};

use super::{
    Evidence,
    metric_series::{MetricSeries, MetricValue, WithMedian, mean},
};

/// Loss or gradient norm far above the median of the preceding steps.
pub(super) fn unstable(records: &[MetricsRecord]) -> Option<Evidence> {
    let norm = MetricSeries::new(records, RecordKind::Train, "grad_norm");
    let loss = MetricSeries::new(records, RecordKind::Train, "loss");
    // Norms of batches vary by a factor of 3; two beyond 8 are unusual. A loss may be near 0, so
    // its jump must also be large in absolute terms.
    let norm_jumps: Vec<WithMedian> = norm
        .with_median_before(20, 8)
        .filter(|norm| norm.median > 0.0 && norm.value / norm.median > 8.0)
        .collect();
    let loss_jumps: Vec<WithMedian> =
        loss.with_median_before(20, 8).filter(|loss| loss.value > 3.0 * loss.median.abs() + 0.5).collect();
    let (metric, jumps) =
        if loss_jumps.is_empty() { ("norm of the gradient", norm_jumps) } else { ("loss", loss_jumps) };
    let (first, last) = (jumps.first()?, jumps.last()?);
    if metric != "loss" && jumps.len() < 2 {
        return None;
    }
    let largest = jumps.iter().copied().fold(*first, |a, b| if b.value > a.value { b } else { a });
    let WithMedian { step, value, median } = largest;
    let text = format!(
        "The {metric} jumps in {} of {} steps, the most at step {step}: {value:.3} after a median of \
         {median:.3}.",
        jumps.len(),
        norm.len().max(loss.len()),
    );
    Some(Evidence { text, steps: [first.step, last.step] })
}

/// Held-out reward margin below which nothing has been learnt.
const NO_MARGIN: f64 = 0.01;

/// Held-out reward margin that is still near 0, where it starts, at the last evaluation.
pub(super) fn no_learning(records: &[MetricsRecord]) -> Option<Evidence> {
    let margin = MetricSeries::new(records, RecordKind::Eval, "eval_rewards/margins");
    let [first, last] = margin.ends()?;
    let last_of = |name: &str| Some(MetricSeries::new(records, RecordKind::Eval, name).ends()?[1].value);
    let accuracy = last_of("eval_rewards/accuracies").map(|accuracy| ("accuracy", accuracy));
    let (measure, value) = accuracy.or_else(|| Some(("AUC", last_of("eval_thumbs/auc")?)))?;
    // Ten steps are too few to tell.
    if last.step < first.step + 10 || last.value.abs() >= NO_MARGIN {
        return None;
    }
    let text = format!(
        "After {} steps the held-out reward margin is {:.4} and the {measure} {:.1} %.",
        last.step,
        last.value,
        100.0 * value
    );
    Some(Evidence { text, steps: [first.step, last.step] })
}

/// Generations that lose diversity, or a large and growing KL estimate.
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
    let kl = MetricSeries::new(records, RecordKind::Train, "kl");
    if kl.len() < 20 {
        return None;
    }
    let (late, half) = (kl.last_part(10), kl.last_part(2));
    let steps = [half.first()?.step, late.last()?.step];
    let (end, middle) = (mean(late), mean(half.get(..half.len() - late.len())?));
    (end > 30.0 && end > 1.5 * middle).then(|| {
        let text = format!(
            "The KL estimate went from {middle:.1} to {end:.1} nats in the last half and still grows."
        );
        Evidence { text, steps }
    })
}

/// Reward that counts as a change: one nat of log-ratio at β = 0.1.
const MOVED: f64 = 0.1;

/// KTO reference point of 0 in at least 90 % of the later steps although rewards are not 0.
pub(super) fn reference_point_at_zero(records: &[MetricsRecord]) -> Option<Evidence> {
    let kl = MetricSeries::new(records, RecordKind::Train, "kl");
    let late = kl.last_part(2);
    let zeros = late.iter().filter(|kl| kl.value == 0.0).count();
    if late.len() < 10 || (zeros as f64) < 0.9 * late.len() as f64 {
        return None;
    }
    let reward = |name| {
        let rewards = MetricSeries::new(records, RecordKind::Train, name);
        mean(rewards.last_part(2))
    };
    let (chosen, rejected) = (reward("rewards/chosen"), reward("rewards/rejected"));
    // Before the policy has changed, 0 is the true KL.
    if chosen.abs().max(rejected.abs()) < MOVED {
        return None;
    }
    let text = format!(
        "z0 is 0 in {zeros} of the last {} steps, while rewards are {chosen:.3} for desirable and \
         {rejected:.3} for undesirable completions.",
        late.len()
    );
    Some(Evidence { text, steps: [late.first()?.step, late.last()?.step] })
}

/// Log-prob of chosen completions that fell by at least one nat and 5 % while the margin grew.
pub(super) fn chosen_falling(records: &[MetricsRecord]) -> Option<Evidence> {
    let ends = |name: &str| MetricSeries::new(records, RecordKind::Eval, name).ends();
    let [chosen, chosen_end] = ends("eval_logps/chosen")?;
    let [margin, margin_end] = ends("eval_rewards/margins")?;
    let [rejected, rejected_end] = ends("eval_logps/rejected")?;
    let fall = chosen.value - chosen_end.value;
    let growth = margin_end.value - margin.value;
    if fall < 1.0 || fall < 0.05 * chosen.value.abs() || growth < NO_MARGIN {
        return None;
    }
    let text = format!(
        "On held-out feedback log π of the chosen completion fell from {:.1} to {:.1} nats, that of the \
         rejected one from {:.1} to {:.1}, while the margin grew from {:.3} to {:.3}.",
        chosen.value, chosen_end.value, rejected.value, rejected_end.value, margin.value, margin_end.value
    );
    Some(Evidence { text, steps: [chosen.step, chosen_end.step] })
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
