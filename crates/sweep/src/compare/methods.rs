//! Methods of a comparison, with their settings from the literature.

use prospect_core::config::Document;
use prospect_data::SplitCounts;
use prospect_train::{FeedbackFormat, ObjectiveName, TrainFile};
use serde_json::{Map, Value, json};
use strum::VariantArray;

use crate::SweepError;

/// Methods on pairs, the baseline first and then by priority.
const ON_PAIRS: [ObjectiveName; 4] =
    [ObjectiveName::Dpo, ObjectiveName::Kto, ObjectiveName::ApoZeroUnpaired, ObjectiveName::Ipo];

/// Methods on thumbs, the baseline first and then by priority.
const ON_THUMBS: [ObjectiveName; 4] =
    [ObjectiveName::Kto, ObjectiveName::Bco, ObjectiveName::Csft, ObjectiveName::Sft];

/// β of every method with a reference (KTO paper, Appendix; the default of TRL).
const BETA: f64 = 0.1;

/// Range of n_D/n_U within which KTO needs no class weights (KTO paper v1, Eq. 8).
const BALANCED: std::ops::RangeInclusive<f64> = 1.0..=4.0 / 3.0;

/// Returns the default methods.
pub(super) fn default_for(has_pairs: bool) -> Vec<ObjectiveName> {
    if has_pairs { ON_PAIRS.to_vec() } else { ON_THUMBS.to_vec() }
}

/// Parses the names of methods.
pub(super) fn parse(names: &[String]) -> Result<Vec<ObjectiveName>, SweepError> {
    let mut methods: Vec<ObjectiveName> = Vec::new();
    for name in names {
        let found = ObjectiveName::VARIANTS.iter().find(|objective| objective.to_string() == *name);
        let Some(objective) = found else {
            let all: Vec<String> = ObjectiveName::VARIANTS.iter().map(ToString::to_string).collect();
            return Err(SweepError::Setting(format!(
                "--methods: there is no `{name}`; methods: {}",
                all.join(", ")
            )));
        };
        if methods.contains(objective) {
            return Err(SweepError::Setting(format!("--methods names {name} twice: remove one")));
        }
        methods.push(*objective);
    }
    match methods.as_slice() {
        [only] => Err(SweepError::Setting(format!(
            "--methods names only {only}: name two or more, the baseline first"
        ))),
        _ => Ok(methods),
    }
}

/// Methods with β = 0.1; the others keep the default of their own paper.
const WITH_BETA: [ObjectiveName; 8] = [
    ObjectiveName::Kto,
    ObjectiveName::ApoZeroUnpaired,
    ObjectiveName::Bco,
    ObjectiveName::Dpo,
    ObjectiveName::Cdpo,
    ObjectiveName::RobustDpo,
    ObjectiveName::Hinge,
    ObjectiveName::Ipo,
];

/// Returns true if an objective trains on pairs.
pub(super) fn needs_whole_pairs(objective: ObjectiveName) -> Result<bool, SweepError> {
    let text = format!("objective: {objective}\nlearning_rate: 1e-4\nbatch_size: 8\nmax_length: 64\n");
    let settings = Document::from_text(&objective.to_string(), &text)?.read::<TrainFile>()?.resolve()?;
    Ok(settings.objective.feedback_format() == FeedbackFormat::Paired)
}

/// Returns the training settings of a method, by dotted key, without those of `given`.
pub(super) fn settings(objective: ObjectiveName, train: SplitCounts, given: &[&str]) -> Map<String, Value> {
    let mut settings = Map::new();
    let mut set = |key: &str, value: Value| {
        let key = format!("train.{key}");
        if !given.contains(&key.as_str()) {
            settings.insert(key, value);
        }
    };
    set("objective", objective.to_string().into());
    if WITH_BETA.contains(&objective) {
        set("beta", BETA.into());
    }
    let ratio = train.n_desirable as f64 / train.n_undesirable.max(1) as f64;
    let is_class_weighted = matches!(objective, ObjectiveName::Kto | ObjectiveName::ApoZeroUnpaired);
    if is_class_weighted && !BALANCED.contains(&ratio) {
        // The paper raises the weight of the rarer class until the ratio is 4/3.
        let rarer = if ratio < 1.0 { "desirable_weight" } else { "undesirable_weight" };
        set(rarer, json!("auto"));
        set("class_balance", json!(1.3333));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(n_desirable: u64, n_undesirable: u64) -> SplitCounts {
        SplitCounts { n_desirable, n_undesirable, ..SplitCounts::default() }
    }

    #[test]
    fn names_are_parsed_with_errors_that_help() {
        let parse = |names: &str| parse(&names.split(',').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(parse("kto,ipo").unwrap(), [ObjectiveName::Kto, ObjectiveName::Ipo]);
        for (names, words) in
            [("kto,dpoo", "no `dpoo`; methods: kto, apo"), ("kto,kto", "twice"), ("kto", "only kto")]
        {
            assert!(parse(names).unwrap_err().to_string().contains(words), "{names}");
        }
        assert!(super::parse(&[]).unwrap().is_empty());
    }

    #[test]
    fn rare_classes_are_weighted_for_kto() {
        let keys = |objective, counts, given: &[&str]| -> Vec<String> {
            settings(objective, counts, given).keys().cloned().collect()
        };
        let kto = ObjectiveName::Kto;
        assert_eq!(keys(kto, counts(100, 100), &[]), ["train.objective", "train.beta"]);
        assert!(keys(kto, counts(10, 100), &[]).contains(&"train.desirable_weight".to_owned()));
        assert!(keys(kto, counts(100, 10), &[]).contains(&"train.undesirable_weight".to_owned()));
        assert_eq!(keys(ObjectiveName::Bco, counts(10, 100), &["train.beta"]), ["train.objective"]);
        assert_eq!(keys(ObjectiveName::Sft, counts(10, 100), &[]), ["train.objective"]);
    }

    #[test]
    fn every_objective_resolves_with_its_settings() {
        for objective in ObjectiveName::VARIANTS {
            let settings = settings(*objective, counts(10, 100), &[]);
            let text = "learning_rate: 1e-4\nbatch_size: 8\nmax_length: 64\n";
            let mut document = Document::from_text("train.yaml", text).unwrap();
            for (key, value) in settings {
                let key = key.trim_start_matches("train.").to_owned();
                document.set(&key, serde_yaml::to_value(value).unwrap()).unwrap();
            }
            let resolved = document.read::<TrainFile>().unwrap().resolve().unwrap();
            let is_paired = resolved.objective.feedback_format() == FeedbackFormat::Paired;
            assert_eq!(needs_whole_pairs(*objective).unwrap(), is_paired, "{objective}");
        }
    }
}
