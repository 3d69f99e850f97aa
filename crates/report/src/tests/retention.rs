//! Capability retention in the report.

use std::collections::BTreeMap;

use prospect_runs::{CapabilityTest, Estimate, NoVerdict, Retention, Verdict};

use super::{
    fixture::{DEFAULT, SyntheticSweep},
    support::descriptions,
};
use crate::render;

fn change(series: &str, score: &str, value: f64, verdict: Verdict) -> Retention {
    let around = |value: f64| Estimate { value, low: value - 0.009, high: value + 0.009 };
    Retention {
        test: "arc <hard>".to_owned(),
        score: score.to_owned(),
        is_headline: score == "acc_norm",
        series: series.to_owned(),
        x: 0.5,
        start: around(0.41),
        trained: around(0.41 + value),
        change: around(value),
        adjusted: (score == "acc_norm").then(|| around(value)),
        p: 0.004,
        p_holm: (score == "acc_norm").then_some(0.008),
        verdict,
        no_verdict: (series == "kto").then_some(NoVerdict::TooWide),
        detectable: None,
        words: format!("{series} on {score}"),
        seeds: 3,
        questions: 198,
    }
}

#[test]
fn changes_of_capability_scores_have_words_a_figure_and_tables() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = SyntheticSweep { xs: &[0.5], ..DEFAULT }.write(&folder.path().join("sweep"));
    let mut experiment = sweep.experiment().unwrap();
    experiment.capabilities = vec![CapabilityTest {
        name: "arc <hard>".to_owned(),
        path: "arc.jsonl".to_owned(),
        layout: "arc".to_owned(),
        headline: "acc_norm".to_owned(),
        rows: 300,
        rejected: BTreeMap::from([("no_answer".to_owned(), 2)]),
        questions: 200,
        fingerprint: String::new(),
    }];
    sweep.write_experiment(&experiment).unwrap();
    let mut summary = sweep.summary().unwrap().unwrap();
    summary.retention = vec![
        change("dpo", "acc_norm", -0.012, Verdict::Worse),
        change("kto", "acc_norm", 0.004, Verdict::Inconclusive),
        change("dpo", "acc", -0.02, Verdict::Inconclusive),
    ];
    sweep.write_summary(&summary).unwrap();
    let out = folder.path().join("report");
    let html = fs_err::read_to_string(render(&sweep, &out, None).unwrap()).unwrap();
    for text in [
        "<h2>Capability retention</h2>",
        "<li>dpo on acc_norm</li>",
        "41.0\u{a0}% (40.1 to 41.9\u{a0}%)",
        "−2.1 to −0.3",
        ">loses<",
        "too few questions",
        "200 of 300 questions of arc.jsonl (layout arc, verdict by acc_norm); rows that cannot be used: 2 no_answer; 2 \
         too long for a model.",
    ] {
        assert!(html.contains(text), "{text}");
    }
    assert!(!html.contains("<hard>") && !html.contains("<li>dpo on acc</li>"));
    let [description] = descriptions(&html, "retention")[..] else { panic!() };
    assert!(
        description.contains("dpo on arc &lt;hard&gt; (acc_norm): −1.2\u{a0}points, loses; kto on"),
        "{description}"
    );
    let csv = fs_err::read_to_string(out.join("tables/retention.csv")).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[1].starts_with("arc <hard>,acc_norm,true,dpo,"), "{csv}");
    assert!(lines[3].contains(",0.004,,inconclusive,,3,198"), "{csv}");
    assert!(out.join("figures/retention.svg").exists());
}
