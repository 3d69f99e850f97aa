//! Figures for different x axes and reference results.

use std::time::Duration;

use prospect_runs::{PublishedResults, State, Status};
use serde_json::json;

use super::{
    fixture::{DEFAULT, HOSTILE, SyntheticSweep},
    support::{descriptions, page_html, with_x_names},
};
use crate::{render, sections::means::MeanTables, sweep_data::SweepData, tables};

#[test]
fn accuracy_by_training_and_test_domain_is_a_heat_map() {
    let folder = tempfile::tempdir().unwrap();
    let trained = [json!([]), json!(["legaladvice"]), json!(["askdocs"])];
    let sweep = with_x_names(&folder, &["all", "legal", "medical"], |_, experiment| {
        for (data, domains) in experiment.data.iter_mut().zip(&trained) {
            data.manifest = json!({"config": {"select": {"train_domains": domains}}});
        }
    });
    let html = page_html(&sweep, None, "heat");
    let panels = descriptions(&html, "transfer-domain");
    assert_eq!(panels.len(), 3);
    // Columns follow the order of the rows that trained on them.
    assert!(panels[0].starts_with("Held-out accuracy of dpo. all on legaladvice: "), "{}", panels[0]);
    assert!(html.contains("Frames mark the domains that the policy was trained on"));
    let numbers = DEFAULT.write(&folder.path().join("numbers"));
    assert!(
        !page_html(&numbers, None, "numbers").contains("figure-transfer"),
        "numeric x values have no heat map"
    );
}

#[test]
fn models_are_plotted_by_size_with_a_panel_per_family() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = [("gpt_neox", 1_414_647_808_u64), ("gpt_neox", 11_846_072_320), ("llama", 32_528_943_616)];
    let sweep = with_x_names(&folder, &["pythia-1.4b", "pythia-12b", "llama-30b"], |sweep, experiment| {
        for run in &experiment.runs {
            let (family, parameters) = sizes[run.data];
            let config = sweep.run(&run.id).path().join("config.json");
            fs_err::write(config, json!({"family": family, "parameters": parameters}).to_string()).unwrap();
        }
    });
    let html = page_html(&sweep, None, "sizes");
    let panels = descriptions(&html, "accuracy-by-size");
    assert_eq!(panels.len(), 2);
    assert!(panels[0].contains(", gpt_neox. dpo at pythia-1.4b: "), "{}", panels[0]);
    assert!(panels[1].contains(", llama. dpo at llama-30b: "), "{}", panels[1]);
    for text in
        [">1.4B<", ">12B<", ">33B<", "Bands are 95 % confidence intervals", "id=\"figure-utility-by-size\""]
    {
        assert!(html.replace('\n', "").contains(text), "{text}");
    }
}

#[test]
fn names_after_a_comma_have_panels_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["pythia-1.4b, sft", "pythia-1.4b, base", "pythia-12b, sft"];
    let sizes = [1_414_647_808_u64, 1_414_647_808, 11_846_072_320];
    let sweep = with_x_names(&folder, &names, |sweep, experiment| {
        for run in &experiment.runs {
            let config = sweep.run(&run.id).path().join("config.json");
            let size = json!({"family": "gpt_neox", "parameters": sizes[run.data]});
            fs_err::write(config, size.to_string()).unwrap();
        }
    });
    let html = page_html(&sweep, None, "starts");
    let panels = descriptions(&html, "accuracy-by-size");
    assert_eq!(panels.len(), 2);
    assert!(panels[0].contains(", gpt_neox, sft. ") && panels[0].contains("dpo at pythia-12b, sft: "));
    assert!(panels[1].contains(", gpt_neox, base. ") && !panels[1].contains("sft"), "{}", panels[1]);
}

#[test]
fn kinds_and_numbers_are_panels_with_numeric_axes() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["clean", "swap 10 %", "swap 40 %", "cut short 10 %", "cut short 20 %"];
    let sweep = with_x_names(&folder, &names, |_, _| {});
    let html = page_html(&sweep, None, "kinds");
    let panels = descriptions(&html, "accuracy");
    assert_eq!(panels.len(), 2);
    assert!(panels[0].contains(", swap. dpo at clean: ") && panels[0].contains("dpo at swap 40 %: "));
    assert!(panels[1].contains(", cut short. ") && !panels[1].contains("swap"), "{}", panels[1]);
}

#[test]
fn published_results_are_separate_unless_the_measure_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = DEFAULT.write(&folder.path().join("sweep"));
    let mut experiment = sweep.experiment().unwrap();
    let series = [("kto".to_owned(), vec![(json!(0.01), 28.5), (json!(0.5), 40.2), (json!(1.0), 45.3)])];
    let reference = PublishedResults {
        label: format!("a paper, Figure 6 {HOSTILE}"),
        measure: Some("win rate, %".to_owned()),
        series: series.into(),
    };
    experiment.reference = Some(reference.clone());
    sweep.write_experiment(&experiment).unwrap();
    let html = page_html(&sweep, None, "reference");
    assert_eq!(descriptions(&html, "accuracy").len(), 1);
    let panels = descriptions(&html, "reference");
    // The sweep has no run at 50 %.
    assert!(
        panels[0].ends_with("win rate, %. kto at 1\u{a0}%: 28.5; kto at 100\u{a0}%: 45.3."),
        "{}",
        panels[0]
    );
    assert!(html.contains("not measured by this sweep") && !html.contains("<script>alert"));
    let data = SweepData::read(&sweep).unwrap();
    let tables = tables::all(&data, &MeanTables::new(&data));
    let csv = tables.iter().find(|table| table.name == "reference").unwrap().csv();
    assert_eq!(csv.lines().count(), 1 + 3);
    assert!(csv.contains("kto,0.5,40.2,\"win rate, %\","), "{csv}");

    let lengths = PublishedResults { measure: Some("tokens".to_owned()), ..reference.clone() };
    experiment.more_references = vec![lengths];
    sweep.write_experiment(&experiment).unwrap();
    let html = page_html(&sweep, None, "two-references");
    assert!(descriptions(&html, "reference-2")[0].contains(": tokens. kto at 1\u{a0}%: 28.5"));
    let data = SweepData::read(&sweep).unwrap();
    let tables = tables::all(&data, &MeanTables::new(&data));
    let csv = tables.iter().find(|table| table.name == "reference").unwrap().csv();
    assert!(csv.lines().count() == 1 + 6 && csv.contains("kto,0.5,40.2,tokens,"), "{csv}");

    experiment.more_references.clear();
    let shares = vec![(json!(0.01), 0.57), (json!(1.0), 0.6)];
    let series = [("kto".to_owned(), shares)].into();
    experiment.reference = Some(PublishedResults { label: "a paper".to_owned(), measure: None, series });
    sweep.write_experiment(&experiment).unwrap();
    let html = page_html(&sweep, None, "same-measure");
    assert!(!html.contains("figure-reference") && html.contains("kto, a paper"));
}

#[test]
fn a_watched_page_reloads_itself() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = SyntheticSweep { summary: false, ..DEFAULT }.write(&folder.path().join("sweep"));
    let run = sweep.run(&sweep.experiment().unwrap().runs[1].id);
    fs_err::write(run.path().join("config.json"), json!({"steps": 300}).to_string()).unwrap();
    run.set_status(&Status { state: State::Running, seconds: 0.0, tokens: 0, reason: None }).unwrap();
    assert!(!page_html(&sweep, None, "unfinished").contains("http-equiv=\"refresh\""));
    let watched = page_html(&sweep, Some(Duration::from_secs(5)), "watched");
    assert!(watched.contains("<meta http-equiv=\"refresh\" content=\"5\">"));
    assert!(watched.contains("default-src 'none'"));
    assert_eq!(descriptions(&watched, "running").len(), 1);
    assert!(
        descriptions(&watched, "running")[0].starts_with("dpo at 1\u{a0}%, seed 2: step 60 of 300. Loss ")
    );
}

#[test]
fn settings_that_are_not_numbers_become_categories() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = DEFAULT.write(&folder.path().join("sweep"));
    let mut experiment = sweep.experiment().unwrap();
    for run in &mut experiment.runs {
        let name = if run.data == 0 { "small" } else { "large" };
        run.settings.insert("data.desirable_fraction".to_owned(), json!(name));
    }
    sweep.write_experiment(&experiment).unwrap();
    fs_err::remove_file(sweep.path().join("summary.json")).unwrap();
    let html = fs_err::read_to_string(render(&sweep, &folder.path().join("report"), None).unwrap()).unwrap();
    assert!(html.contains("desirable kept, %: small") && html.contains("desirable kept, %: large"));
}

#[test]
fn a_frontier_needs_three_steps_for_a_curve_and_names_them() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = DEFAULT.write(&folder.path().join("sweep"));
    let html = page_html(&sweep, None, "curves");
    let panels = descriptions(&html, "frontier");
    assert_eq!(panels.len(), 3, "one for each x");
    assert!(panels[0].contains("dpo: 0.410 at 0.00 (step 0), "), "{}", panels[0]);
    let gold = descriptions(&html, "over-optimisation");
    assert!(gold[0].contains("kto: ") && gold[0].contains("at 2.00 (step 240)"), "{}", gold[0]);
    assert_eq!(descriptions(&html, "frontier-end").len(), 1);

    let mut summary = sweep.summary().unwrap().unwrap();
    summary.frontier.retain(|point| point.step == 0 || point.is_last);
    sweep.write_summary(&summary).unwrap();
    let html = page_html(&sweep, None, "ends");
    assert!(!html.contains("figure-over-optimisation") && !html.contains("id=\"figure-frontier\""));
    assert!(html.contains("id=\"figure-frontier-end\""), "the ends over three numeric x values remain");

    summary.frontier.retain(|point| point.x < 0.5);
    sweep.write_summary(&summary).unwrap();
    assert!(!page_html(&sweep, None, "two").contains("figure-frontier"), "two points are no curve");
}
