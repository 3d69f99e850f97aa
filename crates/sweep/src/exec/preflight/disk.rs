//! The output folder: permission to write, and free space.

use std::path::Path;

use prospect_core::{disk::free_space, files};
use prospect_data::Manifest;
use prospect_model::{Architecture, DeviceKind, Dtype, Recipe};
use prospect_train::{PlanRequest, Settings};

use super::super::PendingRuns;
use crate::{SweepError, estimate::completions_per_epoch, plan::SweepPlan};

/// Creates the folder and checks that files can be written there.
pub(super) fn check_writable(folder: &Path) -> Result<(), SweepError> {
    files::check_writable(folder).map_err(|error| {
        SweepError::Preflight(format!(
            "cannot write to the output folder: {error}; make it writable, or choose another one with --out"
        ))
    })
}

/// Checks that the folder has room for the weights and checkpoints of the pending stages and runs.
pub(super) fn check_free_space(
    plan: &SweepPlan,
    folder: &Path,
    pending: &PendingRuns<'_>,
    jobs: usize,
    manifests: &[Manifest],
) -> Result<(), SweepError> {
    let Some(free) = free_space(folder)? else { return Ok(()) };
    let needed = bytes_to_write(plan, pending, jobs, manifests)?;
    if needed <= free {
        return Ok(());
    }
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    Err(SweepError::Preflight(format!(
        "{} pending runs will write about {} of weights and checkpoints to {}, which has {} free: free some \
         space, choose another folder with --out, or lower checkpoints.keep",
        pending.runs.len(),
        gib(needed),
        folder.display(),
        gib(free)
    )))
}

/// Returns the bytes of weights that pending stages and runs leave behind, and of the checkpoints
/// of the runs that train at the same time.
///
/// Metrics and generated texts are small in comparison and not counted.
pub(crate) fn bytes_to_write(
    plan: &SweepPlan,
    pending: &PendingRuns<'_>,
    jobs: usize,
    manifests: &[Manifest],
) -> Result<u64, SweepError> {
    let architectures: Vec<Architecture> =
        plan.models.iter().map(Recipe::architecture).collect::<Result<_, _>>()?;
    let mut weights = 0;
    for sft in &pending.stages {
        // A stage saves the whole model, whatever it trained.
        let recipe = &plan.models[sft.model];
        let bytes = match recipe.dtype {
            Dtype::F32 => 4,
            Dtype::Bf16 => 2,
        };
        weights += architectures[sft.model].parameter_count()? as u64 * bytes;
    }
    let mut largest_checkpoint = 0;
    let stages = pending.stages.iter().map(|sft| (sft.model, sft.dataset, &sft.settings));
    let trained = pending.runs.iter().filter(|run| run.untrained.is_none());
    let runs = trained.map(|run| (run.model, run.dataset, &run.train));
    for (is_run, (model, dataset, settings)) in
        stages.map(|stage| (false, stage)).chain(runs.map(|run| (true, run)))
    {
        let (trained, optimizer) = trained_bytes(&plan.models[model], &architectures[model], settings)?;
        if is_run {
            weights += trained;
        }
        let completions = completions_per_epoch(manifests[dataset].train, &settings.objective);
        if settings.steps(completions) >= plan.checkpoints.every {
            largest_checkpoint = largest_checkpoint.max(trained + optimizer);
        }
    }
    // A checkpoint is written before an older one is removed.
    let kept = plan.checkpoints.keep.max(1) as u64 + 1;
    Ok(weights + jobs.min(pending.runs.len()) as u64 * kept * largest_checkpoint)
}

/// Returns the bytes of the trained weights, and of the optimizer's moments and master weights.
fn trained_bytes(
    recipe: &Recipe,
    architecture: &Architecture,
    settings: &Settings,
) -> Result<(u64, u64), SweepError> {
    let request = PlanRequest::from_recipe(recipe, architecture, settings, DeviceKind::detect());
    let demand = request.plan_as_set(recipe.quantization, recipe.activations)?.demand;
    Ok((demand.trained, demand.moments + demand.master_weights))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_created_and_left_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        check_writable(&path).unwrap();
        assert_eq!(fs_err::read_dir(&path).unwrap().count(), 0);
        assert!(free_space(&path).unwrap().is_none_or(|bytes| bytes > 0));
    }

    #[test]
    fn a_folder_below_a_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("file"), "").unwrap();
        let error = check_writable(&folder.path().join("file/runs")).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot write to the output folder: ") && error.ends_with("with --out"),
            "{error}"
        );
    }
}
