//! The questions of `docs/query.md`, answered on the small dataset and sweep.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{dataset, rows, sweep};
use crate::Database;

/// Answers the questions of a chapter, in order.
fn answers(chapter: &str, database: &Database) -> Vec<Vec<Value>> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/query.md");
    let docs = fs_err::read_to_string(file).unwrap();
    let chapter = docs.split("\n## ").find(|text| text.starts_with(chapter)).unwrap();
    let questions = chapter.split("\n### ").skip(1);
    let sql =
        questions.map(|question| question.split_once("```sql\n").unwrap().1.split_once("```").unwrap().0);
    sql.map(|sql| rows(database, sql)).collect()
}

#[test]
fn questions_about_a_dataset_are_answered() {
    let folder = TempDir::new().unwrap();
    let database = Database::of_dataset(&dataset(folder.path()));
    let answers = answers("Questions about a dataset", &database);
    let [balance, contradictions, noise, lengths, prompts, rejected] = answers.as_slice() else {
        panic!("{} questions", answers.len());
    };
    let key = |row: &Value| format!("{} {}", row["split"].as_str().unwrap(), row["domain"].as_str().unwrap());
    assert_eq!(
        balance.iter().map(key).collect::<Vec<_>>(),
        ["test art", "test law", "train art", "train law"]
    );
    let total: u64 = balance.iter().map(|row| row["n"].as_u64().unwrap()).sum();
    assert_eq!(total, 62);
    assert!(balance[..2].iter().all(|row| row["desirable"] == 0.5));
    assert_eq!(contradictions.len(), 1);
    assert_eq!((&contradictions[0]["up"], &contradictions[0]["down"]), (&json!(1), &json!(1)));
    let kinds: Vec<&str> = noise.iter().map(|row| row["noise"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["flip", "flip", "none", "none"]);
    assert!(noise.iter().all(|row| (row["label"] == row["original_label"]) == (row["noise"] == "none")));
    assert_eq!(lengths.len(), 2);
    assert!(
        lengths
            .iter()
            .all(|row| row["characters_more"].is_f64() && row["longer_preferred"].as_f64() <= Some(1.0))
    );
    assert_eq!(prompts.len(), 10);
    assert_eq!((&prompts[0]["prompt"], &prompts[0]["completions"]), (&json!("user: question 1?"), &json!(4)));
    let reasons: Vec<_> = rejected.iter().map(|row| (row["reason"].as_str().unwrap(), &row["n"])).collect();
    assert_eq!(reasons, [("empty_completion", &json!(1)), ("not_json", &json!(1))]);
}

#[test]
fn questions_about_a_sweep_are_answered() {
    let folder = TempDir::new().unwrap();
    let database = Database::of_sweep(&sweep(folder.path())).unwrap();
    let answers = answers("Questions about a sweep", &database);
    let [runs, curve, margins, worst, longest, wins, lost] = answers.as_slice() else {
        panic!("{} questions", answers.len());
    };
    let key = |row: &Value| format!("{}{}", row["method"].as_str().unwrap(), row["seed"]);
    assert_eq!(runs.iter().map(key).collect::<Vec<_>>(), ["dpo0", "dpo1", "kto0", "kto1", "kto2"]);
    assert_eq!((&runs[0]["state"], &runs[4]["state"]), (&json!("finished"), &json!("not started")));
    assert!(runs[0]["accuracy"].is_f64() && runs[4]["accuracy"].is_null());
    let expected = [0.5, 0.6, 0.7].iter().zip(0..).map(|(value, step)| json!({"step": step, "value": value}));
    assert_eq!(*curve, expected.collect::<Vec<_>>());
    assert_eq!(margins.iter().map(key).collect::<Vec<_>>(), ["dpo0", "dpo1", "kto0", "kto1"]);
    let margin = |row: &Value| row["margin"].as_f64().unwrap();
    // A seed adds 1 to every log-ratio, and β is 0.5.
    assert!((margin(&margins[1]) - margin(&margins[0]) - 0.5).abs() < 1e-12);
    assert_eq!(margins[0]["train.beta"], 0.5);
    assert_eq!(worst.len(), 7);
    // The mean over seeds of 0.5·(0 + seed − 2).
    assert_eq!(margin(&worst[0]), -0.75);
    assert!(worst.windows(2).all(|pair| margin(&pair[0]) < margin(&pair[1])));
    assert!(worst[0]["prompt"].as_str().unwrap().starts_with("user: question"));
    assert_eq!(longest.len(), 10);
    assert_eq!((&longest[0]["tokens"], &longest[0]["method"]), (&json!(16), &json!("dpo")));
    let rates: Vec<_> = wins.iter().map(|row| (row["method"].as_str().unwrap(), &row["win_rate"])).collect();
    assert_eq!(rates, [("dpo", &json!(0.5)), ("kto", &json!(1.0))]);
    let expected = [("dpo", "law", -0.5), ("dpo", "art", 0.0), ("kto", "art", 0.0), ("kto", "law", 0.0)];
    // Two subjects of two questions, of two seeds each.
    let expected = expected.map(|(method, subject, change)| {
        json!({"method": method, "test": "exam", "score": "acc", "subject": subject, "n": 4, "change": change})
    });
    assert_eq!(*lost, expected);
}
