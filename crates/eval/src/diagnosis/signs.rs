//! The detectors.

use prospect_runs::{Kind, Record};

use super::{
    Found,
    series::{Series, mean},
};

/// The gradient's norm, or the loss, is many times the median of the steps before it.
pub(super) fn unstable(records: &[Record]) -> Found {
    let norm = Series::of(records, Kind::Train, "grad_norm");
    let loss = Series::of(records, Kind::Train, "loss");
    // Batches differ: norms within a factor of 3 of each other are ordinary, two beyond 8 are not. A loss may be near 0, so
    // that only a jump of its own size counts.
    let jumps: Vec<(u64, f64, f64)> = norm
        .with_median_before(20, 8)
        .filter(|(_, value, before)| *before > 0.0 && value / before > 8.0)
        .collect();
    let leaps: Vec<(u64, f64, f64)> = loss
        .with_median_before(20, 8)
        .filter(|(_, value, before)| *value > 3.0 * before.abs() + 0.5)
        .collect();
    let (what, found) = if leaps.is_empty() { ("norm of the gradient", jumps) } else { ("loss", leaps) };
    let (first, last) = (found.first()?, found.last()?);
    if what != "loss" && found.len() < 2 {
        return None;
    }
    let largest = found.iter().copied().fold(*first, |a, b| if b.1 > a.1 { b } else { a });
    let (step, value, before) = largest;
    let evidence = format!(
        "The {what} jumps in {} of {} steps, the most at step {step}: {value:.3} after a median of {before:.3}.",
        found.len(),
        norm.len().max(loss.len()),
    );
    Some((evidence, [first.0, last.0]))
}

/// A held-out margin this small is none.
const NO_MARGIN: f64 = 0.01;

/// The held-out reward margin, which starts at 0, is still there at the end.
pub(super) fn no_learning(records: &[Record]) -> Found {
    let margin = Series::of(records, Kind::Eval, "eval_rewards/margins");
    let [(first, _), (last, end)] = margin.ends()?;
    let accuracy = Series::of(records, Kind::Eval, "eval_rewards/accuracies").ends()?[1].1;
    // Of a run that has just begun nothing can be said.
    if last < first + 10 || end.abs() >= NO_MARGIN {
        return None;
    }
    let evidence = format!(
        "After {last} steps the held-out reward margin is {end:.4} and the accuracy {:.1} %.",
        100.0 * accuracy
    );
    Some((evidence, [first, last]))
}

/// What the policy says has lost its variety, or its KL estimate is large and grows.
pub(super) fn mode_collapse(records: &[Record]) -> Found {
    let said = |name: &str| Series::of(records, Kind::Eval, &format!("eval_generations/{name}")).ends();
    if let (Some([(first, distinct), (last, distinct_end)]), Some([(_, entropy), (_, entropy_end)])) =
        (said("distinct_2"), said("entropy"))
    {
        let halved = distinct_end < 0.5 * distinct;
        let quartered = entropy_end < 0.25 * entropy && distinct_end < 0.75 * distinct;
        if halved || quartered {
            let evidence = format!(
                "Distinct pairs of words fell from {distinct:.2} to {distinct_end:.2} of all, the entropy of the next \
                 token from {entropy:.2} to {entropy_end:.2} nats."
            );
            return Some((evidence, [first, last]));
        }
    }
    let kl = Series::of(records, Kind::Train, "kl");
    if kl.len() < 20 {
        return None;
    }
    let (late, half) = (kl.last_part(10), kl.last_part(2));
    let (before, from, to) = (half.len() - late.len(), half.first()?.0, late.last()?.0);
    let (end, middle) = (mean(late), mean(half.get(..before)?));
    (end > 30.0 && end > 1.5 * middle).then(|| {
        let evidence = format!(
            "The KL estimate went from {middle:.1} to {end:.1} nats in the last half and still grows."
        );
        (evidence, [from, to])
    })
}

/// Rewards beyond this have moved: by a nat where β is 0.1.
const MOVED: f64 = 0.1;

/// KTO's reference point is 0 in nearly all of the later steps, while rewards are not.
pub(super) fn reference_point_at_zero(records: &[Record]) -> Found {
    let kl = Series::of(records, Kind::Train, "kl");
    let late = kl.last_part(2);
    let zeros = late.iter().filter(|(_, value)| *value == 0.0).count();
    if late.len() < 10 || (zeros as f64) < 0.9 * late.len() as f64 {
        return None;
    }
    let reward = |name| {
        let rewards = Series::of(records, Kind::Train, name);
        mean(rewards.last_part(2))
    };
    let (chosen, rejected) = (reward("rewards/chosen"), reward("rewards/rejected"));
    // Before anything has moved, 0 is the truth.
    if chosen.abs().max(rejected.abs()) < MOVED {
        return None;
    }
    let evidence = format!(
        "z0 is 0 in {zeros} of the last {} steps, while rewards are {chosen:.3} for desirable and {rejected:.3} for \
         undesirable completions.",
        late.len()
    );
    Some((evidence, [late.first()?.0, late.last()?.0]))
}

/// The log-prob of chosen completions fell by a nat and by a twentieth while the margin grew.
pub(super) fn chosen_falling(records: &[Record]) -> Found {
    let of = |name: &str| Series::of(records, Kind::Eval, name).ends();
    let [(first, start), (last, end)] = of("eval_logps/chosen")?;
    let [(_, before), (_, margin)] = of("eval_rewards/margins")?;
    let [(_, rejected), (_, rejected_end)] = of("eval_logps/rejected")?;
    let fell = start - end;
    if fell < 1.0 || fell < 0.05 * start.abs() || margin - before < NO_MARGIN {
        return None;
    }
    let evidence = format!(
        "On held-out pairs log π of the chosen completion fell from {start:.1} to {end:.1} nats, that of the rejected one from \
         {rejected:.1} to {rejected_end:.1}, while the margin grew from {before:.3} to {margin:.3}."
    );
    Some((evidence, [first, last]))
}

/// Generated completions became half as long again, and longer than the ones people chose.
pub(super) fn length_blow_up(records: &[Record]) -> Found {
    let said = |name: &str| Series::of(records, Kind::Eval, &format!("eval_generations/{name}")).ends();
    let [(first, start), (last, end)] = said("length")?;
    let chosen = said("chosen_length")?[1].1;
    let [(_, ended), (_, ended_end)] = said("ended")?;
    if end < 1.5 * start || end < 1.2 * chosen {
        return None;
    }
    let evidence = format!(
        "Completions grew from {start:.1} to {end:.1} tokens, where chosen ones have {chosen:.1}; {:.0} % of them ended at the \
         start, {:.0} % at the end.",
        100.0 * ended,
        100.0 * ended_end
    );
    Some((evidence, [first, last]))
}
