//! Whether a sweep fits into memory: what its plan says of it, and the check before it starts.

use anyhow::bail;
use prospect_core::{memory, progress::say};
use prospect_model::{DeviceKind, device};
use prospect_report::overview::{ContentBlock, DisplayTable, Section, TableCell};
use prospect_sweep::{MemoryEstimate, Parallelism, SweepPlan, estimate_memory};

use crate::plan::{overhead, shown};

/// Bytes that runs may take, where they are known: of this machine, or of the GPU that is this process's.
fn there(spread: Parallelism, number: usize) -> anyhow::Result<Option<(u64, &'static str)>> {
    let place = DeviceKind::detect();
    let (bytes, whose) = match place {
        // How many ranks share this machine's memory, a launcher does not say.
        DeviceKind::Cpu if spread.ranks > 1 => return Ok(None),
        DeviceKind::Cpu => (memory::of_this_machine(), "this machine"),
        DeviceKind::Gpu => (device::info(&device::by_ordinal(number)?)?.free, "the GPU"),
    };
    Ok(bytes.map(|bytes| (bytes.saturating_sub(overhead(place)), whose)))
}

/// What each model takes at most under each objective, as a part of the plan.
pub(super) fn section(plan: &SweepPlan, spread: Parallelism) -> anyhow::Result<Section> {
    let columns =
        ["model", "objective", "runs at once", "micro-batch", "blocks recomputed", "memory at most"];
    let row = |estimate: &MemoryEstimate| {
        vec![
            TableCell::Text(estimate.model.clone()),
            TableCell::Text(estimate.objective.clone()),
            TableCell::count(estimate.concurrent_runs as u64),
            TableCell::count(estimate.train_plan.micro_batch_size as u64),
            TableCell::Text(format!("{} of {}", estimate.train_plan.recomputed, estimate.blocks)),
            TableCell::Number(shown(estimate.peak())),
        ]
    };
    let table = DisplayTable {
        title: String::new(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: estimate_memory(plan, spread)?.iter().map(row).collect(),
    };
    Ok(Section {
        title: "Memory, if every sequence is as long as it may be".to_owned(),
        blocks: vec![ContentBlock::Table(table)],
    })
}

/// Refuses a plan of which weights, gradients and moments alone do not fit on the device of this number, and says where long
/// sequences may not.
pub(super) fn check(plan: &SweepPlan, spread: Parallelism, number: usize) -> anyhow::Result<()> {
    let Some((there, whose)) = there(spread, number)? else { return Ok(()) };
    let estimates = estimate_memory(plan, spread)?;
    let largest = |size: fn(&MemoryEstimate) -> u64| estimates.iter().max_by_key(|estimate| size(estimate));
    let what = |estimate: &MemoryEstimate| {
        let at_once = if estimate.concurrent_runs > 1 {
            format!("{} runs of ", estimate.concurrent_runs)
        } else {
            String::new()
        };
        format!("{at_once}{} on {}", estimate.objective, estimate.model)
    };
    if let Some(estimate) = largest(MemoryEstimate::minimum).filter(|estimate| estimate.minimum() > there) {
        bail!(
            "{} take {} for weights, gradients and the optimizer alone, and {whose} has {} for them: lower --jobs, train an \
             adapter (model.lora), keep frozen weights in fewer bits (model.quantization), or take a smaller model; `prospect plan` \
             shows what fits",
            what(estimate),
            shown(estimate.minimum()),
            shown(there)
        );
    }
    if let Some(estimate) = largest(MemoryEstimate::peak).filter(|estimate| estimate.peak() > there) {
        say(format!(
            "{} may take {} where all sequences are as long as they may be, and {whose} has {}: if it runs out, lower --jobs or \
             train.micro_batch_size, or set --memory",
            what(estimate),
            shown(estimate.peak()),
            shown(there)
        ));
    }
    Ok(())
}
