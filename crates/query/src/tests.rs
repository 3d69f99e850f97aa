//! Queries on a small dataset and on a small sweep, with records written by hand.

mod documented;

use std::path::{Path, PathBuf};

use prospect_core::config::Document;
use prospect_data::{PipelineFile, prepare, read_manifest, read_pairs};
use prospect_runs::{
    Generation, GenerationMode, ImportedScore, Judgement, MetricsRecord, Opponent, PairOutcome,
    QuestionAnswer, QuestionOutcome, RecordKind, RunConfig, RunDir, State, Status, SweepDir, ThumbOutcome,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Database, write_tables};

/// Prepares pairs of two domains, with contradictory thumbs, flipped labels and unusable rows, and
/// returns the dataset directory.
fn dataset(folder: &Path) -> PathBuf {
    let pair = |n: usize| {
        let domain = if n.is_multiple_of(3) { "law" } else { "art" };
        let chosen = format!("answer {n} {}", "word ".repeat(n % 5));
        json!({"prompt": format!("question {n}?"), "domain": domain, "chosen": chosen, "rejected": "no answer"})
            .to_string()
    };
    let mut lines: Vec<String> = (0..30).map(pair).collect();
    // One completion is preferred once and rejected once.
    lines.push(
        r#"{"prompt": "question 1?", "domain": "art", "chosen": "no answer", "rejected": "an answer"}"#
            .to_owned(),
    );
    lines.push(r#"{"prompt": "question 40?", "domain": "art", "chosen": "", "rejected": "b"}"#.to_owned());
    lines.push("{".to_owned());
    fs_err::write(folder.join("pairs.jsonl"), lines.join("\n")).unwrap();
    let recipe = "seed: 1\nsource: {kind: pairs, path: pairs.jsonl, columns: {domain: domain}}\n\
                  split: {test_fraction: 0.2}\nnoise: {flip_desirable: 0.25, flip_undesirable: 0.25}\n\
                  max_rejected: 0.2\n";
    let file: PipelineFile = Document::from_text("recipe.yaml", recipe).unwrap().read().unwrap();
    let pipeline = file.resolve(&|path| Ok(folder.join(path))).unwrap();
    prepare(&pipeline, &folder.join("data")).unwrap();
    folder.join("data")
}

/// Records of a trained run: metrics, held-out pairs and thumbs, generations and judgements.
fn train(run: &RunDir, dataset: &Path, method: &str, seed: u64) {
    let settings = json!({
        "objective": {method: {"beta": 0.5, "kl_partners": 1}},
        "learning_rate": 0.01, "length": {"max_steps": 2}, "adam_betas": [0.9, 0.999], "humanline": null,
    });
    let settings = serde_json::from_value(settings).unwrap();
    run.begin(&RunConfig { settings, seed, examples: 9, steps: Some(2), ..RunConfig::default() }).unwrap();
    let mut metrics = run.metrics_writer().unwrap();
    for step in 0..=2 {
        let values = [("eval_rewards/accuracies".to_owned(), 0.5 + 0.1 * step as f64)].into();
        metrics.append(&MetricsRecord { kind: RecordKind::Eval, step, values }).unwrap();
    }
    let held_out = read_pairs(dataset, prospect_data::Split::Test).unwrap();
    let pairs = held_out.iter().enumerate().map(|(index, pair)| PairOutcome {
        pair_id: pair.pair_id.clone(),
        prompt_id: pair.prompt_id.clone(),
        source: pair.source.clone(),
        domain: pair.domain.clone(),
        group: None,
        chosen: index as f64 + seed as f64,
        rejected: 2.0,
        own_scores: None,
    });
    run.write_pairs(&pairs.collect::<Vec<_>>()).unwrap();
    let thumb = ThumbOutcome {
        id: "a1".to_owned(),
        prompt_id: "p1".to_owned(),
        source: "pairs".to_owned(),
        domain: "art".to_owned(),
        group: Some("g".to_owned()),
        desirable: true,
        tokens: 7,
        log_ratio: 0.5,
        probability: None,
    };
    run.write_thumbs(&[thumb]).unwrap();
    let generation = |(index, pair): (usize, &prospect_data::PairRow)| Generation {
        prompt_id: pair.prompt_id.clone(),
        prompt: "user: question?".to_owned(),
        completion: format!("completion of {method}"),
        tokens: index + 10 * seed as usize,
        ended: true,
        mode: GenerationMode::Greedy,
        chosen: None,
        utility: None,
        chosen_utility: None,
    };
    run.write_generations(&held_out.iter().enumerate().map(generation).collect::<Vec<_>>()).unwrap();
    let judgement = |(index, pair): (usize, &prospect_data::PairRow)| Judgement {
        judge: "rules".to_owned(),
        opponent: Opponent::Target,
        prompt_id: pair.prompt_id.clone(),
        step: None,
        score: Some(if method == "kto" { 1.0 } else { 0.5 }),
        reward: None,
        characters: Some([index, 4]),
        import: None,
    };
    run.write_judgements(&held_out.iter().enumerate().map(judgement).collect::<Vec<_>>()).unwrap();
    let answer = |right: bool| QuestionAnswer {
        scores: [("acc".to_owned(), f64::from(u8::from(right)))].into(),
        ..QuestionAnswer::default()
    };
    let question = |index: usize| QuestionOutcome {
        test: "exam".to_owned(),
        id: format!("q{index}"),
        text_id: format!("t{index}"),
        subject: Some(if index < 2 { "law" } else { "art" }.to_owned()),
        start: answer(true),
        policy: answer(method == "kto" || index > 0),
    };
    let score = |index: usize| ImportedScore {
        judge: "harness".to_owned(),
        task: "arc, acc".to_owned(),
        question: format!("q{index}"),
        score: index as f64 / 4.0,
        lower_is_better: false,
        import: "i".to_owned(),
    };
    run.write_scores(&(0..4).map(score).collect::<Vec<_>>()).unwrap();
    run.write_questions(&(0..4).map(question).collect::<Vec<_>>()).unwrap();
    run.set_status(&Status { state: State::Finished, seconds: 1.5, tokens: 640, reason: None }).unwrap();
}

/// Makes a sweep of two methods and two seeds, and a fifth run that has not started.
fn sweep(folder: &Path) -> SweepDir {
    let dataset = dataset(folder);
    let runs: Vec<(&str, u64)> = vec![("dpo", 0), ("dpo", 1), ("kto", 0), ("kto", 1), ("kto", 2)];
    let planned = |(method, seed): &(&str, u64)| {
        let settings = json!({"method": method, "train.beta": 0.5, "data.select.rows": [3, null]});
        json!({"id": format!("{method}{seed}"), "settings": settings, "seed": seed, "data": 0})
    };
    let experiment = json!({
        "name": "methods", "question": "Which method is better?", "commands": [], "baseline": "dpo",
        "x": {"key": "train.beta", "label": "β"}, "series": {"key": "method", "label": "method"},
        "stages": [], "data": [{"path": dataset, "manifest": null}], "base": null,
        "runs": runs.iter().map(planned).collect::<Vec<_>>(),
    });
    let sweep = SweepDir::at(folder.join("sweep"));
    sweep.write_experiment(&serde_json::from_value(experiment).unwrap()).unwrap();
    for (method, seed) in &runs[..4] {
        train(&sweep.run(&format!("{method}{seed}")), &dataset, method, *seed);
    }
    sweep
}

/// Answers a query as one JSON object per row.
fn rows(database: &Database, sql: &str) -> Vec<Value> {
    let answer = database.query(sql).unwrap_or_else(|error| panic!("{sql}\n{error}"));
    answer.json_lines().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn counts_equal_those_of_the_manifest() {
    let folder = TempDir::new().unwrap();
    let dataset = dataset(folder.path());
    let manifest = read_manifest(&dataset).unwrap();
    let database = Database::of_dataset(&dataset);
    let one = |sql: &str| rows(&database, sql)[0]["n"].as_u64().unwrap();
    for (split, counts) in [("train", manifest.train), ("test", manifest.test)] {
        let of = |table: &str, what: &str| {
            one(&format!("SELECT {what} AS n FROM {table} WHERE split = '{split}'"))
        };
        assert_eq!(of("rows", "COUNT(DISTINCT prompt_id)"), counts.prompts);
        assert_eq!(of("pairs", "COUNT(*)"), counts.pairs);
        assert_eq!(of("rows", "SUM(CASE WHEN label THEN 1 ELSE 0 END)"), counts.n_desirable);
        assert_eq!(of("rows", "SUM(CASE WHEN label THEN 0 ELSE 1 END)"), counts.n_undesirable);
    }
    assert!(manifest.noise.flipped_desirable > 0);
    let flipped = "SELECT COUNT(*) AS n FROM rows WHERE noise = 'flip' AND original_label";
    assert_eq!(one(flipped), manifest.noise.flipped_desirable);
    assert_eq!(one("SELECT COUNT(*) AS n FROM pairs WHERE swapped"), manifest.noise.swapped_pairs);
    assert_eq!(manifest.reading.rejected_by_reason.len(), 2);
    for (reason, rows) in &manifest.reading.rejected_by_reason {
        assert_eq!(one(&format!("SELECT COUNT(*) AS n FROM rejected WHERE reason = '{reason}'")), *rows);
    }
}

#[test]
fn texts_and_lengths_are_those_of_the_turns() {
    let folder = TempDir::new().unwrap();
    let database = Database::of_dataset(&dataset(folder.path()));
    let sql = "SELECT prompt, chosen, prompt_turns, prompt_characters, chosen_characters FROM pairs \
               WHERE prompt LIKE '%question 4?%'";
    let expected = json!({"prompt": "user: question 4?", "chosen": "answer 4 word word word word",
        "prompt_turns": 1, "prompt_characters": 11, "chosen_characters": 28});
    let swapped = json!({"prompt": "user: question 4?", "chosen": "no answer",
        "prompt_turns": 1, "prompt_characters": 11, "chosen_characters": 9});
    let found = rows(&database, sql);
    assert!(found == [expected.clone()] || found == [swapped], "{found:?}");
    // The same rows with limits and offsets, which scans must not apply twice.
    assert_eq!(
        rows(&database, "SELECT line FROM rejected ORDER BY line LIMIT 1 OFFSET 1"),
        [json!({"line": 33})]
    );
    assert_eq!(rows(&database, "SELECT line FROM rejected LIMIT 1"), [json!({"line": 32})]);
    assert_eq!(
        rows(&database, "SELECT file FROM rejected LIMIT 1 OFFSET 1"),
        [json!({"file": "pairs.jsonl"})]
    );
    assert_eq!(rows(&database, "SELECT COUNT(*) AS n FROM rejected WHERE line > 100"), [json!({"n": 0})]);
    let list = rows(&database, "SELECT ARRAY_AGG(line) AS lines FROM rejected");
    assert_eq!(list, [json!({"lines": [32, 33]})]);
}

#[test]
fn settings_are_columns_of_runs() {
    let folder = TempDir::new().unwrap();
    let database = Database::of_sweep(&sweep(folder.path())).unwrap();
    let found = rows(&database, "SELECT * EXCLUDE data FROM runs WHERE run IN ('kto1', 'kto2') ORDER BY run");
    let expected = json!({
        "run": "kto1", "seed": 1, "state": "finished", "reason": null, "steps": 2, "steps_planned": 2,
        "seconds": 1.5, "tokens": 640, "examples": 9, "desirable": 0, "undesirable": 0, "held_out_pairs": null,
        "held_out_thumbs": null, "family": null, "parameters": null, "model_fingerprint": "",
        "data.select.rows": "[3,null]", "method": "kto", "train.beta": 0.5, "train.adam_betas": "[0.9,0.999]",
        "train.kl_partners": 1, "train.learning_rate": 0.01, "train.length.max_steps": 2, "train.objective": "kto",
    });
    assert_eq!(found[0], expected);
    assert_eq!((&found[1]["state"], &found[1]["method"]), (&json!("not started"), &json!("kto")));
    assert_eq!((&found[1]["steps"], &found[1]["train.learning_rate"]), (&Value::Null, &Value::Null));
}

#[test]
fn held_out_pairs_and_thumbs_share_a_table() {
    let folder = TempDir::new().unwrap();
    let database = Database::of_sweep(&sweep(folder.path())).unwrap();
    let sql = "SELECT kind, accuracy, margin, reward, desirable, \"group\" FROM heldout \
               WHERE run = 'dpo0' ORDER BY kind, margin LIMIT 3";
    let pair = |accuracy: f64, margin: f64| json!({"kind": "pair", "accuracy": accuracy, "margin": margin, "reward": null, "desirable": null, "group": null});
    assert_eq!(rows(&database, sql), [pair(0.0, -1.0), pair(0.0, -0.5), pair(0.5, 0.0)]);
    let thumb = rows(&database, &sql.replace("WHERE", "WHERE kind = 'thumb' AND"));
    let expected = json!({"kind": "thumb", "accuracy": null, "margin": null, "reward": 0.25, "desirable": true, "group": "g"});
    assert_eq!(thumb, [expected]);
}

#[test]
fn a_misspelt_name_is_an_error_with_the_nearest_one() {
    let folder = TempDir::new().unwrap();
    let database = Database::of_sweep(&sweep(folder.path())).unwrap();
    let error = |sql: &str| database.query(sql).unwrap_err().to_string();
    for (sql, expected) in [
        ("SELECT * FROM row", "the query names an unknown table: `row`; did you mean `rows`?"),
        (
            "SELECT * FROM nonsense",
            "the query names an unknown table: `nonsense`; the tables are runs, metrics, heldout, generations, \
             samples, questions, judgements, scores, rows, pairs, rejected",
        ),
        ("SELECT lable FROM rows", "the query names an unknown column: `lable`; did you mean `label`?"),
        (
            "SELECT r.domian FROM rows AS r",
            "the query names an unknown column: `domian`; did you mean `domain`?",
        ),
        (
            "SELECT COUNT(*) FROM rows GROUP BY sourc",
            "the query names an unknown column: `sourc`; did you mean `source`?",
        ),
        (
            "SELECT run FROM runs WHERE sede = 1",
            "the query names an unknown column: `sede`; did you mean `seed`?",
        ),
        (
            "SELECT nothing_like_it FROM rows",
            "the query names an unknown column: `nothing_like_it`; `--tables` lists tables and columns",
        ),
        (
            "SELECT train.learning_rate FROM runs",
            "the query names an unknown column: `train`; did you mean `\"train.learning_rate\"`? A name with a dot needs \
             double quotes",
        ),
    ] {
        assert_eq!(error(sql), expected, "{sql}");
    }
    for sql in
        ["SELECT (label FROM rows", "SELECT no_such_function(label) FROM rows", "", "SELECT 1; SELECT 2"]
    {
        assert!(error(sql).starts_with("cannot answer the query: "), "{sql}: {}", error(sql));
    }
}

#[test]
fn a_table_escapes_what_a_terminal_would_obey() {
    let folder = TempDir::new().unwrap();
    let sweep = sweep(folder.path());
    let run = sweep.run("kto0");
    let mut generations = run.generations().unwrap();
    generations.truncate(1);
    generations[0].completion = "red \u{1b}[31m, back \u{202e}\nnext\tline, \"quoted\"".to_owned();
    generations[0].prompt = "x".repeat(100);
    run.write_generations(&generations).unwrap();
    let database = Database::of_sweep(&sweep).unwrap();
    let sql = "SELECT completion, tokens, utility, prompt FROM generations WHERE run = 'kto0'";
    let answer = database.query(sql).unwrap();
    let x = "x".repeat(60);
    let shown = format!(
        "completion                                         tokens  utility  prompt\n\
         red \\u{{1b}}[31m, back \\u{{202e}}↵next line, \"quoted\"       0        –  {x}…"
    );
    assert_eq!(answer.table(), shown);
    // Other formats have the texts as they are.
    let csv =
        "completion,tokens,utility,prompt\n\"red \u{1b}[31m, back \u{202e}\nnext\tline, \"\"quoted\"\"\",0,,";
    assert!(answer.csv().unwrap().starts_with(csv));
    let json: Value = serde_json::from_str(&answer.json_lines()).unwrap();
    assert_eq!(json["completion"], generations[0].completion.as_str());
}

#[test]
fn tables_are_described() {
    let folder = TempDir::new().unwrap();
    let database = Database::of_sweep(&sweep(folder.path())).unwrap();
    let described = database.describe().csv().unwrap();
    for line in [
        "runs,run,text,false,Id of the run",
        "runs,method,text,true,Swept setting",
        "runs,train.learning_rate,number,true,Setting of training",
        "rows,label,boolean,false,Label after noise: true for desirable",
        "rejected,line,integer,false,\"Line of the row, from 1\"",
    ] {
        assert!(described.contains(&format!("\n{line}\n")), "{line}\n{described}");
    }
    assert!(
        database.tables().iter().flat_map(|table| &table.columns).all(|column| !column.meaning.is_empty())
    );
}

#[test]
fn parquet_files_hold_the_same_tables_with_plain_types() {
    let folder = TempDir::new().unwrap();
    let sweep = sweep(folder.path());
    let out = folder.path().join("tables");
    write_tables(&sweep, &out).unwrap();
    let read = |file: &Path| {
        let file = fs_err::File::open(file).unwrap().into_file();
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let schema = reader.schema().clone();
        (schema, reader.build().unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>())
    };
    let database = Database::of_sweep(&sweep).unwrap();
    for name in ["runs", "metrics", "heldout", "generations", "samples", "questions", "judgements", "scores"]
    {
        let (schema, written) = read(&out.join(format!("{name}.parquet")));
        let counted = rows(&database, &format!("SELECT COUNT(*) AS n FROM {name}"));
        assert_eq!(counted, [json!({"n": written})], "{name}");
        let run = schema.field(0);
        assert_eq!(
            (run.name().as_str(), run.data_type(), run.is_nullable()),
            ("run", &arrow_schema::DataType::Utf8, false)
        );
    }
    let file = out.join("heldout.parquet");
    let first = fs_err::read(&file).unwrap();
    write_tables(&sweep, &out).unwrap();
    assert_eq!(first, fs_err::read(&file).unwrap());
    // The answer of a query is nullable only where values are missing.
    let answer = database.query("SELECT run, \"train.learning_rate\" FROM runs").unwrap();
    answer.write_parquet(&file).unwrap();
    let (schema, written) = read(&file);
    assert_eq!(written, 5);
    assert_eq!(schema.fields().iter().map(|field| field.is_nullable()).collect::<Vec<_>>(), [false, true]);
}
