//! Memory of a sweep: the estimates in its plan, and the check before it starts.

use std::num::NonZeroUsize;

use anyhow::bail;
use prospect_core::memory;
use prospect_model::{DeviceKind, device};
use prospect_report::overview::{ContentBlock, DisplayTable, Section, TableCell};
use prospect_sweep::{Jobs, MemoryEstimate, Parallelism, SweepPlan, estimate_memory};

use crate::output::say;
use crate::plan::{human_bytes, overhead};

/// Returns the bytes available to runs, if known: of this machine, or of this process's GPU.
fn available(parallelism: Parallelism, ordinal: usize) -> anyhow::Result<Option<(u64, &'static str)>> {
    let device_kind = DeviceKind::detect();
    let (bytes, whose) = match device_kind {
        // A launcher does not tell how many ranks share this machine's memory.
        DeviceKind::Cpu if parallelism.ranks > 1 => return Ok(None),
        DeviceKind::Cpu => (memory::of_this_machine(), "this machine"),
        DeviceKind::Gpu => (device::info(&device::by_local_rank(ordinal)?)?.free, "the GPU"),
    };
    Ok(bytes.map(|bytes| (bytes.saturating_sub(overhead(device_kind)), whose)))
}

/// Returns the largest number of parallel runs, at most one per thread, that fit into the free
/// memory of this machine with sequences of maximum length; 1 where the free memory is unknown.
pub(super) fn most_jobs(plan: &SweepPlan) -> anyhow::Result<NonZeroUsize> {
    let Some(free) = memory::available() else { return Ok(NonZeroUsize::MIN) };
    let free = free.saturating_sub(overhead(DeviceKind::Cpu));
    let fits = |jobs: NonZeroUsize| -> anyhow::Result<bool> {
        let parallelism = Parallelism { jobs: jobs.get(), ranks: 1, zero: None };
        Ok(estimate_memory(plan, parallelism)?.iter().all(|estimate| estimate.peak() <= free))
    };
    let mut jobs = Jobs::one_per_thread();
    while let Some(half) = NonZeroUsize::new(jobs.get() / 2)
        && !fits(jobs)?
    {
        jobs = half;
    }
    Ok(jobs)
}

/// Builds the section of the plan with the peak memory of each model and objective.
pub(super) fn section(plan: &SweepPlan, parallelism: Parallelism) -> anyhow::Result<Section> {
    let columns = ["model", "objective", "parallel runs", "micro-batch", "blocks recomputed", "peak memory"];
    let row = |estimate: &MemoryEstimate| {
        vec![
            TableCell::Text(estimate.model.clone()),
            TableCell::Text(estimate.objective.clone()),
            TableCell::count(estimate.concurrent_runs as u64),
            TableCell::count(estimate.train_plan.micro_batch_size as u64),
            TableCell::Text(format!("{} of {}", estimate.train_plan.recomputed, estimate.blocks)),
            TableCell::Number(human_bytes(estimate.peak())),
        ]
    };
    let table = DisplayTable {
        title: String::new(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: estimate_memory(plan, parallelism)?.iter().map(row).collect(),
    };
    Ok(Section {
        title: "Memory for sequences of maximum length".to_owned(),
        blocks: vec![ContentBlock::Table(table)],
    })
}

/// Refuses a plan whose weights, gradients and optimizer state do not fit on the device with
/// this ordinal, and warns if long sequences may not fit.
pub(crate) fn check(plan: &SweepPlan, parallelism: Parallelism, ordinal: usize) -> anyhow::Result<()> {
    let Some((available, whose)) = available(parallelism, ordinal)? else { return Ok(()) };
    let estimates = estimate_memory(plan, parallelism)?;
    let largest = |size: fn(&MemoryEstimate) -> u64| estimates.iter().max_by_key(|estimate| size(estimate));
    let what = |estimate: &MemoryEstimate| {
        let at_once = if estimate.concurrent_runs > 1 {
            format!("{} runs of ", estimate.concurrent_runs)
        } else {
            String::new()
        };
        format!("{at_once}{} on {}", estimate.objective, estimate.model)
    };
    if let Some(estimate) = largest(MemoryEstimate::minimum).filter(|estimate| estimate.minimum() > available)
    {
        bail!(
            "not enough memory for {}: weights, gradients and optimizer state need {}, but {whose} has {}; {}train \
             an adapter (model.train: lora), quantize frozen weights (model.quantization), or use a smaller model; \
             `prospect plan` shows what fits",
            what(estimate),
            human_bytes(estimate.minimum()),
            human_bytes(available),
            if estimate.concurrent_runs > 1 { "lower --jobs, " } else { "" }
        );
    }
    if let Some(estimate) = largest(MemoryEstimate::peak).filter(|estimate| estimate.peak() > available) {
        say(format!(
            "memory may run out for {}: sequences of maximum length need {}, but {whose} has {}; lower {}\
             train.micro_batch_size, or set --memory",
            what(estimate),
            human_bytes(estimate.peak()),
            human_bytes(available),
            if estimate.concurrent_runs > 1 { "--jobs or " } else { "" }
        ));
    }
    Ok(())
}
