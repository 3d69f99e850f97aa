use std::collections::BTreeMap;

use prospect_runs::{Experiment, PlannedRun, Sign};

use super::{
    super::{
        contrasts::{SIGNIFICANT, adjust, verdict_of},
        finished_runs::{FinishedRun, XValues},
        tests::experiment,
    },
    *,
};

fn contrast(value: f64, low: f64, high: f64, p: f64) -> Contrast {
    Contrast {
        series: "kto".to_owned(),
        baseline: "dpo".to_owned(),
        x: 0.05,
        measure: Measure::Accuracy,
        difference: Estimate { value, low, high },
        adjusted: None,
        p,
        p_holm: 1.0,
        verdict: Verdict::Inconclusive,
        no_verdict: None,
        detectable: Some(0.04),
        is_primary: false,
        identical_to: None,
        smoothed: None,
        steps: [7, 7],
        lost_runs: [0, 0],
        seeds: 2,
        pairs: 50,
    }
}

fn concluded(contrasts: &mut [Contrast]) {
    let p: Vec<f64> = contrasts.iter().map(|contrast| contrast.p).collect();
    for (contrast, p_holm) in contrasts.iter_mut().zip(adjust(&p, 0)) {
        contrast.p_holm = p_holm;
        contrast.verdict = verdict_of(contrast.difference.value, p_holm, SIGNIFICANT);
    }
}

/// An experiment with one run at each of three values of x.
fn experiment_over(x: &str, values: [Value; 3]) -> Experiment {
    let mut experiment = experiment("dpo");
    experiment.x.key = x.to_owned();
    experiment.x.label = x.to_owned();
    let run = |value: Value| PlannedRun {
        id: series_name(&value),
        settings: [(x.to_owned(), value)].into(),
        seed: 0,
        data: 0,
    };
    experiment.runs = values.map(run).to_vec();
    experiment
}

fn verdict_on(experiment: &Experiment, contrasts: &[Contrast]) -> String {
    let xs = XValues::new(experiment);
    verdict(&SweepRuns::new(experiment, xs, BTreeMap::new(), BTreeMap::new()), &[], contrasts, &[])
}

#[test]
fn a_difference_is_significant_only_after_adjustment_for_all_comparisons() {
    let mut contrasts = [
        contrast(0.031, 0.01, 0.052, 0.003),
        contrast(-0.031, -0.052, -0.01, 0.004),
        contrast(0.031, 0.001, 0.061, 0.045),
        Contrast { steps: [132, 24], ..contrast(0.031, -0.01, 0.072, 0.2) },
    ];
    concluded(&mut contrasts);
    assert_eq!(
        contrasts.each_ref().map(phrase),
        [
            "kto is better than dpo by 3.1 points (95 % interval 1.0 to 5.2)",
            "kto is worse than dpo by 3.1 points (95 % interval 1.0 to 5.2)",
            "kto versus dpo is inconclusive (difference +3.1 points, 95 % interval +0.1 to +6.1; could detect \
             differences above 4.0 points)",
            "kto versus dpo is inconclusive (difference +3.1 points, 95 % interval −1.0 to +7.2; 132 optimizer steps \
             and 24; could detect differences above 4.0 points)",
        ]
    );
    assert_eq!(contrasts[2].p_holm, 0.09);
    let utility = Contrast { measure: Measure::Utility, ..contrasts[0].clone() };
    assert_eq!(phrase(&utility), "kto is better than dpo by 0.03 (95 % interval 0.01 to 0.05)");
}

#[test]
fn a_missing_verdict_has_a_reason() {
    let reason = |no_verdict, lost_runs| {
        phrase(&Contrast { no_verdict: Some(no_verdict), lost_runs, ..contrast(-0.031, -0.052, -0.01, 1e-9) })
    };
    let difference = "difference −3.1 points, 95 % interval −5.2 to −1.0";
    assert_eq!(
        reason(NoVerdict::OneSeed, [0, 0]),
        format!("kto versus dpo has no verdict ({difference}, for this seed)")
    );
    assert_eq!(
        reason(NoVerdict::TooWide, [0, 0]),
        format!("kto versus dpo has no verdict: too few seeds and pairs ({difference})")
    );
    assert_eq!(
        reason(NoVerdict::LostRuns, [0, 2]),
        format!(
            "kto versus dpo has no verdict: 2 of dpo's runs failed or were stopped, and the others may be the luckier \
             ones ({difference})"
        )
    );
    assert_eq!(reason(NoVerdict::Identical, [0, 0]), "kto and dpo have the same results");
}

#[test]
fn unordered_values_are_named_where_a_difference_is_significant() {
    let experiment = experiment_over("world", ["plain", "few up", "thumbs"].map(Value::from));
    let at = |x: f64, measure, p| Contrast { x, measure, ..contrast(-0.031, -0.052, -0.01, p) };
    let mut contrasts = [
        at(0.0, Measure::Accuracy, 0.5),
        at(1.0, Measure::Accuracy, 0.001),
        at(1.0, Measure::Utility, 0.002),
        at(2.0, Measure::Utility, 0.6),
    ];
    concluded(&mut contrasts);
    assert_eq!(
        verdict_on(&experiment, &contrasts),
        "With world = few up, in preference accuracy kto is worse than dpo by 3.1 points (95 % interval 1.0 to 5.2); in true \
         utility of generations kto is worse than dpo by 0.03 (95 % interval 0.01 to 0.05). With world = plain, in \
         preference accuracy kto versus dpo is inconclusive (difference −3.1 points, 95 % interval −5.2 to −1.0; could \
         detect differences above 4.0 points). With world = thumbs, in true utility of generations kto versus dpo is \
         inconclusive (difference −0.03, 95 % interval −0.05 to −0.01; could detect differences above 0.04)."
    );
    for contrast in &mut contrasts {
        contrast.verdict = Verdict::Inconclusive;
    }
    contrasts[1].detectable = Some(0.08);
    assert_eq!(
        verdict_on(&experiment, &contrasts),
        "With world = plain and few up, in preference accuracy kto versus dpo is inconclusive (differences −3.1 and −3.1 \
         points; could detect differences above 4.0 to 8.0 points). With world = few up and thumbs, in true utility of \
         generations kto versus dpo is inconclusive (differences −0.03 and −0.03; could detect differences above about \
         0.04)."
    );
    assert_eq!(verdict_on(&experiment, &[]), "There is nothing to compare yet.");
}

#[test]
fn every_value_is_listed_and_many_series_are_counted() {
    let experiment = experiment_over("kept", [0.1, 0.5, 1.0].map(Value::from));
    let at = |x: f64, p| Contrast { x, detectable: None, ..contrast(-0.031, -0.052, -0.01, p) };
    let mut contrasts = vec![at(0.1, 0.9), at(0.5, 0.001), at(1.0, 0.9)];
    concluded(&mut contrasts);
    assert_eq!(
        verdict_on(&experiment, &contrasts),
        "At kept = 0.5, kto is worse than dpo by 3.1 points (95 % interval 1.0 to 5.2). At kept = 0.1 and 1, kto versus dpo \
         is inconclusive (differences −3.1 and −3.1 points)."
    );
    for series in ["ipo", "cdpo", "slic", "simpo"] {
        let more = [0.1, 1.0].map(|x| Contrast { series: series.to_owned(), ..at(x, 0.9) });
        contrasts.extend(more);
    }
    concluded(&mut contrasts);
    assert_eq!(
        verdict_on(&experiment, &contrasts),
        "At kept = 0.5, kto is worse than dpo by 3.1 points (95 % interval 1.0 to 5.2). 10 of 11 comparisons are \
         inconclusive (at kept = 0.1 and 1)."
    );
    for contrast in &mut contrasts {
        contrast.verdict = Verdict::Inconclusive;
        contrast.detectable = Some(0.05);
    }
    assert_eq!(
        verdict_on(&experiment, &contrasts),
        "All 11 comparisons are inconclusive (at kept = 0.1, 0.5 and 1); they could detect differences in accuracy above \
         about 5.0 points."
    );
}

#[test]
fn runs_at_chance_have_not_learnt_and_get_no_verdict() {
    let experiment = experiment_over("fraction kept", [0.1, 0.5, 1.0].map(Value::from));
    let at = |x: f64, no_verdict| Contrast { x, no_verdict, ..contrast(0.031, 0.01, 0.052, 0.9) };
    let mut contrasts = [0.1, 0.5, 1.0].map(|x| at(x, (x < 1.0).then_some(NoVerdict::NotLearnt)));
    contrasts[0].steps = [132, 24];
    assert_eq!(
        verdict_on(&experiment, &contrasts),
        "The runs of dpo and kto have not learnt yet at 10 % and 50 % (fraction kept): no accuracy is significantly above \
         50 % (chance) after 7 to 132 optimizer steps, so there is no verdict. Train for more steps, raise \
         `train.learning_rate`, or use more data. At 100 % (fraction kept), kto versus dpo is inconclusive (difference \
         +3.1 points, 95 % interval +1.0 to +5.2; could detect differences above 4.0 points)."
    );
}

#[test]
fn runs_that_moved_too_fast_are_not_told_to_train_for_longer() {
    let experiment = experiment_over("kept", [0.1, 0.5, 1.0].map(Value::from));
    let planned = |x: f64, id: &str| {
        let settings = [("kept".to_owned(), Value::from(x))].into();
        PlannedRun { id: id.to_owned(), settings, seed: 0, data: 0 }
    };
    let runs = [(0, planned(0.1, "a")), (0, planned(0.1, "b")), (2, planned(1.0, "c"))];
    let contrast =
        Contrast { x: 0.1, no_verdict: Some(NoVerdict::NotLearnt), ..contrast(0.0, -0.1, 0.1, 0.9) };
    let advice = |fast: &[(&str, Sign)]| {
        let mut cells = BTreeMap::new();
        for (x, run) in &runs {
            let key = CellKey { series: "kto".to_owned(), x: *x };
            cells.entry(key).or_insert_with(Vec::new).push(FinishedRun::with_judgements(run, Vec::new()));
        }
        let finding = |(run, sign): &(&str, Sign)| Finding {
            run: (*run).to_owned(),
            sign: *sign,
            evidence: String::new(),
            steps: [1, 2],
            advice: String::new(),
        };
        let findings: Vec<Finding> = fast.iter().map(finding).collect();
        let sweep = SweepRuns::new(&experiment, XValues::new(&experiment), cells, BTreeMap::new());
        verdict(&sweep, &[], std::slice::from_ref(&contrast), &findings)
    };
    let learn_faster = "no verdict. Train for more steps, raise `train.learning_rate`, or use more data.";
    assert!(advice(&[]).contains(learn_faster));
    // Lost diversity says nothing about the rate, and run c is at another x.
    assert!(advice(&[("a", Sign::ModeCollapse), ("c", Sign::RanAway)]).contains(learn_faster));
    let all = advice(&[("a", Sign::RanAway), ("b", Sign::Unstable), ("b", Sign::RanAway)]);
    let slower =
        "no verdict. These runs were unstable or ran away (see the diagnosis): lower `train.learning_rate`.";
    assert!(all.contains(slower), "{all}");
    let one = advice(&[("a", Sign::RanAway)]);
    let some = "no verdict. 1 of these 2 runs were unstable or ran away (see the diagnosis): lower `train.learning_rate`. For the \
                others, train for more steps, raise it, or use more data.";
    assert!(one.contains(some), "{one}");
}

#[test]
fn series_have_not_learnt_only_where_they_are_at_chance() {
    let experiment = experiment_over("fraction kept", [0.1, 0.5, 1.0].map(Value::from));
    let at = |series: &str, x: f64, no_verdict| {
        let series = series.to_owned();
        Contrast { series, x, no_verdict, detectable: None, ..contrast(0.031, 0.01, 0.052, 0.9) }
    };
    let contrasts = [
        at("ipo", 0.1, Some(NoVerdict::NotLearnt)),
        at("kto", 0.1, Some(NoVerdict::NotLearnt)),
        at("kto", 1.0, Some(NoVerdict::NotLearnt)),
    ];
    let better = Contrast { verdict: Verdict::Better, ..at("ipo", 1.0, None) };
    assert_eq!(
        verdict_on(&experiment, &[&contrasts[..], &[better]].concat()),
        "The runs of dpo, ipo and kto have not learnt yet at 10 % (fraction kept): no accuracy is significantly above 50 % \
         (chance) after 7 optimizer steps, so there is no verdict. The runs of dpo and kto have not learnt yet at 100 % \
         (fraction kept): no accuracy is significantly above 50 % (chance) after 7 optimizer steps, so there is no verdict. \
         Train for more steps, raise `train.learning_rate`, or use more data. At 100 % (fraction kept), ipo is better than dpo \
         by 3.1 points (95 % interval 1.0 to 5.2)."
    );
}

#[test]
fn the_primary_comparison_comes_first_and_repetitions_last() {
    let experiment = experiment_over("kept", [0.1, 0.5, 1.0].map(Value::from));
    let mut contrasts = vec![contrast(0.031, 0.01, 0.052, 0.03); 3];
    for (contrast, x) in contrasts.iter_mut().zip([0.1, 0.5, 1.0]) {
        contrast.x = x;
        contrast.detectable = None;
    }
    contrasts[1].is_primary = true;
    contrasts[1].verdict = Verdict::Better;
    contrasts[2].identical_to = Some("dpo".to_owned());
    contrasts[2].no_verdict = Some(NoVerdict::Identical);
    assert_eq!(
        verdict_on(&experiment, &contrasts),
        "Primary comparison: At kept = 0.5, kto is better than dpo by 3.1 points (95 % interval 1.0 to 5.2). At kept = 0.1, kto \
         versus dpo is inconclusive (difference +3.1 points, 95 % interval +1.0 to +5.2). Runs with identical results are not \
         compared again: kto equals dpo at 1.0."
    );
}

#[test]
fn a_primary_comparison_of_equal_runs_is_named() {
    let experiment = experiment_over("kept", [0.1, 0.5, 1.0].map(Value::from));
    let mut contrasts = vec![contrast(0.0, 0.0, 0.0, 1.0); 2];
    contrasts[0].x = 0.1;
    contrasts[0].is_primary = true;
    contrasts[1] = Contrast { series: "rdpo".to_owned(), is_primary: false, ..contrasts[0].clone() };
    for contrast in &mut contrasts {
        contrast.identical_to = Some("dpo".to_owned());
        contrast.no_verdict = Some(NoVerdict::Identical);
    }
    assert_eq!(
        verdict_on(&experiment, &contrasts),
        "Primary comparison: At kept = 0.1, kto and dpo have the same results. Runs with identical results are not compared \
         again: rdpo equals dpo at 0.1."
    );
}

#[test]
fn a_sweep_with_one_seed_has_no_verdict() {
    let experiment = experiment_over("kept", [0.1, 0.5, 1.0].map(Value::from));
    let one = Contrast {
        seeds: 1,
        detectable: None,
        no_verdict: Some(NoVerdict::OneSeed),
        x: 0.1,
        ..contrast(0.5, 0.4, 0.6, 1.0)
    };
    assert_eq!(
        verdict_on(&experiment, &[one]),
        "At kept = 0.1, kto versus dpo has no verdict (difference +50.0 points, 95 % interval +40.0 to +60.0, for this \
         seed). One seed gives no verdict, since it does not show how much seeds vary: give `seeds` two values or more."
    );
}

#[test]
fn a_single_series_is_described_by_its_level() {
    let point = |low: f64| Point {
        series: "kto".to_owned(),
        x: 0.5,
        accuracy: Some(Estimate { value: low + 0.05, low, high: low + 0.1 }),
        smoothed_accuracy: None,
        own_accuracy: None,
        thumbs: None,
        seeds: Vec::new(),
        utility: None,
        margin: Estimate { value: 0.0, low: 0.0, high: 0.0 },
        steps: 120,
        calibration: None,
    };
    let slow = |point| levels(&[point], |_| false);
    assert_eq!(
        slow(point(0.6)),
        "After 120 steps, kto ranks 65.0 % of the held-out pairs as they were judged (95 % interval 60.0 to 70.0 %), better \
         than chance. There is nothing to compare yet."
    );
    assert!(slow(point(0.45)).contains("includes chance: train for more steps"));
    assert!(levels(&[point(0.45)], |_| true).contains("includes chance: lower `train.learning_rate`"));
    assert!(slow(point(0.3)).contains("worse than chance"));
}
