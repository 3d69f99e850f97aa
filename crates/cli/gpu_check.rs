//! `prospect gpu-check`: compares small models on a GPU with the CPU, checks CUDA kernels, and times
//! products and training steps of 1B to 30B models.

use std::path::PathBuf;

use anyhow::{anyhow, bail};
use clap::ValueEnum;
use prospect_core::files::write_json;
use prospect_model::{
    Architecture, DeviceKind, Dtype,
    device::{self, Device, KernelGroup},
};
use prospect_train::{
    ParityCase,
    benchmark::{self, Benchmark, BenchmarkResult},
};

use crate::{
    output,
    output::say,
    plan::{human_bytes, overhead},
};

mod report;

use report::{Kernels, Parity, PartOutcome, PartResult, Rate, Report, Step};

/// Arguments of `prospect gpu-check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Device to check: `cuda:0`, another GPU, or `cpu`
    #[arg(long, value_name = "NAME", default_value = "cuda:0")]
    device: String,
    /// Use tiny models instead of the large ones: a smoke test that takes seconds
    #[arg(long)]
    small: bool,
    /// Run only this part; may be repeated
    #[arg(long, value_name = "PART", value_enum)]
    only: Vec<CheckPart>,
    /// Also write the results to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A part of the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckPart {
    /// Small models against the CPU: log-probs, gradients, steps and generation
    Parity,
    /// Every CUDA kernel against its CPU twin, and small models with those that pass
    Kernels,
    /// Rate of large matrix products, which the steps are compared with
    Rate,
    /// KTO and DPO steps on the architecture of Llama 3.2 1B
    #[value(name = "1b")]
    OneBillion,
    /// KTO and DPO steps on the architecture of Llama 7B
    #[value(name = "7b")]
    SevenBillion,
    /// KTO steps on the architecture of Llama 30B
    #[value(name = "30b")]
    ThirtyBillion,
}

/// Model to time steps of.
struct BenchmarkModel {
    name: &'static str,
    architecture: Architecture,
    max_length: usize,
    /// Objectives with their completions per step, chosen for about the same number of rows.
    batches: &'static [(&'static str, usize)],
    steps: u64,
}

const BOTH: &[(&str, usize)] = &[("kto", 8), ("dpo", 16)];

impl CheckPart {
    /// Returns the model whose steps this part times; None if it times no steps.
    fn shape(self, small: bool) -> anyhow::Result<Option<BenchmarkModel>> {
        let (name, published, layers, batches, steps) = match self {
            Self::Parity | Self::Kernels | Self::Rate => return Ok(None),
            Self::OneBillion => ("1b", "meta-llama/Llama-3.2-1B", 1, BOTH, 5),
            Self::SevenBillion => ("7b", "huggyllama/llama-7b", 2, BOTH, 3),
            Self::ThirtyBillion => ("30b", "huggyllama/llama-30b", 3, &BOTH[..1], 2),
        };
        if small {
            let architecture = serde_json::from_value(serde_json::json!({
                "vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": layers,
                "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
            }))?;
            return Ok(Some(BenchmarkModel { name, architecture, max_length: 64, batches, steps: 2 }));
        }
        match Architecture::published(published) {
            Some(architecture) => {
                Ok(Some(BenchmarkModel { name, architecture, max_length: 512, batches, steps }))
            }
            None => bail!("{published} is not among the published architectures"),
        }
    }
}

/// Checks the device, prints the results, and fails if a part failed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let device = match device::open(&args.device) {
        Ok(device) => device,
        Err(error) if args.device == "cpu" => return Err(error.into()),
        Err(error) => bail!("{error}; without a GPU, use --device cpu --small"),
    };
    let parts: Vec<CheckPart> =
        if args.only.is_empty() { CheckPart::value_variants().to_vec() } else { args.only.clone() };
    let mut report = Report::new(device::info(&device)?, args.small);
    for part in parts {
        run_part(part, args, &device, &mut report)?;
        // After every part, so that a part that crashes or times out does not lose the others.
        if let Some(file) = &args.json {
            write_json(file, &report)?;
        }
    }
    output::print(report.overview().text())?;
    let failed = report.failures();
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

fn run_part(part: CheckPart, args: &Args, device: &Device, report: &mut Report) -> anyhow::Result<()> {
    match part {
        CheckPart::Parity => report.parity = parity(device)?,
        CheckPart::Kernels => {
            say("kernels: each against its CPU twin");
            report.kernels = Some(PartOutcome::from_result(kernels(device)));
        }
        CheckPart::Rate => rate(args, device, report),
        CheckPart::OneBillion | CheckPart::SevenBillion | CheckPart::ThirtyBillion => {
            if report.rate.is_none() {
                rate(args, device, report);
            }
            if let Some(shape) = part.shape(args.small)? {
                steps(&shape, device, report);
            }
        }
    }
    Ok(())
}

fn rate(args: &Args, device: &Device, report: &mut Report) {
    let (dtype, size) = (dtype(device), if args.small { 256 } else { 8192 });
    say(format!("rate: products of {size} × {size} matrices"));
    let rate = benchmark::matmul_rate(device, dtype, size);
    let rate = rate.map(|operations_per_second| Rate { size, dtype, operations_per_second });
    report.rate = Some(PartOutcome::from_result(rate.map(Ok).map_err(Into::into)));
}

/// Returns bf16 on a GPU and f32 on a CPU, which has no bf16 arithmetic.
fn dtype(device: &Device) -> Dtype {
    if device.is_cpu() { Dtype::F32 } else { Dtype::Bf16 }
}

/// Compares small models on the device with the CPU.
fn parity(device: &Device) -> anyhow::Result<Vec<Parity>> {
    let cases = ParityCase::all()?.into_iter().map(|case| {
        say(format!("parity: {}", case.name));
        let outcome = case.run(device).map(Ok).map_err(Into::into);
        Parity { case: case.name, outcome: PartOutcome::from_result(outcome) }
    });
    Ok(cases.collect())
}

/// Checks the kernels, then models that use those that passed. If all is right, they are used by
/// default on this GPU.
fn kernels(device: &Device) -> PartResult<Kernels> {
    let Some(checks) = device::check_kernels(device)? else {
        return Ok(Err("kernels run only on a GPU; the tests emulate one on the CPU".to_owned()));
    };
    let wrong: Vec<_> = checks
        .iter()
        .filter(|check| !check.passed())
        .filter_map(|check| KernelGroup::of_entry(&check.entry))
        .collect();
    let right: Vec<_> = KernelGroup::all().iter().copied().filter(|group| !wrong.contains(group)).collect();
    let before = KernelGroup::in_use();
    KernelGroup::use_only(&right);
    say("kernels: models that use them");
    let parity = parity(device);
    KernelGroup::use_only(&before);
    let mut kernels = Kernels::new(&checks, parity?);
    if kernels.parity_passed() {
        let file = device::remember_kernels(device, &right)?;
        say(format!("kernels: verified for this GPU, driver and program: {}", file.display()));
        kernels.verified = right;
    }
    Ok(Ok(kernels))
}

/// Times the objectives of a model over one copy of its weights. At 7B, also times KTO without our
/// kernels, and with each group in use alone.
fn steps(shape: &BenchmarkModel, device: &Device, report: &mut Report) {
    // Measured before the weights are loaded.
    let free = device::info(device).map(|info| info.free);
    let mut base = None;
    let all = KernelGroup::in_use();
    for (objective, completions) in shape.batches {
        for kernels in kernel_sets(shape.name == "7b" && *objective == "kto", &all) {
            KernelGroup::use_only(&kernels);
            say(format!("{}: {objective}, own kernels: {}", shape.name, KernelGroup::names(&kernels)));
            let timed = match &free {
                Ok(Some(free)) => step(shape, objective, *completions, device, *free, &mut base),
                Ok(None) => Err(anyhow!("the device does not report its free memory")),
                Err(error) => Err(anyhow!("{error}")),
            };
            let outcome = PartOutcome::from_result(timed);
            report.steps.push(Step { model: shape.name, objective, kernels, outcome });
        }
    }
    KernelGroup::use_only(&all);
}

/// Returns the sets of kernels to time: all; with `each`, also none, and each group alone.
fn kernel_sets(each: bool, all: &[KernelGroup]) -> Vec<Vec<KernelGroup>> {
    let mut sets = Vec::new();
    if each && !all.is_empty() {
        sets.push(Vec::new());
    }
    if each && all.len() > 1 {
        sets.extend(all.iter().map(|group| vec![*group]));
    }
    sets.push(all.to_vec());
    sets
}

/// Base model with the quantization of its matrices.
type BaseModel = (prospect_model::Decoder, Option<prospect_model::Quantization>);

fn step(
    shape: &BenchmarkModel,
    objective: &str,
    completions: usize,
    device: &Device,
    free: u64,
    base: &mut Option<BaseModel>,
) -> PartResult<BenchmarkResult> {
    let settings = benchmark::settings(objective, completions, shape.max_length, shape.steps)?;
    let benchmark = Benchmark { architecture: &shape.architecture, dtype: dtype(device), device, settings };
    let overhead = overhead(DeviceKind::from(device));
    let plans = benchmark.plan_request().plans_within(free.saturating_sub(overhead))?;
    let kept = base.as_ref().map(|(_, kept)| *kept);
    let Some(plan) = plans.into_iter().find(|plan| kept.is_none_or(|kept| kept == plan.quantization)) else {
        let least =
            benchmark.plan_request().smallest_plan()?.map_or(0, |plan| plan.demand.total() + overhead);
        return Ok(Err(format!(
            "the smallest plan needs {}, but {} are free",
            human_bytes(least),
            human_bytes(free)
        )));
    };
    let (model, _) = match base {
        Some(base) => base,
        None => base.insert((benchmark.base_model(&plan)?, plan.quantization)),
    };
    Ok(Ok(benchmark.run(model.clone(), &plan)?))
}
