//! The frozen plan: an experiment file.

use prospect_analysis::sequential::Design;
use prospect_core::config::Document;
use prospect_train::ObjectiveName;
use serde_json::{Map, Value, json};

use super::{
    CompareOptions,
    facts::{Probe, StartWeights},
    methods,
};
use crate::SweepError;

/// Axis of the methods.
pub(super) const METHOD: &str = "method";

/// Axis of the length of training, which has one value.
const TRAINING: &str = "training";

/// Held-out prompts that each run continues, for its KL.
pub(super) const GENERATED_PROMPTS: usize = 16;

/// Maximum tokens of a continuation.
const NEW_TOKENS: usize = 48;

/// Longest sequence by default, in tokens.
pub(crate) const MAX_LENGTH: usize = 512;

/// Completions per forward pass.
pub(crate) const MICRO_BATCH: usize = 8;

/// Peak learning rates: of adapters (the default of `prospect train`), of full fine-tuning (the
/// configurations of HALOs, AdamW), and of random weights (the experiments on synthetic feedback).
const ADAPTER_RATE: f64 = 1e-4;
const FULL_RATE: f64 = 5e-6;
const RANDOM_RATE: f64 = 4e-4;

/// An SFT stage: batch size, epochs and most steps.
struct SftStageLength {
    batch_size: usize,
    epochs: u64,
    most_steps: u64,
}

const SFT_OF_RANDOM: SftStageLength = SftStageLength { batch_size: 16, epochs: 3, most_steps: 300 };
const SFT: SftStageLength = SftStageLength { batch_size: 32, epochs: 1, most_steps: 200 };

impl Probe {
    fn sft_length(&self) -> SftStageLength {
        if self.has_random_weights() { SFT_OF_RANDOM } else { SFT }
    }

    /// Optimizer steps of the SFT stage; 0 without one.
    pub(super) fn sft_steps(&self) -> u64 {
        if !self.has_sft {
            return 0;
        }
        let SftStageLength { batch_size, epochs, most_steps } = self.sft_length();
        (epochs * self.facts.train().n_desirable).div_ceil(batch_size as u64).clamp(1, most_steps)
    }

    /// Peak learning rate of the literature for weights of this kind.
    pub(crate) fn learning_rate(&self) -> f64 {
        match self.weights {
            StartWeights::Random => RANDOM_RATE,
            StartWeights::Adapter => ADAPTER_RATE,
            StartWeights::Full => FULL_RATE,
        }
    }
}

/// Returns the text of `plan.yaml`, given the experiment.
pub(super) fn write(document: &Document, design: &Design) -> Result<String, SweepError> {
    let mut text = format!(
        "# Plan of `prospect compare`, frozen before the first run: a change of it would be another comparison.\n\
         # Looks after {} seeds; compare.json has their levels and results.\n",
        design.looks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    );
    let value: serde_yaml::Value = document.read()?;
    let yaml = serde_yaml::to_string(&value).map_err(std::io::Error::other)?;
    // The list of seeds on one line.
    let seeds: Vec<u64> = (0..design.looks.last().copied().unwrap_or(1) as u64).collect();
    let lines: Vec<String> = seeds.iter().map(|seed| format!("\n- {seed}")).collect();
    text.push_str(&yaml.replace(&format!("seeds:{}\n", lines.concat()), &format!("seeds: {seeds:?}\n")));
    Ok(text)
}

/// Returns the experiment of a design, with the request's own settings.
pub(super) fn document(
    options: &CompareOptions,
    probe: &Probe,
    methods: &[ObjectiveName],
    batch_size: usize,
    design: &Design,
) -> Result<Document, SweepError> {
    let request = &options.request;
    let given: Vec<&str> = request.settings.iter().filter_map(|set| Some(set.split_once('=')?.0)).collect();
    let method = |objective: &ObjectiveName| {
        let settings = methods::settings(*objective, probe.facts.train(), &given);
        (objective.to_string(), Value::Object(settings))
    };
    let series: Map<String, Value> = methods.iter().map(method).collect();
    let name = format!("{} steps", design.steps);
    let training = json!({ name: { "train.max_steps": design.steps } });
    let max_length = options.max_length.unwrap_or(MAX_LENGTH.min(probe.max_positions));
    let names: Vec<String> = methods.iter().map(ToString::to_string).collect();
    let mut report = json!({ "x": TRAINING, "series": METHOD, "baseline": names.first() });
    if let [_, other] = names.as_slice() {
        report["primary"] = json!({ "series": other });
    }
    let mut experiment = json!({
        "question": format!("Which of {} suits {} best?", names.join(", "), request.data),
        "data": request.data,
        "model": request.model,
        "settings": settings(options, probe)?,
        "sft": sft(probe, max_length),
        "train": {
            "learning_rate": options.learning_rate.unwrap_or(probe.learning_rate()),
            "lr_scheduler_type": "linear",
            "warmup_steps": design.steps.div_ceil(10),
            "batch_size": batch_size,
            "micro_batch_size": batch_size.min(MICRO_BATCH),
            "max_length": max_length,
        },
        "linked": { METHOD: series, TRAINING: training },
        "seeds": (0..design.looks.last().copied().unwrap_or(1)).collect::<Vec<_>>(),
        "evaluate": evaluate(probe, design),
        "report": report,
    });
    if let Some(map) = experiment.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    let mut document = Document::from_text("plan.yaml", &experiment.to_string())?;
    let is_own = |set: &&String| !set.starts_with("data.") && !set.starts_with("model.");
    request.settings.iter().filter(is_own).try_for_each(|set| document.set_text(set))?;
    Ok(document)
}

/// Settings of the recipes: the split, and those of the request.
fn settings(options: &CompareOptions, probe: &Probe) -> Result<Value, SweepError> {
    let mut settings = Map::new();
    if let Some(fraction) = probe.test_fraction {
        settings.insert("data.split.test_fraction".to_owned(), fraction.into());
    }
    for set in &options.request.settings {
        if let Some((key, value)) = set.split_once('=')
            && (key.starts_with("data.") || key.starts_with("model."))
        {
            settings.insert(key.to_owned(), Document::from_text("--set", value)?.read()?);
        }
    }
    Ok(if settings.is_empty() { Value::Null } else { settings.into() })
}

/// Settings of the SFT stage; null without one.
pub(crate) fn sft(probe: &Probe, max_length: usize) -> Value {
    if !probe.has_sft {
        return Value::Null;
    }
    let SftStageLength { batch_size, .. } = probe.sft_length();
    json!({
        "learning_rate": if probe.has_random_weights() { 5e-3 } else { probe.learning_rate() },
        "lr_scheduler_type": "cosine",
        "warmup_steps": 10,
        "max_steps": probe.sft_steps(),
        "batch_size": batch_size,
        "micro_batch_size": MICRO_BATCH,
        "max_length": max_length,
    })
}

fn evaluate(probe: &Probe, design: &Design) -> Value {
    let pairs = design.pairs;
    // Samples at temperature 1 before and after training estimate the KL divergence.
    let generations = json!({
        "prompts": GENERATED_PROMPTS,
        "max_new_tokens": NEW_TOKENS,
        "mode": "nucleus",
        "every": design.steps,
    });
    if !probe.facts.has_pairs() {
        return json!({ "thumbs": 2 * pairs, "generations": generations });
    }
    if probe.facts.lone_thumbs() > 2 * pairs {
        return json!({ "pairs": pairs, "thumbs": 2 * pairs, "generations": generations });
    }
    json!({ "pairs": pairs, "generations": generations })
}
