//! What a sweep says, in sentences.

use prospect_runs::{Contrast, Estimate, Experiment, Measure, Verdict, series_name};
use serde_json::Value;

use super::cells::Xs;

/// Comparisons that are told one by one where they tell no difference.
const FEW: usize = 4;

/// What the sweep says: wherever there is a difference, and of few series, at the smallest value of x and at the largest in any
/// case.
pub(super) fn verdict(experiment: &Experiment, all: &Xs, contrasts: &[Contrast]) -> String {
    let mut xs: Vec<f64> = contrasts.iter().map(|contrast| contrast.x).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let (Some(&first), Some(&last)) = (xs.first(), xs.last()) else {
        return "There is nothing to compare yet.".to_owned();
    };
    let numeric =
        experiment.runs.iter().all(|run| run.settings.get(&experiment.x.key).is_some_and(Value::is_number));
    let label = &experiment.x.label;
    let place = |x: f64| match numeric {
        true if label.contains("fraction") => format!("At {} % ({label})", 100.0 * x),
        true => format!("At {label} = {x}"),
        false => {
            format!("With {label} = {}", all.values.get(x as usize).map(series_name).unwrap_or_default())
        }
    };
    let judged = contrasts.iter().any(|contrast| contrast.measure == Measure::Utility);
    let sentence = |x: f64, wanted: &dyn Fn(&Contrast) -> bool| {
        let of = |measure, name: &str| {
            let of_x = contrasts.iter().filter(|contrast| contrast.x == x && contrast.measure == measure);
            let phrases: Vec<String> = of_x.filter(|contrast| wanted(contrast)).map(phrase).collect();
            let name = if judged { name } else { "" };
            (!phrases.is_empty()).then(|| format!("{name}{}", phrases.join("; ")))
        };
        let parts = [
            of(Measure::Accuracy, "in preference accuracy "),
            of(Measure::Utility, "in true utility of what is said "),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| format!("{}, {}.", place(x), parts.join("; ")))
    };
    let clear = |contrast: &Contrast| contrast.verdict != Verdict::CannotTell;
    let at_end = |contrast: &Contrast| contrast.x == first || contrast.x == last;
    if numeric && contrasts.iter().filter(|contrast| at_end(contrast)).count() <= FEW {
        let told = |contrast: &Contrast| clear(contrast) || at_end(contrast);
        return xs.iter().filter_map(|x| sentence(*x, &told)).collect::<Vec<_>>().join(" ");
    }
    let mut sentences: Vec<String> = xs.iter().filter_map(|x| sentence(*x, &clear)).collect();
    let (told, of) = (contrasts.iter().filter(|contrast| clear(contrast)).count(), contrasts.len());
    sentences.push(match (told, of) {
        (0, 1) => phrase(&contrasts[0]) + ".",
        (0, _) => format!("None of the {of} comparisons tells a difference."),
        _ if told < of => format!("The other {} of {of} comparisons cannot tell.", of - told),
        _ => String::new(),
    });
    sentences.join(" ").trim_end().to_owned()
}

/// A difference in words: in points of held-out preference accuracy, or in true utility.
fn phrase(contrast: &Contrast) -> String {
    let Estimate { value, low, high } = contrast.difference;
    let Contrast { series, baseline, .. } = contrast;
    let (scale, digits, unit) = match contrast.measure {
        Measure::Accuracy => (100.0, 1, " points"),
        Measure::Utility => (1.0, 2, ""),
    };
    let plain = |difference: f64| format!("{:.digits$}", scale * difference);
    let signed = |difference: f64| format!("{:+.digits$}", scale * difference);
    match contrast.verdict {
        Verdict::Ahead => format!(
            "{series} is ahead of {baseline} by {}{unit} (95 % interval {} to {})",
            plain(value),
            plain(low),
            plain(high)
        ),
        Verdict::Behind => format!(
            "{series} is behind {baseline} by {}{unit} (95 % interval {} to {})",
            plain(-value),
            plain(-high),
            plain(-low)
        ),
        Verdict::CannotTell => format!(
            "{series} and {baseline} cannot be told apart (difference {}{unit}, 95 % interval {} to {})",
            signed(value),
            signed(low),
            signed(high)
        ),
    }
}

#[cfg(test)]
mod tests {
    use prospect_runs::{Axis, PlannedRun};

    use super::{
        super::{cells::x_values, contrasts::judge},
        *,
    };

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
    fn a_difference_is_claimed_only_where_all_comparisons_together_allow_it() {
        let mut contrasts = [
            contrast(0.031, 0.01, 0.052, 0.003),
            contrast(-0.031, -0.052, -0.01, 0.004),
            contrast(0.031, 0.001, 0.061, 0.045),
            contrast(0.031, -0.01, 0.072, 0.2),
        ];
        judge(&mut contrasts);
        assert_eq!(
            contrasts.each_ref().map(phrase),
            [
                "kto is ahead of dpo by 3.1 points (95 % interval 1.0 to 5.2)",
                "kto is behind dpo by 3.1 points (95 % interval 1.0 to 5.2)",
                "kto and dpo cannot be told apart (difference +3.1 points, 95 % interval +0.1 to +6.1)",
                "kto and dpo cannot be told apart (difference +3.1 points, 95 % interval -1.0 to +7.2)",
            ]
        );
        assert_eq!(contrasts[2].p_holm, 0.09);
        let utility = Contrast { measure: Measure::Utility, ..contrasts[0].clone() };
        assert_eq!(phrase(&utility), "kto is ahead of dpo by 0.03 (95 % interval 0.01 to 0.05)");
    }

    /// An experiment with a run at each of three values of x.
    fn over(x: &str, values: [Value; 3]) -> Experiment {
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
    fn values_without_an_order_are_named_where_there_is_a_difference() {
        let experiment = over("world", ["plain", "few up", "thumbs"].map(Value::from));
        let xs = x_values(&experiment);
        let at = |x: f64, measure, p| Contrast { x, measure, ..contrast(-0.031, -0.052, -0.01, p) };
        let mut contrasts = [
            at(0.0, Measure::Accuracy, 0.5),
            at(1.0, Measure::Accuracy, 0.001),
            at(1.0, Measure::Utility, 0.002),
            at(2.0, Measure::Utility, 0.6),
        ];
        judge(&mut contrasts);
        assert_eq!(
            verdict(&experiment, &xs, &contrasts),
            "With world = few up, in preference accuracy kto is behind dpo by 3.1 points (95 % interval 1.0 to 5.2); in true \
             utility of what is said kto is behind dpo by 0.03 (95 % interval 0.01 to 0.05). The other 2 of 4 comparisons \
             cannot tell."
        );
        for contrast in &mut contrasts {
            contrast.verdict = Verdict::CannotTell;
        }
        assert_eq!(verdict(&experiment, &xs, &contrasts), "None of the 4 comparisons tells a difference.");
        assert_eq!(verdict(&experiment, &xs, &[]), "There is nothing to compare yet.");
    }

    #[test]
    fn of_values_in_order_the_ends_are_told_and_differences_between_them() {
        let experiment = over("kept", [0.1, 0.5, 1.0].map(Value::from));
        let xs = x_values(&experiment);
        let at = |x: f64, p| Contrast { x, ..contrast(-0.031, -0.052, -0.01, p) };
        let mut contrasts = vec![at(0.1, 0.9), at(0.5, 0.001), at(1.0, 0.9)];
        judge(&mut contrasts);
        assert_eq!(
            verdict(&experiment, &xs, &contrasts),
            "At kept = 0.1, kto and dpo cannot be told apart (difference -3.1 points, 95 % interval -5.2 to -1.0). At kept = 0.5, kto \
             is behind dpo by 3.1 points (95 % interval 1.0 to 5.2). At kept = 1, kto and dpo cannot be told apart (difference -3.1 \
             points, 95 % interval -5.2 to -1.0)."
        );
        // Of many, only differences.
        for series in ["ipo", "cdpo"] {
            let more = [0.1, 1.0].map(|x| Contrast { series: series.to_owned(), ..at(x, 0.9) });
            contrasts.extend(more);
        }
        judge(&mut contrasts);
        assert_eq!(
            verdict(&experiment, &xs, &contrasts),
            "At kept = 0.5, kto is behind dpo by 3.1 points (95 % interval 1.0 to 5.2). The other 6 of 7 comparisons cannot tell."
        );
    }
}
