//! Sources from the Hub, mocked by a server on the loopback interface.

use prospect_data::read_manifest;

use prospect_testkit::fake_hub::{COMMIT, FakeHub};

use crate::support::Place;

/// A few rows of every kind: two files for kinds with splits, otherwise one.
const FILES: &[(&str, &str)] = &[
    (
        "hh/train.jsonl",
        r#"{"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}"#,
    ),
    (
        "hh/test.jsonl",
        r#"{"chosen": "\n\nHuman: r\n\nAssistant: a", "rejected": "\n\nHuman: r\n\nAssistant: b"}"#,
    ),
    (
        "shp/askdocs/train.json",
        r#"{"post_id": "p", "domain": "askdocs_train", "history": "q", "human_ref_A": "a", "human_ref_B": "b", "labels": 1, "score_A": 9, "score_B": 2}"#,
    ),
    (
        "shp/askdocs/test.json",
        r#"{"post_id": "r", "domain": "askdocs_test", "history": "r", "human_ref_A": "a", "human_ref_B": "b", "labels": 0}"#,
    ),
    (
        "oasst/en_train.jsonl",
        r#"{"message_tree_id": "p", "prompt": {"message_id": "p", "text": "q", "role": "prompter", "lang": "en", "replies": [{"message_id": "a", "text": "a", "role": "assistant", "lang": "en", "rank": 0}, {"message_id": "b", "text": "b", "role": "assistant", "lang": "en", "rank": 1}]}}"#,
    ),
    ("pairs/a.json", r#"[{"prompt": "q", "chosen": "a", "rejected": "b"}]"#),
    ("labels/a.csv", "prompt,completion,label\nq,a,1\nr,b,0\n"),
    ("scores/a.jsonl", r#"{"prompt": "q", "completions": ["a", "b"], "scores": [1, 2]}"#),
];

#[test]
fn every_kind_is_read_from_the_hub_and_pinned_to_its_commit() {
    let hub = FakeHub::start(FILES);
    let place = Place::new();
    for kind in ["hh", "shp", "oasst", "pairs", "labels", "scores"] {
        let policy = if kind == "scores" { ", binarise: { by: best_and_worst }" } else { "" };
        let recipe = format!("source: {{ path: 'hf://datasets/org/name@main/{kind}'{policy} }}\n");
        place.write(&format!("{kind}.yaml"), recipe);
        let run = |offline: &str| {
            let mut command = place.command(&format!("prepare {kind}.yaml"));
            command.env("HF_ENDPOINT", hub.endpoint()).env("HF_HUB_OFFLINE", offline);
            let output = command.output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let (code, said) = run("0");
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(&format!("is of kind {kind}")), "{said}");
        let manifest = read_manifest(&place.path(&format!("data/{kind}"))).unwrap();
        assert_eq!(manifest.reading.rejected, 0, "{kind}");
        for input in &manifest.inputs {
            let address = input.address.as_deref().unwrap();
            assert!(address.starts_with(&format!("hf://datasets/org/name@{COMMIT}/{kind}/")), "{address}");
        }
        // Fetched files are read from the cache without the Hub.
        let before = hub.requests().len();
        let (code, said) = run("1");
        assert!(code == Some(0) && said.contains("up to date"), "{said}");
        assert_eq!(hub.requests().len(), before);
    }
}

#[test]
fn an_export_is_recognised_and_a_judgement_chosen_among_several() {
    let place = Place::new();
    let message = |id: &str, parent: Option<&str>, role: &str, text: &str| serde_json::json!({"id": id, "parentId": parent, "role": role, "content": text});
    let history = serde_json::json!({
        "q": message("q", None, "user", "Capital of Peru?"),
        "a": message("a", Some("q"), "assistant", "Lima."),
        "b": message("b", Some("q"), "assistant", "Quito."),
    });
    let feedback = |id: &str, rating: i64| {
        serde_json::json!({"id": id, "type": "rating", "data": {"rating": rating}, "meta": {"chat_id": "c", "message_id": id},
            "snapshot": {"chat": {"id": "c", "chat": {"history": {"messages": history}}}}})
    };
    place.write("export.json", serde_json::json!([feedback("a", 1), feedback("b", -1)]).to_string());
    let run = place.run("prepare export.json --set split.test_fraction=0");
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.stderr.contains("is of kind chats, Open WebUI, feedback export"), "{run}");
    let manifest = read_manifest(&place.path("data/export")).unwrap();
    let train = &manifest.train;
    assert_eq!((train.n_desirable, train.n_undesirable, train.pairs), (1, 1, 1));

    let trace = r#"{"id": "1", "bookmarked": false, "input": "Ice?", "output": "Cold.", "thumb": [1], "quality": [0.5]}"#;
    place.write("traces.jsonl", trace.to_owned() + "\n");
    let run = place.run("prepare traces.jsonl");
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("quality (1 by people), thumb (1 by people)"), "{run}");
    let run = place.run("prepare traces.jsonl --set source.judgement=thumb --set split.test_fraction=0");
    assert!(run.code == Some(0) && run.stderr.contains("judgement thumb; in the files: quality"), "{run}");
}

#[test]
fn an_unknown_format_is_an_error_that_asks_for_the_kind() {
    let place = Place::new();
    place.write("a.jsonl", "{\"question\": \"q\", \"answer\": \"a\", \"thumb\": \"up\"}\n");
    place.write("recipe.yaml", "source: { path: a.jsonl }\nsplit: { test_fraction: 0 }\n");
    let run = place.run("prepare recipe.yaml");
    assert_eq!(run.code, Some(1));
    assert!(
        run.stderr.contains("a.jsonl: cannot detect the kind of feedback (keys question, answer, thumb)"),
        "{run}"
    );
    let columns = "source.columns={completion: answer, label: thumb}";
    let output = place.command("prepare recipe.yaml").args(["--set", columns]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
