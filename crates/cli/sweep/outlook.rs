//! Expected time, memory and disk space of a sweep or a run, printed before it starts.

use std::{path::Path, sync::OnceLock};

use anyhow::Context;
use prospect_model::{DeviceKind, Dtype, device};
use prospect_report::overview;
use prospect_runs::SweepDir;
use prospect_sweep::{
    ASSUMED_RATE, EvaluationCost, Execution, LoadedExperiment, MemoryEstimate, Parallelism, RecipeSources,
    RemainingWork, SweepPlan, estimate_memory, prepare_datasets, remaining_work,
};

use crate::{
    locate::locate_cached,
    output::{counted, say, warn},
    plan::human_bytes,
    ranks::JoinedGroup,
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

/// Command that announces its work. Advice names only what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announcer {
    Sweep,
    Train,
}

/// Floating-point operations per second of one device.
#[derive(Debug, Clone, Copy)]
struct Rates {
    /// Training steps, and passes over whole sequences.
    training: f64,
    /// Generation, one token of each prompt at a time.
    decoding: f64,
}

/// Plans training, on rank 0 first. For an announcer, rank 0 names downloads before they start.
pub(crate) fn plan(
    experiment: &LoadedExperiment,
    sources: &RecipeSources<'_>,
    out: &Path,
    joined: &JoinedGroup,
    announcer: Option<Announcer>,
) -> anyhow::Result<SweepPlan> {
    let announcer = announcer.filter(|_| joined.process_group.is_main_process());
    let cached =
        announcer.map(|announcer| plan_from_cache(experiment, sources, out, announcer)).transpose()?;
    joined.main_process_first(|| match cached.flatten() {
        Some(plan) => Ok(plan),
        None => Ok(SweepPlan::new(experiment, sources, &out.join("data"))?),
    })
}

/// Plans without downloads, and returns the plan if nothing is missing.
///
/// Otherwise names what planning downloads, and warns if a step of its models takes minutes here.
fn plan_from_cache(
    experiment: &LoadedExperiment,
    sources: &RecipeSources<'_>,
    out: &Path,
    announcer: Announcer,
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
    let seconds = cost.step_operations / training_rate(rate_dtype(&plan))?;
    if work.operations().is_none() && seconds > LONG_STEP {
        warn(format!(
            "warning: an optimizer step of {} on {} takes up to {} on this machine, 100 steps {}, and there {}. {}",
            cost.objective,
            cost.model,
            duration(seconds),
            duration(100.0 * seconds),
            if work.runs == 1 { "is 1 run".to_owned() } else { format!("are {} runs", work.runs) },
            advice(announcer, &plan.name, None)
        ));
    }
    Ok(None)
}

/// Prepares the data, prints what training needs, and warns if it takes more than a day.
pub(crate) fn announce(
    plan: &SweepPlan,
    sweep: &SweepDir,
    execution: &Execution,
    parallelism: Parallelism,
    announcer: Announcer,
) -> anyhow::Result<()> {
    // Several ranks wait for each other: rank 0 prepares the data later, and what is there counts.
    if parallelism.ranks == 1 {
        prepare_datasets(plan, sweep)?;
    }
    let work = remaining_work(plan, sweep, execution)?;
    if work.runs == 0 {
        return Ok(());
    }
    let seconds = if is_small(&work) {
        None
    } else {
        expected_seconds(&work, devices(parallelism), rates(&work, rate_dtype(plan))?)
    };
    let memory = estimate_memory(plan, parallelism)?.iter().map(MemoryEstimate::peak).max();
    say(describe(&work, seconds, memory));
    if let Some(seconds) = seconds.filter(|seconds| *seconds > DAY) {
        warn(format!(
            "warning: this takes about {} on this machine. {}",
            duration(seconds),
            advice(announcer, &plan.name, work.operations())
        ));
    }
    Ok(())
}

/// Returns true if training and evaluation take seconds on any machine.
fn is_small(work: &RemainingWork) -> bool {
    let EvaluationCost { scoring, decoding } = work.evaluation.unwrap_or_default();
    work.operations().is_some_and(|operations| operations + scoring + decoding <= SMALL)
}

/// Returns the seconds of training and evaluation; None until the data is prepared, if runs last
/// for epochs. Of several devices, one evaluates.
fn expected_seconds(work: &RemainingWork, devices: f64, rates: Rates) -> Option<f64> {
    let EvaluationCost { scoring, decoding } = work.evaluation.unwrap_or_default();
    let training = work.operations()? / (rates.training * devices);
    let decoding = if decoding > 0.0 { decoding / rates.decoding } else { 0.0 };
    Some(training + scoring / rates.training + decoding)
}

/// Describes the remaining work in one line.
fn describe(work: &RemainingWork, seconds: Option<f64>, memory: Option<u64>) -> String {
    let runs = counted(work.runs, "run");
    let time = match (work.operations(), seconds) {
        (None, _) => "time unknown until the data is prepared".to_owned(),
        (Some(_), None) => "less than a minute".to_owned(),
        (Some(_), Some(seconds)) => format!("about {}", duration(seconds)),
    };
    let memory = memory.map(|bytes| format!(", {} of memory", human_bytes(bytes))).unwrap_or_default();
    let disk = work.disk.map(|bytes| format!(", {} of disk space", human_bytes(bytes))).unwrap_or_default();
    let without = if work.evaluation.is_none() { ", without evaluation" } else { "" };
    let lengths =
        if work.mean_lengths { "time for mean, memory for maximum" } else { "sequences of maximum" };
    format!("to train: {runs}: {time}{memory}{disk} ({lengths} length{without})")
}

/// Formats a time, from two days on in days.
fn duration(seconds: f64) -> String {
    if seconds < 2.0 * DAY { overview::duration(seconds) } else { format!("{:.0} days", seconds / DAY) }
}

/// Names the ways to a shorter sweep or run.
fn advice(announcer: Announcer, name: &str, operations: Option<f64>) -> String {
    let hours = operations.map(|operations| operations / ASSUMED_RATE / 3600.0);
    let hours = hours.map(|hours| format!("{hours:.1} GPU-hours at an assumed rate: ")).unwrap_or_default();
    if announcer == Announcer::Train {
        return format!(
            "{hours}`prospect plan MODEL --gpu 80GiB` shows the settings that fit a GPU; --set train.max_steps=N trains for N \
             steps, --max-length and a smaller --model take less time; Ctrl-C stops, and the same command continues."
        );
    }
    let quick = format!("{name}-quick");
    let is_known = recipes::open(RecipeKind::Experiments, Path::new(&quick)).is_ok();
    let quick = if is_known {
        format!("`prospect sweep {quick}` asks the same question at small scale; ")
    } else {
        String::new()
    };
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

/// Returns the element type whose products are timed: bf16 on a GPU, f32 on a CPU if a model has it.
fn rate_dtype(plan: &SweepPlan) -> Dtype {
    let is_f32 = plan.models.iter().any(|model| model.dtype == Dtype::F32);
    if is_f32 && DeviceKind::detect() == DeviceKind::Cpu { Dtype::F32 } else { Dtype::Bf16 }
}

/// Measures the rate of products with weights of this type, for a fraction of a second and once per
/// process, and returns the rate of training steps in floating-point operations per second.
fn training_rate(dtype: Dtype) -> anyhow::Result<f64> {
    static RATE: OnceLock<f64> = OnceLock::new();
    if let Some(rate) = RATE.get() {
        return Ok(*rate);
    }
    let size = if DeviceKind::detect() == DeviceKind::Cpu { 1024 } else { 4096 };
    let rate = product_rate(dtype, [size; 3])?;
    Ok(*RATE.get_or_init(|| EFFICIENCY * rate))
}

/// Measures products of `[rows, inputs]` with weights `[outputs, inputs]`, in floating-point operations
/// per second.
fn product_rate(dtype: Dtype, shape: [usize; 3]) -> anyhow::Result<f64> {
    let seconds = device::product_seconds(&device::by_local_rank(0)?, dtype.to_candle(), shape)
        .context("cannot measure the rate of products")?;
    Ok(2.0 * shape.iter().product::<usize>() as f64 / seconds)
}

/// Measures the rates that the work depends on.
fn rates(work: &RemainingWork, dtype: Dtype) -> anyhow::Result<Rates> {
    let training = training_rate(dtype)?;
    let decodes = work.evaluation.is_some_and(|evaluation| evaluation.decoding > 0.0);
    let decoding = match work.prompts_at_once {
        // One row for each prompt, and a matrix that no cache holds.
        Some(prompts) if decodes => EFFICIENCY * product_rate(dtype, [prompts, 4096, 4096])?,
        _ => training,
    };
    Ok(Rates { training, decoding })
}

#[cfg(test)]
mod tests {
    use prospect_sweep::TrainingCost;

    use super::*;

    fn work(operations: Option<f64>, evaluation: Option<EvaluationCost>) -> RemainingWork {
        let cost = TrainingCost {
            model: "m".to_owned(),
            objective: "kto".to_owned(),
            runs: 2,
            step_operations: 1e10,
            operations,
        };
        RemainingWork {
            runs: 2,
            mean_lengths: true,
            costs: vec![cost],
            evaluation,
            prompts_at_once: Some(8),
            disk: Some(0),
        }
    }

    const RATES: Rates = Rates { training: 1e9, decoding: 1e8 };
    const EVALUATION: EvaluationCost = EvaluationCost { scoring: 3e12, decoding: 5e11 };

    #[test]
    fn evaluation_and_generation_count() {
        // 4000 s of training on two devices; 3000 s of scoring and 5000 s of decoding on one.
        let seconds = expected_seconds(&work(Some(8e12), Some(EVALUATION)), 2.0, RATES);
        assert_eq!(seconds, Some(4000.0 + 3000.0 + 5000.0));
        assert_eq!(expected_seconds(&work(Some(8e12), None), 1.0, RATES), Some(8000.0));
        assert_eq!(expected_seconds(&work(None, Some(EVALUATION)), 1.0, RATES), None);
    }

    #[test]
    fn small_training_with_a_long_evaluation_is_not_small() {
        assert!(is_small(&work(Some(1e9), None)) && !is_small(&work(Some(1e9), Some(EVALUATION))));
        assert!(!is_small(&work(None, None)));
    }

    #[test]
    fn the_line_says_when_evaluation_is_left_out() {
        let line = describe(&work(Some(1e13), Some(EVALUATION)), Some(7200.0), Some(1 << 30));
        assert_eq!(
            line,
            "to train: 2 runs: about 2 h 0 min, 1.00 GiB of memory, 0.00 KiB of disk space \
             (time for mean, memory for maximum length)"
        );
        let not_sampled = RemainingWork { mean_lengths: false, ..work(Some(1e13), None) };
        let line = describe(&not_sampled, Some(7200.0), None);
        assert!(line.ends_with("(sequences of maximum length, without evaluation)"), "{line}");
    }

    #[test]
    fn advice_names_only_options_of_the_command() {
        let train = advice(Announcer::Train, "imbalance", Some(1e18));
        assert!(
            !train.contains("--dry-run") && !train.contains("--estimate") && !train.contains("--max-hours")
        );
        assert!(advice(Announcer::Sweep, "imbalance", None).contains("imbalance-quick"));
    }
}
