//! The sweep of a triage: one run for each fold.

use std::path::Path;

use prospect_core::config::Document;
use prospect_data::{Fold, ItemKind, TriageItem};
use prospect_train::ObjectiveName;
use serde_json::{Map, Value, json};

use super::TriageOptions;
use crate::{
    SweepError,
    compare::{MAX_LENGTH, MICRO_BATCH, Probe, ProbeRequest, sft},
    config::{LoadedExperiment, RecipeSources},
    plan::SweepPlan,
};

/// Axis of the folds.
pub(super) const FOLD: &str = "fold";

/// Passes over the training data of a fold: of pretrained and of random weights.
const EPOCHS: u64 = 1;
const EPOCHS_OF_RANDOM: u64 = 3;

/// Plans the runs.
pub(super) fn plan(
    items: &[TriageItem],
    options: &TriageOptions,
    folds: &[Fold],
    sources: &RecipeSources<'_>,
    out: &Path,
) -> Result<SweepPlan, SweepError> {
    let data = |fold: &Fold| fold.path.display().to_string();
    let first = folds.first().map(data).unwrap_or_default();
    let inputs =
        ProbeRequest { data: &first, model: &options.model, settings: &options.settings, sft: options.sft };
    let probe = Probe::new(inputs, sources, out)?;
    let objective = options.objective.unwrap_or_else(|| objective_for(items));
    probe.check(&[objective])?;
    let epochs = options.epochs.unwrap_or(if probe.has_random_weights() { EPOCHS_OF_RANDOM } else { EPOCHS });
    let max_length = options.max_length.unwrap_or(MAX_LENGTH.min(probe.max_positions));
    let entries = folds.iter().map(|fold| (fold.index.to_string(), json!({ "data": data(fold) })));
    let mut experiment = json!({
        "question": format!("Which labels of {} do held-out policies dispute?", options.dataset.display()),
        "data": first,
        "model": options.model,
        "sft": sft(&probe, max_length),
        "train": {
            "objective": objective.to_string(),
            "learning_rate": options.learning_rate.unwrap_or_else(|| probe.learning_rate()),
            "lr_scheduler_type": "linear",
            "warmup_ratio": 0.1,
            "num_train_epochs": epochs,
            "batch_size": options.batch_size,
            "micro_batch_size": options.batch_size.min(MICRO_BATCH),
            "max_length": max_length,
        },
        "linked": { FOLD: entries.collect::<Map<String, Value>>() },
        "seeds": [options.seed],
        "report": { "x": FOLD, "series": FOLD, "baseline": "0" },
    });
    if let Some(map) = experiment.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    let document = Document::from_text("prospect triage", &experiment.to_string())?;
    let mut experiment = LoadedExperiment::read("prospect triage", document, &options.settings)?;
    experiment.name = out.file_name().unwrap_or_default().to_string_lossy().into_owned();
    SweepPlan::new(&experiment, sources, &out.join("data"))
}

/// DPO ranks pairs best, and has nothing to train on where there are thumbs outside of pairs.
fn objective_for(items: &[TriageItem]) -> ObjectiveName {
    let all_pairs = items.iter().all(|item| item.kind == ItemKind::Pair);
    if all_pairs { ObjectiveName::Dpo } else { ObjectiveName::Kto }
}
