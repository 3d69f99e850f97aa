//! Feedback and names from strangers are shown, but never obeyed.

use prospect_testkit::{fuzz_rounds, mutated};

use crate::support::{Place, files_below, repository};

/// Texts that a page, terminal, spreadsheet or LaTeX would run.
const HOSTILE: [&str; 5] = [
    "</script><script>alert(1)</script><img src=x onerror=alert(2)>",
    "\u{1b}]0;owned\u{7}\u{1b}[2Jgone\u{202e}",
    "=HYPERLINK(\"http://evil.example\")",
    "\\input{/etc/passwd}\\write18{id} % $x^2$ & #_",
    "{{ 7 * 7 }}{% include '/etc/passwd' %}",
];

/// Writes sixty thumbs whose prompts, completions and domains are hostile.
fn hostile_thumbs(place: &Place) {
    let rows = (0..60).map(|number| {
        let text = HOSTILE[number % HOSTILE.len()];
        let other = HOSTILE[(number + 1) % HOSTILE.len()];
        serde_json::json!({
            "prompt": format!("{text} {number}"), "completion": format!("{other} {number}"),
            "label": number % 3 == 0, "domain": text,
        })
        .to_string()
            + "\n"
    });
    place.write("thumbs.jsonl", rows.collect::<String>());
}

fn assert_harmless_terminal(text: &str) {
    assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{text}");
}

fn assert_harmless_page(page: &str) {
    for attack in ["<script>alert", "<img src=x", "\u{1b}", "\u{202e}"] {
        assert!(!page.contains(attack), "{attack:?}");
    }
}

fn assert_harmless_csv(csv: &str) {
    for start in ["\n=", ",=", "\"=", "\n@", ",@"] {
        assert!(!csv.contains(start), "{start:?}: {csv}");
    }
}

/// Returns the text files below a folder, with their paths.
fn texts(folder: &std::path::Path) -> Vec<(String, String)> {
    let text =
        |path: std::path::PathBuf| Some((path.display().to_string(), fs_err::read_to_string(path).ok()?));
    files_below(folder).into_iter().filter_map(text).collect()
}

#[test]
fn hostile_feedback_is_shown_but_not_obeyed() {
    let place = Place::new();
    hostile_thumbs(&place);
    let prepared = place.run("prepare thumbs.jsonl --out data");
    assert_eq!(prepared.code, Some(0), "{prepared}");
    assert_harmless_terminal(&prepared.stderr);

    let inspected = place.run("inspect data --html page.html");
    assert_eq!(inspected.code, Some(0), "{inspected}");
    assert_harmless_terminal(&inspected.stdout);
    assert_harmless_terminal(&inspected.stderr);
    let page = fs_err::read_to_string(place.path("page.html")).unwrap();
    assert!(page.contains("alert(1)"), "the texts are shown");
    assert_harmless_page(&page);

    let query = |format: &str| {
        let sql = "SELECT prompt, completion, domain FROM rows";
        let output = place.command("query data").args([sql, "--format", format]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert_harmless_terminal(&query("table"));
    let csv = query("csv");
    assert!(csv.contains("'=HYPERLINK"), "{csv}");
    assert_harmless_csv(&csv);
    assert!(query("jsonl").contains("\"=HYPERLINK"), "exact for programs");
}

#[test]
fn hostile_names_are_shown_but_not_obeyed() {
    let series: Vec<String> = HOSTILE
        .iter()
        .zip(["dpo", "kto", "apo_zero", "ipo", "hinge"])
        .map(|(name, objective)| format!("{}: {{ train.objective: {objective} }}", serde_json::json!(name)))
        .collect();
    let place = Place::with(&format!(
        "question: {}\ndata: data.yaml\nmodel: model.yaml\n\
         train: {{ learning_rate: 1e-2, batch_size: 8, max_steps: 2, max_length: 160, max_prompt_length: 100 }}\n\
         linked: {{ method: {{ {} }} }}\nmatrix: {{ train.beta: [0.1] }}\nseeds: [0]\n\
         report: {{ x: train.beta, series: method, baseline: {} }}\n",
        serde_json::json!(HOSTILE.concat()),
        series.join(", "),
        serde_json::json!(HOSTILE[2]),
    ));
    let swept = place.run("sweep experiment.yaml");
    assert_eq!(swept.code, Some(0), "{swept}");
    assert_harmless_terminal(&swept.stderr);
    let reported = place.run("report experiment --export latex");
    assert_eq!(reported.code, Some(0), "{reported}");
    let report = texts(&place.path("runs/experiment/report"));
    for (path, text) in report.into_iter().chain(texts(&place.path("latex"))) {
        match path.rsplit('.').next() {
            Some("html" | "svg") => assert_harmless_page(&text),
            Some("csv") => assert_harmless_csv(&text),
            Some("tex") => {
                assert!(!text.contains("\\input{/etc") && !text.contains("\\write18{"), "{path}: {text}");
            }
            _ => {}
        }
    }
    let exported = place.run("export experiment --format csv --out columns");
    assert_eq!(exported.code, Some(0), "{exported}");
    for (path, text) in texts(&place.path("columns")) {
        assert_harmless_csv(&text);
        assert!(path.starts_with(&place.path("columns").display().to_string()), "{path}");
    }
}

#[test]
fn hostile_errors_are_printed_without_control_characters() {
    let place = Place::new();
    place.write("data.yaml", "source: { kind: \"\\e[2Jsynthetic\" }\n");
    for args in ["validate data.yaml", "prepare data.yaml --out data", "query \u{1b}[2J SELECT"] {
        let run = place.run(args);
        assert_eq!(run.code, Some(1), "{run}");
        assert_harmless_terminal(&run.stderr);
    }
}

#[test]
fn no_damaged_yaml_file_panics() {
    let place = Place::new();
    let files = [
        "pipelines/hh.yaml",
        "models/llama-7b.yaml",
        "experiments/imbalance.yaml",
        "experiments/theory.yaml",
    ];
    for file in files {
        let original = fs_err::read(repository(file)).unwrap();
        let copy = file.replace('/', "-");
        for round in 0..fuzz_rounds(10) {
            place.write(&copy, mutated(&original, round));
            let run = place.run(&format!("validate {copy}"));
            assert!(matches!(run.code, Some(0 | 1)), "round {round} of {file}: {run}");
            assert_harmless_terminal(&run.stderr);
        }
    }
}

#[test]
fn names_cannot_leave_their_folder() {
    for hostile in ["../outside", "/tmp/outside", "a/../../outside", "..", "a\u{0}b"] {
        let place = Place::with(&format!(
            "question: Q?\ndata: data.yaml\nmodel: model.yaml\n\
             train: {{ learning_rate: 1e-2, batch_size: 8, max_steps: 1, max_length: 160, max_prompt_length: 100 }}\n\
             linked: {{ method: {{ {name}: {{ train.objective: dpo }}, kto: {{ train.objective: kto }} }} }}\n\
             matrix: {{ train.beta: [0.1] }}\nseeds: [0]\n\
             report: {{ x: train.beta, series: method, baseline: {name} }}\n",
            name = serde_json::json!(hostile)
        ));
        let before = entries(&place.path(".."));
        let swept = place.run("sweep experiment.yaml --out runs");
        assert!(matches!(swept.code, Some(0 | 1)), "{swept}");
        for format in ["csv", "tensorboard"] {
            let exported = place.run(&format!("export runs --format {format} --out {format}"));
            assert!(matches!(exported.code, Some(0 | 1)), "{exported}");
        }
        let expected = [
            ".reference",
            "csv",
            "data",
            "data.yaml",
            "experiment.yaml",
            "model.yaml",
            "reports",
            "runs",
            "tensorboard",
        ];
        for entry in entries(&place.path(".")) {
            assert!(expected.contains(&entry.as_str()), "{hostile}: {entry}");
        }
        let outside = |name: &String| name.contains("outside");
        assert_eq!(before.iter().any(outside), entries(&place.path("..")).iter().any(outside), "{hostile}");
    }
}

#[test]
fn symbolic_links_out_of_a_sweep_are_not_followed() {
    let place = Place::with(
        "question: Q?\ndata: data.yaml\nmodel: model.yaml\n\
         train: { learning_rate: 1e-2, batch_size: 8, max_steps: 2, max_length: 160, max_prompt_length: 100 }\n\
         linked: { method: { dpo: { train.objective: dpo }, kto: { train.objective: kto } } }\n\
         matrix: { train.beta: [0.1] }\nseeds: [0]\nreport: { x: train.beta, series: method, baseline: dpo }\n",
    );
    let swept = place.run("sweep experiment.yaml");
    assert_eq!(swept.code, Some(0), "{swept}");
    // Somebody else's files, some of which look like ours.
    fs_err::create_dir_all(place.path("mine/dataset")).unwrap();
    for name in [
        "letter.txt",
        "answers.jsonl",
        "step-00000001-0.safetensors",
        "dataset/manifest.json",
        ".a.1.partial",
    ] {
        place.write(&format!("mine/{name}"), "mine\n");
    }
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(48);
    let partial = fs_err::File::options().write(true).open(place.path("mine/.a.1.partial")).unwrap();
    partial.file().set_modified(long_ago).unwrap();

    let sweep = place.path("runs/experiment");
    let link = |target: &str, at: std::path::PathBuf| {
        fs_err::os::unix::fs::symlink(place.path(target), at).unwrap();
    };
    fs_err::rename(sweep.join("data"), place.path("moved")).unwrap();
    link("mine", sweep.join("data"));
    for run in fs_err::read_dir(sweep.join("runs")).unwrap() {
        link("mine", run.unwrap().path().join("checkpoints"));
    }
    link("mine", sweep.join("damaged"));
    fs_err::create_dir_all(sweep.join("judges")).unwrap();
    link("mine/answers.jsonl", sweep.join("judges/model.jsonl"));
    link("mine", place.path("runs/more"));

    let verified = place.run("verify runs --repair");
    assert_eq!(verified.code, Some(0), "{verified}");
    for run in fs_err::read_dir(sweep.join("runs")).unwrap() {
        fs_err::write(run.unwrap().path().join("pairs.jsonl"), "damaged\n").unwrap();
    }
    let verified = place.run("verify runs --repair");
    assert_eq!(verified.code, Some(1), "{verified}");
    assert!(verified.stderr.contains("runs/experiment/damaged is a symbolic link"), "{verified}");
    let removed = place.run("gc runs");
    assert_eq!(removed.code, Some(0), "{removed}");
    // A server that is not asked: the file of answers is opened first.
    let judged = place.run("judge experiment --endpoint http://127.0.0.1:9/v1 --model model");
    assert!(judged.stderr.contains("judges/model.jsonl is a symbolic link"), "{judged}");
    let left = files_below(&place.path("mine"));
    let names: Vec<_> = left.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(
        names,
        [".a.1.partial", "answers.jsonl", "manifest.json", "letter.txt", "step-00000001-0.safetensors"]
    );
    assert!(left.iter().all(|path| fs_err::read_to_string(path).unwrap() == "mine\n"));
}

/// Returns the names in a folder.
fn entries(folder: &std::path::Path) -> Vec<String> {
    let names = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

#[test]
fn no_damaged_container_panics() {
    let place = Place::with("");
    assert_eq!(place.run("prepare data.yaml --out data").code, Some(0));
    let parquet = fs_err::read(place.path("data/kto/train-00000-of-00001.parquet")).unwrap();
    hostile_thumbs(&place);
    let lines = fs_err::read(place.path("thumbs.jsonl")).unwrap();
    for (name, original) in [("a.parquet", parquet), ("a.jsonl", lines.clone()), ("a.csv", lines)] {
        for round in 0..fuzz_rounds(10) {
            place.write(name, mutated(&original, round));
            let run = place.run(&format!("prepare {name} --out out --force"));
            assert!(matches!(run.code, Some(0 | 1)), "round {round} of {name}: {run}");
            assert_harmless_terminal(&run.stderr);
        }
    }
}
