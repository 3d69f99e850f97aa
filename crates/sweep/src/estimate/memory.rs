//! Peak memory of a plan's runs.

use prospect_dist::ZeroStage;
use prospect_model::{Architecture, DeviceKind, Footprint, MemoryDemand, Recipe};
use prospect_runs::series_name;
use prospect_train::{PlanRequest, TrainPlan};
use serde::Serialize;

use crate::{
    SweepError,
    plan::{ResolvedRun, SweepPlan, UntrainedPolicy},
};

/// Peak memory of runs that share model and objective, on one device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemoryEstimate {
    /// The model.
    pub model: String,
    /// The objective, or the baseline that is evaluated without training.
    pub objective: String,
    /// Micro-batch, recomputation and memory of one run, if every sequence has the maximum length.
    pub train_plan: TrainPlan,
    /// Transformer blocks of the model.
    pub blocks: usize,
    /// Runs that train at the same time on one device.
    pub concurrent_runs: usize,
    /// Bytes of a baseline's weights, which each of its runs loads beside the model; 0 for runs that
    /// train.
    pub baseline: u64,
}

impl MemoryEstimate {
    /// Returns the peak of all concurrent runs in bytes. They share one copy of the frozen weights.
    pub fn peak(&self) -> u64 {
        let MemoryDemand { frozen, .. } = self.train_plan.demand;
        frozen + self.concurrent_runs as u64 * (self.train_plan.demand.total() - frozen + self.baseline)
    }

    /// Returns the bytes that are needed whatever the sequence length: weights, gradients and
    /// optimizer state.
    pub fn minimum(&self) -> u64 {
        let MemoryDemand { frozen, trained, moments, master_weights, .. } = self.train_plan.demand;
        frozen + self.concurrent_runs as u64 * (2 * trained + moments + master_weights + self.baseline)
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

/// Estimates the peak memory per device of each model and objective, in the order of the plan, and
/// of baselines that are models of their own.
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
    let mut largest = Largest::default();
    for (model, settings, concurrent_runs) in stages.chain(runs) {
        let recipe = &plan.models[model];
        let request = PlanRequest::from_recipe(recipe, &architectures[model], settings, DeviceKind::detect());
        let request = PlanRequest { ranks, zero, ..request };
        largest.add(estimate_one(recipe, &request, concurrent_runs)?);
    }
    for run in plan.full_length_runs() {
        if let Some(UntrainedPolicy::Model(policy)) = run.untrained {
            let policy = &plan.policies[policy];
            let (recipe, architecture) = (&plan.models[run.model], &architectures[run.model]);
            let estimate = estimate_baseline(run, policy, recipe, architecture, jobs)?;
            let series = run.settings.get(&plan.axes[1].key).map(series_name).unwrap_or_default();
            largest.add(MemoryEstimate { objective: format!("baseline {series}"), ..estimate });
        }
    }
    Ok(largest.0)
}

/// The largest estimate of each model and objective.
#[derive(Default)]
struct Largest(Vec<MemoryEstimate>);

impl Largest {
    fn add(&mut self, estimate: MemoryEstimate) {
        let is_same = |other: &&mut MemoryEstimate| {
            (&other.model, &other.objective) == (&estimate.model, &estimate.objective)
        };
        match self.0.iter_mut().find(is_same) {
            Some(other) if other.peak() >= estimate.peak() => {}
            Some(other) => *other = estimate,
            None => self.0.push(estimate),
        }
    }
}

/// Estimates the memory of an evaluation of `policy` beside the model that runs start from: the
/// weights of both, and the workspace of a training step, which is larger than that of a pass
/// without gradients.
fn estimate_baseline(
    run: &ResolvedRun,
    policy: &Recipe,
    start: &Recipe,
    architecture: &Architecture,
    concurrent_runs: usize,
) -> Result<MemoryEstimate, SweepError> {
    let device = DeviceKind::detect();
    let request = PlanRequest::from_recipe(start, architecture, &run.train, device);
    let estimate = estimate_one(start, &request, concurrent_runs)?;
    let MemoryDemand { frozen, workspace, .. } = estimate.train_plan.demand;
    let demand = MemoryDemand { frozen, workspace, ..MemoryDemand::default() };
    // A model that is not on this machine is taken to be as large as the start.
    let own = if policy.is_fetched() { Some(policy.architecture()?) } else { policy.architecture().ok() };
    let architecture = own.as_ref().unwrap_or(architecture);
    let footprint =
        Footprint::planned(architecture, policy.train, policy.dtype, policy.quantization, 1, None, device)?;
    Ok(MemoryEstimate {
        train_plan: TrainPlan { demand, ..estimate.train_plan },
        baseline: footprint.frozen,
        ..estimate
    })
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
        baseline: 0,
    })
}
