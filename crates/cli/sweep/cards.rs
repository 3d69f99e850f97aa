//! GPU-hours and GPU memory of a sweep, in its plan.

use prospect_model::DeviceKind;
use prospect_report::overview::{ContentBlock, DisplayTable, Section, TableCell};
use prospect_sweep::{
    ASSUMED_RATE, CARDS, CardEstimate, CardFit, DeviceCost, PricesFile, SweepPlan, TrainingSchedule,
    estimate_cards,
};

use crate::plan::{human_bytes, overhead, quantization_name};

/// Completions that GPU-hours are given for if the data is not counted.
const REFERENCE_COMPLETIONS: f64 = 1e5;

/// Builds the section of the plan with GPU-hours and memory by card.
pub(super) fn section(
    plan: &SweepPlan,
    schedule: &TrainingSchedule,
    prices: &PricesFile,
) -> anyhow::Result<Section> {
    let reserved = overhead(DeviceKind::Gpu);
    let estimates = estimate_cards(plan, schedule, reserved)?;
    let mut columns: Vec<String> =
        ["model", "objective", "runs", "TFLOP per completion", "GPU-hours"].map(str::to_owned).to_vec();
    columns.extend(CARDS.map(|gib| format!("{gib} GiB")));
    let row = |estimate: &CardEstimate| {
        let mut row = vec![
            TableCell::Text(estimate.model.clone()),
            TableCell::Text(estimate.objective.clone()),
            TableCell::count(estimate.runs as u64),
            TableCell::Number(digits(estimate.operations / 1e12)),
            TableCell::Number(hours(estimate)),
        ];
        row.extend(estimate.cards.iter().map(|fit| TableCell::Text(describe(*fit, reserved))));
        row
    };
    let mut blocks = vec![ContentBlock::Table(DisplayTable {
        title: String::new(),
        columns,
        rows: estimates.iter().map(row).collect(),
    })];
    let known: Option<f64> =
        estimates.iter().map(|estimate| Some(estimate.hours(estimate.completions?))).sum();
    if let Some(known) = known.filter(|_| estimates.len() > 1) {
        blocks.push(ContentBlock::Note(format!("All together: {} GPU-hours.", digits(known))));
    }
    if let Some(costs) = prices.costs_of_plan(&estimates) {
        blocks.push(ContentBlock::Table(price_table(prices, &costs)));
    }
    blocks.push(ContentBlock::Note(format!(
        "Estimates, for one GPU of any kind at an assumed {} TFLOP/s, sequences of maximum length and no reference log-probs in the cache; \
         evaluation is not included. A card is named by its memory, of which {} are reserved for other uses. Changes in \
         parentheses are those that make a run fit; a device of the price table fits if all runs fit one without changes.",
        ASSUMED_RATE / 1e12,
        human_bytes(reserved),
    )));
    Ok(Section { title: "GPU-hours, and memory by card".to_owned(), blocks })
}

/// Builds the table of costs by device.
pub(crate) fn price_table(prices: &PricesFile, costs: &[DeviceCost]) -> DisplayTable {
    let row = |cost: &DeviceCost| {
        vec![
            TableCell::Text(cost.device.clone()),
            TableCell::Number(digits(cost.hours)),
            TableCell::Number(digits(cost.price)),
            TableCell::Text(if cost.fits { "yes" } else { "no" }.to_owned()),
        ]
    };
    DisplayTable {
        title: format!("Price of all runs ({}, {}; --prices sets others)", prices.note, prices.as_of),
        columns: ["device", "GPU-hours", prices.currency.as_str(), "fits one"].map(str::to_owned).to_vec(),
        rows: costs.iter().map(row).collect(),
    }
}

fn hours(estimate: &CardEstimate) -> String {
    match estimate.completions {
        Some(completions) => digits(estimate.hours(completions)),
        None => format!("{} per 100,000 completions", digits(estimate.hours(REFERENCE_COMPLETIONS))),
    }
}

/// Describes whether a run fits a card.
fn describe(fit: CardFit, reserved: u64) -> String {
    let total = |bytes: u64| human_bytes(bytes + reserved);
    match fit {
        CardFit::AsSet(plan) => total(plan.demand.total()),
        CardFit::With(plan) => {
            let storage = plan.quantization.and_then(quantization_name).map(|name| format!("{name}, "));
            format!(
                "{} ({}micro-batch {}, {} blocks recomputed)",
                total(plan.demand.total()),
                storage.unwrap_or_default(),
                plan.micro_batch_size,
                plan.recomputed
            )
        }
        CardFit::No(smallest) => format!("does not fit: needs {}", total(smallest)),
    }
}

/// Formats a positive number with two significant digits.
fn digits(number: f64) -> String {
    let digits = if number < 0.000_1 { 6 } else { (1.0 - number.log10().floor()).clamp(0.0, 6.0) as usize };
    format!("{number:.digits$}")
}
