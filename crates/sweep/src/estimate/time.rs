//! Duration of a sweep, from a few measured steps of each group of similar runs.

mod costs;
mod measure;
mod sample;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::{Path, PathBuf},
    time::Instant,
};

use prospect_core::{files::WholeDir, memory, sample::unique};
use prospect_data::Manifest;
use prospect_dist::ProcessGroup;
use prospect_model::Model;
use prospect_runs::SweepDir;

pub(super) use self::sample::HeldOutScores;
pub use self::{
    costs::{RunGroupCost, SweepCost},
    sample::RunStart,
};
use self::{
    measure::{MEASURED_STEPS, Measurement, measure},
    sample::{ReferenceReuse, SampleRun},
};
use super::{
    evaluation::EvaluationCounts,
    schedule::{completions_per_epoch, count_dataset},
};
use crate::{
    Execution, SweepError,
    exec::{PendingRuns, load_start},
    plan::SweepPlan,
};

/// Measures a few steps of every group of pending runs and extrapolates to the whole sweep.
///
/// Writes nothing into the sweep: missing datasets are prepared in the system's temporary folder
/// and removed afterwards.
pub fn estimate_time(plan: &SweepPlan, sweep: &SweepDir, how: &Execution) -> Result<SweepCost, SweepError> {
    let scratch = WholeDir::create(&std::env::temp_dir().join("prospect-estimate"))?;
    let pending = PendingRuns::new(plan, &plan.expected_runs(), sweep, how);
    let mut estimator =
        TimeEstimator { plan, sweep, scratch: scratch.path(), manifests: BTreeMap::new(), loaded: None };
    let mut cost = SweepCost { groups: Vec::new(), stage_seconds: 0.0, run_seconds: Vec::new() };
    for sft in pending.stages {
        let stage = SampleRun::from_stage(sft);
        let (group, _) = estimator.measure_group(&stage, &[(&stage, ReferenceReuse::default())])?;
        cost.stage_seconds += group.seconds()[0];
        cost.groups.push(group);
    }
    let runs: Vec<SampleRun<'_>> = pending.runs.iter().map(|run| SampleRun::from_run(run)).collect();
    cost.run_seconds = vec![0.0; runs.len()];
    let mut measured: Vec<usize> = Vec::new();
    for first in 0..runs.len() {
        if measured.contains(&first) {
            continue;
        }
        let group: Vec<usize> =
            (first..runs.len()).filter(|index| runs[*index].costs_the_same_as(&runs[first])).collect();
        let mode = plan.evaluate.generations.map(|generations| generations.options().mode);
        let reuse = |index: usize| ReferenceReuse::new(&runs[index], &runs[..index], mode);
        let members: Vec<_> = group.iter().map(|index| (&runs[*index], reuse(*index))).collect();
        let (group_cost, run_seconds) = estimator.measure_group(&runs[first], &members)?;
        cost.groups.push(group_cost);
        for (index, seconds) in group.iter().zip(run_seconds) {
            cost.run_seconds[*index] = seconds;
        }
        measured.extend(group);
    }
    Ok(cost)
}

/// Measures groups of runs, keeping counts and the last model loaded.
struct TimeEstimator<'a> {
    plan: &'a SweepPlan,
    sweep: &'a SweepDir,
    scratch: &'a Path,
    manifests: BTreeMap<usize, Manifest>,
    /// Model measured last, by index of model and SFT stage.
    loaded: Option<(usize, Option<usize>, Model)>,
}

impl TimeEstimator<'_> {
    /// Measures `sample` and extrapolates to the similar `members`. Returns the cost of the group
    /// and the seconds of each member.
    fn measure_group(
        &mut self,
        sample: &SampleRun<'_>,
        members: &[(&SampleRun<'_>, ReferenceReuse)],
    ) -> Result<(RunGroupCost, Vec<f64>), SweepError> {
        let recipe = &self.plan.models[sample.model];
        let objective = sample.settings.objective.name();
        tracing::info!("measuring {MEASURED_STEPS} steps of {objective} on {}", recipe.name);
        memory::forget_peak();
        let load_seconds = self.load(sample)?;
        let dataset = self.dataset(sample.dataset)?;
        let steps = self.steps(sample)?;
        let loaded = self.loaded.as_ref().map(|(.., model)| model);
        let model = loaded.ok_or_else(|| SweepError::Setting("no model is loaded".to_owned()))?;
        let measured = measure(self.plan, model, recipe, sample, &dataset, steps)?;
        let mut group = RunGroupCost {
            objectives: unique(members.iter().map(|(member, _)| member.settings.objective.name().to_owned())),
            model: recipe.name.clone(),
            start: sample.start,
            runs: members.len(),
            steps: 0,
            cached_steps: 0,
            step_seconds: measured.steps.clone(),
            cached_step_seconds: measured.cached_steps.clone(),
            evaluation: 0.0,
            generation: 0.0,
            reading: load_seconds,
            memory: memory::peak(),
        };
        let mut run_seconds = Vec::with_capacity(members.len());
        for (member, reuse) in members {
            let steps = self.steps(member)?;
            let [evaluation, generation] = if member.start == RunStart::Stage {
                [0.0; 2]
            } else {
                self.evaluation_seconds(member, *reuse, steps, &measured)?
            };
            group.steps += steps;
            group.cached_steps += if reuse.batches { steps } else { 0 };
            group.evaluation += evaluation;
            group.generation += generation;
            group.reading += measured.reading;
            let step = if reuse.batches { group.median_cached_step() } else { group.median_step() };
            run_seconds.push(steps as f64 * step + evaluation + generation + measured.reading);
        }
        if let Some(first) = run_seconds.first_mut() {
            *first += load_seconds;
        }
        Ok((group, run_seconds))
    }

    /// Loads the model that `sample` starts from, unless it is loaded, and returns the seconds
    /// taken.
    ///
    /// Until its SFT stage is trained, the base model stands in for the result: weights of the same
    /// shape.
    fn load(&mut self, sample: &SampleRun<'_>) -> Result<f64, SweepError> {
        if self.loaded.as_ref().is_some_and(|(model, sft, _)| (*model, *sft) == (sample.model, sample.sft)) {
            return Ok(0.0);
        }
        self.loaded = None;
        let trained = sample.sft.filter(|sft| self.sweep.run(&self.plan.sft[*sft].id).is_finished());
        let started = Instant::now();
        let model = load_start(self.plan, self.sweep, sample.model, trained, &ProcessGroup::default())?;
        self.loaded = Some((sample.model, sample.sft, model));
        Ok(started.elapsed().as_secs_f64())
    }

    /// Returns the folder of a prepared dataset: the sweep's own, or a temporary one.
    fn dataset(&mut self, index: usize) -> Result<PathBuf, SweepError> {
        let dataset = &self.plan.datasets[index];
        if let Some(manifest) = dataset.prepared()? {
            self.manifests.insert(index, manifest);
            return Ok(dataset.path.clone());
        }
        let path = self.scratch.join(index.to_string());
        if !path.exists() {
            self.manifests.insert(index, dataset.prepare_in(&path)?);
        }
        Ok(path)
    }

    fn manifest(&mut self, index: usize) -> Result<&Manifest, SweepError> {
        Ok(match self.manifests.entry(index) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(count_dataset(&self.plan.datasets[index])?),
        })
    }

    fn steps(&mut self, run: &SampleRun<'_>) -> Result<u64, SweepError> {
        let train = self.manifest(run.dataset)?.train;
        Ok(run.settings.steps(completions_per_epoch(train, &run.settings.objective)))
    }

    /// Returns the seconds that a run spends on held-out feedback and on held-out prompts.
    fn evaluation_seconds(
        &mut self,
        run: &SampleRun<'_>,
        reuse: ReferenceReuse,
        steps: u64,
        measured: &Measurement,
    ) -> Result<[f64; 2], SweepError> {
        let test = self.manifest(run.dataset)?.test;
        let corrupted = measured.corrupted as u64;
        let EvaluationCounts { scored, continued } =
            EvaluationCounts::new(&self.plan.evaluate, test, steps, corrupted, reuse.start);
        let tests = measured.tests * if reuse.same_start { 1.0 } else { 2.0 };
        Ok([scored as f64 * measured.completion + tests, continued as f64 * measured.prompt])
    }
}
