//! Arithmetic and disk space that remain, computed without training or downloading anything.

use std::collections::{BTreeMap, btree_map::Entry};

use prospect_data::Manifest;
use prospect_eval::{CorruptedPairs, QuestionShape};
use prospect_model::{Architecture, Recipe};
use prospect_runs::SweepDir;
use serde::Serialize;

use super::{
    cards::{completion_operations, completions_of_run},
    evaluation::{CachedStart, EvaluationCost, EvaluationCounts, prompts_at_once},
    lengths::LengthSamples,
    schedule::completions_per_epoch,
    tests_cost::{cost_of_tests, question_shapes, questions_at_once},
    time::HeldOutScores,
};
use crate::{
    Execution, SweepError,
    exec::{PendingRuns, bytes_to_write},
    plan::{PlannedDataset, ResolvedRun, SweepPlan},
};

/// Arithmetic of the remaining runs, or SFT stages, that share a model and an objective.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainingCost {
    /// The model.
    pub model: String,
    /// The objective.
    pub objective: String,
    /// Number of runs or stages.
    pub runs: usize,
    /// Floating-point operations of the largest optimizer step, with sequences of maximum length
    /// and no cached reference log-probabilities.
    pub step_operations: f64,
    /// Operations of all steps together, with sequences of mean length once the data is prepared;
    /// None until then, if runs last for epochs.
    pub operations: Option<f64>,
}

/// Work that a call of [`execute`](crate::execute) would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RemainingWork {
    /// Runs to train.
    pub runs: usize,
    /// True if all operations are those of sequences of mean length, from a sample of the data, and
    /// not those of sequences of maximum length.
    pub mean_lengths: bool,
    /// Costs by model and objective, in order of execution.
    pub costs: Vec<TrainingCost>,
    /// Cost of all evaluations; None until the data is prepared.
    pub evaluation: Option<EvaluationCost>,
    /// Least number of prompts that a run continues at the same time; None without generations.
    pub prompts_at_once: Option<usize>,
    /// Bytes of weights and checkpoints to write; None until the data is prepared.
    pub disk: Option<u64>,
}

impl RemainingWork {
    /// Returns the floating-point operations of all steps; None until the data is prepared, if runs
    /// last for epochs.
    pub fn operations(&self) -> Option<f64> {
        self.costs.iter().map(|cost| cost.operations).sum()
    }
}

/// Computes the work that remains. Of data that is not prepared, the size is unknown.
pub fn remaining_work(
    plan: &SweepPlan,
    sweep: &SweepDir,
    how: &Execution,
) -> Result<RemainingWork, SweepError> {
    let architectures: Vec<Architecture> =
        plan.models.iter().map(Recipe::architecture).collect::<Result<_, _>>()?;
    let pending = PendingRuns::new(plan, &plan.expected_runs(), sweep, how);
    let stages = pending.stages.iter().map(|sft| (sft.model, sft.dataset, &sft.settings));
    let trained = pending.runs.iter().filter(|run| run.untrained.is_none());
    let runs = trained.map(|run| (run.model, run.dataset, &run.train));
    let mut manifests: BTreeMap<usize, Option<Manifest>> = BTreeMap::new();
    let mut costs: Vec<TrainingCost> = Vec::new();
    let (mut samples, mut mean_lengths) = (LengthSamples::default(), true);
    for (model, dataset, settings) in stages.chain(runs) {
        let manifest = match manifests.get(&dataset) {
            Some(known) => known,
            None => manifests.entry(dataset).or_insert(plan.datasets[dataset].prepared()?),
        };
        let recipe = &plan.models[model];
        let operations_of = |settings| completion_operations(recipe, &architectures[model], settings);
        let step_operations = settings.batch_size as f64 * operations_of(settings)?;
        let typical = match manifest {
            Some(manifest) if recipe.is_fetched() => {
                Some(samples.typical(plan, (model, dataset), manifest, settings)?)
            }
            _ => None,
        };
        mean_lengths &= typical.is_some();
        let each = operations_of(typical.as_ref().unwrap_or(settings))?;
        let completions = completions_of_run(settings, manifest.as_ref().map(|manifest| manifest.train));
        let operations = completions.map(|completions| completions * each);
        let objective = settings.objective.name();
        match costs.iter_mut().find(|cost| cost.model == recipe.name && cost.objective == objective) {
            Some(cost) => {
                cost.runs += 1;
                cost.step_operations = cost.step_operations.max(step_operations);
                cost.operations = cost.operations.zip(operations).map(|(sum, more)| sum + more);
            }
            None => costs.push(TrainingCost {
                model: recipe.name.clone(),
                objective: objective.to_owned(),
                runs: 1,
                step_operations,
                operations,
            }),
        }
    }
    let mut shapes: BTreeMap<usize, Vec<QuestionShape>> = BTreeMap::new();
    for run in &pending.runs {
        if let Entry::Vacant(unknown) = shapes.entry(run.model) {
            unknown.insert(question_shapes(plan, run.model, &architectures[run.model])?);
        }
    }
    let evaluation = evaluation_cost(plan, &pending, &architectures, &manifests, &shapes, &mut samples)?;
    let at_once = |run: &&ResolvedRun| {
        let (dtype, architecture) = (plan.models[run.model].dtype, &architectures[run.model]);
        let held_out = prompts_at_once(&plan.evaluate, dtype, architecture, &run.train);
        let questions = questions_at_once(&shapes[&run.model], dtype, architecture, &run.train);
        held_out.into_iter().chain(questions).min()
    };
    let prompts_at_once = pending.runs.iter().filter_map(at_once).min();
    let all = plan.datasets.iter().map(PlannedDataset::prepared).collect::<Result<Option<Vec<_>>, _>>()?;
    let disk =
        all.map(|manifests| bytes_to_write(plan, &pending, how.jobs.most(), &manifests)).transpose()?;
    Ok(RemainingWork { runs: pending.runs.len(), mean_lengths, costs, evaluation, prompts_at_once, disk })
}

/// Computes the cost of the evaluations of pending runs; None if the size of a dataset is unknown.
fn evaluation_cost(
    plan: &SweepPlan,
    pending: &PendingRuns<'_>,
    architectures: &[Architecture],
    manifests: &BTreeMap<usize, Option<Manifest>>,
    shapes: &BTreeMap<usize, Vec<QuestionShape>>,
    samples: &mut LengthSamples,
) -> Result<Option<EvaluationCost>, SweepError> {
    let mut total = EvaluationCost::default();
    let mode = plan.evaluate.generations.map(|generations| generations.mode);
    let mut earlier: Vec<(HeldOutScores, u64)> = Vec::new();
    let mut starts: Vec<(usize, Option<usize>)> = Vec::new();
    for run in &pending.runs {
        let Some(manifest) = manifests.get(&run.dataset).and_then(Option::as_ref) else { return Ok(None) };
        let scores = HeldOutScores::of(run);
        let same_start = earlier.iter().filter(|(other, _)| *other == scores);
        let cached = CachedStart::new(same_start.map(|(_, seed)| *seed), run.seed, mode);
        earlier.push((scores, run.seed));
        let steps = run.train.steps(completions_per_epoch(manifest.train, &run.train.objective));
        let corrupted = CorruptedPairs::at_most(manifest.train.pairs, manifest.noise.swapped_pairs);
        let counts = EvaluationCounts::new(&plan.evaluate, manifest.test, steps, corrupted, cached);
        let train = plan.models[run.model].train;
        let architecture = &architectures[run.model];
        let settings = if plan.models[run.model].is_fetched() {
            samples.typical(plan, (run.model, run.dataset), manifest, &run.train)?
        } else {
            run.train.clone()
        };
        total.add(EvaluationCost::new(counts, &plan.evaluate, train, architecture, &settings)?);
        let start = (run.model, run.sft);
        total.add(cost_of_tests(&shapes[&run.model], starts.contains(&start), train, architecture)?);
        starts.push(start);
    }
    Ok(Some(total))
}
