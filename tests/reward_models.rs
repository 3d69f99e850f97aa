//! `prospect judge --reward-model` with sequence classifiers of the Hub.

use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use prospect_model::{ClassifierText, SequenceClassifier, device::Device};
use prospect_testkit::{
    fake_hub::{COMMIT, FakeHub},
    write_reward_model,
};
use serde_json::Value;

use crate::{
    judge::{judge, rates, swept},
    support::{Place, Run},
};

fn lines(path: &Path) -> Vec<Value> {
    let text = fs_err::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn summary(place: &Place) -> Value {
    serde_json::from_slice(&fs_err::read(place.path("runs/said/summary.json")).unwrap()).unwrap()
}

/// Directories of the runs of the sweep.
fn runs(place: &Place) -> Vec<PathBuf> {
    let folder = fs_err::read_dir(place.path("runs/said/runs")).unwrap();
    let mut runs: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    runs.sort();
    runs
}

/// Files of the cache of scores, with their contents.
fn scores(place: &Place) -> Vec<(PathBuf, String)> {
    let Ok(folder) = fs_err::read_dir(place.path("runs/.rewards")) else { return Vec::new() };
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs_err::read_to_string(path).unwrap())).collect()
}

/// Sentences of a judge's description, for snapshots.
fn about(judged: &Run) -> String {
    let line = judged.stderr.lines().find(|line| line.starts_with("The reward model")).unwrap();
    line.replace(". ", ".\n")
}

#[test]
fn an_encoder_judges_pairs_of_prompt_and_completion() {
    check_an_encoder();
}

/// Judges a sweep with an encoder, and compares the scores with those of the CPU.
pub(crate) fn check_an_encoder() {
    let place = swept();
    write_reward_model("modernbert", &place.path("scorer"));
    let judged = judge(&place, "--reward-model scorer");
    assert_eq!(judged.code, Some(0), "{judged}");
    assert!(judged.stderr.contains("32 comparisons judged"), "{judged}");
    assert_snapshot!("reward_model_about_encoder", about(&judged));

    let model = SequenceClassifier::open(&place.path("scorer"), &Device::Cpu).unwrap();
    let ClassifierText::Pair(encoder) = model.text() else { panic!("an encoder reads pairs") };
    let score = |prompt: &str, completion: &str| {
        f64::from(model.scores(&[&encoder.encode(prompt, completion).unwrap().input]).unwrap()[0])
    };
    let mut wins = 0;
    for run in runs(&place) {
        let generations = lines(&run.join("generations.jsonl"));
        for judgement in lines(&run.join("judgements.jsonl")) {
            assert_eq!((&judgement["judge"], &judgement["opponent"]), (&"scorer".into(), &"target".into()));
            let said = generations.iter().find(|said| said["prompt_id"] == judgement["prompt_id"]).unwrap();
            // Single turns of the user, whose text is given without the role.
            let prompt = said["prompt"].as_str().unwrap().strip_prefix("user: ").unwrap();
            let completion = said["completion"].as_str().unwrap();
            let end = completion.rfind(['.', '!', '?']).map_or(completion.len(), |at| at + 1);
            let completion = if said["ended"].as_bool().unwrap() { completion } else { &completion[..end] };
            let chosen = said["chosen"].as_str().unwrap();
            // What length-controlled win rates are computed from.
            let characters = [completion, chosen].map(|text| text.chars().count());
            assert_eq!(judgement["characters"], serde_json::json!(characters), "{judgement}");
            let reward = score(prompt, completion) - score(prompt, chosen);
            assert!((judgement["reward"].as_f64().unwrap() - reward).abs() < 1e-5, "{judgement} {reward}");
            assert_eq!(
                judgement["score"].as_f64().unwrap(),
                f64::from(u8::from(reward > 0.0)),
                "{judgement}"
            );
            wins += u64::from(reward > 0.0);
        }
    }
    let own: Vec<Value> = rates(&place).into_iter().filter(|rate| rate["judge"] == "scorer").collect();
    let count = |name: &str| own.iter().map(|rate| rate[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!((own.len(), count("wins"), count("losses"), count("unread")), (2, wins, 32 - wins, 0));

    // Nothing is computed twice, not by another call nor for another opponent.
    let before = scores(&place);
    assert_eq!(before.len(), 1);
    assert_eq!(judge(&place, "--reward-model scorer").code, Some(0));
    assert_eq!(judge(&place, "--reward-model scorer --against baseline").code, Some(0));
    assert_eq!(scores(&place), before);
    let of_baseline = rates(&place).into_iter().filter(|rate| rate["opponent"] == "baseline");
    assert_eq!(of_baseline.filter(|rate| rate["judge"] == "scorer").count(), 1);

    // The scores on disk are those that are used.
    let (path, text) = &before[0];
    assert!(text.lines().count() <= 32 + 8 + 8, "each text once: {text}");
    fs_err::remove_file(path).unwrap();
    let first = summary(&place);
    assert_eq!(judge(&place, "--reward-model scorer").code, Some(0));
    assert_eq!(summary(&place), first);
    let page = fs_err::read_to_string(place.path("reports/said/index.html")).unwrap();
    assert!(page.contains("scorer, against the preferred completions"));
    assert!(page.contains("The reward model in the folder scorer: a ModernBERT with a head for one score"));
}

#[test]
fn truncated_and_unscored_texts_are_counted() {
    let place = swept();
    for (name, limit) in [("modernbert", "30"), ("llama", "100")] {
        write_reward_model(name, &place.path(name));
        let config = place.path(name).join("tokenizer_config.json");
        let text = fs_err::read_to_string(&config).unwrap();
        let limited = text.replace("\"model_max_length\": 512", &format!("\"model_max_length\": {limit}"));
        assert_ne!(limited, text);
        fs_err::write(config, limited).unwrap();
        let judged = judge(&place, &format!("--reward-model {name}"));
        assert_eq!(judged.code, Some(0), "{judged}");
        let first = judged.stderr.lines().find(|line| line.contains("comparisons judged")).unwrap();
        assert_snapshot!(format!("reward_model_truncation_{name}"), format!("{first}\n{}", about(&judged)));
        let unread = rates(&place).into_iter().filter(|rate| rate["judge"] == name);
        let unread: u64 = unread.map(|rate| rate["unread"].as_u64().unwrap()).sum();
        assert_eq!(unread > 0, first.contains("excluded"), "{first}");
    }
}

#[test]
fn a_decoder_of_the_hub_judges_conversations_and_samples() {
    let place = swept();
    // As Python's huggingface_hub leaves it; the tests have no access to the Hub.
    let repository = place.path("no-cache/hub/models--org--scorer");
    write_reward_model("llama", &repository.join("snapshots").join(COMMIT));
    fs_err::create_dir_all(repository.join("refs")).unwrap();
    fs_err::write(repository.join("refs/main"), COMMIT).unwrap();
    let args = "--reward-model hf://org/scorer@main --samples";
    let judged = judge(&place, args);
    assert_eq!(judged.code, Some(0), "{judged}");
    assert!(judged.stderr.contains("128 comparisons judged"), "{judged}");
    assert_snapshot!("reward_model_about_decoder", about(&judged));
    let own: Vec<Value> =
        rates(&place).into_iter().filter(|rate| rate["judge"] == "org/scorer@main").collect();
    assert_eq!(own.len(), 2);
    for point in summary(&place)["frontier"].as_array().unwrap() {
        let kinds: Vec<&Value> =
            point["rewards"].as_array().unwrap().iter().map(|reward| &reward["kind"]).collect();
        let expected = serde_json::json!([
            "utility", { "reward": "org/scorer@main" }, { "win_rate": "org/scorer@main" }
        ]);
        assert_eq!(kinds, expected.as_array().unwrap().iter().collect::<Vec<_>>(), "{point}");
    }
    let page = fs_err::read_to_string(place.path("reports/said/index.html")).unwrap();
    assert!(page.contains("reward (org/scorer@main) − preferred completion’s"));
}

#[test]
fn a_model_that_cannot_judge_is_refused_with_a_way_out() {
    const FILES: &[(&str, &str)] = &[
        ("config.json", r#"{"architectures": ["RobertaForSequenceClassification"], "num_labels": 1}"#),
        ("model.safetensors", "weights"),
    ];
    let place = swept();
    write_reward_model("deberta-v3", &place.path("pickled"));
    let whole = place.path("pickled/model.safetensors");
    fs_err::rename(whole, place.path("pickled/pytorch_model.bin")).unwrap();
    write_reward_model("qwen2", &place.path("causal"));
    let config = fs_err::read_to_string(place.path("causal/config.json")).unwrap();
    place.write("causal/config.json", config.replace("Qwen2ForSequenceClassification", "Qwen2ForCausalLM"));
    let mut refused: Vec<String> = ["pickled", "causal", "causal --set beta=0.2"]
        .iter()
        .map(|model| {
            let run = judge(&place, &format!("--reward-model {model}"));
            assert_eq!(run.code, Some(1), "{run}");
            run.stderr
        })
        .collect();
    let hub = FakeHub::start(FILES);
    let online = [("HF_ENDPOINT", hub.endpoint()), ("HF_HUB_OFFLINE", "0".to_owned())];
    let online: Vec<(&str, &str)> = online.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let run = place.run_with("judge said --reward-model hf://org/name@main", &online);
    assert_eq!(run.code, Some(1), "{run}");
    refused.push(run.stderr);
    assert_snapshot!("reward_model_errors", refused.join("\n"));
    let fetched: Vec<String> =
        hub.requests().into_iter().filter(|request| request.contains("model.safetensors")).collect();
    assert!(fetched.is_empty(), "no weights are fetched of a model that cannot judge: {fetched:?}");
    assert!(scores(&place).is_empty());
}
