//! Exports of annotation tools.

use serde_json::{Value, json};

use super::{count, lines, numbers, texts};
use crate::ingest::sources::tests::{read, resolve};

fn argilla(status: &str, answers: Value, states: Value) -> Value {
    json!({"id": "1", "status": status, "_server_id": "s", "prompt": "Tea?", "left": "Green.", "right": "Black.",
        "which.responses": answers, "which.responses.users": ["user-1"], "which.responses.status": states,
        "which.suggestion": "left", "which.suggestion.agent": "judge"})
}

#[test]
fn answers_of_argilla_that_name_columns_are_comparisons() {
    let records = [
        argilla("completed", json!(["left"]), json!(["submitted"])),
        argilla("completed", json!(["right", "right"]), json!(["submitted", "submitted"])),
        argilla("completed", json!(["right", "left"]), json!(["submitted", "submitted"])),
        argilla("completed", json!(["right", "left"]), json!(["submitted", "draft"])),
        argilla("completed", json!(["tie"]), json!(["submitted"])),
        argilla("completed", json!([null]), json!(["discarded"])),
        argilla("pending", json!(null), json!(null)),
    ];
    let found = lines("{}", &records);
    assert_eq!(count(&found), numbers(3, 3, 3, "conflicting tie discarded pending"));
    let chosen = |index: usize| {
        found.groups[index].completions[found.groups[index].pairs[0].0].messages[0].content.clone()
    };
    assert_eq!([chosen(0), chosen(1), chosen(2)], ["Green.", "Black.", "Black."]);
}

#[test]
fn ratings_of_argilla_need_a_rule_and_are_averaged() {
    let rated = |answers: Value, reply: &str| {
        json!({"prompt": "Tea?", "response": reply, "stars": answers, "stars-suggestion": 5,
            "stars-suggestion-metadata": {"agent": "judge"}, "metadata": "{}"})
    };
    let answer = |value: Value, status: &str| json!({"user_id": "u", "value": value, "status": status});
    let records = [
        rated(json!([answer(json!(5), "submitted")]), "Green."),
        rated(json!([answer(json!(5), "submitted"), answer(json!(2), "submitted")]), "Black."),
        rated(json!([]), "Red."),
        rated(json!([answer(json!(null), "discarded")]), "Mint."),
    ];
    let source = "{binarise: {by: threshold, at: 4}}";
    let found = lines(source, &records);
    assert_eq!(count(&found), numbers(1, 1, 0, "pending discarded"));
    assert_eq!(found.groups[1].completions[0].score, Some(3.5));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    fs_err::write(&path, records[0].to_string()).unwrap();
    let error = resolve("{}", &path).unwrap_err().to_string();
    assert!(error.contains("`source.binarise` is not given, but stars holds numbers"), "{error}");
}

fn task(id: u8, annotations: Value) -> Value {
    json!({"id": id, "data": {"prompt": "Tea?", "one": "Green.", "two": "Black."}, "annotations": annotations,
        "predictions": [{"result": [choice("left")]}], "meta": {}})
}

fn choice(side: &str) -> Value {
    json!({"from_name": "better", "to_name": "x", "type": "pairwise", "value": {"selected": side}})
}

fn annotation(result: Value, cancelled: bool) -> Value {
    json!({"id": 1, "completed_by": {"email": "a@b.c"}, "result": result, "was_cancelled": cancelled})
}

#[test]
fn sides_of_label_studio_are_named_by_the_recipe() {
    let records = json!([
        task(1, json!([annotation(json!([choice("left")]), false)])),
        task(2, json!([annotation(json!([choice("right")]), false)])),
        task(3, json!([annotation(json!([]), true)])),
        task(4, json!([])),
        task(
            5,
            json!([annotation(json!([choice("left")]), false), annotation(json!([choice("right")]), false)])
        ),
    ]);
    let text = serde_json::to_string_pretty(&records).unwrap();
    let found = read("{columns: {first: one, second: two}}", "p.json", text.as_bytes());
    assert_eq!(count(&found), numbers(2, 2, 2, "skipped no_judgement conflicting"));
    assert_eq!((texts(&found.groups[1]).1, found.groups[1].pairs[0]), (vec!["Green.", "Black."], (1, 0)));
    let swapped = read("{columns: {first: data.two, second: data.one}}", "p.json", text.as_bytes());
    assert_eq!(texts(&swapped.groups[0]).1, ["Black.", "Green."]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.json");
    fs_err::write(&path, &text).unwrap();
    let error = resolve("{}", &path).unwrap_err().to_string();
    assert!(error.contains("text columns are") && error.contains("one, prompt, two"), "{error}");
}

#[test]
fn choices_of_label_studio_are_labels() {
    let verdict =
        |choices: Value| json!({"from_name": "verdict", "type": "choices", "value": {"choices": choices}});
    let task = |choices: Value| json!({"id": 1, "data": {"prompt": "Tea?", "response": "Green."}, "annotations": [annotation(json!([verdict(choices)]), false)]});
    let found = lines("{}", &[task(json!(["good"])), task(json!(["bad"])), task(json!(["good", "bad"]))]);
    assert_eq!(count(&found), numbers(1, 1, 0, "wrong_type"));
    // The short form has a column for each question.
    let row = |verdict: Value| json!({"prompt": "Tea?", "response": "Green.", "id": 1, "verdict": verdict, "annotator": 1});
    let rows = [
        row(json!("good")),
        row(json!("bad")),
        row(json!("unsure")),
        row(json!({"choices": ["good", "bad"]})),
    ];
    let found = lines("{columns: {label: verdict}}", &rows);
    assert_eq!(count(&found), numbers(1, 1, 0, "unknown_word wrong_type"));
}
