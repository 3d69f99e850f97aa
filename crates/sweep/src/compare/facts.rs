//! Facts about the data and the model of a comparison.

use std::path::Path;

use prospect_core::config::Document;
use prospect_data::{Manifest, SplitCounts};
use prospect_model::{Recipe, Train, WeightsSource};
use prospect_train::{ObjectiveName, needs_pairs};
use serde_json::json;

use super::methods::needs_whole_pairs;
use crate::{
    SweepError,
    config::{LoadedExperiment, RecipeSources},
    estimate::count_dataset,
    plan::{DatasetSource, SweepPlan},
};

/// Held-out pairs to aim for where the split is ours to choose.
const WANTED_HELD_OUT: f64 = 400.0;

/// Largest fraction of the prompts to hold out for them.
const MOST_HELD_OUT: f64 = 0.3;

/// Facts about the data.
#[derive(Debug, Clone)]
pub struct DataFacts {
    manifest: Manifest,
}

/// Inputs of a plan, of which facts are looked up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProbeRequest<'a> {
    /// File or folder of feedback, data recipe, or prepared dataset.
    pub(crate) data: &'a str,
    /// Model recipe.
    pub(crate) model: &'a str,
    /// Settings, `KEY=VALUE`. Only those of the recipes count here.
    pub(crate) settings: &'a [String],
    /// True if runs start from an SFT stage, as those of random weights always do.
    pub(crate) sft: bool,
}

/// Weights that runs start from, and what of them is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartWeights {
    Random,
    /// Pretrained, with an adapter that is trained.
    Adapter,
    /// Pretrained, all of them trained.
    Full,
}

/// Facts about the inputs of a plan.
pub(crate) struct Probe {
    pub(super) facts: DataFacts,
    /// Fraction of prompts to hold out, if the data is neither a recipe nor a prepared dataset.
    pub(super) test_fraction: Option<f64>,
    /// True if every seed draws data of its own, by imbalance or noise.
    pub(super) seeds_draw_data: bool,
    /// True if the runs start from an SFT stage.
    pub(super) has_sft: bool,
    pub(super) weights: StartWeights,
    /// Longest sequence that the model takes, in tokens.
    pub(crate) max_positions: usize,
}

impl Probe {
    /// Resolves the data and the model, and counts the data.
    pub(crate) fn new(
        request: ProbeRequest<'_>,
        sources: &RecipeSources<'_>,
        out: &Path,
    ) -> Result<Self, SweepError> {
        let Resolved { facts, recipe, is_raw, seeds_draw_data } = resolve(request, sources, out, None)?;
        let given = request.settings.iter().any(|set| set.starts_with("data.split"));
        let total = facts.held_out() + facts.train_completions() / 2;
        let fraction = (WANTED_HELD_OUT / total.max(1) as f64).min(MOST_HELD_OUT);
        let wanted = (is_raw && !given && fraction > 0.1).then_some((fraction * 100.0).round() / 100.0);
        let facts = match wanted {
            Some(_) => resolve(request, sources, out, wanted)?.facts,
            None => facts,
        };
        let weights = match (&recipe.weights, &recipe.train) {
            (WeightsSource::Random(..), _) => StartWeights::Random,
            (_, Train::Lora(_)) => StartWeights::Adapter,
            _ => StartWeights::Full,
        };
        Ok(Self {
            facts,
            test_fraction: wanted,
            seeds_draw_data,
            has_sft: request.sft || weights == StartWeights::Random,
            weights,
            max_positions: recipe.architecture()?.max_positions,
        })
    }

    /// Returns true if runs start from random weights.
    pub(crate) fn has_random_weights(&self) -> bool {
        self.weights == StartWeights::Random
    }

    /// Checks that the methods can train on the data, and that runs can be ranked on it.
    pub(crate) fn check(&self, methods: &[ObjectiveName]) -> Result<(), SweepError> {
        let fail = |message: String| Err(SweepError::Preflight(message));
        let SplitCounts { pairs, n_desirable, n_undesirable, .. } = self.facts.manifest.train;
        for method in methods {
            if pairs == 0 && needs_whole_pairs(*method)? {
                return fail(needs_pairs(&method.to_string()));
            }
        }
        if n_desirable == 0 || n_undesirable == 0 {
            return fail(format!(
                "the training thumbs are all of one kind ({n_desirable} up, {n_undesirable} down), so there is nothing \
                 to compare: methods learn from the difference; add feedback of the other kind"
            ));
        }
        let test = self.facts.manifest.test;
        if test.pairs == 0 && test.n_desirable.min(test.n_undesirable) == 0 {
            return fail(format!(
                "runs cannot be ranked: of the held-out feedback, {} completions are up and {} down; raise \
                 `--set data.split.test_fraction`",
                test.n_desirable, test.n_undesirable
            ));
        }
        Ok(())
    }
}

/// Data and model of a request.
struct Resolved {
    facts: DataFacts,
    recipe: Recipe,
    /// True if the data is feedback, without a recipe.
    is_raw: bool,
    seeds_draw_data: bool,
}

/// Resolves the request with one method and two seeds.
fn resolve(
    request: ProbeRequest<'_>,
    sources: &RecipeSources<'_>,
    out: &Path,
    test_fraction: Option<f64>,
) -> Result<Resolved, SweepError> {
    let experiment = json!({
        "question": "?",
        "data": request.data,
        "model": request.model,
        "settings": test_fraction.map_or(json!({}), |fraction| json!({ "data.split.test_fraction": fraction })),
        "train": { "learning_rate": 1e-4, "batch_size": 2, "max_length": 64 },
        "linked": { "method": { "kto": { "train.objective": "kto" } } },
        "seeds": [0, 1],
        "report": { "x": "method", "series": "method", "baseline": "kto" },
    });
    let document = Document::from_text("prospect compare", &experiment.to_string())?;
    let is_of_recipe = |set: &&String| set.starts_with("data.") || set.starts_with("model.");
    let settings: Vec<String> = request.settings.iter().filter(is_of_recipe).cloned().collect();
    let experiment = LoadedExperiment::read("compare", document, &settings)?;
    let plan = SweepPlan::new(&experiment, sources, &out.join("data"))?;
    let (Some(dataset), Some(model)) = (plan.datasets.first(), plan.models.first()) else {
        return Err(SweepError::Setting("a comparison needs data and a model".to_owned()));
    };
    let path = Path::new(request.data);
    let is_recipe = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
    let is_input = path.exists() || request.data.starts_with("hf://");
    let is_raw = matches!(dataset.source, DatasetSource::Recipe(_)) && is_input && !is_recipe;
    Ok(Resolved {
        facts: DataFacts { manifest: count_dataset(dataset)? },
        recipe: model.clone(),
        is_raw,
        seeds_draw_data: plan.datasets.len() > 1,
    })
}

impl DataFacts {
    /// True if there are pairs to train on and to rank; otherwise, thumbs are compared.
    pub fn has_pairs(&self) -> bool {
        self.manifest.train.pairs > 0 && self.manifest.test.pairs > 0
    }

    /// Counts of the training split.
    pub(super) fn train(&self) -> SplitCounts {
        self.manifest.train
    }

    /// Training completions.
    pub(super) fn train_completions(&self) -> usize {
        (self.manifest.train.n_desirable + self.manifest.train.n_undesirable) as usize
    }

    /// Held-out pairs; without any, half the number of thumbs.
    pub(super) fn held_out(&self) -> usize {
        let SplitCounts { pairs, n_desirable, n_undesirable, .. } = self.manifest.test;
        (if pairs > 0 { pairs } else { (n_desirable + n_undesirable).div_ceil(2) }) as usize
    }

    /// Held-out thumbs outside of pairs.
    pub(super) fn lone_thumbs(&self) -> usize {
        let SplitCounts { pairs, n_desirable, n_undesirable, .. } = self.manifest.test;
        (n_desirable + n_undesirable).saturating_sub(2 * pairs) as usize
    }

    /// Describes the data in sentences: kind, size, imbalance, contradictions and warnings.
    pub fn describe(&self) -> Vec<String> {
        let Manifest { train, test, contradictions, quality, reading, warnings, .. } = &self.manifest;
        let mut lines = vec![if self.has_pairs() {
            format!(
                "pairs: {} to train on, {} held out, about {} prompts",
                train.pairs,
                test.pairs,
                train.prompts + test.prompts
            )
        } else {
            format!(
                "thumbs: {} to train on, {} held out, about {} prompts",
                self.train_completions(),
                test.n_desirable + test.n_undesirable,
                train.prompts + test.prompts
            )
        }];
        let (up, down) = (train.n_desirable, train.n_undesirable);
        let share = 100.0 * up as f64 / (up + down).max(1) as f64;
        lines.push(if up == down {
            format!("balanced: {up} training completions are desirable and {down} undesirable")
        } else {
            format!("imbalance: {up} training completions are desirable and {down} undesirable ({share:.1} % desirable)")
        });
        let reversed: u64 = quality.values().map(|counts| counts.reversed_pairs).sum();
        lines.push(match (contradictions.completions, reversed) {
            (0, 0) => "contradictions: none".to_owned(),
            (both, reversed) => format!(
                "contradictions: completions with both labels: {both}; pairs judged in both orders: {reversed}; rows \
                 dropped for it: {}",
                contradictions.dropped
            ),
        });
        if reading.rejected > 0 {
            let reasons = reading.rejected_by_reason.iter().map(|(reason, rows)| format!("{reason}: {rows}"));
            lines.push(format!(
                "rejected: {} of {} rows ({})",
                reading.rejected,
                reading.read,
                reasons.collect::<Vec<_>>().join(", ")
            ));
        }
        lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
        lines
    }
}
