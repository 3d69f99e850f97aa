//! Models that are evaluated without training: the start, an adapter, and what does not fit.

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{MODEL, Place};

/// A sweep of one method over two seeds, with further keys.
fn experiment(more: &str, baseline: &str) -> String {
    format!(
        "question: Is it better than what we have?\n\
         data: data.yaml\nmodel: model.yaml\n\
         train: {{ learning_rate: 1e-2, batch_size: 8, max_steps: 3, max_length: 160, max_prompt_length: 100 }}\n\
         linked: {{ method: {{ dpo: {{ train.objective: dpo }}, kto: {{ train.objective: kto }} }} }}\n\
         matrix: {{ train.beta: [0.1] }}\n\
         seeds: [0, 1]\n\
         evaluate: {{ pairs: 12, generations: {{ prompts: 3, max_new_tokens: 6 }} }}\n\
         {more}\
         report: {{ x: train.beta, series: method, baseline: {baseline} }}\n"
    )
}

fn place() -> Place {
    let place = Place::with("");
    place.write("model.yaml", MODEL.replace("train: full", "lora: { r: 2, alpha: 8 }"));
    place
}

fn json(place: &Place, name: &str) -> Value {
    serde_json::from_slice(&fs_err::read(place.path(name)).unwrap()).unwrap()
}

/// Id of the run of a series and seed.
fn id(place: &Place, sweep: &str, series: &str, seed: u64) -> String {
    let experiment = json(place, &format!("runs/{sweep}/experiment.json"));
    let runs = experiment["runs"].as_array().unwrap();
    let run = runs.iter().find(|run| run["settings"]["method"] == series && run["seed"] == seed).unwrap();
    run["id"].as_str().unwrap().to_owned()
}

/// Log-ratios of a run on the held-out pairs.
fn log_ratios(place: &Place, sweep: &str, id: &str) -> Vec<[f64; 2]> {
    let text = fs_err::read_to_string(place.path(&format!("runs/{sweep}/runs/{id}/pairs.jsonl"))).unwrap();
    let pair = |line: &str| {
        let pair: Value = serde_json::from_str(line).unwrap();
        [&pair["chosen"], &pair["rejected"]].map(|ratio| ratio.as_f64().unwrap())
    };
    text.lines().map(pair).collect()
}

#[test]
fn an_adapter_and_the_start_are_series_of_their_own() {
    let place = place();
    place.write("before.yaml", experiment("", "dpo"));
    let before = place.run("sweep before.yaml");
    assert_eq!(before.code, Some(0), "{before}");
    let deployed = id(&place, "before", "kto", 1);
    let baselines = format!(
        "baselines: {{ deployed: {{ model: model.yaml, adapter: runs/before/runs/{deployed}/adapter }}, untouched: {{}} }}\n"
    );
    place.write("after.yaml", experiment(&baselines, "deployed"));
    let planned = place.run("sweep after.yaml --dry-run");
    assert!(planned.stdout.contains("8 runs") && planned.stdout.contains("method = untouched"), "{planned}");
    // The adapter is merged into a second copy of the weights. The start is there anyway.
    let plan: Value = serde_json::from_str(&place.run("sweep after.yaml --dry-run --json").stdout).unwrap();
    let rows = plan["memory"].as_array().unwrap();
    let [rest @ .., deployed] = rows.as_slice() else { panic!("{plan}") };
    assert_eq!(deployed["objective"], "baseline deployed");
    assert_eq!(deployed["baseline"], deployed["train_plan"]["demand"]["frozen"]);
    assert!(rest.len() == 2 && rest.iter().all(|row| row["baseline"] == 0), "{plan}");
    let after = place.run("sweep after.yaml");
    assert_eq!(after.code, Some(0), "{after}");

    // The merged adapter ranks the pairs as it did when it was trained.
    let [trained, merged] = [("before", "kto"), ("after", "deployed")]
        .map(|(sweep, series)| log_ratios(&place, sweep, &id(&place, sweep, series, 1)));
    assert_eq!(trained.len(), 12);
    assert!(trained.iter().flatten().any(|ratio| ratio.abs() > 1e-3), "{trained:?}");
    for (trained, merged) in trained.iter().flatten().zip(merged.iter().flatten()) {
        assert!((trained - merged).abs() < 1e-3, "{trained} {merged}");
    }
    // The start is its own reference.
    let start = log_ratios(&place, "after", &id(&place, "after", "untouched", 0));
    assert!(start.iter().flatten().all(|ratio| *ratio == 0.0), "{start:?}");

    let summary = json(&place, "runs/after/summary.json");
    let point = |series: &str| {
        summary["points"].as_array().unwrap().iter().find(|point| point["series"] == series).unwrap().clone()
    };
    assert_eq!(point("untouched")["accuracy"]["value"], 0.5);
    assert_eq!(point("deployed")["steps"], 0);
    let contrasts = summary["contrasts"].as_array().unwrap();
    assert!(contrasts.iter().all(|contrast| contrast["baseline"] == "deployed"));
    assert!(contrasts.iter().any(|contrast| contrast["series"] == "dpo" && contrast["seeds"] == 2));
    assert_eq!(
        json(&place, "runs/after/experiment.json")["untrained"],
        serde_json::json!(["deployed", "untouched"])
    );
    let page = fs_err::read_to_string(place.path("reports/after/index.html")).unwrap();
    assert!(page.contains("Difference in accuracy from deployed"), "the baseline is named");
    // The same command has nothing left to do.
    assert!(place.run("sweep after.yaml").stderr.contains('8'), "all runs have ended");
}

#[test]
fn baselines_that_do_not_fit_are_refused_before_training() {
    let place = place();
    let error = |name: &str, baselines: &str, baseline: &str| {
        place.write(&format!("{name}.yaml"), experiment(&format!("baselines: {baselines}\n"), baseline));
        let run = place.run(&format!("sweep {name}.yaml"));
        assert_eq!(run.code, Some(1), "{run}");
        assert!(!place.path(&format!("runs/{name}")).exists(), "nothing was written");
        run.stderr
    };
    place.write("before.yaml", experiment("", "dpo"));
    assert_eq!(place.run("sweep before.yaml").code, Some(0));
    let adapter = format!("runs/before/runs/{}/adapter", id(&place, "before", "dpo", 0));

    place.write(
        "wide.yaml",
        MODEL.replace("hidden_size: 16", "hidden_size: 24").replace("head_dim: 8", "head_dim: 12"),
    );
    let wide =
        error("shape", &format!("{{ deployed: {{ model: wide.yaml, adapter: {adapter} }} }}"), "deployed");
    assert!(wide.contains("is this the adapter's base model?"), "{wide}");

    place.write(
        "template.jinja",
        "{% for message in messages %}{{ message['content'] }}<|im_end|>{% endfor %}",
    );
    place.write("other.yaml", format!("{MODEL}chat_template: template.jinja\n"));
    let template = error("template", "{ deployed: { model: other.yaml } }", "deployed");
    assert!(
        template.contains("`baselines.deployed`") && template.contains("another tokenizer or chat template"),
        "{template}"
    );

    assert_snapshot!(
        "baseline_without_adapter",
        error("nameless", "{ deployed: { adapter: nowhere } }", "deployed")
    );
    assert_snapshot!("baseline_named_like_a_series", error("twice", "{ kto: {} }", "dpo"));
    assert_snapshot!("baseline_with_a_typo", error("typo", "{ deployed: { adaptor: x } }", "dpo"));
}
