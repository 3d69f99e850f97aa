use prospect_runs::{Experiment, NoVerdict, PlannedRun};
use serde_json::json;

use super::*;
use crate::summary::{
    finished_runs::{RunCounts, RunsByCell, XValues},
    tests::experiment,
};

const QUESTIONS: usize = 400;

/// An experiment with two series, each with `seeds` runs, that takes one test.
fn tested(seeds: u64) -> Experiment {
    let planned = |(series, seed): (&str, u64)| PlannedRun {
        id: format!("{series}{seed}"),
        settings: [("method".to_owned(), json!(series)), ("kept".to_owned(), json!(1.0))].into(),
        seed,
        data: 0,
    };
    let runs = ["dpo", "kto"].into_iter().flat_map(|series| (0..seeds).map(move |seed| (series, seed)));
    Experiment {
        runs: runs.map(planned).collect(),
        capabilities: vec![CapabilityTest {
            name: "arc".to_owned(),
            path: "arc.jsonl".to_owned(),
            layout: "arc".to_owned(),
            headline: "acc_norm".to_owned(),
            rows: QUESTIONS as u64,
            rejected: BTreeMap::new(),
            questions: QUESTIONS,
            fingerprint: String::new(),
        }],
        ..experiment("dpo")
    }
}

/// Answers of which every second is right at the start; `policy` returns the score after training.
fn answers(policy: impl Fn(usize, f64) -> f64) -> Vec<QuestionOutcome> {
    let answer = |value: f64| QuestionAnswer {
        scores: [("acc_norm".to_owned(), value), ("acc".to_owned(), value)].into(),
        ..QuestionAnswer::default()
    };
    (0..QUESTIONS)
        .map(|index| {
            let start = (index % 2) as f64;
            let id = format!("{index:03}");
            let (start, policy) = (answer(start), answer(policy(index, start)));
            QuestionOutcome { test: "arc".to_owned(), text_id: id.clone(), id, subject: None, start, policy }
        })
        .collect()
}

/// Computes the changes of runs whose answers are `answers`, by series and seed.
fn changes(experiment: &Experiment, answers: impl Fn(&str, u64) -> Vec<QuestionOutcome>) -> Vec<Retention> {
    let mut cells = RunsByCell::new();
    let mut counts: BTreeMap<CellKey, RunCounts> = BTreeMap::new();
    for planned in &experiment.runs {
        let series = planned.settings["method"].as_str().unwrap();
        let cell = CellKey { series: series.to_owned(), x: 0 };
        counts.entry(cell.clone()).or_default().planned += 1;
        // Different margins, so that no series repeats another.
        let margin = if series == "dpo" { 1.0 } else { 2.0 } + planned.seed as f64;
        let mut run = FinishedRun::with_margins(planned, &[margin], 1);
        run.questions = answers(series, planned.seed);
        cells.entry(cell).or_default().push(run);
    }
    let sweep = SweepRuns::new(experiment, XValues::new(experiment), cells, counts);
    retention(&sweep).unwrap()
}

#[test]
fn a_loss_is_told_from_no_change() {
    let experiment = tested(3);
    // DPO forgets one in ten of the right answers, under every seed others; KTO swaps a few.
    let changes = changes(&experiment, |series, seed| {
        answers(|index, start| match series {
            "dpo" if index % 10 == 1 + 2 * (seed as usize % 2) => 0.0,
            "kto" if index == 40 + 2 * seed as usize => 1.0,
            "kto" if index == 61 + 2 * seed as usize => 0.0,
            _ => start,
        })
    });
    let headline: Vec<&Retention> = changes.iter().filter(|change| change.is_headline).collect();
    let [dpo, kto] = headline.as_slice() else { panic!("{headline:?}") };
    assert_eq!(
        (dpo.series.as_str(), dpo.verdict, dpo.seeds, dpo.questions),
        ("dpo", Verdict::Worse, 3, QUESTIONS)
    );
    assert!((dpo.change.value + 0.1).abs() < 1e-12 && dpo.change.high < 0.0, "{dpo:?}");
    assert!(dpo.start.low < 0.5 && dpo.start.value == 0.5 && (dpo.trained.value - 0.4).abs() < 1e-12);
    assert!(dpo.words.starts_with("dpo loses 10.0 points on arc ("), "{}", dpo.words);
    assert_eq!((kto.verdict, kto.change.value), (Verdict::Inconclusive, 0.0));
    assert!(kto.change.low < 0.0 && 0.0 < kto.change.high, "{kto:?}");
    let text = verdict(&changes);
    assert!(text.starts_with(" Capability retention: dpo loses 10.0 points on arc ("), "{text}");
    assert!(text.contains("; 1 of 2 changes is inconclusive (losses of up to "), "{text}");
    // The other score has an interval and no verdict.
    let other = changes.iter().find(|change| change.score == "acc" && change.series == "dpo").unwrap();
    assert_eq!((other.change, other.p_holm, other.verdict), (dpo.change, None, Verdict::Inconclusive));
    assert!(other.words.starts_with("dpo changes by −10.0 points on arc by acc ("), "{}", other.words);
}

#[test]
fn no_interval_is_empty_even_if_nothing_changes() {
    for seeds in [1, 2] {
        let changes = changes(&tested(seeds), |_, _| answers(|_, start| start));
        assert_eq!(changes.len(), 4);
        for change in changes {
            assert_eq!(change.change.value, 0.0);
            assert!(change.change.low < 0.0 && 0.0 < change.change.high, "{change:?}");
            assert!(change.start.low < 0.5 && 0.5 < change.start.high);
            assert!(change.trained.low < 0.5 && 0.5 < change.trained.high);
            assert_eq!(change.verdict, Verdict::Inconclusive);
        }
    }
}

#[test]
fn one_seed_gives_no_verdict() {
    let changes = changes(&tested(1), |_, _| answers(|_, _| 0.0));
    assert!(changes.iter().all(|change| change.verdict == Verdict::Inconclusive && change.p == 1.0));
    let dpo = &changes[0];
    assert_eq!(dpo.no_verdict, Some(NoVerdict::OneSeed));
    assert!(dpo.words.ends_with(", for this seed: one seed gives no verdict"), "{}", dpo.words);
}

#[test]
fn masses_between_0_and_1_are_no_shares() {
    let changes = changes(&tested(2), |_, seed| answers(|_, start| 0.25 + 0.5 * start + 0.01 * seed as f64));
    let dpo = &changes[0];
    assert!((dpo.start.value - 0.5).abs() < 1e-12 && (dpo.change.value - 0.005).abs() < 1e-12, "{dpo:?}");
    assert!(dpo.change.low < dpo.change.value && dpo.change.value < dpo.change.high);
}
