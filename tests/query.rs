//! `prospect query`, from the command line.

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{Place, Run};

/// Runs `prospect query`.
fn query(place: &Place, from: &str, sql: &str, options: &str) -> Run {
    let output = place.command("query").args([from, sql]).args(options.split_whitespace()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn a_dataset_is_queried_in_every_format() {
    let place = Place::with("");
    let run = place.run("prepare data.yaml --out data");
    assert_eq!(run.code, Some(0), "{run}");
    let sql = "SELECT split, label, COUNT(*) AS n FROM rows GROUP BY split, label ORDER BY split, label";
    let csv = "split,label,n\ntest,false,12\ntest,true,12\ntrain,false,48\ntrain,true,48\n";
    let jsonl = r#"{"split":"test","label":false,"n":12}"#;
    assert_eq!(query(&place, "data", sql, "").stdout, csv);
    assert_eq!(query(&place, "data", sql, "--format jsonl").stdout.lines().next(), Some(jsonl));
    assert_snapshot!(query(&place, "data", sql, "--format table").stdout, @r"
    split  label   n
    test   false  12
    test   true   12
    train  false  48
    train  true   48
    ");
    for (file, start) in
        [("a.csv", csv), ("a.jsonl", jsonl), ("a.parquet", "PAR1"), ("a.txt", "split  label")]
    {
        let run = query(&place, "data", sql, &format!("--out {file}"));
        assert_eq!((run.code, run.stdout.as_str()), (Some(0), ""), "{run}");
        assert!(fs_err::read(place.path(file)).unwrap().starts_with(start.as_bytes()), "{file}");
    }
    let errors =
        ["--out a.xlsx", "--format parquet"].map(|options| query(&place, "data", sql, options).stderr);
    assert_snapshot!(errors.join(""), @r"
    error: a.xlsx: no format has this extension; add --format
    error: --format parquet writes a file; name it with --out
    ");
    let errors = [("nowhere", sql), ("data", "SELECT lable FROM rows")]
        .map(|(from, sql)| query(&place, from, sql, ""));
    assert!(errors.iter().all(|run| run.code == Some(1) && run.stdout.is_empty()));
    assert_snapshot!(errors.map(|run| run.stderr).join(""), @r"
    error: nowhere is neither a dataset nor a sweep: it has no manifest.json and no experiment.json; create one with `prospect prepare` or `prospect sweep`
    error: the query names an unknown column: `lable`; did you mean `label`?
    ");
}

#[test]
fn a_sweep_is_queried_by_name_and_its_report_has_tables() {
    let place = Place::with(
        "question: Which method is better?\ndata: data.yaml\nmodel: model.yaml\n\
         train: { learning_rate: 1e-2, batch_size: 8, max_steps: 2, max_length: 160, max_prompt_length: 100 }\n\
         linked: { method: { dpo: { train.objective: dpo }, kto: { train.objective: kto } } }\n\
         matrix: { train.beta: [0.1] }\nseeds: [0]\n\
         evaluate: { pairs: 6, generations: { prompts: 2, max_new_tokens: 4 } }\n\
         report: { x: train.beta, series: method, baseline: dpo }\n",
    );
    let run = place.run("sweep experiment.yaml");
    assert_eq!(run.code, Some(0), "{run}");
    let sql = "SELECT method, state, \"train.learning_rate\" AS rate, COUNT(*) AS pairs FROM runs JOIN heldout ON heldout.run = runs.run \
               WHERE kind = 'pair' GROUP BY method, state, rate ORDER BY method";
    let run = query(&place, "experiment", sql, "");
    assert_eq!(run.stdout, "method,state,rate,pairs\ndpo,finished,0.01,6\nkto,finished,0.01,6\n", "{run}");
    let tables = place.run("query experiment --tables --format jsonl").stdout;
    let described: Vec<Value> = tables.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for table in [
        "runs",
        "metrics",
        "heldout",
        "generations",
        "samples",
        "questions",
        "judgements",
        "scores",
        "rows",
        "pairs",
        "rejected",
    ] {
        assert!(described.iter().any(|column| column["table"] == table), "{table}");
    }
    let tables = place.path("runs/experiment/report/tables");
    for table in ["runs", "metrics", "heldout", "generations", "samples", "questions", "judgements", "scores"]
    {
        assert!(
            fs_err::read(tables.join(format!("{table}.parquet"))).unwrap().starts_with(b"PAR1"),
            "{table}"
        );
    }
}
