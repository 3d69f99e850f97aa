//! Comparisons in stages: which method suits this data?
//!
//! [`ComparisonPlan::new`] looks at the data, takes methods and settings from the literature,
//! measures a few steps if the budget is a time, and chooses the design with the smallest
//! detectable difference. [`ComparisonSession::create`] freezes it: `plan.yaml` is an experiment
//! file, and `compare.json` has the looks (see [`prospect_analysis::sequential`]). From then on, no
//! time is measured, so the same plan gives the same results.
//!
//! Every look is a sweep in the same directory: that of `plan.yaml` with the seeds, the
//! combinations and the significance level of the look.

mod costs;
mod facts;
mod methods;
mod plan_file;
mod recommend;
mod session;

use std::{path::Path, time::Duration};

use prospect_analysis::sequential::{Design, DesignRequest, design};
use prospect_runs::{ComparisonRequest, CostUnit};
use prospect_train::ObjectiveName;

use self::costs::{Costs, measured_costs, nominal_costs};
pub use self::{facts::DataFacts, session::ComparisonSession};
pub(crate) use self::{
    facts::{Probe, ProbeRequest},
    plan_file::{MAX_LENGTH, MICRO_BATCH, sft},
};
use crate::{
    SweepError,
    config::{LoadedExperiment, RecipeSources},
    plan::SweepPlan,
};

/// Methods that continue beside the baseline after the first look.
const FINALISTS: usize = 2;

/// Steps that runs need for a default method to be worth its cost.
const ENOUGH_STEPS: u64 = 100;

/// Completions per optimizer step, the most preferred first: the paper used 32, and its authors
/// advise 8 to 128.
const BATCH_SIZES: [usize; 3] = [32, 16, 8];

/// Passes over the training data after which further training is pointless.
const MOST_EPOCHS: u64 = 3;

/// Budget of a comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// Optimizer steps of all runs together. Evaluations and the SFT stage count as steps.
    Steps(u64),
    /// Time of all runs together, on this machine, one run at a time.
    Time(Duration),
}

impl Budget {
    /// Unit of its amount.
    pub fn unit(self) -> CostUnit {
        match self {
            Self::Steps(_) => CostUnit::Steps,
            Self::Time(_) => CostUnit::Seconds,
        }
    }

    /// Amount in steps or seconds.
    pub fn amount(self) -> f64 {
        match self {
            Self::Steps(steps) => steps as f64,
            Self::Time(time) => time.as_secs_f64(),
        }
    }
}

/// Request of a comparison.
#[derive(Debug, Clone)]
pub struct CompareOptions {
    /// Data, model, methods and further settings.
    pub request: ComparisonRequest,
    /// Budget.
    pub budget: Budget,
    /// Completions per optimizer step; None chooses them by the budget.
    pub batch_size: Option<usize>,
    /// Peak learning rate; None takes that of the literature.
    pub learning_rate: Option<f64>,
    /// Maximum tokens of prompt and completion together; None is 512, or what the model allows.
    pub max_length: Option<usize>,
    /// Trains an SFT stage first. It always does so for random weights.
    pub sft: bool,
}

/// A planned comparison, not yet written.
#[derive(Debug, Clone)]
pub struct ComparisonPlan {
    /// Facts about the data.
    pub facts: DataFacts,
    /// The methods, the baseline first.
    pub methods: Vec<ObjectiveName>,
    /// Default methods that the budget does not allow.
    pub left_out: Vec<ObjectiveName>,
    /// Completions per optimizer step.
    pub batch_size: usize,
    /// Steps, held-out pairs and looks.
    pub design: Design,
    /// Unit of the design's cost.
    pub unit: CostUnit,
    /// Cost of one run of each method.
    run_costs: Vec<f64>,
    /// Cost of what the runs of one seed share.
    seed_cost: f64,
    /// Contents of `plan.yaml`.
    pub text: String,
}

impl ComparisonPlan {
    /// Plans a comparison. A budget in time is converted by measuring a few steps of each method;
    /// nothing is written.
    pub fn new(
        options: &CompareOptions,
        sources: &RecipeSources<'_>,
        out: &Path,
    ) -> Result<Self, SweepError> {
        let ComparisonRequest { data, model, settings, .. } = &options.request;
        let inputs = ProbeRequest { data, model, settings, sft: options.sft };
        let probe = Probe::new(inputs, sources, out)?;
        let named = methods::parse(&options.request.methods)?;
        let are_default = named.is_empty();
        let mut methods = if are_default { methods::default_for(probe.facts.has_pairs()) } else { named };
        probe.check(&methods)?;
        let costs = match options.budget {
            Budget::Steps(_) => nominal_costs(probe.sft_steps()),
            Budget::Time(_) => measured_costs(options, &probe, &methods, sources, out)?,
        };
        let mut left_out = Vec::new();
        loop {
            let found = best_batch(options, &probe, &costs, methods.len());
            let is_enough = found.as_ref().is_some_and(|(batch_size, design)| {
                design.steps >= ENOUGH_STEPS.min(most_steps(&probe, *batch_size))
            });
            // Further methods come after the two that the comparison is about.
            if are_default && !is_enough && methods.len() > 2 {
                left_out.extend(methods.pop());
                continue;
            }
            left_out.reverse();
            let Some((batch_size, design)) = found else {
                return Err(too_small(options.budget, &probe, &costs, methods.len()));
            };
            let seed_cost = seed_cost(&probe, &costs);
            let run_costs = costs.of_runs(methods.len(), batch_size, &design);
            let document = plan_file::document(options, &probe, &methods, batch_size, &design)?;
            // A wrong setting of the request shows here, before anything is written.
            let experiment = LoadedExperiment::read("plan.yaml", document.clone(), &[])?;
            SweepPlan::new(&experiment, sources, &out.join("data"))?;
            let text = plan_file::write(&document, &design)?;
            let (facts, unit) = (probe.facts, options.budget.unit());
            return Ok(Self {
                facts,
                methods,
                left_out,
                batch_size,
                design,
                unit,
                run_costs,
                seed_cost,
                text,
            });
        }
    }
}

/// Returns the largest batch size whose design trains long enough, with that design; else the
/// smallest that has one.
fn best_batch(
    options: &CompareOptions,
    probe: &Probe,
    costs: &Costs,
    methods: usize,
) -> Option<(usize, Design)> {
    let sizes = options.batch_size.map_or(BATCH_SIZES.to_vec(), |size| vec![size]);
    let designs: Vec<(usize, Design)> = sizes
        .into_iter()
        .filter_map(|size| {
            Some((size, design(&request(probe, costs, methods, size, options.budget.amount()))?))
        })
        .collect();
    designs.iter().find(|(_, design)| design.steps >= ENOUGH_STEPS).or(designs.last()).cloned()
}

/// Cost of what the runs of one seed share: an SFT stage on data that every seed draws.
fn seed_cost(probe: &Probe, costs: &Costs) -> f64 {
    if probe.seeds_draw_data { costs.sft } else { 0.0 }
}

/// Steps after which further training is pointless.
fn most_steps(probe: &Probe, batch_size: usize) -> u64 {
    (MOST_EPOCHS * probe.facts.train_completions() as u64 / batch_size as u64).max(20)
}

fn request(probe: &Probe, costs: &Costs, methods: usize, batch_size: usize, budget: f64) -> DesignRequest {
    DesignRequest {
        costs: costs.of_methods(methods, batch_size),
        shared: if probe.seeds_draw_data { 0.0 } else { costs.sft },
        per_seed: seed_cost(probe, costs),
        held_out: probe.facts.held_out(),
        most_steps: most_steps(probe, batch_size),
        finalists: FINALISTS,
        budget,
    }
}

/// Error of a budget that allows no comparison, with one that would.
fn too_small(budget: Budget, probe: &Probe, costs: &Costs, methods: usize) -> SweepError {
    let smallest = BATCH_SIZES.last().copied().unwrap_or(8);
    let enough = (0..40)
        .map(|doubling| budget.amount().max(1.0) * 1.25_f64.powi(doubling))
        .find(|budget| design(&request(probe, costs, methods, smallest, *budget)).is_some());
    let needed = match (budget, enough) {
        (_, None) => "name fewer --methods".to_owned(),
        (Budget::Steps(_), Some(enough)) => {
            format!("give at least --steps {}", (enough / 50.0).ceil() * 50.0)
        }
        (Budget::Time(_), Some(enough)) => format!("give at least --budget {}m", (enough / 60.0).ceil()),
    };
    SweepError::Setting(format!(
        "the budget is too small for {methods} methods with three seeds each: {needed}, or a smaller model"
    ))
}
