//! Expected time, memory and disk space of a sweep, printed before it starts.

use std::{path::Path, sync::OnceLock};

use anyhow::Context;
use prospect_model::{DeviceKind, Dtype, device};
use prospect_report::overview;
use prospect_runs::SweepDir;
use prospect_sweep::{
    ASSUMED_RATE, Execution, LoadedExperiment, MemoryEstimate, Parallelism, RecipeSources, RemainingWork,
    SweepPlan, estimate_memory, prepare_datasets, remaining_work,
};
use prospect_train::benchmark::matmul_rate;

use crate::{
    locate::locate_cached,
    output::{say, warn},
    plan::human_bytes,
    recipes::{self, RecipeKind},
};

/// Operations below which a sweep takes seconds on any machine, and the rate is not measured.
const SMALL: f64 = 1e12;

/// Rate of training steps, as a share of the rate of matrix products: 66 to 70 % on two CPU cores
/// (docs/scale.md, docs/performance.md).
const EFFICIENCY: f64 = 0.65;

/// Seconds from which a sweep is long.
const DAY: f64 = 86_400.0;

/// Seconds of an optimizer step from which training takes days on any useful amount of data.
const LONG_STEP: f64 = 60.0;

/// Plans a sweep without downloads, and returns the plan if nothing is missing.
///
/// Otherwise names what planning the sweep downloads, and warns if a step of its models takes
/// minutes here.
pub(super) fn plan_from_cache(
    experiment: &LoadedExperiment,
    sources: &RecipeSources<'_>,
    out: &Path,
) -> anyhow::Result<Option<SweepPlan>> {
    let sources = RecipeSources { locate: &locate_cached, ..*sources };
    let plan = SweepPlan::new(experiment, &sources, &out.join("data"))?;
    let missing = plan.not_fetched();
    if missing.is_empty() {
        return Ok(Some(plan));
    }
    say(format!("to download: {}", missing.into_iter().collect::<Vec<_>>().join(", ")));
    // The architecture of an unpublished model is unknown until it is downloaded.
    let Ok(work) = remaining_work(&plan, &SweepDir::at(out.to_owned()), &Execution::default()) else {
        return Ok(None);
    };
    let largest =
        work.costs.iter().max_by(|one, other| one.step_operations.total_cmp(&other.step_operations));
    let Some(cost) = largest.filter(|cost| cost.step_operations > SMALL) else { return Ok(None) };
    let seconds = cost.step_operations / training_rate()?;
    if work.operations().is_none() && seconds > LONG_STEP {
        warn(format!(
            "warning: an optimizer step of {} on {} takes up to {} on this machine, 100 steps {}, and there are {} runs. {}",
            cost.objective,
            cost.model,
            duration(seconds),
            duration(100.0 * seconds),
            work.runs,
            advice(&plan.name, None)
        ));
    }
    Ok(None)
}

/// Prepares the data, prints what the sweep needs, and warns if it takes more than a day.
pub(super) fn announce(
    plan: &SweepPlan,
    sweep: &SweepDir,
    execution: &Execution,
    parallelism: Parallelism,
) -> anyhow::Result<()> {
    // Several ranks wait for each other: rank 0 prepares the data later, and what is there counts.
    if parallelism.ranks == 1 {
        prepare_datasets(plan, sweep)?;
    }
    let work = remaining_work(plan, sweep, execution)?;
    if work.runs == 0 {
        return Ok(());
    }
    let seconds = match work.operations() {
        Some(operations) if operations > SMALL => {
            Some(operations / (training_rate()? * devices(parallelism)))
        }
        _ => None,
    };
    let memory = estimate_memory(plan, parallelism)?.iter().map(MemoryEstimate::peak).max();
    say(describe(&work, seconds, memory));
    if let Some(seconds) = seconds.filter(|seconds| *seconds > DAY) {
        warn(format!(
            "warning: this takes about {} on this machine. {}",
            duration(seconds),
            advice(&plan.name, work.operations())
        ));
    }
    Ok(())
}

/// Describes the remaining work in one line.
fn describe(work: &RemainingWork, seconds: Option<f64>, memory: Option<u64>) -> String {
    let runs = if work.runs == 1 { "1 run".to_owned() } else { format!("{} runs", work.runs) };
    let time = match (work.operations(), seconds) {
        (None, _) => "time unknown until the data is prepared".to_owned(),
        (Some(_), None) => "less than a minute".to_owned(),
        (Some(_), Some(seconds)) => format!("about {}", duration(seconds)),
    };
    let memory = memory.map(|bytes| format!(", {} of memory", human_bytes(bytes))).unwrap_or_default();
    let disk = work.disk.map(|bytes| format!(", {} of disk space", human_bytes(bytes))).unwrap_or_default();
    format!("to train: {runs}: {time}{memory}{disk} (sequences of maximum length, without evaluation)")
}

/// Formats a time, from two days on in days.
fn duration(seconds: f64) -> String {
    if seconds < 2.0 * DAY { overview::duration(seconds) } else { format!("{:.0} days", seconds / DAY) }
}

/// Names the ways to a shorter sweep.
fn advice(name: &str, operations: Option<f64>) -> String {
    let quick = format!("{name}-quick");
    let is_known = recipes::open(RecipeKind::Experiments, Path::new(&quick)).is_ok();
    let quick = if is_known {
        format!("`prospect sweep {quick}` asks the same question at small scale; ")
    } else {
        String::new()
    };
    let hours = operations.map(|operations| operations / ASSUMED_RATE / 3600.0);
    let hours = hours.map(|hours| format!("{hours:.1} GPU-hours at an assumed rate: ")).unwrap_or_default();
    format!(
        "{quick}{hours}--dry-run shows the cost on GPUs, and `prospect plan MODEL --gpu 80GiB` the settings that fit; \
         --estimate measures; --max-hours ends in time, and the same command continues."
    )
}

/// Returns the number of devices that train at the same time: ranks on CPUs share one machine.
fn devices(parallelism: Parallelism) -> f64 {
    match DeviceKind::detect() {
        DeviceKind::Cpu => 1.0,
        DeviceKind::Gpu => parallelism.ranks as f64,
    }
}

/// Measures the rate of matrix products, for a fraction of a second and once per process, and
/// returns the rate of training steps in floating-point operations per second.
fn training_rate() -> anyhow::Result<f64> {
    static RATE: OnceLock<f64> = OnceLock::new();
    if let Some(rate) = RATE.get() {
        return Ok(*rate);
    }
    let device = device::by_local_rank(0)?;
    let (dtype, size) = if device.is_cpu() { (Dtype::F32, 512) } else { (Dtype::Bf16, 4096) };
    let rate = matmul_rate(&device, dtype, size).context("cannot measure the rate of products")?;
    Ok(*RATE.get_or_init(|| EFFICIENCY * rate))
}
