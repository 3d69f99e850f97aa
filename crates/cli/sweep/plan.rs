//! `prospect sweep --dry-run`: prints the runs of a plan, its training schedule and its memory.

use std::path::Path;

use prospect_model::DeviceKind;
use prospect_report::overview::{ContentBlock, DisplayTable, Overview, Section, TableCell};
use prospect_runs::SweepDir;
use prospect_sweep::{
    CardEstimate, DeviceCost, MemoryEstimate, Parallelism, PlannedState, PricesFile, RunFilter,
    SeriesSchedule, SweepPlan, TrainingSchedule, estimate_cards, estimate_memory, training_schedule,
};
use serde::Serialize;

use super::{cards, memory};
use crate::{output, plan::overhead};

/// Plan as `--json` prints it.
#[derive(Serialize)]
struct PlanJson<'a> {
    question: &'a str,
    runs: Vec<PlannedState<'a>>,
    /// Seed of the runs in `schedule`.
    seed: u64,
    schedule: &'a [SeriesSchedule],
    memory: Vec<MemoryEstimate>,
    gpu_cost: Vec<CardEstimate>,
    /// Cost of all runs by device; None if the data is not counted.
    price: Option<PriceJson<'a>>,
    /// Addresses that are not on this machine.
    not_fetched: Vec<String>,
    /// Reasons why data could not be counted.
    errors: &'a [String],
}

/// Costs of all runs, with the prices that they assume.
#[derive(Serialize)]
struct PriceJson<'a> {
    prices: &'a PricesFile,
    costs: Vec<DeviceCost>,
}

/// Prints the plan.
pub(super) fn print(
    plan: &SweepPlan,
    sweep: &SweepDir,
    only: &RunFilter,
    jobs: usize,
    (json, prices): (bool, Option<&Path>),
) -> anyhow::Result<()> {
    let parallelism = Parallelism { jobs, ranks: 1, zero: None };
    let schedule = training_schedule(plan);
    let prices = PricesFile::open(prices)?;
    if json {
        let gpu_cost = estimate_cards(plan, &schedule, overhead(DeviceKind::Gpu))?;
        let json = PlanJson {
            question: &plan.question,
            runs: plan.planned_runs(sweep, only),
            seed: schedule.seed,
            schedule: &schedule.rows,
            memory: estimate_memory(plan, parallelism)?,
            price: prices.costs_of_plan(&gpu_cost).map(|costs| PriceJson { prices: &prices, costs }),
            gpu_cost,
            not_fetched: plan.not_fetched().into_iter().collect(),
            errors: &schedule.errors,
        };
        return Ok(output::print(serde_json::to_string_pretty(&json)?)?);
    }
    output::print(plan.describe(sweep, only))?;
    let mut overview = overview(plan, &schedule);
    overview.sections.push(memory::section(plan, parallelism)?);
    overview.sections.push(cards::section(plan, &schedule, &prices)?);
    let missing = plan.not_fetched();
    if !missing.is_empty() {
        overview.warnings.push(format!(
            "not fetched: {}; the ids above are provisional until the sweep fetches them",
            missing.into_iter().collect::<Vec<_>>().join(", ")
        ));
    }
    output::print(format!("\n{}", overview.text()))?;
    Ok(())
}

fn overview(plan: &SweepPlan, schedule: &TrainingSchedule) -> Overview {
    let [x, series] = &plan.axes;
    let columns = [&series.label, &x.label, "completions", "per step", "steps", "epochs"];
    let row = |row: &SeriesSchedule| {
        let xs = if row.xs.len() == schedule.xs.len() && row.xs.len() > 1 {
            "all".to_owned()
        } else {
            row.xs.join(", ")
        };
        vec![
            TableCell::Text(row.series.clone()),
            TableCell::Text(xs),
            TableCell::count(row.completions as u64),
            TableCell::count(row.batch_size as u64),
            TableCell::count(row.steps),
            TableCell::Number(format!("{:.2}", row.epochs)),
        ]
    };
    let table = DisplayTable {
        title: String::new(),
        columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        rows: schedule.rows.iter().map(row).collect(),
    };
    Overview {
        title: "Training schedule".to_owned(),
        lead: differences(&x.label, schedule),
        warnings: schedule.errors.clone(),
        sections: vec![Section {
            title: format!("Runs of seed {}, before overlong rows are dropped", schedule.seed),
            blocks: vec![ContentBlock::Table(table)],
        }],
    }
}

/// Describes in what the series differ, and at which x.
fn differences(label: &str, schedule: &TrainingSchedule) -> Vec<String> {
    let places = |at: &[String]| {
        if at.len() == schedule.xs.len() { String::new() } else { format!(" at {label} = {}", at.join(", ")) }
    };
    let differ = |what: &str, at: &[String]| {
        (!at.is_empty()).then(|| format!("series differ in {what}{}", places(at)))
    };
    let found =
        [differ("optimizer steps", &schedule.steps_differ), differ("epochs", &schedule.epochs_differ)];
    let found: Vec<String> = found.into_iter().flatten().collect();
    if schedule.rows.is_empty() {
        return vec!["unknown until the data is fetched".to_owned()];
    }
    if found.is_empty() {
        return vec!["all series train for the same optimizer steps and epochs".to_owned()];
    }
    found
}
