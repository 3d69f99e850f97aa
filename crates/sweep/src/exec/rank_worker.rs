//! Ranks other than 0: they train with rank 0 and write nothing.

use prospect_core::progress::Progress;
use prospect_dist::{Collective, CollectiveError, ZeroStage};
use prospect_model::{Model, Train};
use prospect_runs::{Claims, SweepDir};
use prospect_train::{EncodingCache, TrainOutcome};

use super::{
    rank_command::{RankCommand, is_seen_by_all_ranks},
    reference_cache,
    worker::{LoadedStart, Worker},
};
use crate::{Execution, SweepError, plan::SweepPlan};

/// Warns if a batch has fewer micro-batches than there are ranks: a rank without one only waits.
pub(super) fn warn_about_idle_ranks(plan: &SweepPlan, group: &dyn Collective) {
    let settings = plan.runs.iter().map(|run| &run.train).chain(plan.sft.iter().map(|sft| &sft.settings));
    let fewest = settings.map(|train| train.batch_size.div_ceil(train.micro_batch_size)).min();
    if let Some(fewest) = fewest.filter(|fewest| *fewest < group.world_size()) {
        tracing::info!(
            "warning: a batch has {fewest} micro-batches for {} ranks, so some ranks are idle: lower \
             train.micro_batch_size",
            group.world_size()
        );
    }
}

/// Warns if trained weights are to be sharded, but all of them are adapters, which are not.
pub(super) fn warn_about_adapters(plan: &SweepPlan, zero: Option<ZeroStage>) {
    let adapters = plan.models.iter().all(|model| matches!(model.train, Train::Lora(_)));
    if adapters && zero == Some(ZeroStage::Three) {
        tracing::info!("warning: --shard=3 shards no more than --shard, because all models train adapters");
    }
}

/// Executes the commands of rank 0 until it sends the last one.
pub(super) fn worker_loop(
    plan: &SweepPlan,
    sweep: &SweepDir,
    how: &Execution,
    claims: &Claims,
) -> Result<(), SweepError> {
    let worker = Worker {
        plan,
        sweep,
        jobs: 1,
        member: &how.member,
        progress: &Progress::hidden(),
        cache: &reference_cache(sweep),
        encodings: &EncodingCache::default(),
        // Rank 0 claims for all ranks.
        claims,
    };
    let loaded = LoadedStart::default();
    // The models of a command are kept until the next one: to write the trained model, rank 0 may
    // need this rank's shards.
    let (mut stage_model, mut trained): (Option<Model>, Option<TrainOutcome>) = (None, None);
    loop {
        let command = RankCommand::receive(&*how.member.collective)?;
        drop((stage_model.take(), trained.take()));
        let unknown = SweepError::from(CollectiveError::OutOfStep { rank: 0 });
        let result = match &command {
            RankCommand::Exit => return Ok(()),
            RankCommand::TrainStage(id) => {
                let sft = plan.sft.iter().find(|sft| sft.id == *id).ok_or(unknown)?;
                let model = stage_model.insert(plan.models[sft.model].load_as(&how.member)?);
                worker.stage_training(sft, model).run_as_peer(&sweep.run(id), worker.cache)
            }
            RankCommand::TrainRun(id) => {
                let mut runs =
                    plan.runs.iter().chain(plan.later_rungs.iter().flatten()).chain(&plan.retrained);
                let run = runs.find(|run| run.id == *id).ok_or(unknown)?;
                let model = worker.start_model(run, &loaded)?;
                worker.run_training(run, &model).run_as_peer(&sweep.run(id), worker.cache)
            }
        };
        worker.cache.save()?;
        match result {
            Err(error) if !is_seen_by_all_ranks(&error) => return Err(error),
            outcome => trained = outcome.ok(),
        }
    }
}
