//! Costs of a comparison's runs, nominal or measured.

use std::path::Path;

use prospect_analysis::sequential::{Design, RunCost};
use prospect_runs::SweepDir;
use prospect_train::ObjectiveName;

use super::{CompareOptions, facts::Probe, plan_file};
use crate::{
    Execution, RunStart, SweepError,
    config::{LoadedExperiment, RecipeSources},
    estimate::estimate_time,
    plan::SweepPlan,
};

/// Forward passes that a step takes for each of its completions: one forward, and a backward that
/// costs two.
const PASSES: f64 = 3.0;

/// Completions per step at which steps are measured.
const MEASURED_BATCH: usize = 16;

/// Forward passes over a completion that generating one is counted as.
const GENERATION: f64 = 3.0;

/// Steps of the measured runs' schedule.
const MEASURED_STEPS: u64 = 8;

/// Costs of the runs of each method, the baseline first.
pub(super) struct Costs {
    /// Cost of an SFT stage; 0 without one.
    pub(super) sft: f64,
    /// Seconds at [`MEASURED_BATCH`]; None counts steps.
    measured: Option<Vec<RunCost>>,
}

impl Costs {
    /// Costs of the first `methods` methods at this batch size.
    pub(super) fn of_methods(&self, methods: usize, batch_size: usize) -> Vec<RunCost> {
        let batch = batch_size as f64;
        let Some(measured) = &self.measured else {
            // Completions and samples, before and after training.
            let completions = 4.0 * plan_file::GENERATED_PROMPTS as f64;
            let run = GENERATION * completions / (PASSES * batch);
            return vec![RunCost { run, step: 1.0, pair: 2.0 / (PASSES * batch) }; methods];
        };
        let scaled = |cost: &RunCost| RunCost { step: cost.step * batch / MEASURED_BATCH as f64, ..*cost };
        measured.iter().take(methods).map(scaled).collect()
    }

    /// Cost of one run of each method in a design.
    pub(super) fn of_runs(&self, methods: usize, batch_size: usize, design: &Design) -> Vec<f64> {
        let of_run =
            |cost: RunCost| cost.run + design.steps as f64 * cost.step + design.pairs as f64 * cost.pair;
        self.of_methods(methods, batch_size).into_iter().map(of_run).collect()
    }
}

/// Costs in optimizer steps. A step costs the same for every method, and scoring a completion a
/// third of training on it.
pub(super) fn nominal_costs(sft_steps: u64) -> Costs {
    Costs { sft: sft_steps as f64, measured: None }
}

/// Costs in seconds, from a few measured steps of each method.
pub(super) fn measured_costs(
    options: &CompareOptions,
    probe: &Probe,
    methods: &[ObjectiveName],
    sources: &RecipeSources<'_>,
    out: &Path,
) -> Result<Costs, SweepError> {
    let pairs = probe.facts.held_out();
    let sample = Design { steps: MEASURED_STEPS, pairs, looks: vec![1], detectable: 0.0, cost: 0.0 };
    let batch_size = options.batch_size.unwrap_or(MEASURED_BATCH);
    let document = plan_file::document(options, probe, methods, batch_size, &sample)?;
    let experiment = LoadedExperiment::read("compare", document, &[])?;
    let plan = SweepPlan::new(&experiment, sources, &out.join("data"))?;
    let cost = estimate_time(&plan, &SweepDir::at(out.to_owned()), &Execution::default())?;
    let mut costs = Vec::new();
    for method in methods {
        let name = method.to_string();
        let is_its =
            |group: &&crate::RunGroupCost| group.start != RunStart::Stage && group.objectives.contains(&name);
        let group = cost.groups.iter().find(is_its).ok_or_else(|| {
            SweepError::Setting(format!(
                "no step of {name} could be measured: give --steps instead of --budget"
            ))
        })?;
        let runs = group.runs as f64;
        costs.push(RunCost {
            run: (group.reading + group.generation) / runs,
            step: group.median_step() * MEASURED_BATCH as f64 / batch_size as f64,
            pair: group.evaluation / runs / pairs.max(1) as f64,
        });
    }
    let stages = cost.groups.iter().filter(|group| group.start == RunStart::Stage);
    Ok(Costs { sft: stages.map(|group| group.seconds()[0]).sum(), measured: Some(costs) })
}
