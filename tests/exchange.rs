//! Generation by another engine: prompts go out, a scripted engine answers, completions come back.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{MODEL, Place};

/// A sweep of two methods without generations, with adapters.
fn swept() -> Place {
    let place = Place::with(
        "question: Who says better things?\n\
         data: data.yaml\nmodel: model.yaml\n\
         train: { learning_rate: 1e-2, batch_size: 8, max_steps: 1, max_length: 160, max_prompt_length: 100 }\n\
         linked: { method: { dpo: { train.objective: dpo }, kto: { train.objective: kto } } }\n\
         matrix: { train.beta: [0.1] }\n\
         seeds: [0]\n\
         evaluate: { pairs: 4 }\n\
         report: { x: train.beta, series: method, baseline: dpo }\n",
    );
    place.write("model.yaml", MODEL.replace("train: full", "lora: { r: 2, alpha: 8 }"));
    let swept = place.run("sweep experiment.yaml");
    assert_eq!(swept.code, Some(0), "{swept}");
    place
}

fn lines(place: &Place, name: &str) -> Vec<Value> {
    let text = fs_err::read_to_string(place.path(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Answer of an engine to a request, as a batch has it.
fn answer(request: &Value, text: &str) -> Value {
    let id = &request["custom_id"];
    json!({"id": "vllm-1", "custom_id": id, "error": null, "response": {"status_code": 200, "request_id": "1", "body": {
        "object": "chat.completion", "model": request["body"]["model"], "usage": {"completion_tokens": 5},
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}}})
}

fn write_lines(place: &Place, name: &str, lines: &[Value]) {
    place.write(name, lines.iter().flat_map(|line| [line.to_string(), "\n".to_owned()]).collect::<String>());
}

#[test]
fn another_engine_generates_for_the_runs_of_a_sweep() {
    let place = swept();
    assert_snapshot!(
        "export_prompts",
        place.run("export experiment --format prompts --prompts 6 --max-new-tokens 20 --out prompts")
    );
    let (requests, prompts) = (
        lines(&place, "prompts/requests/kto-0.1-seed-0.jsonl"),
        lines(&place, "prompts/prompts/kto-0.1-seed-0.jsonl"),
    );
    assert_eq!((requests.len(), prompts.len()), (6, 6));
    for (request, prompt) in requests.iter().zip(&prompts) {
        assert_eq!(request["custom_id"], prompt["custom_id"]);
        assert_eq!(
            (&request["body"]["max_tokens"], &request["body"]["temperature"]),
            (&json!(20), &json!(0.0))
        );
        assert_eq!(request["body"]["messages"], prompt["messages"]);
        let content = prompt["messages"][0]["content"].as_str().unwrap();
        let text = prompt["text"].as_str().unwrap();
        assert!(text.contains(content) && text.ends_with("<|im_start|>assistant\n"), "{text}");
        // One token per byte, besides the markers.
        assert!(prompt["prompt_token_ids"].as_array().unwrap().len() > content.len());
    }
    let export: Value =
        serde_json::from_slice(&fs_err::read(place.path("prompts/export.json")).unwrap()).unwrap();
    let run = export["runs"].as_array().unwrap().iter().find(|run| run["name"] == "kto-0.1-seed-0").unwrap();
    assert!(run["adapter"].as_str().unwrap().ends_with("/adapter"), "{run}");
    assert_eq!(run["dtype"], "float32", "vLLM would take 16 bits by itself");

    let mut answers: Vec<Value> = requests
        .iter()
        .enumerate()
        .map(|(index, request)| answer(request, &format!("Reply {index}.")))
        .collect();
    let id = requests[0]["custom_id"].as_str().unwrap();
    let parts: Vec<&str> = id.split(':').collect();
    let renamed = |custom_id: String| answer(&json!({"custom_id": custom_id, "body": {"model": "x"}}), "no");
    answers.extend([
        renamed("request-7".to_owned()),
        renamed(format!("{}:{}:{}:greedy", "0".repeat(16), parts[1], parts[2])),
        renamed(format!("{}:{}:{}:greedy", parts[0], "0".repeat(16), parts[2])),
        renamed(format!("{}:{}:{}:greedy", parts[0], parts[1], "0".repeat(16))),
        renamed(id.to_owned()),
        json!({"custom_id": id, "response": null, "error": {"message": "out of memory"}}),
    ]);
    write_lines(&place, "answers.jsonl", &answers);
    let imported = place.run("judge experiment --import-generations answers.jsonl");
    assert_eq!(imported.code, Some(0), "{imported}");
    assert!(imported.stderr.contains("answers.jsonl: 6 completions of 1 run imported"), "{imported}");
    for reason in [
        "no custom_id of an export",
        "no run of this sweep",
        "no held-out prompt",
        "the weights of the run have changed",
        "a second answer",
        "the engine failed",
    ] {
        assert!(imported.stderr.contains(&format!("1 row ({reason}")), "{reason}: {imported}");
    }
    let generations = lines(&place, &format!("runs/experiment/runs/{}/generations.jsonl", parts[0]));
    assert_eq!(generations.len(), 6);
    assert!(
        // A token for each byte of "Reply 0.", whatever the engine counts.
        generations.iter().all(|own| own["tokens"] == 8 && own["ended"] == true && own["chosen"].is_string())
    );
    let page = fs_err::read_to_string(place.path("reports/experiment/index.html")).unwrap();
    assert!(
        page.contains("Generated outside of this sweep and imported from answers.jsonl (BLAKE3"),
        "the report says it"
    );
    assert!(page.contains("Reply 0.") && place.run("verify runs/experiment").code == Some(0));

    // They are judged like others, and judgements of replaced ones are removed.
    let judged = "judge experiment --import sheet.jsonl --column win=judgement";
    let rows = requests.iter().map(|request| {
        json!({"run": parts[0], "prompt": request["custom_id"].as_str().unwrap().split(':').nth(1).unwrap(), "judgement": 1})
    });
    write_lines(&place, "sheet.jsonl", &rows.collect::<Vec<_>>());
    assert!(place.run(judged).stderr.contains("6 of 6 rows imported"), "prompts are matched by id");
    let again = place.run("judge experiment --import-generations answers.jsonl");
    assert!(again.stderr.contains("6 judgements of replaced generations removed"), "{again}");
}

#[test]
fn generations_of_runs_are_not_replaced_unasked() {
    let place = swept();
    place.run("export experiment --format prompts --prompts 2 --out prompts");
    let requests = lines(&place, "prompts/requests/dpo-0.1-seed-0.jsonl");
    let run = requests[0]["custom_id"].as_str().unwrap().split(':').next().unwrap().to_owned();
    let own = json!({"prompt_id": "p", "prompt": "user: hi", "completion": "yo", "tokens": 1, "ended": true, "mode": "greedy"});
    write_lines(&place, &format!("runs/experiment/runs/{run}/generations.jsonl"), &[own]);
    write_lines(
        &place,
        "answers.jsonl",
        &requests.iter().map(|request| answer(request, "Hi.")).collect::<Vec<_>>(),
    );
    let refused = place.run("judge experiment --import-generations answers.jsonl");
    assert!(refused.code == Some(1) && refused.stderr.contains("add --replace"), "{refused}");
    assert_eq!(place.run("judge experiment --import-generations answers.jsonl --replace").code, Some(0));
    write_lines(&place, "nothing.jsonl", &[json!({"custom_id": "x"})]);
    assert_snapshot!(
        "import_no_generations",
        place.run("judge experiment --import-generations nothing.jsonl")
    );
    let both = place.run("judge experiment --import-generations answers.jsonl --samples");
    assert_eq!(both.code, Some(2), "{both}");
}
