//! Reports of made-up sweeps.

use std::{collections::BTreeMap, path::Path, time::Duration};

use prospect_runs::{
    Axis, Calibration, CalibrationBin, Contrast, DataUse, Estimate, Experiment, Finding, Generation,
    GenerationMode, Measure, MetricsRecord, Opponent, PairOutcome, PlannedRun, Point, PublishedResults,
    RecordKind, RunConfig, Sign, Stage, State, Status, Summary, SweepDir, Verdict, WinRate,
};
use serde_json::json;
use tempfile::TempDir;

use crate::render;

const HOSTILE: &str = "<script>alert(1)</script>\"'&";

/// What sweep to make up.
struct Made<'a> {
    xs: &'a [f64],
    series: &'a [&'a str],
    summary: bool,
    question: &'a str,
}

const MADE: Made<'_> = Made {
    xs: &[0.01, 0.1, 1.0],
    series: &["dpo", "kto", "ipo"],
    summary: true,
    question: "Does KTO keep up with DPO when few completions are desirable?",
};

fn estimate(value: f64, half: f64) -> Estimate {
    Estimate { value, low: value - half, high: value + half }
}

/// A deterministic wiggle in −1..1.
fn wiggle(seed: u64, step: u64) -> f64 {
    ((seed * 37 + step * 101) as f64).sin()
}

impl Made<'_> {
    fn accuracy(&self, series: &str, x: f64) -> f64 {
        let place = self.series.iter().position(|name| *name == series).unwrap() as f64;
        0.62 + 0.035 * x.log10() + 0.02 * place * (1.0 - x)
    }

    fn write(&self, folder: &Path) -> SweepDir {
        let sweep = SweepDir::at(folder.to_owned());
        let mut runs = Vec::new();
        for (data, x) in self.xs.iter().enumerate() {
            for series in self.series {
                for seed in [1, 2] {
                    runs.push(PlannedRun {
                        id: format!("{:016x}", runs.len() * 0x9e37_79b9_7f4a + 77),
                        settings: BTreeMap::from([
                            ("method".to_owned(), json!(series)),
                            ("data.desirable_fraction".to_owned(), json!(x)),
                        ]),
                        seed,
                        data,
                    });
                }
            }
        }
        for (index, run) in runs.iter().enumerate() {
            self.write_run(&sweep, run, index);
        }
        let data = |x: &f64| DataUse {
            path: format!("data/hh-{x}").into(),
            manifest: json!({
                "config": {"source": "hh", "split": {"test": 0.1, "seed": 7}, "note": self.question},
                "counts": {"rows": 4210, "desirable": 421, "undesirable": 3789,
                           "dropped": {"contradictory labels": 12, "empty completion": 3}},
                "inputs": [{"path": "train.jsonl.gz", "blake3": "b1946ac92492d2347c6235b4d2611184"}],
            }),
        };
        let experiment = Experiment {
            name: "imbalance".to_owned(),
            question: self.question.to_owned(),
            commands: vec![
                "prospect prepare-data pipelines/hh.yaml --out data/hh".to_owned(),
                "prospect sweep experiments/imbalance.yaml --out runs/imbalance".to_owned(),
            ],
            x: Axis { key: "data.desirable_fraction".to_owned(), label: "desirable kept, %".to_owned() },
            series: Axis { key: "method".to_owned(), label: "Method".to_owned() },
            baseline: "dpo".to_owned(),
            reference: None,
            stages: vec![Stage { name: "sft".to_owned(), id: "ab54d286474ab9e9".to_owned() }],
            data: self.xs.iter().map(data).collect(),
            runs,
            search: None,
            base: json!({"model": {"weights": "hf://HuggingFaceTB/SmolLM2-135M", "lora": {"r": 16, "alpha": 32}},
                         "train": {"beta": 0.1, "learning_rate": 5e-6, "max_length": 512, "label": self.question}}),
        };
        sweep.write_experiment(&experiment).unwrap();
        if self.summary {
            sweep.write_summary(&self.answer()).unwrap();
        }
        sweep
    }

    fn write_run(&self, sweep: &SweepDir, planned: &PlannedRun, index: usize) {
        let series = planned.settings["method"].as_str().unwrap();
        let x = planned.settings["data.desirable_fraction"].as_f64().unwrap();
        let run = sweep.run(&planned.id);
        run.begin(&RunConfig { seed: planned.seed, ..RunConfig::default() }).unwrap();
        if index == 3 {
            let reason = Some(format!("loss is NaN at step 12; lower learning_rate ({})", self.question));
            run.set_status(&Status { state: State::Failed, seconds: 31.0, tokens: 900, reason }).unwrap();
            return;
        }
        let mut writer = run.metrics_writer().unwrap();
        let mut append = |kind, step, values: &[(&str, f64)]| {
            let values = values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
            writer.append(&MetricsRecord { kind, step, values }).unwrap();
        };
        let steps = if x < 0.05 { 60 } else { 240 };
        for step in 1..=steps {
            let done = step as f64 / 240.0;
            let noise = wiggle(planned.seed, step);
            let mut values = vec![
                ("loss", 0.69 - 0.3 * done + 0.05 * noise),
                ("rewards/margins", 1.2 * done + 0.1 * noise + 0.05 * planned.seed as f64),
            ];
            if series == "kto" {
                values.push(("kl", 0.5 * done + 0.05 * noise.abs()));
            }
            if x < 1.0 {
                values.extend([
                    ("noise/gradient_weight/clean", 0.95 + 0.02 * noise),
                    ("noise/gradient_weight/corrupted", 1.1 - 0.3 * done + 0.03 * noise),
                    ("noise/rewards/clean", 0.4 * done),
                    ("noise/rewards/corrupted", 0.1 * done - 0.02 * noise),
                ]);
            }
            append(RecordKind::Train, step, &values);
            if step % 20 == 0 {
                let accuracy = self.accuracy(series, x) - 0.1 * (-6.0 * done).exp() + 0.01 * noise;
                let eval = [("eval_rewards/accuracies", accuracy), ("eval_rewards/margins", 0.8 * done)];
                append(RecordKind::Eval, step, &eval);
                let domain = [
                    ("eval_logps/chosen", -48.0 - 6.0 * done + noise),
                    ("eval_logps/rejected", -50.0 - 16.0 * done + noise),
                    ("eval_logps/chosen_fallen", 0.5 + 0.2 * done),
                    ("eval_kl", 0.6 * done),
                    ("eval_rewards/accuracies/domain/askdocs", accuracy + 0.02),
                    ("eval_rewards/accuracies/domain/legaladvice", accuracy - 0.03),
                    ("eval_generations/length", 40.0 + 12.0 * done),
                    ("eval_generations/chosen_length", 44.0),
                    ("eval_generations/ended", 0.8),
                    ("eval_generations/distinct_2", 0.7 - 0.1 * done),
                ];
                append(RecordKind::Eval, step, &domain);
                if x < 1.0 {
                    let agreement = [
                        ("eval_noise/agreement/clean", 0.7),
                        ("eval_noise/agreement/corrupted", 0.4 - 0.1 * done),
                    ];
                    append(RecordKind::Eval, step, &agreement);
                }
            }
        }
        let pair = |index: u64| PairOutcome {
            pair_id: format!("pair {index}"),
            prompt_id: format!("prompt {}", index / 2),
            source: "shp".to_owned(),
            domain: self.question.to_owned(),
            chosen: 6.0 * wiggle(planned.seed, index) + 8.0 * x,
            rejected: 6.0 * wiggle(planned.seed + 5, index) - 4.0,
        };
        run.write_pairs(&(0..200).map(pair).collect::<Vec<_>>()).unwrap();
        let said = |index: u64| Generation {
            prompt_id: format!("{:016x}", index * 7919),
            prompt: format!("user: How do I bake bread, number {index}? {}", self.question),
            completion: format!("sure, use a hot oven. good luck {index} {}", self.question),
            tokens: 12 + index as usize,
            ended: !index.is_multiple_of(3),
            mode: GenerationMode::Nucleus,
            chosen: format!("of course, knead the dough. {}", self.question),
            utility: Some(0.2 * wiggle(planned.seed, index)),
            chosen_utility: None,
        };
        run.write_generations(&(0..6).map(said).collect::<Vec<_>>()).unwrap();
        run.set_status(&Status { state: State::Finished, seconds: 754.0, tokens: 123_456, reason: None })
            .unwrap();
    }

    fn findings(&self) -> Vec<Finding> {
        let finding = |run: usize, sign, steps| Finding {
            run: format!("{:016x}", run * 0x9e37_79b9_7f4a + 77),
            sign,
            evidence: format!("The loss jumps in 3 of 240 steps: {}", self.question),
            steps,
            advice: "Lower learning_rate.".to_owned(),
        };
        vec![
            finding(0, Sign::Unstable, [12, 40]),
            finding(1, Sign::Unstable, [9, 9]),
            finding(2, Sign::ChosenFalling, [0, 240]),
        ]
    }

    fn win_rates(&self) -> Vec<WinRate> {
        let opponents = [("reward model", Opponent::Baseline), ("true utility", Opponent::Target)];
        let rate = |((judge, opponent), series, x): ((&str, Opponent), &str, f64)| WinRate {
            judge: judge.to_owned(),
            opponent,
            series: series.to_owned(),
            x,
            rate: estimate(self.accuracy(series, x), 0.1),
            decided: Some(estimate(self.accuracy(series, x) + 0.02, 0.12)),
            wins: 31,
            ties: 5,
            losses: 22,
            unread: 6,
            p: 0.03,
            p_holm: 0.06,
            verdict: Verdict::CannotTell,
        };
        let mut rates = Vec::new();
        for opponent in opponents {
            for series in self.series {
                rates.extend(self.xs.iter().map(|x| rate((opponent.clone(), series, *x))));
            }
        }
        rates
    }

    fn answer(&self) -> Summary {
        let each = |x: f64| self.series.iter().map(move |series| ((*series).to_owned(), x));
        let point = |(series, x): (String, f64)| Point {
            accuracy: estimate(self.accuracy(&series, x), 0.018),
            seeds: [1, 2]
                .map(|seed| self.accuracy(&series, x) + 0.012 * (seed as f64 - 1.5) + 0.004 * wiggle(seed, 3))
                .to_vec(),
            utility: Some(estimate(1.1 + 0.3 * x, 0.2)),
            margin: estimate(0.9 + 0.2 * x, 0.1),
            steps: 240,
            calibration: Some(Calibration {
                error: 0.08,
                bins: (0..6)
                    .map(|bin| CalibrationBin {
                        low: 0.5 + 0.05 * f64::from(bin),
                        high: 0.55 + 0.05 * f64::from(bin),
                        pairs: 300 - 45 * bin as usize,
                        confidence: 0.52 + 0.05 * f64::from(bin),
                        accuracy: 0.52 + 0.04 * f64::from(bin) + 0.02 * wiggle(bin as u64, 5),
                    })
                    .collect(),
            }),
            series,
            x,
        };
        let contrast = |(series, x): (String, f64)| Contrast {
            difference: estimate(self.accuracy(&series, x) - self.accuracy(self.series[0], x), 0.015),
            baseline: "dpo".to_owned(),
            measure: Measure::Accuracy,
            p: 0.012,
            p_holm: if x < 0.5 { 0.024 } else { 0.4 },
            verdict: if x < 0.5 { Verdict::Ahead } else { Verdict::CannotTell },
            seeds_needed: (x < 0.5).then_some(5),
            seeds: 2,
            pairs: 1024,
            series,
            x,
        };
        let all = || self.xs.iter().flat_map(|x| each(*x));
        Summary {
            verdict: "With 1 % of the desirable completions kept, KTO is ahead of DPO by 2.0 points \
                      (95 % interval 0.5 to 3.5, 2 seeds)."
                .to_owned(),
            method: "Accuracy is the share of held-out pairs whose chosen completion has the higher reward. Intervals \
                     resample seeds and prompts together."
                .to_owned(),
            points: all().map(point).collect(),
            contrasts: all()
                .map(contrast)
                .filter(|contrast| contrast.series != "dpo")
                .flat_map(|contrast| [contrast.clone(), Contrast { measure: Measure::Utility, ..contrast }])
                .collect(),
            win_rates: self.win_rates(),
            effect: 0.02,
            findings: self.findings(),
            trials: Vec::new(),
            oracle_accuracy: Some(0.71),
            start_accuracy: Some(0.524),
        }
    }
}

/// Renders a made-up sweep and returns its page. With `KEEP_REPORT` set, the report is also left in that folder.
fn page(made: &Made<'_>, name: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let sweep = made.write(&folder.path().join("sweep"));
    let html = fs_err::read_to_string(render(&sweep, &folder.path().join("report"), None).unwrap()).unwrap();
    if let Some(kept) = std::env::var_os("KEEP_REPORT") {
        render(&sweep, &Path::new(&kept).join(name), None).unwrap();
    }
    (folder, html)
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for inner in ["", "figures", "tables"] {
        for entry in fs_err::read_dir(folder.join(inner)).unwrap().map(Result::unwrap) {
            if entry.path().is_file() {
                let name = format!("{inner}/{}", entry.file_name().to_string_lossy());
                files.insert(name, fs_err::read(entry.path()).unwrap());
            }
        }
    }
    files
}

#[test]
fn a_finished_sweep_is_answered_on_one_page() {
    let (folder, html) = page(&MADE, "finished");
    for text in [
        "KTO is ahead of DPO",
        "cannot tell",
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
    assert_eq!(lines("tables/calibration.csv"), 1 + 9 * 6);
    assert_eq!(lines("tables/rewards.csv"), 1 + 17 * 200);
    assert_eq!(lines("tables/diagnosis.csv"), 1 + 3);
    assert_eq!(lines("tables/generations.csv"), 1 + 17 * 6);
    assert_eq!(lines("tables/win_rates.csv"), 1 + 2 * 9);
    assert_eq!(files.len(), 2 + 2 * figures.len() + 12);
}

#[test]
fn two_renders_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = MADE.write(&folder.path().join("sweep"));
    let [first, second] = ["a", "b"].map(|name| {
        let page = render(&sweep, &folder.path().join(name), None).unwrap();
        files(page.parent().unwrap())
    });
    assert!(first == second);
}

#[test]
fn foreign_text_is_escaped_everywhere() {
    let made = Made { question: HOSTILE, series: &["dpo", HOSTILE], ..MADE };
    let (folder, html) = page(&made, "hostile");
    assert_eq!(html.matches("<script").count(), 1, "the page's own, whose hash its policy names");
    assert!(html.contains(&crate::script::source()) && html.contains("&lt;script&gt;"));
    for (name, bytes) in files(&folder.path().join("report")).iter().filter(|(name, _)| name.ends_with("svg"))
    {
        assert!(!String::from_utf8_lossy(bytes).contains("<script"), "{name}");
    }
}

#[test]
fn a_report_of_two_hundred_runs_stays_below_five_megabytes() {
    let folder = tempfile::tempdir().unwrap();
    let series = ["dpo", "kto", "ipo", "orpo", "simpo", "slic", "cdpo", "bco", "sft", "csft"];
    let made = Made { series: &series, xs: &[0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0], ..MADE };
    let sweep = crate::sweep::Sweep::read(&made.write(&folder.path().join("sweep"))).unwrap();
    assert_eq!(sweep.runs.len(), 200);
    let grids = crate::page::Grids::of(&sweep);
    let figures = crate::page::Figures::of(&sweep, &grids);
    let html = crate::page::html(&sweep, &figures, &grids, None).unwrap();
    if let Some(kept) = std::env::var_os("KEEP_REPORT") {
        fs_err::write(Path::new(&kept).join("large.html"), &html).unwrap();
    }
    assert!(html.len() < 5_000_000, "{} bytes", html.len());
}

#[test]
fn two_sweeps_stand_side_by_side_and_all_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let reports = folder.path().join("reports");
    let one = MADE.write(&folder.path().join("one"));
    let other = Made { question: HOSTILE, xs: &[0.1, 1.0], ..MADE }.write(&folder.path().join("other"));
    let beside = crate::compare(&one, &other, &reports.join("both & more")).unwrap();
    render(&one, &reports.join("one"), None).unwrap();
    fs_err::create_dir(reports.join("no report")).unwrap();
    let list = fs_err::read_to_string(crate::list(&reports).unwrap()).unwrap();
    let html = fs_err::read_to_string(&beside).unwrap();
    if let Some(kept) = std::env::var_os("KEEP_REPORT") {
        fs_err::write(Path::new(&kept).join("compare.html"), &html).unwrap();
        fs_err::write(Path::new(&kept).join("list.html"), &list).unwrap();
    }
    for page in [&html, &list] {
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
        assert!(page.contains("default-src 'none'") && !page.contains("http:") && !page.contains("https:"));
    }
    assert!(html.contains("figure-accuracy-first") && html.contains("figure-accuracy-second"));
    assert!(list.contains("both%20%26%20more/index.html") && list.contains("one/index.html"));
    assert_eq!(list.matches("<article>").count(), 2);
    let csv = fs_err::read_to_string(beside.with_file_name("tables/comparison.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 9);
    assert_eq!(csv.lines().filter(|line| line.ends_with(",,,")).count(), 3, "1 % is only in the first");
}

#[test]
fn a_sweep_that_still_runs_shows_what_there_is() {
    let (folder, html) = page(&Made { summary: false, ..MADE }, "partial");
    assert!(html.contains("Not finished") && html.contains("id=\"figure-accuracy\""));
    assert!(!html.contains("id=\"contrasts\"") && !html.contains("id=\"figure-margin\""));
    // A sweep that has only been planned, and one with a broken run.
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
    let (_folder, html) = page(&Made { xs: &[0.5], ..MADE }, "one-x");
    assert!(html.contains("kto at 50\u{a0}%"));
}

#[test]
fn an_experiment_without_runs_is_still_a_page() {
    let (_folder, html) = page(&Made { series: &[], summary: false, ..MADE }, "empty");
    assert!(html.contains("0 runs"));
    let (_folder, html) = page(&Made { series: &["dpo"], xs: &[], ..MADE }, "no-points");
    assert!(html.contains("ahead of DPO"));
}

#[test]
fn a_folder_without_a_sweep_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = render(&SweepDir::at(folder.path().to_owned()), folder.path(), None).unwrap_err().to_string();
    assert!(error.contains("experiment.json") && error.contains("prospect sweep"), "{error}");
}

/// A made-up sweep whose x values have these names, with what else `change` makes of it.
fn named(folder: &TempDir, names: &[&str], change: impl Fn(&SweepDir, &mut Experiment)) -> SweepDir {
    let xs: Vec<f64> = (0..names.len()).map(|index| index as f64).collect();
    let made = Made { xs: &xs.iter().map(|x| 0.1 + 0.2 * x).collect::<Vec<_>>(), ..MADE };
    let sweep = made.write(&folder.path().join("sweep"));
    let mut experiment = sweep.experiment().unwrap();
    for run in &mut experiment.runs {
        run.settings.insert("place".to_owned(), json!(names[run.data]));
    }
    experiment.x = Axis { key: "place".to_owned(), label: "where".to_owned() };
    change(&sweep, &mut experiment);
    sweep.write_experiment(&experiment).unwrap();
    let mut summary = sweep.summary().unwrap().unwrap();
    let place = |x: f64| xs[made.xs.iter().position(|other| *other == x).unwrap()];
    summary.points.iter_mut().for_each(|point| point.x = place(point.x));
    summary.contrasts.iter_mut().for_each(|contrast| contrast.x = place(contrast.x));
    sweep.write_summary(&summary).unwrap();
    sweep
}

/// The page of a sweep, without the files of its figures. With `KEEP_REPORT` set, the report is also left in that folder.
fn shown(sweep: &SweepDir, reload: Option<Duration>, name: &str) -> String {
    if let Some(kept) = std::env::var_os("KEEP_REPORT") {
        render(sweep, &Path::new(&kept).join(name), reload).unwrap();
    }
    let sweep = crate::sweep::Sweep::read(sweep).unwrap();
    let grids = crate::page::Grids::of(&sweep);
    crate::page::html(&sweep, &crate::page::Figures::of(&sweep, &grids), &grids, reload).unwrap()
}

/// The descriptions of a figure's panels.
fn descriptions<'a>(html: &'a str, figure: &str) -> Vec<&'a str> {
    let (_, rest) = html.split_once(&format!("id=\"figure-{figure}\"")).unwrap();
    let (figure, _) = rest.split_once("</figure>").unwrap();
    figure.split("<title>").skip(1).map(|part| part.split_once("</title>").unwrap().0).collect()
}

#[test]
fn what_is_trained_on_and_tested_on_is_a_heat_map() {
    let folder = tempfile::tempdir().unwrap();
    let trained = [json!([]), json!(["legaladvice"]), json!(["askdocs"])];
    let sweep = named(&folder, &["all", "legal", "medical"], |_, experiment| {
        for (data, domains) in experiment.data.iter_mut().zip(&trained) {
            data.manifest = json!({"config": {"select": {"train_domains": domains}}});
        }
    });
    let html = shown(&sweep, None, "heat");
    let panels = descriptions(&html, "transfer-domain");
    assert_eq!(panels.len(), 3);
    // Columns stand in the order of the rows that were trained on them.
    assert!(panels[0].starts_with("Held-out accuracy of dpo. all on legaladvice: "), "{}", panels[0]);
    assert!(html.contains("Framed: what the policy was trained on"));
    let numbers = MADE.write(&folder.path().join("numbers"));
    assert!(!shown(&numbers, None, "numbers").contains("figure-transfer"), "numbers are no rows");
}

#[test]
fn models_stand_by_their_size_family_by_family() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = [("gpt_neox", 1_414_647_808_u64), ("gpt_neox", 11_846_072_320), ("llama", 32_528_943_616)];
    let sweep = named(&folder, &["pythia-1.4b", "pythia-12b", "llama-30b"], |sweep, experiment| {
        for run in &experiment.runs {
            let (family, parameters) = sizes[run.data];
            let config = sweep.run(&run.id).path().join("config.json");
            fs_err::write(config, json!({"family": family, "parameters": parameters}).to_string()).unwrap();
        }
    });
    let html = shown(&sweep, None, "sizes");
    let panels = descriptions(&html, "accuracy-by-size");
    assert_eq!(panels.len(), 2);
    assert!(panels[0].contains(", gpt_neox. dpo at pythia-1.4b: "), "{}", panels[0]);
    assert!(panels[1].contains(", llama. dpo at llama-30b: "), "{}", panels[1]);
    for text in [">1.4B<", ">12B<", ">33B<", "Bands are 95 % intervals", "id=\"figure-utility-by-size\""] {
        assert!(html.replace('\n', "").contains(text), "{text}");
    }
}

#[test]
fn kinds_and_numbers_are_panels_with_numeric_axes() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["clean", "swap 10 %", "swap 40 %", "cut short 10 %", "cut short 20 %"];
    let sweep = named(&folder, &names, |_, _| {});
    let html = shown(&sweep, None, "kinds");
    let panels = descriptions(&html, "accuracy");
    assert_eq!(panels.len(), 2);
    assert!(panels[0].contains(", swap. dpo at clean: ") && panels[0].contains("dpo at swap 40 %: "));
    assert!(panels[1].contains(", cut short. ") && !panels[1].contains("swap"), "{}", panels[1]);
}

#[test]
fn published_numbers_are_apart_unless_they_measure_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = MADE.write(&folder.path().join("sweep"));
    let mut experiment = sweep.experiment().unwrap();
    let series = [("kto".to_owned(), vec![(json!(0.01), 28.5), (json!(0.5), 40.2), (json!(1.0), 45.3)])];
    let reference = PublishedResults {
        label: format!("a paper, Figure 6 {HOSTILE}"),
        measure: Some("win rate, %".to_owned()),
        series: series.into(),
    };
    experiment.reference = Some(reference.clone());
    sweep.write_experiment(&experiment).unwrap();
    let html = shown(&sweep, None, "reference");
    assert_eq!(descriptions(&html, "accuracy").len(), 1);
    let panels = descriptions(&html, "reference");
    // The sweep has no run at 50 %.
    assert!(
        panels[0].ends_with("win rate, %. kto at 1\u{a0}%: 28.5; kto at 100\u{a0}%: 45.3."),
        "{}",
        panels[0]
    );
    assert!(html.contains("not measured by this sweep") && !html.contains("<script>alert"));
    let csv = crate::reference::table(&crate::sweep::Sweep::read(&sweep).unwrap()).csv();
    assert_eq!(csv.lines().count(), 1 + 3);
    assert!(csv.contains("kto,0.5,40.2,\"win rate, %\","), "{csv}");

    let shares = vec![(json!(0.01), 0.57), (json!(1.0), 0.6)];
    let series = [("kto".to_owned(), shares)].into();
    experiment.reference = Some(PublishedResults { label: "a paper".to_owned(), measure: None, series });
    sweep.write_experiment(&experiment).unwrap();
    let html = shown(&sweep, None, "same-measure");
    assert!(!html.contains("figure-reference") && html.contains("kto, a paper"));
}

#[test]
fn a_page_that_is_watched_loads_itself_again() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = Made { summary: false, ..MADE }.write(&folder.path().join("sweep"));
    let run = sweep.run(&sweep.experiment().unwrap().runs[1].id);
    fs_err::write(run.path().join("config.json"), json!({"steps": 300}).to_string()).unwrap();
    run.set_status(&Status { state: State::Running, seconds: 0.0, tokens: 0, reason: None }).unwrap();
    assert!(!shown(&sweep, None, "unfinished").contains("http-equiv=\"refresh\""));
    let watched = shown(&sweep, Some(Duration::from_secs(5)), "watched");
    assert!(watched.contains("<meta http-equiv=\"refresh\" content=\"5\">"));
    assert!(watched.contains("default-src 'none'"));
    assert_eq!(descriptions(&watched, "running").len(), 1);
    assert!(
        descriptions(&watched, "running")[0].starts_with("dpo at 1\u{a0}%, seed 2: step 60 of 300. Loss ")
    );
}

#[test]
fn settings_that_are_not_numbers_become_places() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = MADE.write(&folder.path().join("sweep"));
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
