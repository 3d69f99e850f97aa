//! Samples of exports, public sets and containers that are not in the repository: each gives the
//! rows, labels, pairs, ties and reasons that `formats/expected.json` among the test data lists.

use std::{collections::BTreeMap, path::Path};

use prospect_data::{Manifest, read_manifest};
use serde_json::Value;

use crate::support::{Place, Run};

/// Settings of the samples that need some: what an export does not say by itself.
const SETTINGS: &[(&str, &[&str])] = &[
    ("langfuse/traces.jsonl", &["source.judgement=user-feedback"]),
    (
        "langsmith/feedback.jsonl",
        &["source.join=[samples]/langsmith/runs.jsonl", "source.judgement=[user_score, ranked_preference]"],
    ),
    ("argilla_v1.jsonl", &["source.binarise={by: threshold, at: 4}"]),
    ("labelstudio_pairwise.json", &["source.columns={first: answer1, second: answer2}"]),
    ("labelstudio_min_choices.json", &["source.columns={label: verdict}"]),
    (
        "hub_helpsteer2.jsonl",
        &[
            "source.kind=scores",
            "source.columns={score: helpfulness}",
            "source.binarise={by: best_and_worst}",
            "source.merge_prompts=true",
        ],
    ),
    ("hub_openbmb_ultrafeedback.jsonl", &["source.binarise={by: threshold, at: 7}"]),
];

/// Our names of the reasons that the list names otherwise.
const NAMES: [(&str, &str); 6] = [
    ("no_rating", "no_judgement"),
    ("no_feedback", "no_judgement"),
    ("no_score", "no_judgement"),
    ("unannotated", "no_judgement"),
    ("other_key", "other_judgement"),
    ("other_annotation", "other_judgement"),
];

/// Reasons of single samples that we name otherwise: a word that the recipe can give a meaning is
/// no bad value, and an empty label is no flaw but no judgement.
const OWN_NAMES: [(&str, &str, &str); 3] = [
    ("labelstudio_min_choices.json", "bad_value", "unknown_word"),
    ("containers/pandas_float_labels.csv", "bad_value", "no_judgement"),
    ("containers/float_label_nan.parquet", "missing_field", "no_judgement"),
];

/// Reasons of comparisons that prefer neither side.
const TIES: [&str; 3] = ["tie", "both_bad", "no_best_and_worst"];

/// Numbers of a prepared sample.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    rows: u64,
    desirable: u64,
    undesirable: u64,
    pairs: u64,
    ties: u64,
    /// Rejected rows, and those left out, by reason.
    reasons: BTreeMap<String, u64>,
}

impl Counts {
    fn of(manifest: &Manifest) -> Self {
        let (reading, train, test) = (&manifest.reading, manifest.train, manifest.test);
        let mut reasons = reading.rejected_by_reason.clone();
        for (reason, times) in &reading.filtered {
            *reasons.entry(reason.clone()).or_default() += times;
        }
        let ties = TIES.iter().filter_map(|reason| reasons.remove(*reason)).sum();
        Self {
            rows: reading.read,
            desirable: train.n_desirable + test.n_desirable,
            undesirable: train.n_undesirable + test.n_undesirable,
            pairs: train.pairs + test.pairs,
            ties,
            reasons,
        }
    }

    /// Reads what the list has for a sample. Of scored completions, it has a rule as an example.
    fn expected(file: &str, sample: &Value) -> Self {
        let rule = sample.get("example_rule").filter(|_| sample.get("scored").is_some());
        let rule = rule.map(|rule| rule.get("threshold 7").unwrap_or(rule));
        let number = |key: &str| {
            rule.and_then(|rule| rule.get(key)).or_else(|| sample.get(key)).and_then(Value::as_u64).unwrap()
        };
        let mut reasons = BTreeMap::new();
        for (reason, times) in
            ["rejected", "left_out"].iter().flat_map(|key| sample[key].as_object().unwrap())
        {
            let own = OWN_NAMES.iter().find(|(sample, name, _)| (*sample, *name) == (file, reason.as_str()));
            let renamed = NAMES.iter().find(|(name, _)| name == reason).map(|(_, ours)| *ours);
            let name = own.map(|(.., ours)| *ours).or(renamed).unwrap_or(reason);
            *reasons.entry(name.to_owned()).or_default() += times.as_u64().unwrap();
        }
        let mut counts = Self {
            rows: number("rows"),
            desirable: number("desirable"),
            undesirable: number("undesirable"),
            pairs: number("pairs"),
            ties: number("ties"),
            reasons,
        };
        match file {
            // Six rows of each of two tables, and the run of a judgement without an answer has none.
            "langsmith/feedback.jsonl" => {
                counts.rows *= 2;
                counts.reasons.values_mut().for_each(|times| *times *= 2);
            }
            // With a rule, the best and the worst completion of each of three prompts are a pair.
            "hub_openbmb_ultrafeedback.jsonl" => counts.pairs = 3,
            _ => {}
        }
        counts
    }
}

/// Folder of the samples, and the list.
fn samples() -> (std::path::PathBuf, Value) {
    let folder = prospect_testkit::test_data("formats");
    let list = fs_err::read(folder.join("expected.json")).unwrap();
    (folder, serde_json::from_slice::<Value>(&list).unwrap()["files"].take())
}

/// Prepares a sample with settings of its own and others, without a test split of our making.
fn prepare(place: &Place, folder: &Path, file: &str, more: &[&str]) -> Result<Manifest, Run> {
    let own = SETTINGS.iter().find(|(sample, _)| *sample == file).map_or(&[][..], |(_, settings)| *settings);
    let mut command =
        place.command("prepare --force --out out --set max_rejected=1 --set split.test_fraction=0");
    command.arg(folder.join(file));
    for setting in own.iter().chain(more) {
        command.args(["--set", &setting.replace("[samples]", &folder.display().to_string())]);
    }
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    match output.status.code() {
        Some(0) => Ok(read_manifest(&place.path("out")).unwrap()),
        code => Err(Run { code, stdout: text(output.stdout), stderr: text(output.stderr) }),
    }
}

mod needs_data {
    use super::*;

    #[test]
    #[ignore = "needs PROSPECT_TEST_DATA"]
    fn every_sample_gives_its_expected_counts() {
        let (folder, list) = samples();
        let (place, list) = (Place::new(), list.as_object().unwrap());
        assert_eq!(list.len(), 71);
        let mut wrong = Vec::new();
        for (file, sample) in list {
            match (prepare(&place, &folder, file, &[]), sample.get("error")) {
                (Ok(manifest), None) => {
                    let (found, expected) = (Counts::of(&manifest), Counts::expected(file, sample));
                    if found != expected {
                        wrong.push(format!("{file}: {found:?}, expected {expected:?}"));
                    }
                }
                (Err(run), Some(_)) if run.stderr.contains("cannot detect the kind") => {}
                (found, error) => {
                    let found = found.map_or_else(|run| run.to_string(), |_| "prepared".to_owned());
                    wrong.push(format!("{file}: {found}, expected {error:?}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    #[ignore = "needs PROSPECT_TEST_DATA"]
    fn options_of_samples_give_their_expected_counts() {
        let (folder, list) = samples();
        let place = Place::new();
        let counts = |file: &str, settings: &[&str]| {
            Counts::of(
                &prepare(&place, &folder, file, settings).unwrap_or_else(|run| panic!("{file}: {run}")),
            )
        };
        let option = |file: &str, name: &str, key: &str| list[file]["option"][name][key].as_u64().unwrap();

        let pku = "hub_pku_saferlhf.jsonl";
        let safer = counts(pku, &["source.columns={better: safer_response_id}"]);
        assert_eq!(safer.pairs, option(pku, "prefer: safer", "pairs"));
        // Labels of their own come with the pairs, which stay for DPO.
        let labels = "source.columns={label_first: is_response_0_safe, label_second: is_response_1_safe}";
        let labelled = counts(pku, &[labels]);
        let expected = ["desirable", "undesirable"].map(|key| option(pku, "label: is_response_N_safe", key));
        assert_eq!([labelled.desirable, labelled.undesirable], expected);

        let arena = "lmsys_chatbot_arena_conversations.jsonl";
        let bad = counts(arena, &["source.both_bad=undesirable"]);
        assert_eq!(bad.undesirable, option(arena, "both_bad: undesirable", "undesirable"));

        let nectar = "hub_nectar.jsonl";
        assert_eq!(counts(nectar, &["source.ranks=all"]).pairs, option(nectar, "ranks: all", "pairs"));
        let best = counts(nectar, &["source.binarise={by: best_and_worst}"]);
        assert_eq!(best.pairs, option(nectar, "best_and_worst", "pairs"));
        assert_eq!((best.desirable, best.undesirable), (best.pairs, best.pairs));

        let scored = "hub_openbmb_ultrafeedback.jsonl";
        let best = counts(scored, &["source.binarise={by: best_and_worst}"]);
        let expected = list[scored]["example_rule"]["best_and_worst"]["pairs"].as_u64().unwrap();
        assert_eq!([best.pairs, best.desirable, best.undesirable], [expected; 3]);

        let webui = "openwebui_feedback.json";
        let inferred = counts(webui, &["source.unrated_siblings_lose=true"]);
        assert_eq!(inferred.pairs, list[webui]["pairs_if_unrated_siblings_lose"].as_u64().unwrap());

        let traces = "langfuse/traces.jsonl";
        let joined = "source.join=[samples]/langfuse/scores.csv";
        assert_eq!(counts(traces, &[joined]).desirable, list[traces]["desirable"].as_u64().unwrap());
    }

    #[test]
    #[ignore = "needs PROSPECT_TEST_DATA"]
    fn splits_domains_and_prompts_of_samples_are_those_of_their_records() {
        let (folder, list) = samples();
        let place = Place::new();
        let manifest = |file: &str, settings: &[&str]| {
            prepare(&place, &folder, file, settings).unwrap_or_else(|run| panic!("{file}: {run}"))
        };
        let steer = "hub_helpsteer2_preference.jsonl";
        let split = manifest(steer, &["source.columns={split: split}"]);
        let expected = ["train", "val"].map(|name| list[steer]["by_split"][name].as_u64().unwrap());
        assert_eq!([split.train.pairs, split.test.pairs], expected);

        let domains = "hub_helpsteer3_preference.jsonl";
        manifest(domains, &["source.columns={domain: domain}"]);
        let pairs = prospect_data::read_pairs(&place.path("out"), prospect_data::Split::Train).unwrap();
        let mut found = BTreeMap::new();
        for pair in &pairs {
            *found.entry(pair.domain.clone()).or_insert(0) += 1;
        }
        assert_eq!(serde_json::to_value(found).unwrap(), list[domains]["by_domain"]);

        let transcripts = "hub_dahoas_full_hh.jsonl";
        manifest(transcripts, &[]);
        let pairs = prospect_data::read_pairs(&place.path("out"), prospect_data::Split::Train).unwrap();
        let turns: Vec<usize> = pairs.iter().map(|pair| pair.prompt.len()).collect();
        assert_eq!(serde_json::to_value(turns).unwrap(), list[transcripts]["prompt_turns"]);

        for (file, key) in [("dify_feedback.csv", "contradictory"), ("dify_feedback.json", "contradictory")] {
            let found = manifest(file, &[]).contradictions.completions;
            assert_eq!(Some(found), list[file][key].as_u64(), "{file}");
        }
        for file in ["hub_ultrafeedback_binarized.jsonl", "hub_distilabel_capybara.jsonl"] {
            let found = manifest(file, &[]).reading.noted["equal_scores"];
            assert_eq!(Some(found), list[file]["equal_scores"].as_u64(), "{file}");
        }
    }
}
