//! Capability tests of a sweep: `evaluate.choices` and `evaluate.exact`, from the command line.

use std::collections::BTreeMap;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::{
    support::{Place, repository},
    sweep::{assert_same, results},
};

const EXPERIMENT: &str = "\
question: What does alignment cost?
data: data.yaml
model: model.yaml
train:
  learning_rate: 1e-2
  max_steps: 6
  batch_size: 8
  max_length: 160
  max_prompt_length: 100
linked:
  method:
    dpo: { train.objective: dpo }
    kto: { train.objective: kto }
matrix:
  data.imbalance.keep_desirable: [1.0]
seeds: [0, 1]
evaluate:
  choices:
    colours: { path: colours.jsonl, limit: 9 }
    science: { path: science }
  exact:
    sums: { path: sums.jsonl, max_new_tokens: 8, shots: { path: shots.jsonl, count: 1 } }
report:
  x: data.imbalance.keep_desirable
  series: method
  baseline: dpo
";

/// A folder with the experiment and its questions: rows of one's own, of ARC's and of GSM8K's layout.
fn place() -> Place {
    let place = Place::with(EXPERIMENT);
    for (name, file) in
        [("colours.jsonl", "choices.jsonl"), ("sums.jsonl", "answers.jsonl"), ("shots.jsonl", "shots.jsonl")]
    {
        place.write(name, fs_err::read(repository("tests/fixtures/questions").join(file)).unwrap());
    }
    fs_err::create_dir(place.path("science")).unwrap();
    for (name, file) in [("test.jsonl", "arc.jsonl"), ("train.jsonl", "choices.jsonl")] {
        let text = fs_err::read(repository("tests/fixtures/questions").join(file)).unwrap();
        place.write(&format!("science/{name}"), text);
    }
    place
}

/// Replaces all numbers by `N`, since they depend on the machine's arithmetic.
fn without_numbers(text: &str) -> String {
    let mut masked = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let is_sign = matches!(letter, '−' | '+') && letters.peek().is_some_and(char::is_ascii_digit);
        if is_sign {
            continue;
        }
        if letter.is_ascii_digit() {
            let mut last = letter;
            while letters.peek().is_some_and(|next| next.is_ascii_digit() || *next == '.') {
                last = letters.next().unwrap_or(last);
            }
            masked.push_str(if last == '.' { "N." } else { "N" });
        } else {
            masked.push(letter);
        }
    }
    masked
}

/// Returns the text of a section of a page, one line for each element.
fn section(page: &str, id: &str) -> String {
    let (_, rest) = page.split_once(&format!("<section id=\"{id}\">")).unwrap();
    let (section, _) = rest.split_once("</section>").unwrap();
    let (mut text, mut inside_svg) = (String::new(), false);
    for part in section.split('<') {
        let (tag, content) = part.split_once('>').unwrap_or(("", part));
        inside_svg = if tag.starts_with("svg") { true } else { inside_svg && !tag.starts_with("/svg") };
        let content = content.trim();
        if tag == "/tr" {
            text.push('\n');
        }
        if !inside_svg && !content.is_empty() {
            text.push_str(content);
            text.push_str(if tag.starts_with("td") || tag.starts_with("th ") { " | " } else { "\n" });
        }
    }
    text
}

#[test]
fn a_sweep_tells_what_training_costs_the_model() {
    let place = place();
    let plan = place.run("sweep experiment.yaml --dry-run");
    assert_eq!(plan.code, Some(0), "{plan}");
    let tests: Vec<&str> =
        plan.stdout.lines().map(str::trim).filter(|line| line.starts_with("test ")).collect();
    assert_snapshot!(tests.join("\n"), @r"
    test colours: 9 of 12 questions (layout choices)
    test science: 5 of 6 questions (layout arc); not usable: 1 bad_value
    test sums: 6 of 6 questions (layout answers)
    ");

    let run = place.run("sweep experiment.yaml");
    assert_eq!(run.code, Some(0), "{run}");
    let first = results(&place, "runs/experiment");
    let files: Vec<_> = first.iter().filter(|(name, _)| name.ends_with("questions.jsonl")).collect();
    assert_eq!(files.len(), 4);
    let mut starts: Vec<Value> = Vec::new();
    for (name, bytes) in files {
        let lines: Vec<Value> = std::str::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for line in &lines {
            *counts.entry(line["test"].as_str().unwrap()).or_default() += 1;
        }
        assert_eq!(counts, [("colours", 9), ("science", 5), ("sums", 6)].into(), "{name}");
        assert!(lines.iter().any(|line| line["start"] != line["policy"]), "training changes answers");
        let written = |line: &&Value| line["test"] == "sums";
        assert!(lines.iter().filter(written).all(|line| line["policy"]["completion"].is_string()));
        starts.push(lines.iter().map(|line| line["start"].clone()).collect());
    }
    assert!(starts.iter().all(|start| *start == starts[0]), "all runs have the same start");
    for (_, bytes) in first.iter().filter(|(name, _)| name.ends_with("metrics.jsonl")) {
        let metrics = String::from_utf8(bytes.clone()).unwrap();
        for metric in ["colours/acc", "colours/acc_norm", "science/acc_norm", "sums/exact_match"] {
            assert_eq!(metrics.matches(&format!("\"eval_capabilities/{metric}\"")).count(), 2, "{metric}");
        }
    }

    let page = fs_err::read_to_string(place.path("reports/experiment/index.html")).unwrap();
    assert_snapshot!("capability_retention", without_numbers(&section(&page, "retention")));
    assert!(page.contains("Capability retention: "), "the verdict says what the tests show");
    let csv = fs_err::read_to_string(place.path("reports/experiment/tables/retention.csv")).unwrap();
    // Two series; two scores of each test with choices, and one of the other.
    assert_eq!(csv.lines().count(), 1 + 2 * (2 + 2 + 1));
    let query = "SELECT test, score, COUNT(*) AS n FROM questions GROUP BY test, score ORDER BY test, score";
    let mut command = place.command("query experiment --format jsonl");
    let answer = String::from_utf8(command.arg(query).output().unwrap().stdout).unwrap();
    let counts: Vec<Value> = answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |test: &str, score: &str, n: u64| json!({"test": test, "score": score, "n": 4 * n});
    let expected = [
        of("colours", "acc", 9),
        of("colours", "acc_norm", 9),
        of("science", "acc", 5),
        of("science", "acc_norm", 5),
        of("sums", "exact_match", 6),
    ];
    assert_eq!(counts, expected);

    // The same questions under another path are the same runs; others are not.
    let again = place.run("sweep experiment.yaml");
    assert!(again.stderr.contains("0 runs finished, 4 already done"), "{again}");
    fs_err::copy(place.path("colours.jsonl"), place.path("copy.jsonl")).unwrap();
    let moved = place.run("sweep experiment.yaml --set evaluate.choices.colours.path=copy.jsonl");
    assert!(moved.stderr.contains("0 runs finished, 4 already done"), "{moved}");
    let fewer = place.run("sweep experiment.yaml --dry-run --set evaluate.choices.colours.limit=3");
    assert!(fewer.stdout.contains("to do") && !fewer.stdout.contains("finished"), "{fewer}");
    place.run("sweep experiment.yaml --out other/sweep");
    assert_same(&first, &results(&place, "other/sweep"));
}

#[test]
fn unusable_tests_are_refused_before_anything_is_trained() {
    let place = place();
    place.write("prompts.jsonl", "{\"prompt\": \"a\"}\n");
    place.write("withheld.jsonl", "{\"question\": \"a?\", \"choices\": [\"b\", \"c\"], \"answer\": -1}\n");
    place.write("words.jsonl", "{\"question\": \"a?\", \"answer\": \"Paris\"}\n");
    let mut found = String::new();
    for setting in [
        "evaluate.choices.colours.path=missing.jsonl",
        "evaluate.choices.colours.path=prompts.jsonl",
        "evaluate.choices.colours.path=withheld.jsonl",
        "evaluate.choices.colours.path=sums.jsonl",
        "evaluate.choices.colours.layout=answers",
        "evaluate.exact.sums.path=words.jsonl",
        "evaluate.exact.sums.extract=(",
        "evaluate.exact.sums.shots.count=9",
        "evaluate.exact.sums.shots.path=sums.jsonl",
        "evaluate.exact.colours={\"path\":\"sums.jsonl\"}",
    ] {
        let run = place.run(&format!("sweep experiment.yaml --set {setting}"));
        assert_eq!(run.code, Some(1), "{setting}: {run}");
        found.extend([setting, "\n", &run.stderr, "\n"]);
    }
    assert_snapshot!("unusable_capability_tests", found);
    assert!(!place.path("runs").join("experiment/runs").exists());

    // A limit of the model, which only its tokenizer tells, fails the runs at once.
    let long = place.run("sweep experiment.yaml --set evaluate.exact.sums.max_new_tokens=250");
    assert!(
        long.stderr.contains("capability test `sums`: no question fits into the 256 positions"),
        "{long}"
    );
    let model = fs_err::read_to_string(place.path("model.yaml")).unwrap();
    place.write("model.yaml", model.replace("max_position_embeddings: 256", "max_position_embeddings: 170"));
    place.write(
        "colours.jsonl",
        fs_err::read_to_string(place.path("colours.jsonl")).unwrap()
            + &format!(
                "{{\"question\": \"{}\", \"choices\": [\"b\", \"c\"], \"answer\": 0}}\n",
                "long ".repeat(40)
            ),
    );
    let some = place.run("sweep experiment.yaml --set evaluate.choices.colours.limit=null --out some");
    assert_eq!(some.code, Some(0), "{some}");
    assert!(some.stderr.contains("capability test colours: 1 of 13 questions are left out"), "{some}");
}
