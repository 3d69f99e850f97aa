//! What the runs of a plan take of memory at most, before they are begun.

use prospect_model::{Architecture, Demand, Place};
use prospect_train::{Settings, Wanted, Way};

use crate::{Plan, SweepError};

/// What runs of one model and objective take side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Room {
    /// The model.
    pub model: String,
    /// The objective.
    pub objective: String,
    /// How one of them trains, and what it takes if its sequences are all as long as they may be.
    pub way: Way,
    /// Blocks of the model.
    pub blocks: usize,
    /// How many there are at once.
    pub side_by_side: usize,
}

impl Room {
    /// Bytes of all of them, over one copy of the weights that are not trained.
    pub fn most(&self) -> u64 {
        let Demand { frozen, .. } = self.way.demand;
        frozen + self.side_by_side as u64 * (self.way.demand.total() - frozen)
    }

    /// Bytes that no shorter sequence spares: weights, gradients and the optimizer's moments.
    pub fn least(&self) -> u64 {
        let Demand { frozen, trained, moments, .. } = self.way.demand;
        frozen + self.side_by_side as u64 * (2 * trained + moments)
    }
}

/// What each model of a plan takes at most under each objective, with `jobs` runs side by side, in the order of the plan.
pub fn rooms(plan: &Plan, jobs: usize) -> Result<Vec<Room>, SweepError> {
    let architectures: Vec<Architecture> =
        plan.models.iter().map(prospect_model::Recipe::architecture).collect::<Result<_, _>>()?;
    let jobs = jobs.min(plan.runs.len()).max(1);
    let stages = plan.sft.iter().map(|sft| (sft.model, &sft.settings, 1));
    let runs = plan.whole().iter().map(|run| (run.model, &run.train, jobs));
    let mut rooms: Vec<Room> = Vec::new();
    for (model, settings, side_by_side) in stages.chain(runs) {
        let room = room(plan, model, &architectures[model], settings, side_by_side)?;
        let same = |other: &&mut Room| (&other.model, &other.objective) == (&room.model, &room.objective);
        match rooms.iter_mut().find(same) {
            Some(other) if other.most() >= room.most() => {}
            Some(other) => *other = room,
            None => rooms.push(room),
        }
    }
    Ok(rooms)
}

fn room(
    plan: &Plan,
    model: usize,
    architecture: &Architecture,
    settings: &Settings,
    side_by_side: usize,
) -> Result<Room, SweepError> {
    let recipe = &plan.models[model];
    let wanted = Wanted::of(recipe, architecture, settings, Place::here());
    let frozen = wanted.footprint(recipe.quantization)?.frozen;
    let activations = recipe.activations.of_each(side_by_side, frozen);
    Ok(Room {
        model: recipe.name.clone(),
        objective: settings.objective.name(),
        way: wanted.as_set(recipe.quantization, activations)?,
        blocks: architecture.layers,
        side_by_side,
    })
}
