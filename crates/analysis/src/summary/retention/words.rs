//! Changes of capability scores in words.

use prospect_runs::{NoVerdict, Retention, Verdict, series_name};

use crate::summary::sweep_runs::SweepRuns;

/// Most significant changes that the verdict lists; more are counted.
const FEW: usize = 6;

/// Describes a change, such as `dpo loses 1.2 points on arc (0.3 to 2.1)`.
pub(super) fn describe(sweep: &SweepRuns<'_>, retention: &Retention) -> String {
    let Retention { series, test, score, change, .. } = retention;
    let on = if retention.is_headline { format!("on {test}") } else { format!("on {test} by {score}") };
    let at = place(sweep, retention.x);
    let open = |reason: &str| {
        let [value, low, high] = [change.value, change.low, change.high].map(signed);
        format!("{series} changes by {value} points {on}{at} ({low} to {high}){reason}")
    };
    match (retention.verdict, retention.no_verdict) {
        (Verdict::Worse, _) => {
            let [value, least, most] = [-change.value, -change.high, -change.low].map(unsigned);
            format!("{series} loses {value} points {on}{at} ({least} to {most})")
        }
        (Verdict::Better, _) => {
            let [value, least, most] = [change.value, change.low, change.high].map(unsigned);
            format!("{series} gains {value} points {on}{at} ({least} to {most})")
        }
        (Verdict::Inconclusive, _) if !retention.is_headline => open(""),
        (Verdict::Inconclusive, Some(NoVerdict::OneSeed)) => {
            open(", for this seed: one seed gives no verdict")
        }
        (Verdict::Inconclusive, Some(NoVerdict::TooWide)) => {
            open(": too few seeds and questions for a verdict")
        }
        (Verdict::Inconclusive, Some(NoVerdict::LostRuns)) => {
            open(": no verdict, since runs failed or were stopped, and the others may be the luckier ones")
        }
        (Verdict::Inconclusive, _) => open(", which is inconclusive"),
    }
}

/// Names the value of x, if there are several.
fn place(sweep: &SweepRuns<'_>, x: f64) -> String {
    if sweep.xs.numbers.len() < 2 {
        return String::new();
    }
    let position = sweep.xs.numbers.iter().position(|number| *number == x);
    let name = position.and_then(|index| sweep.xs.values.get(index)).map(series_name).unwrap_or_default();
    format!(" at {} = {name}", sweep.experiment.x.label)
}

/// Formats a share in percentage points.
fn unsigned(share: f64) -> String {
    format!("{:.1}", 100.0 * share).replace('-', "−")
}

fn signed(share: f64) -> String {
    let text = format!("{:+.1}", 100.0 * share).replace('-', "−");
    // Zero has no sign.
    if matches!(text.as_str(), "+0.0" | "−0.0") { "0.0".to_owned() } else { text }
}

/// Describes the significant changes of headline scores, and says how large the losses are that the
/// others do not exclude; empty without capability tests.
pub(in crate::summary) fn verdict(retention: &[Retention]) -> String {
    let headline: Vec<&Retention> = retention.iter().filter(|change| change.is_headline).collect();
    let (open, decided): (Vec<&Retention>, Vec<&Retention>) =
        headline.iter().copied().partition(|change| change.verdict == Verdict::Inconclusive);
    if headline.is_empty() {
        return String::new();
    }
    let mut parts: Vec<String> = decided.iter().take(FEW).map(|change| change.words.clone()).collect();
    if decided.len() > FEW {
        parts.push(format!("{} more changes are significant", decided.len() - FEW));
    }
    let most = open.iter().map(|change| -change.change.low).fold(0.0, f64::max);
    let possible = match most {
        most if most > 0.0 => format!(" (losses of up to {} points are possible)", unsigned(most)),
        _ => String::new(),
    };
    match (open.len(), headline.len()) {
        (0, _) => {}
        (1, 1) => parts.push(format!("the change of the score is inconclusive{possible}")),
        (some, all) if some == all => {
            parts.push(format!("all {all} changes of scores are inconclusive{possible}"));
        }
        (1, all) => parts.push(format!("1 of {all} changes is inconclusive{possible}")),
        (some, all) => parts.push(format!("{some} of {all} changes are inconclusive{possible}")),
    }
    format!(" Capability retention: {}.", parts.join("; "))
}
