//! What ranks other than the first do: take part in what rank 0 decides, and write nothing.

use prospect_core::progress::{Progress, say};
use prospect_dist::{Collective, CollectiveError};
use prospect_model::Model;
use prospect_runs::{Claims, SweepDir};
use prospect_train::TrainError;
use serde::{Deserialize, Serialize};

use super::{
    reference_cache,
    work::{Loaded, Work},
};
use crate::{Execution, Plan, SweepError};

/// What rank 0 is about to do. Stages and runs go by their ids.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Task {
    Stage(String),
    Run(String),
    /// Nothing more.
    End,
}

impl Task {
    /// Tells all other ranks.
    pub(super) fn tell(&self, group: &dyn Collective) -> Result<(), SweepError> {
        group.broadcast(serde_json::to_vec(self).map_err(std::io::Error::from)?)?;
        Ok(())
    }

    /// What rank 0 tells next.
    fn hear(group: &dyn Collective) -> Result<Self, SweepError> {
        let told = group.broadcast(Vec::new())?;
        serde_json::from_slice(&told).map_err(|_| CollectiveError::OutOfStep { rank: 0 }.into())
    }
}

/// Whether all ranks have the error, and so can go on with the next run. Any other one ends them all.
pub(super) fn seen_by_all(error: &SweepError) -> bool {
    matches!(error, SweepError::Train(TrainError::Diverged { .. }))
}

/// A rank without a micro-batch only waits.
pub(super) fn tell_of_idle_ranks(plan: &Plan, group: &dyn Collective) {
    let settings = plan.runs.iter().map(|run| &run.train).chain(plan.sft.iter().map(|sft| &sft.settings));
    let fewest = settings.map(|train| train.batch_size.div_ceil(train.micro_batch_size)).min();
    if let Some(fewest) = fewest.filter(|fewest| *fewest < group.world_size()) {
        say(format!(
            "warning: a batch has {fewest} micro-batches for {} ranks, so that some have nothing to do: lower \
             train.micro_batch_size",
            group.world_size()
        ));
    }
}

/// Takes part until rank 0 has nothing more to do.
pub(super) fn take_part(
    plan: &Plan,
    sweep: &SweepDir,
    how: &Execution,
    claims: &Claims,
) -> Result<(), SweepError> {
    let work = Work {
        plan,
        sweep,
        jobs: 1,
        member: &how.member,
        progress: &Progress::hidden(),
        cache: &reference_cache(sweep),
        // Rank 0 claims for all.
        claims,
    };
    let loaded = Loaded::default();
    // What a stage started from stays until rank 0 has written what came of it, for which it may need all parts.
    let mut of_stage: Option<Model> = None;
    loop {
        let task = Task::hear(&*how.member.collective)?;
        drop(of_stage.take());
        let unknown = SweepError::from(CollectiveError::OutOfStep { rank: 0 });
        let result = match &task {
            Task::End => return Ok(()),
            Task::Stage(id) => {
                let sft = plan.sft.iter().find(|sft| sft.id == *id).ok_or(unknown)?;
                let model = of_stage.insert(plan.models[sft.model].load_as(&how.member)?);
                work.training_of_stage(sft, model).take_part(&sweep.run(id), work.cache)
            }
            Task::Run(id) => {
                let mut runs = plan.runs.iter().chain(plan.later.iter().flatten());
                let run = runs.find(|run| run.id == *id).ok_or(unknown)?;
                let model = work.model(run, &loaded)?;
                work.training_of_run(run, &model).take_part(&sweep.run(id), work.cache)
            }
        };
        work.cache.save()?;
        match result {
            Err(error) if !seen_by_all(&error) => return Err(error),
            _ => {}
        }
    }
}
