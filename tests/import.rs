//! `prospect judge --import`: annotations of AlpacaEval, results of lm-evaluation-harness, and
//! sheets that people filled in.

use std::collections::BTreeMap;

use insta::assert_snapshot;
use prospect_testkit::{fuzz_rounds, mutated};
use serde_json::{Value, json};

use crate::{judge::swept, support::Place};

fn read(place: &Place, name: &str) -> Value {
    serde_json::from_slice(&fs_err::read(place.path(name)).unwrap()).unwrap()
}

/// Outputs of every run as `prospect export` writes them, by the name of the run, and the
/// references.
fn exported(place: &Place) -> (BTreeMap<String, Vec<Value>>, Vec<Value>) {
    let exported = place.run("export said --format alpaca-eval --out alpaca");
    assert_eq!(exported.code, Some(0), "{exported}");
    let mut outputs = BTreeMap::new();
    for entry in fs_err::read_dir(place.path("alpaca/model_outputs")).unwrap() {
        let list: Vec<Value> = serde_json::from_slice(&fs_err::read(entry.unwrap().path()).unwrap()).unwrap();
        outputs.insert(list[0]["generator"].as_str().unwrap().to_owned(), list);
    }
    (outputs, read(place, "alpaca/reference_outputs.json").as_array().unwrap().clone())
}

/// An annotation as AlpacaEval writes it.
fn annotation(output: &Value, reference: &Value, preference: &Value) -> Value {
    json!({
        "instruction": output["instruction"], "output_1": reference["output"], "generator_1": reference["generator"],
        "dataset": output["dataset"], "output_2": output["output"], "generator_2": output["generator"],
        "annotator": "weighted_alpaca_eval_gpt4_turbo", "preference": preference,
        "raw_completion": {"text": "m"}, "price_per_example": 0.006, "time_per_example": 1.25,
    })
}

/// Annotations of every run against the references: the k-th output of a run wins unless k is a
/// multiple of `loses_at`; the last one is half a win.
fn annotations(outputs: &BTreeMap<String, Vec<Value>>, references: &[Value], loses_at: usize) -> Vec<Value> {
    let mut all = Vec::new();
    for list in outputs.values() {
        for (index, output) in list.iter().enumerate() {
            let reference = references
                .iter()
                .find(|reference| reference["instruction"] == output["instruction"])
                .unwrap();
            let preference = match index {
                7 => 1.5,
                index if index % loses_at == 0 => 1.0,
                _ => 2.0,
            };
            all.push(annotation(output, reference, &json!(preference)));
        }
    }
    all
}

fn rates(place: &Place, judge: &str) -> Vec<Value> {
    let summary = read(place, "runs/said/summary.json");
    summary["win_rates"].as_array().unwrap().iter().filter(|rate| rate["judge"] == judge).cloned().collect()
}

#[test]
fn annotations_of_alpaca_eval_become_win_rates_with_intervals() {
    let place = swept();
    let (outputs, references) = exported(&place);
    let mut all = annotations(&outputs, &references, 4);
    // Rows that cannot count: an unknown run, another text, an unknown prompt, no preference.
    let mut unknown = all[1].clone();
    unknown["generator_2"] = json!("gpt4");
    let mut edited = all[1].clone();
    edited["output_2"] = json!("edited");
    let mut elsewhere = all[1].clone();
    elsewhere["instruction"] = json!("What is the capital of France?");
    all[2]["preference"] = Value::Null;
    all.extend([unknown, edited, elsewhere]);
    place.write("annotations.json", serde_json::to_vec(&all).unwrap());
    let imported = place.run("judge said --import annotations.json");
    assert_snapshot!("import_annotations", imported);

    let judge = "weighted_alpaca_eval_gpt4_turbo";
    let own = rates(&place, judge);
    assert_eq!(own.len(), 2);
    for rate in &own {
        let unread =
            u64::from(rate["series"] == all[2]["generator_2"].as_str().unwrap().split('-').next().unwrap());
        let counts = ["wins", "ties", "losses", "unread"].map(|name| rate[name].as_u64().unwrap());
        // Of eight outputs of each of two seeds, those at 0 and 4 lose and the last one ties.
        assert_eq!(counts, [10 - unread, 2, 4, unread], "{rate}");
        let value = |end: &str| rate["rate"][end].as_f64().unwrap();
        assert!(value("low") < value("value") && value("value") < value("high"), "{rate}");
        assert!(rate["characters"].is_array());
    }
    let page = fs_err::read_to_string(place.path("reports/said/index.html")).unwrap();
    assert!(page.contains("weighted_alpaca_eval_gpt4_turbo, against the preferred completions"));
    assert!(
        page.contains("Made outside of this sweep and imported from annotations.json (AlpacaEval, BLAKE3")
    );
    assert!(page.contains("1 row (the completion differs from that of the run)"));

    let note = &read(&place, "runs/said/judges.json")[0];
    let hash = prospect_core::files::hash_file(&place.path("annotations.json")).unwrap();
    assert_eq!((&note["name"], &note["imports"][0]["blake3"]), (&json!(judge), &json!(hash)));
    assert_eq!(note["imports"][0]["used"], 32);

    // The same file again changes nothing. The sweep may be named last.
    let summary = read(&place, "runs/said/summary.json");
    let no_sweep = place.run("judge --import annotations.json");
    assert_snapshot!(no_sweep.stderr, @"error: no sweep: write its name first, as in `prospect judge NAME --import FILE`");
    let again = place.run("judge --import annotations.json said");
    assert!(again.stderr.contains("in place of an earlier import"), "{again}");
    assert_eq!(read(&place, "runs/said/summary.json"), summary);
    assert_eq!(read(&place, "runs/said/judges.json")[0]["imports"].as_array().unwrap().len(), 1);
    // A copy under another name counts nothing twice either.
    place.write("copy.json", serde_json::to_vec(&all).unwrap());
    place.run("judge said --import copy.json");
    assert_eq!(read(&place, "runs/said/summary.json"), summary);
    // Under another name, the judge is renamed.
    place.run("judge said --import copy.json --name people");
    assert_eq!((rates(&place, "people").len(), rates(&place, judge).len()), (2, 0));
    assert_eq!(read(&place, "runs/said/judges.json").as_array().unwrap().len(), 1);
    place.run("judge said --import copy.json");
    assert_eq!(read(&place, "runs/said/summary.json"), summary);
    // A corrected file replaces its rows; another file adds only rows that are new.
    place.write("copy.json", serde_json::to_vec(&annotations(&outputs, &references, 2)).unwrap());
    assert_eq!(place.run("judge said --import copy.json").code, Some(0));
    assert_eq!(rates(&place, judge)[0]["losses"], 8);
    place.write("more.json", serde_json::to_vec(&annotations(&outputs, &references, 5)).unwrap());
    let more = place.run("judge said --import more.json");
    assert!(more.stderr.contains("0 of 32 rows imported"), "{more}");
    assert!(more.stderr.contains("32 rows (judged in another imported file already)"), "{more}");
    assert_eq!(rates(&place, judge)[0]["losses"], 8);
}

#[test]
fn runs_compared_with_each_other_and_with_other_models_have_opponents() {
    let place = swept();
    let (outputs, _) = exported(&place);
    let (dpo, kto) = (&outputs["dpo-0.1-seed-0"], &outputs["kto-0.1-seed-0"]);
    let mut all = Vec::new();
    for (dpo, kto) in dpo.iter().zip(kto) {
        // The baseline may be either output.
        all.push(annotation(dpo, kto, &json!(1.0)));
        let outside = json!({"output": "Paris.", "generator": "deployed", "instruction": kto["instruction"]});
        all.push(annotation(kto, &outside, &json!(1.8)));
    }
    place.write("annotations.json", serde_json::to_vec(&all).unwrap());
    let imported = place.run("judge said --import annotations.json --name people");
    assert_eq!(imported.code, Some(0), "{imported}");
    let own = rates(&place, "people");
    let of = |opponent: Value| own.iter().find(|rate| rate["opponent"] == opponent).unwrap();
    let against_baseline = of(json!("baseline"));
    assert_eq!((&against_baseline["series"], &against_baseline["wins"]), (&json!("kto"), &json!(8)));
    let against_model = of(json!({"model": "deployed"}));
    assert!((against_model["rate"]["value"].as_f64().unwrap() - 0.8).abs() < 1e-9, "{against_model}");
    let page = fs_err::read_to_string(place.path("reports/said/index.html")).unwrap();
    assert!(page.contains("people, against completions of deployed"));
}

/// Writes results of one task as lm-evaluation-harness does, for the model at `path`.
fn lm_eval(place: &Place, folder: &str, path: &str, correct: impl Fn(usize) -> bool) {
    let date = "2026-01-02T03-04-05.678901";
    fs_err::create_dir_all(place.path(folder)).unwrap();
    let samples: Vec<String> = (0..60)
        .map(|question| {
            let acc = f64::from(u8::from(correct(question)));
            json!({
                "doc_id": question, "doc": {"question": "?"}, "target": "0", "arguments": {}, "resps": [], "filtered_resps": [],
                "filter": "none", "metrics": ["acc", "perplexity"], "doc_hash": format!("{question:064x}"),
                "prompt_hash": "0", "target_hash": "0", "acc": acc, "perplexity": 3.0 - acc,
            })
            .to_string()
        })
        .collect();
    place.write(&format!("{folder}/samples_arc_easy_{date}.jsonl"), samples.join("\n"));
    let results = json!({
        "results": {"arc_easy": {"acc,none": 0.5}}, "configs": {}, "higher_is_better": {"arc_easy": {"acc": true, "perplexity": false}},
        "config": {"model": "hf", "model_args": format!("pretrained=BASE,peft={path},dtype=float32")}, "model_name": path,
    });
    place.write(&format!("{folder}/results_{date}.json"), results.to_string());
    // An earlier evaluation of the same task does not count.
    place.write(&format!("{folder}/samples_arc_easy_2025-01-02T03-04-05.678901.jsonl"), "not json");
}

#[test]
fn samples_of_lm_evaluation_harness_become_a_paired_comparison() {
    let place = swept();
    let experiment = read(&place, "runs/said/experiment.json");
    for run in experiment["runs"].as_array().unwrap() {
        let (id, seed) = (run["id"].as_str().unwrap(), run["seed"].as_u64().unwrap() as usize);
        let hits = if run["settings"]["method"] == "kto" { 8 } else { 4 };
        lm_eval(
            &place,
            &format!("eval/runs__said__runs__{id}__model"),
            &format!("runs/said/runs/{id}/model"),
            |question| (question * 7 + seed) % 10 < hits,
        );
    }
    lm_eval(&place, "eval/BASE", "BASE", |question| question % 2 == 0);
    let imported = place.run("judge said --import eval");
    assert_eq!(imported.code, Some(0), "{imported}");
    assert_eq!(
        imported.stderr.matches("60 of 60 rows imported as lm-evaluation-harness").count(),
        4,
        "{imported}"
    );
    assert!(imported.stderr.contains("0 of 60 rows imported"), "the base model is no run: {imported}");

    let summary = read(&place, "runs/said/summary.json");
    let of = |list: &str, task: &str| -> Vec<Value> {
        summary[list].as_array().unwrap().iter().filter(|own| own["task"] == task).cloned().collect()
    };
    assert_eq!(of("scores", "arc_easy, acc").len(), 2);
    let [contrast] = of("score_contrasts", "arc_easy, acc").try_into().unwrap();
    assert_eq!(
        (&contrast["series"], &contrast["seeds"], &contrast["questions"]),
        (&json!("kto"), &json!(2), &json!(60))
    );
    let end = |end: &str| contrast["difference"][end].as_f64().unwrap();
    assert!((end("value") - 0.4).abs() < 0.02 && end("low") > 0.0 && end("high") < 1.0, "{contrast}");
    // A lower perplexity is no loss.
    let [perplexity] = of("score_contrasts", "arc_easy, perplexity").try_into().unwrap();
    assert!(perplexity["difference"]["value"].as_f64().unwrap() < 0.0 && perplexity["verdict"] != "worse");
    let page = fs_err::read_to_string(place.path("reports/said/index.html")).unwrap();
    assert!(page.contains("Imported scores") && page.contains("arc_easy, perplexity (less is better)"));
    let table = fs_err::read_to_string(place.path("reports/said/tables/scores.csv")).unwrap();
    assert_eq!(table.lines().count(), 1 + 4);

    let again = place.run("judge said --import eval");
    assert_eq!(again.code, Some(0), "{again}");
    assert_eq!(read(&place, "runs/said/summary.json"), summary);
    let base = place.run("judge said --import eval/BASE");
    assert_snapshot!("import_of_no_run", base);
}

#[test]
fn sheets_of_people_are_matched_by_text_and_columns_can_be_mapped() {
    let place = swept();
    let (outputs, references) = exported(&place);
    let quoted = |text: &Value| format!("\"{}\"", text.as_str().unwrap().replace('"', "\"\""));
    let mut sheet = String::from("Frage,A,B,Wahl\n");
    let mut rows = 0;
    for output in &outputs["kto-0.1-seed-1"] {
        let is_other = |list: &&Vec<Value>| list.iter().any(|other| other["output"] == output["output"]);
        if outputs.values().filter(is_other).count() > 1 {
            continue;
        }
        let reference = references.iter().find(|own| own["instruction"] == output["instruction"]).unwrap();
        let row = [&output["instruction"], &reference["output"], &output["output"]].map(quoted).join(",");
        // Two people agree, a third one does not.
        sheet.extend(["B", "b", "A"].map(|answer| format!("{row},{answer}\n")));
        rows += 3;
    }
    assert!(rows > 0, "some completions are unique");
    place.write("sheet.csv", &sheet);
    let unmapped = place.run("judge said --import sheet.csv");
    assert_eq!(unmapped.code, Some(1), "{unmapped}");
    assert!(
        unmapped.stderr.contains("cannot tell the meaning of the columns `A`, `B`, `Frage`, `Wahl`"),
        "{unmapped}"
    );
    let imported =
        place.run("judge said --import sheet.csv --column prompt=Frage --column win=Wahl --name people");
    assert!(imported.stderr.contains(&format!("{rows} of {rows} rows imported as people")), "{imported}");
    let [rate] = rates(&place, "people").try_into().unwrap();
    assert_eq!((&rate["series"], &rate["wins"]), (&json!("kto"), &json!(rows / 3)));
    assert!((rate["rate"]["value"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9, "{rate}");

    place.write(
        "scores.jsonl",
        format!(
            "{{\"run\": \"kto-0.1-seed-0\", \"prompt\": {}, \"judgement\": 0}}\n",
            outputs["kto-0.1-seed-0"][0]["instruction"]
        ),
    );
    let ambiguous = place.run("judge said --import scores.jsonl");
    assert!(
        ambiguous.stderr.contains("add `--column win=judgement` or `--column score=judgement`"),
        "{ambiguous}"
    );
    assert_eq!(place.run("judge said --import scores.jsonl --column score=judgement").code, Some(0));

    place.write("sheet.xlsx", b"PK\x03\x04rest");
    let spreadsheet = place.run("judge said --import sheet.xlsx");
    assert!(spreadsheet.stderr.contains("is a spreadsheet; save it as CSV"), "{spreadsheet}");
}

#[test]
fn no_damaged_import_panics() {
    let place = swept();
    let (outputs, references) = exported(&place);
    let annotations = serde_json::to_vec(&annotations(&outputs, &references, 4)).unwrap();
    let sheet = b"run,prompt,score\nkto-0.1-seed-0,\"What, then?\",1.5\nkto-0.1-seed-1,x,-2\n".to_vec();
    let exported = place.run("export said --format prompts --out prompts");
    assert_eq!(exported.code, Some(0), "{exported}");
    let requests = fs_err::read_to_string(place.path("prompts/requests/kto-0.1-seed-0.jsonl")).unwrap();
    let answer = |line: &str| {
        let request: Value = serde_json::from_str(line).unwrap();
        let choice = json!({"message": {"content": "Hi."}, "finish_reason": "stop"});
        format!(
            "{}\n",
            json!({"custom_id": request["custom_id"], "response": {"body": {"choices": [choice]}}})
        )
    };
    let answers: String = requests.lines().map(answer).collect();
    for (option, name, original) in [
        ("--import", "annotations.json", annotations),
        ("--import", "sheet.csv", sheet),
        ("--replace --import-generations", "answers.jsonl", answers.into_bytes()),
    ] {
        for round in 0..fuzz_rounds(8) {
            place.write(name, mutated(&original, round));
            let run = place.run(&format!("judge said {option} {name}"));
            assert!(matches!(run.code, Some(0 | 1)), "round {round} of {name}: {run}");
        }
    }
    assert_eq!(place.run("verify runs/said").code, Some(0), "what was imported is whole");
}
