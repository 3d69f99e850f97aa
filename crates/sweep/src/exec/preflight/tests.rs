//! Sweeps on a model whose weights cannot be loaded: whatever is refused is refused before.

use std::path::Path;

use prospect_core::config::Document;
use prospect_runs::SweepDir;

use crate::{Execution, ExecutionSummary, LoadedExperiment, RecipeSources, SweepError, SweepPlan, execute};

const CONFIG: &str = r#"{"model_type": "llama", "vocab_size": 258, "hidden_size": 16, "intermediate_size": 32,
    "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0}"#;

/// A folder with a model that has no readable weights, and pairs on `prompts` prompts.
fn folder(prompts: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs_err::write(folder.path().join(name), text).unwrap();
    for name in ["weights", "feedback"] {
        fs_err::create_dir(folder.path().join(name)).unwrap();
    }
    write("weights/config.json", CONFIG);
    write("weights/model.safetensors", "no weights");
    let pair = |prompt: usize| format!(r#"{{"prompt": "q{prompt}", "chosen": "good", "rejected": "bad"}}"#);
    let pairs = |prompts: std::ops::Range<usize>| prompts.map(pair).collect::<Vec<_>>().join("\n") + "\n";
    write("feedback/train.jsonl", &pairs(0..prompts));
    write("feedback/test.jsonl", &pairs(100..104));
    folder
}

/// Executes runs of KTO and DPO with `overrides`.
fn sweep(folder: &Path, overrides: &[&str]) -> (SweepDir, Result<ExecutionSummary, SweepError>) {
    let recipe = |name: &str| {
        let text = if name == "data.yaml" {
            format!("source: {{ kind: pairs, path: '{}' }}", folder.join("feedback").display())
        } else {
            let weights = folder.join("weights");
            format!("weights: '{}'\ntokenizer: bytes\nchat_template: chatml\n", weights.display())
        };
        Document::from_text(name, &text)
    };
    let sources = RecipeSources { recipe: &recipe, data: &recipe, locate: &|path| Ok(path.into()) };
    let experiment = "question: q\ndata: data.yaml\nmodel: model.yaml\n\
        train: { learning_rate: 1e-3, max_steps: 1, batch_size: 2, max_length: 64, max_prompt_length: 60 }\n\
        linked: { method: { kto: { train.objective: kto }, dpo: { train.objective: dpo } } }\n\
        matrix: { train.beta: [0.1] }\nseeds: [0]\n\
        report: { x: train.beta, series: method, baseline: dpo }\n";
    let document = Document::from_text("experiment.yaml", experiment).unwrap();
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    let experiment = LoadedExperiment::read("experiment.yaml", document, &overrides).unwrap();
    let sweep = SweepDir::at(folder.join("runs"));
    let plan = SweepPlan::new(&experiment, &sources, &sweep.path().join("data")).unwrap();
    let result = execute(&plan, &sweep, &Execution::default(), &[]);
    (sweep, result)
}

/// Returns the reasons of the failed runs, in the order of the plan.
fn reasons(sweep: &SweepDir) -> Vec<String> {
    let experiment = sweep.experiment().unwrap();
    let status = |id: &str| sweep.run(id).status().unwrap();
    experiment.runs.iter().filter_map(|run| status(&run.id)?.reason).collect()
}

#[test]
fn weights_that_cannot_be_loaded_are_an_error() {
    let folder = folder(4);
    let (sweep, result) = sweep(folder.path(), &[]);
    assert!(matches!(result, Err(SweepError::Model(_))), "{result:?}");
    assert!(reasons(&sweep).is_empty());
}

#[test]
fn too_few_prompts_for_kto_fail_its_runs_before_weights_are_loaded() {
    let folder = folder(1);
    let (sweep, result) = sweep(folder.path(), &[r#"exclude=[{"method": "dpo"}]"#, "report.baseline=kto"]);
    let summary = result.unwrap();
    assert_eq!((summary.failed, summary.left), (1, 0));
    let [reason] = &reasons(&sweep)[..] else { panic!("one run failed") };
    assert!(reason.starts_with("KTO needs 1 completions of other prompts for each prompt"), "{reason}");
    assert!(reason.contains("has only 0: add prompts, lower train.kl_partners"), "{reason}");
}

#[test]
fn missing_pairs_and_missing_held_out_rows_are_found_before_weights_are_loaded() {
    let folder = folder(4);
    let (sweep, result) =
        sweep(folder.path(), &["data.imbalance.keep_undesirable=0.0", r#"exclude=[{"method": "kto"}]"#]);
    assert_eq!(result.unwrap().failed, 1);
    assert!(reasons(&sweep)[0].starts_with("dpo trains on pairs, but "), "{:?}", reasons(&sweep));

    fs_err::remove_file(folder.path().join("feedback/test.jsonl")).unwrap();
    let (sweep, result) = self::sweep(folder.path(), &["data.split.test_fraction=0.0"]);
    assert_eq!(result.unwrap().failed, 2);
    assert!(reasons(&sweep)[0].contains("has no held-out feedback"), "{:?}", reasons(&sweep));
}

#[test]
fn sequences_beyond_the_position_limit_are_found_before_weights_are_loaded() {
    let folder = folder(4);
    let long = format!(r#"{{"prompt": "p", "chosen": "{}", "rejected": "b"}}"#, "x".repeat(80));
    let file = folder.path().join("feedback/train.jsonl");
    let text = fs_err::read_to_string(&file).unwrap();
    fs_err::write(&file, format!("{text}{long}\n")).unwrap();
    // Sequences that are cut to the limit are fine.
    assert!(matches!(sweep(folder.path(), &[]).1, Err(SweepError::Model(_))));
    let (sweep, result) = sweep(folder.path(), &["train.max_length=100"]);
    assert_eq!(result.unwrap().failed, 2);
    let reason = &reasons(&sweep)[0];
    assert!(reason.starts_with("train.max_length is 100, but ") && reason.contains("at most 64"), "{reason}");
}

#[test]
fn an_unusable_stage_is_an_error_of_the_sweep() {
    let folder = folder(4);
    let (_, result) = sweep(
        folder.path(),
        &[
            r#"sft={"objective": "kto", "kl_partners": 9, "learning_rate": 1e-3, "max_steps": 1, "batch_size": 2, "max_length": 64, "max_prompt_length": 60}"#,
        ],
    );
    let error = result.unwrap_err().to_string();
    assert!(error.starts_with("SFT stage ") && error.contains("KTO needs 9"), "{error}");
}
