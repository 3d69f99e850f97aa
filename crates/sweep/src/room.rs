//! What the runs of a plan take of memory at most, before they are begun.

use prospect_model::{Architecture, DeviceKind, MemoryDemand, Recipe};
use prospect_train::{PlanRequest, TrainPlan};

use crate::{Plan, SweepError};

/// What runs of one model and objective take side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Room {
    /// The model.
    pub model: String,
    /// The objective.
    pub objective: String,
    /// How one of them trains, and what it takes if its sequences are all as long as they may be.
    pub way: TrainPlan,
    /// Blocks of the model.
    pub blocks: usize,
    /// How many there are at once on a device.
    pub side_by_side: usize,
}

impl Room {
    /// Bytes of all of them, over one copy of the weights that are not trained.
    pub fn most(&self) -> u64 {
        let MemoryDemand { frozen, .. } = self.way.demand;
        frozen + self.side_by_side as u64 * (self.way.demand.total() - frozen)
    }

    /// Bytes that no shorter sequence spares: weights, gradients and the optimizer's moments.
    pub fn least(&self) -> u64 {
        let MemoryDemand { frozen, trained, moments, .. } = self.way.demand;
        frozen + self.side_by_side as u64 * (2 * trained + moments)
    }
}

/// How runs are spread over devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// Runs side by side on one device.
    pub jobs: usize,
    /// Ranks that train each run together, each on a device of its own.
    pub ranks: usize,
    /// Whether each rank keeps its part only of the frozen matrices.
    pub sharded: bool,
}

/// What each model of a plan takes at most of a device under each objective, in the order of the plan.
pub fn rooms(plan: &Plan, spread: Spread) -> Result<Vec<Room>, SweepError> {
    let architectures: Vec<Architecture> =
        plan.models.iter().map(prospect_model::Recipe::architecture).collect::<Result<_, _>>()?;
    let Spread { ranks, sharded, .. } = spread;
    let jobs = spread.jobs.min(plan.runs.len()).max(1);
    let stages = plan.sft.iter().map(|sft| (sft.model, &sft.settings, 1));
    let runs = plan.whole().iter().map(|run| (run.model, &run.train, jobs));
    let mut rooms: Vec<Room> = Vec::new();
    for (model, settings, side_by_side) in stages.chain(runs) {
        let recipe = &plan.models[model];
        let wanted = PlanRequest::from_recipe(recipe, &architectures[model], settings, DeviceKind::detect());
        let room = room(recipe, &PlanRequest { ranks, sharded, ..wanted }, side_by_side)?;
        let same = |other: &&mut Room| (&other.model, &other.objective) == (&room.model, &room.objective);
        match rooms.iter_mut().find(same) {
            Some(other) if other.most() >= room.most() => {}
            Some(other) => *other = room,
            None => rooms.push(room),
        }
    }
    Ok(rooms)
}

fn room(recipe: &Recipe, wanted: &PlanRequest<'_>, side_by_side: usize) -> Result<Room, SweepError> {
    let frozen = wanted.footprint(recipe.quantization)?.frozen;
    let activations = recipe.activations.per_run(side_by_side, frozen);
    Ok(Room {
        model: recipe.name.clone(),
        objective: wanted.settings.objective.name().to_owned(),
        way: wanted.plan_as_set(recipe.quantization, activations)?,
        blocks: wanted.architecture.layers,
        side_by_side,
    })
}
