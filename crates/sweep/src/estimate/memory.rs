//! Peak memory of a plan's runs.

use prospect_dist::ZeroStage;
use prospect_model::{Architecture, DeviceKind, MemoryDemand, Recipe};
use prospect_train::{PlanRequest, TrainPlan};
use serde::Serialize;

use crate::{SweepError, plan::SweepPlan};

/// Peak memory of runs that share model and objective, on one device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemoryEstimate {
    /// The model.
    pub model: String,
    /// The objective.
    pub objective: String,
    /// Micro-batch, recomputation and memory of one run, if every sequence has the maximum length.
    pub train_plan: TrainPlan,
    /// Transformer blocks of the model.
    pub blocks: usize,
    /// Runs that train at the same time on one device.
    pub concurrent_runs: usize,
}

impl MemoryEstimate {
    /// Returns the peak of all concurrent runs in bytes. They share one copy of the frozen weights.
    pub fn peak(&self) -> u64 {
        let MemoryDemand { frozen, .. } = self.train_plan.demand;
        frozen + self.concurrent_runs as u64 * (self.train_plan.demand.total() - frozen)
    }

    /// Returns the bytes that are needed whatever the sequence length: weights, gradients and
    /// optimizer state.
    pub fn minimum(&self) -> u64 {
        let MemoryDemand { frozen, trained, moments, master_weights, .. } = self.train_plan.demand;
        frozen + self.concurrent_runs as u64 * (2 * trained + moments + master_weights)
    }
}

/// Distribution of runs over devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parallelism {
    /// Runs that train at the same time on one device.
    pub jobs: usize,
    /// Ranks that train each run together, each on its own device.
    pub ranks: usize,
    /// State that is sharded over the ranks.
    pub zero: Option<ZeroStage>,
}

/// Estimates the peak memory per device of each model and objective, in the order of the plan.
pub fn estimate_memory(
    plan: &SweepPlan,
    parallelism: Parallelism,
) -> Result<Vec<MemoryEstimate>, SweepError> {
    let architectures: Vec<Architecture> =
        plan.models.iter().map(prospect_model::Recipe::architecture).collect::<Result<_, _>>()?;
    let Parallelism { ranks, zero, .. } = parallelism;
    let jobs = parallelism.jobs.min(plan.runs.len()).max(1);
    let stages = plan.sft.iter().map(|sft| (sft.model, &sft.settings, 1));
    let trained = plan.full_length_runs().iter().filter(|run| run.untrained.is_none());
    let runs = trained.map(|run| (run.model, &run.train, jobs));
    let mut estimates: Vec<MemoryEstimate> = Vec::new();
    for (model, settings, concurrent_runs) in stages.chain(runs) {
        let recipe = &plan.models[model];
        let request = PlanRequest::from_recipe(recipe, &architectures[model], settings, DeviceKind::detect());
        let request = PlanRequest { ranks, zero, ..request };
        let estimate = estimate_one(recipe, &request, concurrent_runs)?;
        let is_same = |other: &&mut MemoryEstimate| {
            (&other.model, &other.objective) == (&estimate.model, &estimate.objective)
        };
        match estimates.iter_mut().find(is_same) {
            Some(other) if other.peak() >= estimate.peak() => {}
            Some(other) => *other = estimate,
            None => estimates.push(estimate),
        }
    }
    Ok(estimates)
}

fn estimate_one(
    recipe: &Recipe,
    request: &PlanRequest<'_>,
    concurrent_runs: usize,
) -> Result<MemoryEstimate, SweepError> {
    let frozen = request.footprint(recipe.quantization)?.frozen;
    let activations = recipe.activations.per_run(concurrent_runs, frozen);
    Ok(MemoryEstimate {
        model: recipe.name.clone(),
        objective: request.settings.objective.name().to_owned(),
        train_plan: request.plan_as_set(recipe.quantization, activations)?,
        blocks: request.architecture.layers,
        concurrent_runs,
    })
}
