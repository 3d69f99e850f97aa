//! Verdict of a sweep in sentences.

use prospect_runs::{Contrast, Estimate, Measure, NoVerdict, Verdict, series_name};
use serde_json::Value;

use super::sweep_runs::SweepRuns;

/// Most comparisons that are listed individually although they are inconclusive.
const FEW: usize = 4;

/// Ratio of the largest to the smallest detectable difference from which both are given.
const ALIKE: f64 = 1.3;

/// Describes the primary comparison, then every significant difference. With few series it also
/// describes those at the smallest and the largest value of x; otherwise it counts the inconclusive
/// comparisons.
pub(super) fn verdict(sweep: &SweepRuns<'_>, contrasts: &[Contrast]) -> String {
    let (repeated, distinct): (Vec<&Contrast>, Vec<&Contrast>) =
        contrasts.iter().partition(|contrast| contrast.identical_to.is_some());
    let (primary, others): (Vec<&Contrast>, Vec<&Contrast>) =
        distinct.iter().copied().partition(|contrast| contrast.is_primary);
    if contrasts.is_empty() {
        return "There is nothing to compare yet.".to_owned();
    }
    let words =
        Words { sweep, has_utility: distinct.iter().any(|contrast| contrast.measure == Measure::Utility) };
    let mut sentences = Vec::new();
    for contrast in primary {
        sentences.extend(
            words.sentence(contrast.x, &[contrast]).map(|text| format!("Primary comparison: {text}")),
        );
    }
    sentences.extend(words.describe(&others));
    if !distinct.is_empty() && distinct.iter().all(|contrast| contrast.seeds < 2) {
        sentences.push(
            "One seed gives no verdict, since it does not show how much seeds vary: give `seeds` two values or more."
                .to_owned(),
        );
    }
    sentences.extend(words.repetitions(&repeated));
    sentences.join(" ")
}

/// Words for a sweep's axes and measures.
struct Words<'a> {
    sweep: &'a SweepRuns<'a>,
    has_utility: bool,
}

impl Words<'_> {
    fn is_numeric(&self) -> bool {
        let key = &self.sweep.experiment.x.key;
        self.sweep.experiment.runs.iter().all(|run| run.settings.get(key).is_some_and(Value::is_number))
    }

    /// Describes all comparisons other than the primary one.
    fn describe(&self, contrasts: &[&Contrast]) -> Vec<String> {
        let mut xs: Vec<f64> = contrasts.iter().map(|contrast| contrast.x).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        let (Some(&first), Some(&last)) = (xs.first(), xs.last()) else { return Vec::new() };
        let is_significant = |contrast: &&&Contrast| contrast.verdict != Verdict::Inconclusive;
        let at_end = |contrast: &&&Contrast| contrast.x == first || contrast.x == last;
        let at = |x: f64, wanted: &dyn Fn(&&&Contrast) -> bool| {
            let chosen: Vec<&Contrast> =
                contrasts.iter().filter(|contrast| contrast.x == x && wanted(contrast)).copied().collect();
            self.sentence(x, &chosen)
        };
        if self.is_numeric() && contrasts.iter().filter(at_end).count() <= FEW {
            let is_listed = |contrast: &&&Contrast| is_significant(contrast) || at_end(contrast);
            return xs.iter().filter_map(|x| at(*x, &is_listed)).collect();
        }
        if let ([only], false) = (contrasts, self.is_numeric())
            && only.verdict == Verdict::Inconclusive
        {
            return vec![phrase(only) + "."];
        }
        let mut sentences: Vec<String> = xs.iter().filter_map(|x| at(*x, &is_significant)).collect();
        sentences.extend(count_inconclusive(contrasts));
        sentences
    }

    /// Describes comparisons at one x; None without any.
    fn sentence(&self, x: f64, contrasts: &[&Contrast]) -> Option<String> {
        let phrases = |measure, name: &str| {
            let matching = contrasts.iter().filter(|contrast| contrast.measure == measure);
            let phrases: Vec<String> = matching.map(|contrast| phrase(contrast)).collect();
            let name = if self.has_utility { name } else { "" };
            (!phrases.is_empty()).then(|| format!("{name}{}", phrases.join("; ")))
        };
        let parts = [
            phrases(Measure::Accuracy, "in preference accuracy "),
            phrases(Measure::Auc, "in AUC "),
            phrases(Measure::Utility, "in true utility of generations "),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| format!("{}, {}.", self.at(x), parts.join("; ")))
    }

    fn at(&self, x: f64) -> String {
        let label = &self.sweep.experiment.x.label;
        match self.is_numeric() {
            true if label.contains("fraction") => format!("At {} % ({label})", 100.0 * x),
            true => format!("At {label} = {x}"),
            false => format!("With {label} = {}", self.x_name(x)),
        }
    }

    fn x_name(&self, x: f64) -> String {
        let position = self.sweep.xs.numbers.iter().position(|number| *number == x);
        position.and_then(|index| self.sweep.xs.values.get(index)).map(series_name).unwrap_or_default()
    }

    /// Names the comparisons that repeat others.
    fn repetitions(&self, repeated: &[&Contrast]) -> Option<String> {
        let repeated: Vec<&&Contrast> =
            repeated.iter().filter(|contrast| contrast.measure != Measure::Utility).collect();
        let name = |contrast: &&&Contrast| {
            let twin = contrast.identical_to.as_deref().unwrap_or_default();
            format!("{} equals {twin} at {}", contrast.series, self.x_name(contrast.x))
        };
        match repeated.len() {
            0 => None,
            1..=FEW => {
                let names: Vec<String> = repeated.iter().map(name).collect();
                Some(format!("Runs with identical results are not compared again: {}.", names.join("; ")))
            }
            count => {
                Some(format!("{count} series have the same results as others and are not compared again."))
            }
        }
    }
}

/// Counts the inconclusive comparisons, with the differences that they could have detected; None if
/// there are none.
fn count_inconclusive(contrasts: &[&Contrast]) -> Option<String> {
    let inconclusive: Vec<&&Contrast> =
        contrasts.iter().filter(|contrast| contrast.verdict == Verdict::Inconclusive).collect();
    let count = match (inconclusive.len(), contrasts.len()) {
        (0, _) => return None,
        (some, all) if some == all => format!("All {all} comparisons are inconclusive"),
        (1, all) => format!("1 of {all} comparisons is inconclusive"),
        (some, all) => format!("{some} of {all} comparisons are inconclusive"),
    };
    let detectable = inconclusive
        .iter()
        .filter(|contrast| contrast.measure != Measure::Utility)
        .filter_map(|contrast| contrast.detectable);
    let (least, most) =
        detectable.fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
    let is_auc = inconclusive.iter().any(|contrast| contrast.measure == Measure::Auc);
    let measure = if is_auc { "AUC" } else { "accuracy" };
    let points = |value: f64| format!("{:.1}", 100.0 * value);
    Some(if most == 0.0 {
        format!("{count}.")
    } else if most <= ALIKE * least {
        format!("{count}; they could detect differences in {measure} above about {} points.", points(most))
    } else {
        format!(
            "{count}; they could detect differences in {measure} above {} to {} points.",
            points(least),
            points(most)
        )
    })
}

/// Describes a difference in percentage points of preference accuracy, or in true utility.
fn phrase(contrast: &Contrast) -> String {
    let Estimate { value, low, high } = contrast.difference;
    let Contrast { series, baseline, .. } = contrast;
    let (scale, digits, unit) = match contrast.measure {
        Measure::Accuracy => (100.0, 1, " points"),
        Measure::Auc => (100.0, 1, " points of AUC"),
        Measure::Utility => (1.0, 2, ""),
    };
    let number = |text: String| text.replace('-', "−");
    let unsigned = |difference: f64| number(format!("{:.digits$}", scale * difference));
    let signed = |difference: f64| number(format!("{:+.digits$}", scale * difference));
    let steps = match contrast.steps {
        [ours, theirs] if ours != theirs => format!("; {ours} optimizer steps and {theirs}"),
        _ => String::new(),
    };
    let difference = format!(
        "difference {}{unit}, 95 % interval {} to {}{steps}",
        signed(value),
        signed(low),
        signed(high)
    );
    let [lost, lost_by_baseline] = contrast.lost_runs;
    match (contrast.no_verdict, contrast.verdict) {
        (Some(NoVerdict::Identical), _) => format!("{series} and {baseline} have the same results"),
        (Some(NoVerdict::OneSeed), _) => {
            format!("{series} versus {baseline} has no verdict ({difference}, for this seed)")
        }
        (Some(NoVerdict::TooWide), _) => {
            format!("{series} versus {baseline} has no verdict: too few seeds and pairs ({difference})")
        }
        (Some(NoVerdict::LostRuns), _) => {
            let (lost, name) = if value < 0.0 { (lost_by_baseline, baseline) } else { (lost, series) };
            format!(
                "{series} versus {baseline} has no verdict: {lost} of {name}'s runs failed or were stopped, and the \
                 others may be the luckier ones ({difference})"
            )
        }
        (None, Verdict::Better) => format!(
            "{series} is better than {baseline} by {}{unit} (95 % interval {} to {}{steps})",
            unsigned(value),
            unsigned(low),
            unsigned(high)
        ),
        (None, Verdict::Worse) => format!(
            "{series} is worse than {baseline} by {}{unit} (95 % interval {} to {}{steps})",
            unsigned(-value),
            unsigned(-high),
            unsigned(-low)
        ),
        (None, Verdict::Inconclusive) => {
            let detectable = contrast.detectable.map_or_else(String::new, |detectable| {
                format!("; could detect differences above {}{unit}", unsigned(detectable))
            });
            format!("{series} versus {baseline} is inconclusive ({difference}{detectable})")
        }
    }
}

#[cfg(test)]
mod tests;
