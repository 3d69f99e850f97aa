//! Cost of a plan on GPUs: arithmetic and memory, computed without running or downloading anything.

use prospect_data::SplitCounts;
use prospect_model::{Architecture, DeviceKind, Flops, Recipe};
use prospect_train::{Length, PlanRequest, Settings, TrainPlan};
use serde::Serialize;

use super::schedule::{TrainingSchedule, completions_per_epoch};
use crate::{SweepError, plan::SweepPlan};

/// Memory of the cards that a plan is estimated for, in GiB.
pub const CARDS: [u64; 3] = [24, 80, 141];

/// Assumed rate in floating-point operations per second: 45 % of 660·10¹², about the bf16 rate that
/// is reported for a current GPU. No GPU has been measured.
pub const ASSUMED_RATE: f64 = 3e14;

/// Cost of runs, or of SFT stages, that share a model and an objective.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CardEstimate {
    /// The model.
    pub model: String,
    /// The objective.
    pub objective: String,
    /// Number of runs or stages.
    pub runs: usize,
    /// Floating-point operations of a completion of maximum length: forward passes of policy and
    /// reference, and the backward pass.
    pub operations: f64,
    /// Completions of all runs together; None if the data is not counted.
    pub completions: Option<f64>,
    /// Fit of a run on each of [`CARDS`].
    pub cards: Vec<CardFit>,
}

/// Fit of a run on a card.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CardFit {
    /// With the settings of the experiment.
    AsSet(TrainPlan),
    /// With another micro-batch, recomputation or quantization.
    With(TrainPlan),
    /// Not at all; with the bytes of the smallest plan.
    No(u64),
}

impl CardEstimate {
    /// Returns the GPU-hours of some completions at the assumed rate.
    pub fn hours(&self, completions: f64) -> f64 {
        completions * self.operations / ASSUMED_RATE / 3600.0
    }

    fn is_of(&self, model: &str, objective: &str) -> bool {
        self.model == model && self.objective == objective
    }
}

/// Estimates the cost of a plan's stages and runs by model and objective, in the order of the plan.
/// `overhead` are the bytes of a card that are reserved for other uses.
pub fn estimate_cards(
    plan: &SweepPlan,
    schedule: &TrainingSchedule,
    overhead: u64,
) -> Result<Vec<CardEstimate>, SweepError> {
    let architectures: Vec<Architecture> =
        plan.models.iter().map(Recipe::architecture).collect::<Result<_, _>>()?;
    let stages = plan.sft.iter().map(|sft| (sft.model, sft.dataset, &sft.settings, None));
    let runs = plan.expected_runs();
    let runs = runs
        .iter()
        .filter(|run| run.untrained.is_none())
        .map(|run| (run.model, run.dataset, &run.train, Some(*run)));
    let mut estimates: Vec<CardEstimate> = Vec::new();
    for (model, dataset, settings, run) in stages.chain(runs) {
        let recipe = &plan.models[model];
        // Datasets of other seeds are as large as those of the first.
        let counts = schedule.counts.get(&dataset).or_else(|| {
            let twin = plan.runs.iter().find(|other| {
                run.is_some_and(|run| other.seed == schedule.seed && other.settings == run.settings)
            });
            schedule.counts.get(&twin?.dataset)
        });
        let completions = completions_of_run(settings, counts.copied());
        let objective = settings.objective.name();
        match estimates.iter_mut().find(|estimate| estimate.is_of(&recipe.name, objective)) {
            Some(estimate) => {
                estimate.runs += 1;
                estimate.completions = estimate.completions.zip(completions).map(|(sum, more)| sum + more);
            }
            None => estimates.push(CardEstimate {
                model: recipe.name.clone(),
                objective: objective.to_owned(),
                runs: 1,
                operations: completion_operations(recipe, &architectures[model], settings)?,
                completions,
                cards: CARDS
                    .iter()
                    .map(|gib| {
                        fit(recipe, &architectures[model], settings, (gib << 30).saturating_sub(overhead))
                    })
                    .collect::<Result<_, _>>()?,
            }),
        }
    }
    Ok(estimates)
}

/// Returns the completions that a run trains on; None if it trains for epochs of unknown data.
pub(super) fn completions_of_run(settings: &Settings, counts: Option<SplitCounts>) -> Option<f64> {
    let steps = match (settings.length, counts) {
        (Length::Steps(steps), _) => steps,
        (Length::Epochs(_), Some(counts)) => {
            settings.steps(completions_per_epoch(counts, &settings.objective))
        }
        (Length::Epochs(_), None) => return None,
    };
    Some(steps as f64 * settings.batch_size as f64)
}

/// Returns the floating-point operations of a completion of maximum length: forward passes of
/// policy and reference, and the backward pass.
pub fn completion_operations(
    recipe: &Recipe,
    architecture: &Architecture,
    settings: &Settings,
) -> Result<f64, SweepError> {
    // An even number, so that pairs are whole.
    let completions = 2;
    let batch = settings.longest_batch(completions);
    let Flops { forward, adapter, backward } = Flops::for_batch(architecture, recipe.train, &batch)?;
    let reference = if settings.objective.needs_reference() { forward } else { 0 };
    Ok((forward + adapter + backward + reference) as f64 / completions as f64)
}

fn fit(
    recipe: &Recipe,
    architecture: &Architecture,
    settings: &Settings,
    bytes: u64,
) -> Result<CardFit, SweepError> {
    let request = PlanRequest::from_recipe(recipe, architecture, settings, DeviceKind::Gpu);
    let as_set = request.plan_as_set(recipe.quantization, recipe.activations)?;
    if as_set.demand.total() <= bytes {
        return Ok(CardFit::AsSet(as_set));
    }
    if let Some(plan) = request.plans_within(bytes)?.into_iter().next() {
        return Ok(CardFit::With(plan));
    }
    let smallest = request.smallest_plan()?.map_or(as_set.demand.total(), |plan| plan.demand.total());
    Ok(CardFit::No(smallest))
}
