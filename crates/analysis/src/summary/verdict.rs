//! Verdict of a sweep in sentences.

use std::collections::BTreeSet;

use prospect_runs::{Contrast, Estimate, Finding, Measure, NoVerdict, Point, Verdict, series_name};
use serde_json::Value;

mod words;

use self::words::{Unit, capitalised, listed, round, uncapitalised};
use super::{finished_runs::CellKey, sweep_runs::SweepRuns};
use crate::diagnosis::moved_too_fast;

/// Most sentences on inconclusive comparisons; with more, they are counted.
const FEW: usize = 4;

/// Ratio of the largest to the smallest detectable difference from which both are given.
const ALIKE: f64 = 1.3;

/// Describes the primary comparison, then every significant difference, then the inconclusive
/// comparisons: each series, or their number if there are many. Every x is named.
pub(super) fn verdict(
    sweep: &SweepRuns<'_>,
    points: &[Point],
    contrasts: &[Contrast],
    findings: &[Finding],
) -> String {
    let (repeated, distinct): (Vec<&Contrast>, Vec<&Contrast>) =
        contrasts.iter().partition(|contrast| contrast.identical_to.is_some() && !contrast.is_primary);
    let has = |measure| distinct.iter().any(|contrast| contrast.measure == measure);
    let words = Words { sweep, findings, has_utility: has(Measure::Utility) };
    if contrasts.is_empty() {
        let most_moved_too_fast = |point: &Point| {
            let [some, all] = words.moved_too_fast(&[(&point.series, point.x)]);
            2 * some > all
        };
        return levels(points, most_moved_too_fast);
    }
    let mut sentences = Vec::new();
    let is_unlearnt = |contrast: &Contrast| contrast.no_verdict == Some(NoVerdict::NotLearnt);
    let (unlearnt, compared): (Vec<&Contrast>, Vec<&Contrast>) =
        distinct.iter().copied().partition(|contrast| is_unlearnt(contrast));
    let (primary, others): (Vec<&Contrast>, Vec<&Contrast>) =
        compared.iter().copied().partition(|contrast| contrast.is_primary);
    sentences.extend(words.unlearnt(&unlearnt));
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

/// Describes the series of a sweep without comparisons, such as a single run.
fn levels(points: &[Point], moved_too_fast: impl Fn(&Point) -> bool) -> String {
    let level = |point: &Point| {
        let (measure, Estimate { value, low, high }) = point.headline()?;
        let percent = |share: f64| format!("{:.1}", 100.0 * share);
        let result = match measure {
            Measure::Auc => format!("{} reaches an AUC of {} %", point.series, percent(value)),
            _ => format!(
                "{} ranks {} % of the held-out pairs as they were judged",
                point.series,
                percent(value)
            ),
        };
        let chance = if low > 0.5 {
            "better than chance"
        } else if high < 0.5 {
            "worse than chance"
        } else if point.steps == 0 {
            "which includes chance"
        } else if moved_too_fast(point) {
            "which includes chance: lower `train.learning_rate`, since training was unstable or ran away (see the diagnosis)"
        } else {
            "which includes chance: train for more steps, raise `train.learning_rate`, or use more data"
        };
        let after = match point.steps {
            0 => "Without training".to_owned(),
            steps => format!("After {steps} steps"),
        };
        Some(format!("{after}, {result} (95 % interval {} to {} %), {chance}.", percent(low), percent(high)))
    };
    let mut sentences: Vec<String> = points.iter().take(FEW).filter_map(level).collect();
    sentences.push("There is nothing to compare yet.".to_owned());
    sentences.join(" ")
}

/// Words for a sweep's axes and measures.
struct Words<'a> {
    sweep: &'a SweepRuns<'a>,
    findings: &'a [Finding],
    has_utility: bool,
}

impl Words<'_> {
    fn is_numeric(&self) -> bool {
        let key = &self.sweep.experiment.x.key;
        self.sweep.experiment.runs.iter().all(|run| run.settings.get(key).is_some_and(Value::is_number))
    }

    /// Describes all comparisons other than the primary one: significant ones by x, then the others
    /// by series.
    fn describe(&self, contrasts: &[&Contrast]) -> Vec<String> {
        if let [x] = xs_of(contrasts)[..]
            && contrasts.len() <= FEW
        {
            return self.sentence(x, contrasts).into_iter().collect();
        }
        let (open, decided): (Vec<&Contrast>, Vec<&Contrast>) =
            contrasts.iter().copied().partition(|contrast| contrast.verdict == Verdict::Inconclusive);
        let mut sentences: Vec<String> = xs_of(&decided)
            .into_iter()
            .filter_map(|x| {
                let here: Vec<&Contrast> =
                    decided.iter().copied().filter(|contrast| contrast.x == x).collect();
                self.sentence(x, &here)
            })
            .collect();
        let mut series: Vec<(&str, Measure, Vec<&Contrast>)> = Vec::new();
        for contrast in &open {
            let key = (contrast.series.as_str(), contrast.measure);
            match series.iter_mut().find(|(series, measure, _)| (*series, *measure) == key) {
                Some((.., own)) => own.push(contrast),
                None => series.push((key.0, key.1, vec![contrast])),
            }
        }
        let individually: Vec<String> =
            series.iter().flat_map(|(_, _, own)| self.inconclusive(own)).collect();
        if individually.len() > FEW {
            sentences.extend(self.count_inconclusive(contrasts, &open));
        } else {
            sentences.extend(individually);
        }
        sentences
    }

    /// Describes the inconclusive comparisons of one series in one measure.
    fn inconclusive(&self, contrasts: &[&Contrast]) -> Vec<String> {
        let (together, alone): (Vec<&Contrast>, Vec<&Contrast>) =
            contrasts.iter().copied().partition(|contrast| contrast.no_verdict.is_none());
        let (together, alone) =
            if together.len() > 1 { (together, alone) } else { (Vec::new(), contrasts.to_vec()) };
        let mut sentences: Vec<String> =
            alone.iter().filter_map(|contrast| self.sentence(contrast.x, &[contrast])).collect();
        if let Some(first) = together.first() {
            let unit = Unit::of(first.measure);
            let differences: Vec<String> =
                together.iter().map(|contrast| unit.signed(contrast.difference.value)).collect();
            let in_measure = if self.has_utility { in_measure(first.measure) } else { "" };
            let detectable = detectable(&together)
                .map_or_else(String::new, |range| format!("; could detect differences above {range}"));
            sentences.push(format!(
                "{}, {in_measure}{} versus {} is inconclusive (differences {}{}{detectable}).",
                self.at(&xs_of(&together)),
                first.series,
                first.baseline,
                listed(&differences),
                unit.name,
            ));
        }
        sentences
    }

    /// Counts the inconclusive comparisons, with the differences that they could have detected;
    /// None if there are none.
    fn count_inconclusive(&self, all: &[&Contrast], open: &[&Contrast]) -> Option<String> {
        let count = match (open.len(), all.len()) {
            (0, _) => return None,
            (some, all) if some == all => format!("All {all} comparisons are inconclusive"),
            (1, all) => format!("1 of {all} comparisons is inconclusive"),
            (some, all) => format!("{some} of {all} comparisons are inconclusive"),
        };
        let xs = xs_of(open);
        let places = if xs.len() > 1 || xs.len() < self.sweep.xs.numbers.len() {
            format!(" ({})", uncapitalised(&self.at(&xs)))
        } else {
            String::new()
        };
        let headline: Vec<&Contrast> =
            open.iter().copied().filter(|contrast| contrast.measure != Measure::Utility).collect();
        let measure =
            if headline.iter().any(|contrast| contrast.measure == Measure::Auc) { "AUC" } else { "accuracy" };
        let detectable = detectable(&headline).map_or_else(String::new, |range| {
            format!("; they could detect differences in {measure} above {range}")
        });
        Some(format!("{count}{places}{detectable}."))
    }

    /// Says which runs do not beat chance, and what to change; empty if all do.
    fn unlearnt(&self, contrasts: &[&Contrast]) -> Vec<String> {
        // Comparisons at values of x where the same series have not learnt share a sentence.
        let mut groups: Vec<(Vec<String>, Vec<&Contrast>)> = Vec::new();
        for x in xs_of(contrasts) {
            let here: Vec<&Contrast> = contrasts.iter().copied().filter(|contrast| contrast.x == x).collect();
            let series = self.trained_series(&here);
            match groups.iter_mut().find(|(known, _)| *known == series) {
                Some((_, group)) => group.extend(here),
                None => groups.push((series, here)),
            }
        }
        let sentences = groups.iter().filter(|(series, _)| !series.is_empty());
        let mut sentences: Vec<String> =
            sentences.map(|(series, group)| self.unlearnt_series(series, group)).collect();
        if !sentences.is_empty() {
            sentences.push(self.how_to_learn(contrasts));
        }
        sentences
    }

    /// Says what to change so that the runs of these comparisons learn.
    fn how_to_learn(&self, contrasts: &[&Contrast]) -> String {
        let sides = contrasts
            .iter()
            .flat_map(|contrast| [(&contrast.baseline, contrast.x), (&contrast.series, contrast.x)]);
        let sides: Vec<(&String, f64)> = sides.filter(|(name, _)| self.is_trained(name)).collect();
        match self.moved_too_fast(&sides) {
            [0, _] => "Train for more steps, raise `train.learning_rate`, or use more data.".to_owned(),
            [some, all] if some == all => {
                "These runs were unstable or ran away (see the diagnosis): lower `train.learning_rate`."
                    .to_owned()
            }
            [some, all] => format!(
                "{some} of these {all} runs were unstable or ran away (see the diagnosis): lower `train.learning_rate`. For the others, \
                 train for more steps, raise it, or use more data."
            ),
        }
    }

    /// Counts the finished runs of these cells: those with a sign of a learning rate that is too
    /// high, and all.
    fn moved_too_fast(&self, cells: &[(&String, f64)]) -> [usize; 2] {
        let in_cell = |(series, x): &(&String, f64)| {
            let index = self.sweep.xs.numbers.iter().position(|number| number == x);
            let key = index.map(|x| CellKey { series: (*series).clone(), x });
            key.and_then(|key| self.sweep.cells.get(&key)).into_iter().flatten()
        };
        let runs: BTreeSet<&str> =
            cells.iter().flat_map(in_cell).map(|run| run.planned.id.as_str()).collect();
        let is_fast = |run: &&&str| {
            self.findings.iter().any(|finding| finding.run == **run && moved_too_fast(finding.sign))
        };
        [runs.iter().filter(is_fast).count(), runs.len()]
    }

    /// Says that these series do not beat chance in any of these comparisons.
    fn unlearnt_series(&self, series: &[String], contrasts: &[&Contrast]) -> String {
        let sides = contrasts
            .iter()
            .flat_map(|contrast| [&contrast.series, &contrast.baseline].into_iter().zip(contrast.steps));
        let mut steps: Vec<u64> =
            sides.filter(|(name, _)| self.is_trained(name)).map(|(_, steps)| steps).collect();
        steps.sort_unstable();
        steps.dedup();
        let steps = match (steps.first(), steps.last()) {
            (Some(least), Some(most)) if least != most => format!("{least} to {most} optimizer steps"),
            (Some(1), _) => "1 optimizer step".to_owned(),
            (steps, _) => format!("{} optimizer steps", steps.copied().unwrap_or_default()),
        };
        let is_auc = contrasts.iter().any(|contrast| contrast.measure == Measure::Auc);
        let measure = if is_auc { "AUC" } else { "accuracy" };
        let place = match self.sweep.xs.numbers.len() {
            0 | 1 => String::new(),
            _ => format!(" {}", uncapitalised(&self.at(&xs_of(contrasts)))),
        };
        format!(
            "The runs of {} have not learnt yet{place}: no {measure} is significantly above 50 % (chance) after {steps}, \
             so there is no verdict.",
            listed(series)
        )
    }

    /// Names the series on both sides of comparisons, without those that are evaluated without
    /// training and thus have nothing to learn.
    fn trained_series(&self, contrasts: &[&Contrast]) -> Vec<String> {
        let mut series: Vec<String> = Vec::new();
        for name in contrasts.iter().flat_map(|contrast| [&contrast.baseline, &contrast.series]) {
            if !series.contains(name) && self.is_trained(name) {
                series.push(name.clone());
            }
        }
        series
    }

    fn is_trained(&self, name: &String) -> bool {
        !self.sweep.experiment.untrained.contains(name)
    }

    /// Describes comparisons at one x; None without any.
    fn sentence(&self, x: f64, contrasts: &[&Contrast]) -> Option<String> {
        let phrases = |measure| {
            let matching = contrasts.iter().filter(|contrast| contrast.measure == measure);
            let phrases: Vec<String> = matching.map(|contrast| phrase(contrast)).collect();
            let name = if self.has_utility { in_measure(measure) } else { "" };
            (!phrases.is_empty()).then(|| format!("{name}{}", phrases.join("; ")))
        };
        let parts = [Measure::Accuracy, Measure::Auc, Measure::Utility].map(phrases);
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        let text = parts.join("; ");
        match parts.is_empty() {
            true => None,
            false if !self.is_numeric() && self.sweep.xs.numbers.len() == 1 => {
                // Names of series stay as they are.
                Some(if self.has_utility { capitalised(&text) } else { text } + ".")
            }
            false => Some(format!("{}, {text}.", self.at(&[x]))),
        }
    }

    /// Names values of x: `At kept = 0.1 and 1`.
    fn at(&self, xs: &[f64]) -> String {
        let label = &self.sweep.experiment.x.label;
        let names = |name: &dyn Fn(f64) -> String| listed(&xs.iter().map(|x| name(*x)).collect::<Vec<_>>());
        match self.is_numeric() {
            true if label.contains("fraction") => {
                format!("At {} ({label})", names(&|x| format!("{} %", round(100.0 * x))))
            }
            true => format!("At {label} = {}", names(&|x| x.to_string())),
            false => format!("With {label} = {}", names(&|x| self.x_name(x))),
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

/// Words that introduce the comparisons in a measure.
fn in_measure(measure: Measure) -> &'static str {
    match measure {
        Measure::Accuracy => "in preference accuracy ",
        Measure::Auc => "in AUC ",
        Measure::Utility => "in true utility of generations ",
    }
}

/// Values of x of comparisons, in ascending order.
fn xs_of(contrasts: &[&Contrast]) -> Vec<f64> {
    let mut xs: Vec<f64> = contrasts.iter().map(|contrast| contrast.x).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    xs
}

/// Smallest and largest difference that comparisons of one unit could detect, as text; None if none
/// could be computed.
fn detectable(contrasts: &[&Contrast]) -> Option<String> {
    let unit = Unit::of(contrasts.first()?.measure);
    let values = contrasts.iter().filter_map(|contrast| contrast.detectable);
    let (least, most) =
        values.fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
    let name = unit.name.replace(" of AUC", "");
    if most == 0.0 {
        None
    } else if contrasts.len() == 1 {
        Some(format!("{}{name}", unit.unsigned(most)))
    } else if most <= ALIKE * least {
        Some(format!("about {}{name}", unit.unsigned(most)))
    } else {
        Some(format!("{} to {}{name}", unit.unsigned(least), unit.unsigned(most)))
    }
}

/// Describes a difference in percentage points of preference accuracy, or in true utility.
fn phrase(contrast: &Contrast) -> String {
    let Estimate { value, low, high } = contrast.difference;
    let Contrast { series, baseline, .. } = contrast;
    let words = Unit::of(contrast.measure);
    let unit = words.name;
    let (signed, unsigned) = (|value| words.signed(value), |value| words.unsigned(value));
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
        (Some(NoVerdict::NotLearnt), _) => {
            format!("{series} versus {baseline} has no verdict: neither beats chance ({difference})")
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
