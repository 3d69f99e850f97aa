//! Verdict of a sweep in sentences.

use prospect_runs::{Contrast, Estimate, Experiment, Measure, Verdict, series_name};
use serde_json::Value;

use super::finished_runs::XValues;

/// Most comparisons that are listed individually although they are inconclusive.
const FEW: usize = 4;

/// Describes every significant difference. With few series it also describes those at the smallest
/// and the largest value of x; otherwise it counts the inconclusive comparisons.
pub(super) fn verdict(experiment: &Experiment, x_values: &XValues, contrasts: &[Contrast]) -> String {
    let mut xs: Vec<f64> = contrasts.iter().map(|contrast| contrast.x).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let (Some(&first), Some(&last)) = (xs.first(), xs.last()) else {
        return "There is nothing to compare yet.".to_owned();
    };
    let numeric =
        experiment.runs.iter().all(|run| run.settings.get(&experiment.x.key).is_some_and(Value::is_number));
    let label = &experiment.x.label;
    let at_x = |x: f64| match numeric {
        true if label.contains("fraction") => format!("At {} % ({label})", 100.0 * x),
        true => format!("At {label} = {x}"),
        false => {
            format!("With {label} = {}", x_values.values.get(x as usize).map(series_name).unwrap_or_default())
        }
    };
    let has_utility = contrasts.iter().any(|contrast| contrast.measure == Measure::Utility);
    let sentence = |x: f64, wanted: &dyn Fn(&Contrast) -> bool| {
        let phrases = |measure, name: &str| {
            let matching = contrasts
                .iter()
                .filter(|contrast| contrast.x == x && contrast.measure == measure && wanted(contrast));
            let phrases: Vec<String> = matching.map(phrase).collect();
            let name = if has_utility { name } else { "" };
            (!phrases.is_empty()).then(|| format!("{name}{}", phrases.join("; ")))
        };
        let parts = [
            phrases(Measure::Accuracy, "in preference accuracy "),
            phrases(Measure::Auc, "in AUC "),
            phrases(Measure::Utility, "in true utility of generations "),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| format!("{}, {}.", at_x(x), parts.join("; ")))
    };
    let is_significant = |contrast: &Contrast| contrast.verdict != Verdict::CannotTell;
    let at_end = |contrast: &Contrast| contrast.x == first || contrast.x == last;
    if numeric && contrasts.iter().filter(|contrast| at_end(contrast)).count() <= FEW {
        let is_listed = |contrast: &Contrast| is_significant(contrast) || at_end(contrast);
        return xs.iter().filter_map(|x| sentence(*x, &is_listed)).collect::<Vec<_>>().join(" ");
    }
    let mut sentences: Vec<String> = xs.iter().filter_map(|x| sentence(*x, &is_significant)).collect();
    let (significant, all) =
        (contrasts.iter().filter(|contrast| is_significant(contrast)).count(), contrasts.len());
    sentences.push(match (significant, all) {
        (0, 1) => phrase(&contrasts[0]) + ".",
        (0, _) => format!("All {all} comparisons are inconclusive."),
        _ if all - significant == 1 => format!("1 of {all} comparisons is inconclusive."),
        _ if significant < all => format!("{} of {all} comparisons are inconclusive.", all - significant),
        _ => String::new(),
    });
    sentences.join(" ").trim_end().to_owned()
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
    let unsigned = |difference: f64| format!("{:.digits$}", scale * difference);
    let signed = |difference: f64| format!("{:+.digits$}", scale * difference);
    match contrast.verdict {
        Verdict::Ahead => format!(
            "{series} is ahead of {baseline} by {}{unit} (95 % interval {} to {})",
            unsigned(value),
            unsigned(low),
            unsigned(high)
        ),
        Verdict::Behind => format!(
            "{series} is behind {baseline} by {}{unit} (95 % interval {} to {})",
            unsigned(-value),
            unsigned(-high),
            unsigned(-low)
        ),
        Verdict::CannotTell => format!(
            "{series} versus {baseline} is inconclusive (difference {}{unit}, 95 % interval {} to {})",
            signed(value),
            signed(low),
            signed(high)
        ),
    }
}

#[cfg(test)]
mod tests {
    use prospect_runs::{Axis, PlannedRun};

    use super::{super::contrasts::adjust, *};

    fn contrast(value: f64, low: f64, high: f64, p: f64) -> Contrast {
        Contrast {
            series: "kto".to_owned(),
            baseline: "dpo".to_owned(),
            x: 0.05,
            measure: Measure::Accuracy,
            difference: Estimate { value, low, high },
            p,
            p_holm: 1.0,
            verdict: Verdict::CannotTell,
            seeds_needed: None,
            seeds: 2,
            pairs: 50,
        }
    }

    #[test]
    fn a_difference_is_significant_only_after_adjustment_for_all_comparisons() {
        let mut contrasts = [
            contrast(0.031, 0.01, 0.052, 0.003),
            contrast(-0.031, -0.052, -0.01, 0.004),
            contrast(0.031, 0.001, 0.061, 0.045),
            contrast(0.031, -0.01, 0.072, 0.2),
        ];
        adjust(&mut contrasts);
        assert_eq!(
            contrasts.each_ref().map(phrase),
            [
                "kto is ahead of dpo by 3.1 points (95 % interval 1.0 to 5.2)",
                "kto is behind dpo by 3.1 points (95 % interval 1.0 to 5.2)",
                "kto versus dpo is inconclusive (difference +3.1 points, 95 % interval +0.1 to +6.1)",
                "kto versus dpo is inconclusive (difference +3.1 points, 95 % interval -1.0 to +7.2)",
            ]
        );
        assert_eq!(contrasts[2].p_holm, 0.09);
        let utility = Contrast { measure: Measure::Utility, ..contrasts[0].clone() };
        assert_eq!(phrase(&utility), "kto is ahead of dpo by 0.03 (95 % interval 0.01 to 0.05)");
    }

    /// An experiment with one run at each of three values of x.
    fn experiment_over(x: &str, values: [Value; 3]) -> Experiment {
        let axis = |key: &str| Axis { key: key.to_owned(), label: key.to_owned() };
        let run = |value: Value| PlannedRun {
            id: series_name(&value),
            settings: [(x.to_owned(), value)].into(),
            seed: 0,
            data: 0,
        };
        Experiment {
            name: x.to_owned(),
            question: String::new(),
            commands: Vec::new(),
            x: axis(x),
            series: axis("method"),
            baseline: "dpo".to_owned(),
            reference: None,
            stages: Vec::new(),
            data: Vec::new(),
            runs: values.map(run).to_vec(),
            search: None,
            base: Value::Null,
        }
    }

    #[test]
    fn unordered_values_are_named_where_a_difference_is_significant() {
        let experiment = experiment_over("world", ["plain", "few up", "thumbs"].map(Value::from));
        let x_values = XValues::new(&experiment);
        let at = |x: f64, measure, p| Contrast { x, measure, ..contrast(-0.031, -0.052, -0.01, p) };
        let mut contrasts = [
            at(0.0, Measure::Accuracy, 0.5),
            at(1.0, Measure::Accuracy, 0.001),
            at(1.0, Measure::Utility, 0.002),
            at(2.0, Measure::Utility, 0.6),
        ];
        adjust(&mut contrasts);
        assert_eq!(
            verdict(&experiment, &x_values, &contrasts),
            "With world = few up, in preference accuracy kto is behind dpo by 3.1 points (95 % interval 1.0 to 5.2); in true \
             utility of generations kto is behind dpo by 0.03 (95 % interval 0.01 to 0.05). 2 of 4 comparisons are \
             inconclusive."
        );
        for contrast in &mut contrasts {
            contrast.verdict = Verdict::CannotTell;
        }
        assert_eq!(verdict(&experiment, &x_values, &contrasts), "All 4 comparisons are inconclusive.");
        assert_eq!(verdict(&experiment, &x_values, &[]), "There is nothing to compare yet.");
    }

    #[test]
    fn ordered_values_list_the_ends_and_significant_differences_between() {
        let experiment = experiment_over("kept", [0.1, 0.5, 1.0].map(Value::from));
        let x_values = XValues::new(&experiment);
        let at = |x: f64, p| Contrast { x, ..contrast(-0.031, -0.052, -0.01, p) };
        let mut contrasts = vec![at(0.1, 0.9), at(0.5, 0.001), at(1.0, 0.9)];
        adjust(&mut contrasts);
        assert_eq!(
            verdict(&experiment, &x_values, &contrasts),
            "At kept = 0.1, kto versus dpo is inconclusive (difference -3.1 points, 95 % interval -5.2 to -1.0). At kept = 0.5, kto \
             is behind dpo by 3.1 points (95 % interval 1.0 to 5.2). At kept = 1, kto versus dpo is inconclusive (difference -3.1 \
             points, 95 % interval -5.2 to -1.0)."
        );
        // With many comparisons only significant ones are listed.
        for series in ["ipo", "cdpo"] {
            let more = [0.1, 1.0].map(|x| Contrast { series: series.to_owned(), ..at(x, 0.9) });
            contrasts.extend(more);
        }
        adjust(&mut contrasts);
        assert_eq!(
            verdict(&experiment, &x_values, &contrasts),
            "At kept = 0.5, kto is behind dpo by 3.1 points (95 % interval 1.0 to 5.2). 6 of 7 comparisons are inconclusive."
        );
    }
}
