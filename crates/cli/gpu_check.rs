//! `prospect gpu-check`: our kernels on a GPU, its rate of products, and steps of models of one to thirty billion weights.

use std::path::PathBuf;

use anyhow::{anyhow, bail};
use clap::ValueEnum;
use prospect_core::{files::write_json, progress::say};
use prospect_model::{
    Architecture, DeviceKind, Dtype,
    device::{self, Device},
};
use prospect_train::benchmark::{self, Benchmark, BenchmarkResult};

use crate::{
    output,
    plan::{overhead, shown},
};

mod told;

use told::{Kernels, Outcome, Rate, Report, Step};

/// Arguments of `prospect gpu-check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to check: `cuda:0`, another GPU, or `cpu`
    #[arg(long, value_name = "NAME", default_value = "cuda:0")]
    device: String,
    /// Take tiny models in the place of the large ones: shows in seconds that all of it runs
    #[arg(long)]
    small: bool,
    /// Do this part alone; may be repeated
    #[arg(long, value_name = "PART", value_enum)]
    only: Vec<Part>,
    /// Write what was measured to this file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A part of the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Every CUDA kernel beside its twin
    Kernels,
    /// The rate of large products, which the steps are measured by
    Rate,
    /// KTO and DPO on Llama 3.2 1B's shape
    #[value(name = "1b")]
    OneBillion,
    /// KTO and DPO on Llama 7B's shape
    #[value(name = "7b")]
    SevenBillion,
    /// KTO on Llama 30B's shape
    #[value(name = "30b")]
    ThirtyBillion,
}

/// A model to time steps of.
struct Shape {
    name: &'static str,
    architecture: Architecture,
    max_length: usize,
    /// Objectives, and the completions of a step of each: about as many rows of each objective.
    batches: &'static [(&'static str, usize)],
    steps: u64,
}

const BOTH: &[(&str, usize)] = &[("kto", 8), ("dpo", 16)];

impl Part {
    /// The model whose steps this part times; None for those that time none.
    fn shape(self, small: bool) -> anyhow::Result<Option<Shape>> {
        let (name, published, layers, batches, steps) = match self {
            Self::Kernels | Self::Rate => return Ok(None),
            Self::OneBillion => ("1b", "meta-llama/Llama-3.2-1B", 1, BOTH, 5),
            Self::SevenBillion => ("7b", "huggyllama/llama-7b", 2, BOTH, 3),
            Self::ThirtyBillion => ("30b", "huggyllama/llama-30b", 3, &BOTH[..1], 2),
        };
        if small {
            let architecture = serde_json::from_value(serde_json::json!({
                "vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": layers,
                "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
            }))?;
            return Ok(Some(Shape { name, architecture, max_length: 64, batches, steps: 2 }));
        }
        match Architecture::published(published) {
            Some(architecture) => Ok(Some(Shape { name, architecture, max_length: 512, batches, steps })),
            None => bail!("{published} is not among the published architectures"),
        }
    }
}

/// Checks the device, prints what was found, and fails if a part did.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let device = match device::open(&args.device) {
        Ok(device) => device,
        Err(error) if args.device == "cpu" => return Err(error.into()),
        Err(error) => bail!("{error}; without a GPU: --device cpu --small"),
    };
    let parts: Vec<Part> =
        if args.only.is_empty() { Part::value_variants().to_vec() } else { args.only.clone() };
    let mut report = Report::of(device::info(&device)?, args.small);
    if parts.contains(&Part::Kernels) {
        say("kernels: each beside its twin");
        report.kernels = Some(Outcome::of(kernels(&device)));
    }
    if parts.iter().any(|part| *part != Part::Kernels) {
        let (dtype, size) = (dtype(&device), if args.small { 256 } else { 8192 });
        say(format!("rate: products of {size} × {size} matrices"));
        let rate = benchmark::matmul_rate(&device, dtype, size);
        let rate = rate.map(|operations_per_second| Rate { size, dtype, operations_per_second });
        report.rate = Some(Outcome::of(rate.map(Ok).map_err(Into::into)));
    }
    for part in parts {
        if let Some(shape) = part.shape(args.small)? {
            steps(&shape, &device, &mut report);
        }
    }
    output::print(report.overview().text())?;
    if let Some(file) = &args.json {
        write_json(file, &report)?;
    }
    let failed = report.failures();
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

/// bf16 where there is arithmetic for it.
fn dtype(device: &Device) -> Dtype {
    if device.is_cpu() { Dtype::F32 } else { Dtype::Bf16 }
}

/// What came of something: or why it was left out.
type Done<T> = anyhow::Result<Result<T, String>>;

fn kernels(device: &Device) -> Done<Kernels> {
    let Some(checks) = device::check_kernels(device)? else {
        return Ok(Err("kernels run on a GPU; on a CPU, the tests emulate one".to_owned()));
    };
    Ok(Ok(Kernels::of(&checks)))
}

/// Times the objectives of a shape over one copy of its weights.
fn steps(shape: &Shape, device: &Device, report: &mut Report) {
    // Before the weights are there.
    let free = device::info(device).map(|info| info.free);
    let mut base = None;
    for (objective, completions) in shape.batches {
        say(format!("{}: {objective}", shape.name));
        let timed = match &free {
            Ok(Some(free)) => step(shape, (objective, *completions), (device, *free), &mut base),
            Ok(None) => Err(anyhow!("the device does not tell how much memory it has")),
            Err(error) => Err(anyhow!("{error}")),
        };
        report.steps.push(Step { model: shape.name, objective, outcome: Outcome::of(timed) });
    }
}

/// A model with how its matrices are kept.
type Base = (prospect_model::Decoder, Option<prospect_model::Quantization>);

fn step(
    shape: &Shape,
    (objective, completions): (&str, usize),
    (device, free): (&Device, u64),
    base: &mut Option<Base>,
) -> Done<BenchmarkResult> {
    let settings = benchmark::settings(objective, completions, shape.max_length, shape.steps)?;
    let benchmark = Benchmark { architecture: &shape.architecture, dtype: dtype(device), device, settings };
    let overhead = overhead(DeviceKind::from(device));
    let ways = benchmark.plan_request().plans_within(free.saturating_sub(overhead))?;
    let kept = base.as_ref().map(|(_, kept)| *kept);
    let Some(way) = ways.into_iter().find(|way| kept.is_none_or(|kept| kept == way.quantization)) else {
        let least = benchmark.plan_request().smallest_plan()?.map_or(0, |way| way.demand.total() + overhead);
        return Ok(Err(format!("the smallest way takes {}, {} are free", shown(least), shown(free))));
    };
    let (model, _) = match base {
        Some(base) => base,
        None => base.insert((benchmark.base_model(&way)?, way.quantization)),
    };
    Ok(Ok(benchmark.run(model.clone(), &way)?))
}
