//! Pages, lists, comparisons and their files.

use std::path::Path;

use prospect_runs::SweepDir;

use super::{
    fixture::{DEFAULT, HOSTILE, SyntheticSweep},
    support::{files, render_page},
};
use crate::{
    folder_in,
    page::{self, PageFigures},
    render,
    render::templates,
    sections::means::MeanTables,
    sweep_data::SweepData,
};

#[test]
fn a_finished_sweep_has_all_sections_figures_and_tables() {
    let (folder, html) = render_page(&DEFAULT, "finished");
    for text in [
        "KTO is better than DPO",
        "Detectable, points",
        "240 and 120",
        "Difference in win rate",
        "inconclusive",
        "+4.0\u{a0}points",
        "chance",
        "oracle",
        "loss is NaN at step 12",
        "18 runs: 17 finished, 1 failed",
        "contradictory labels",
        "prospect sweep experiments",
        "learning_rate",
        "52.4\u{a0}%",
        "10\u{a0}%",
        "Training is unstable",
        "in 2 runs",
        "Side by side",
        "legaladvice",
        "Clean and corrupted training rows",
    ] {
        assert!(html.contains(text), "{text}");
    }
    assert!(!html.contains("http:") && !html.contains("https:"));
    let files = files(&folder.path().join("report"));
    let figures = [
        "differences",
        "accuracy",
        "loss",
        "train-margin",
        "held-out-accuracy",
        "margin",
        "utility",
        "rewards",
        "calibration",
        "held-out-margin",
        "kl",
        "held-out-kl",
        "held-out-chosen",
        "held-out-rejected",
        "held-out-chosen-fallen",
        "corrupted-weight",
        "corrupted-reward",
        "clean-reward",
        "win-rate-1",
        "win-rate-2",
        "reliability",
        "frontier",
        "frontier-2",
        "frontier-3",
        "frontier-end",
        "frontier-end-2",
        "frontier-end-3",
        "over-optimisation",
    ];
    for figure in figures {
        assert!(html.contains(&format!("id=\"figure-{figure}\"")), "{figure}");
        assert!(files[&format!("figures/{figure}.svg")].starts_with(b"<svg"));
        assert!(files[&format!("figures/{figure}.png")].starts_with(b"\x89PNG"));
    }
    let lines = |table: &str| String::from_utf8(files[table].clone()).unwrap().lines().count();
    assert_eq!(lines("tables/points.csv"), 1 + 9);
    assert_eq!(lines("tables/contrasts.csv"), 1 + 2 * 6);
    assert_eq!(lines("tables/runs.csv"), 1 + 18);
    assert!(lines("tables/curves.csv") > 17 * 60 * 2);
    assert_eq!(lines("tables/domains.csv"), 1 + 9);
    assert_eq!(lines("tables/noise.csv"), 1 + 6);
    assert_eq!(lines("tables/generated.csv"), 1 + 9);
    assert_eq!(lines("tables/likelihood.csv"), 1 + 9);
    assert_eq!(lines("tables/calibration.csv"), 1 + 9 * 6);
    assert_eq!(lines("tables/rewards.csv"), 1 + 17 * 200);
    assert_eq!(lines("tables/diagnosis.csv"), 1 + 3);
    assert_eq!(lines("tables/generations.csv"), 1 + 17 * 6);
    assert_eq!(lines("tables/win_rates.csv"), 1 + 2 * 9);
    assert_eq!(lines("tables/thumbs.csv"), 1 + 9);
    assert_eq!(lines("tables/reliability.csv"), 1 + 9 * 10);
    assert_eq!(lines("tables/win_rate_contrasts.csv"), 1 + 6);
    assert_eq!(lines("tables/frontier.csv"), 1 + 9 * 4 * 3);
    for text in ["Length-controlled", "120 characters on average", "Accuracy by own score"] {
        assert!(html.contains(text), "{text}");
    }
    assert_eq!(files.len(), 2 + 2 * figures.len() + 17);
}

#[test]
fn two_renders_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = DEFAULT.write(&folder.path().join("sweep"));
    let [first, second] = ["a", "b"].map(|name| {
        let page = render(&sweep, &folder.path().join(name), None).unwrap();
        files(page.parent().unwrap())
    });
    assert!(first == second);
}

#[test]
fn untrusted_text_is_escaped_everywhere() {
    let synthetic = SyntheticSweep { question: HOSTILE, series: &["dpo", HOSTILE], ..DEFAULT };
    let (folder, html) = render_page(&synthetic, "hostile");
    assert_eq!(html.matches("<script").count(), 1, "only the script of the page");
    assert!(html.contains(&templates::script_source()) && html.contains("&lt;script&gt;"));
    for (name, bytes) in files(&folder.path().join("report")).iter().filter(|(name, _)| name.ends_with("svg"))
    {
        assert!(!String::from_utf8_lossy(bytes).contains("<script"), "{name}");
    }
}

#[test]
fn a_report_of_two_hundred_runs_stays_below_five_megabytes() {
    let folder = tempfile::tempdir().unwrap();
    let series = ["dpo", "kto", "ipo", "orpo", "simpo", "slic", "cdpo", "bco", "sft", "csft"];
    let synthetic = SyntheticSweep {
        series: &series,
        xs: &[0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0],
        ..DEFAULT
    };
    let sweep = SweepData::read(&synthetic.write(&folder.path().join("sweep"))).unwrap();
    assert_eq!(sweep.runs.len(), 200);
    let means = MeanTables::new(&sweep);
    let figures = PageFigures::new(&sweep, &means);
    let html = page::html(&sweep, &figures, &means, None).unwrap();
    if let Some(folder) = std::env::var_os("KEEP_REPORT") {
        fs_err::write(Path::new(&folder).join("large.html"), &html).unwrap();
    }
    assert!(html.len() < 5_000_000, "{} bytes", html.len());
}

#[test]
fn sweeps_are_compared_side_by_side_and_reports_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let reports = folder.path().join("reports");
    let one = DEFAULT.write(&folder.path().join("one"));
    let other =
        SyntheticSweep { question: HOSTILE, xs: &[0.1, 1.0], ..DEFAULT }.write(&folder.path().join("other"));
    let comparison = crate::compare(&one, &other, &reports.join("both & more")).unwrap();
    render(&one, &reports.join("one"), None).unwrap();
    fs_err::create_dir(reports.join("no report")).unwrap();
    let list = fs_err::read_to_string(crate::list(&reports).unwrap()).unwrap();
    let html = fs_err::read_to_string(&comparison).unwrap();
    if let Some(folder) = std::env::var_os("KEEP_REPORT") {
        fs_err::write(Path::new(&folder).join("compare.html"), &html).unwrap();
        fs_err::write(Path::new(&folder).join("list.html"), &list).unwrap();
    }
    for page in [&html, &list] {
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
        assert!(page.contains("default-src 'none'") && !page.contains("http:") && !page.contains("https:"));
    }
    assert!(html.contains("figure-accuracy-first") && html.contains("figure-accuracy-second"));
    assert!(list.contains("both%20%26%20more/index.html") && list.contains("one/index.html"));
    assert_eq!(list.matches("<article>").count(), 2);
    let csv = fs_err::read_to_string(comparison.with_file_name("tables/comparison.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 9);
    assert_eq!(csv.lines().filter(|line| line.ends_with(",,,")).count(), 3, "1 % is only in the first");
}

#[test]
fn an_unfinished_sweep_shows_its_runs_so_far() {
    let (folder, html) = render_page(&SyntheticSweep { summary: false, ..DEFAULT }, "partial");
    assert!(html.contains("Not finished") && html.contains("id=\"figure-accuracy\""));
    assert!(!html.contains("id=\"contrasts\"") && !html.contains("id=\"figure-margin\""));
    // A broken run, and a sweep that is only planned.
    let sweep = SweepDir::at(folder.path().join("sweep"));
    let broken = sweep.run(&sweep.experiment().unwrap().runs[0].id).path().join("metrics.jsonl");
    fs_err::write(&broken, "no\nno\n").unwrap();
    let again = fs_err::read_to_string(render(&sweep, &folder.path().join("again"), None).unwrap()).unwrap();
    assert!(again.contains("metrics.jsonl:1"));
    fs_err::remove_dir_all(folder.path().join("sweep/runs")).unwrap();
    let planned =
        fs_err::read_to_string(render(&sweep, &folder.path().join("planned"), None).unwrap()).unwrap();
    assert!(planned.contains("18 runs: 18 not started") && !planned.contains("<figure"));
}

#[test]
fn one_x_value_puts_the_series_side_by_side() {
    let (_folder, html) = render_page(&SyntheticSweep { xs: &[0.5], ..DEFAULT }, "one-x");
    assert!(html.contains("kto at 50\u{a0}%"));
}

#[test]
fn an_experiment_without_runs_has_a_page() {
    let (_folder, html) = render_page(&SyntheticSweep { series: &[], summary: false, ..DEFAULT }, "empty");
    assert!(html.contains("0 runs"));
    let (_folder, html) = render_page(&SyntheticSweep { series: &["dpo"], xs: &[], ..DEFAULT }, "no-points");
    assert!(html.contains("better than DPO"));
}

#[test]
fn a_folder_without_a_sweep_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = render(&SweepDir::at(folder.path().to_owned()), folder.path(), None).unwrap_err().to_string();
    assert!(error.contains("experiment.json") && error.contains("prospect sweep"), "{error}");
}

#[test]
fn reports_with_other_settings_get_folders_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = SyntheticSweep { xs: &[0.01], series: &["dpo", "kto"], ..DEFAULT }.write(folder.path());
    let report = folder_in(&sweep).unwrap();
    assert_eq!(report, folder.path().join("report"));
    render(&sweep, &report, None).unwrap();
    assert_eq!(folder_in(&sweep).unwrap(), report, "the same settings update their report");
    let mut experiment = sweep.experiment().unwrap();
    experiment.baseline = "kto/../x".to_owned();
    sweep.write_experiment(&experiment).unwrap();
    let other = folder_in(&sweep).unwrap();
    assert_eq!(other, folder.path().join("report-data.desirable-fraction-method-kto-..-x"));
    render(&sweep, &other, None).unwrap();
    assert_eq!(folder_in(&sweep).unwrap(), other);
}
