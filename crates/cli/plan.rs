//! `prospect plan`: finds training settings that fit a memory budget.

use std::{num::NonZeroUsize, path::PathBuf};

use anyhow::{Context, bail};
use prospect_core::{config::Document, memory, not_fetched::NotFetched};
use prospect_dist::ZeroStage;
use prospect_model::{
    Architecture, Bytes, DeviceKind, Dtype, Footprint, ModelError, ModelFile, Quantization, Recipe, Train,
};
use prospect_report::overview::{ContentBlock, DisplayTable, Overview, Section, TableCell, grouped};
use prospect_sweep::{ASSUMED_RATE, PricesFile, completion_operations};
use prospect_train::{PlanRequest, Settings, TrainFile, TrainPlan};
use serde::Serialize;

use crate::{
    locate::{locate, locate_cached},
    output,
    overrides::Overrides,
    ranks::shard_option,
    sweep::price_table,
};

/// Arguments of `prospect plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Model recipe, for example llama-30b (`prospect recipes`); its weights are not needed
    model: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
    /// Objective: kto, dpo, or another of docs/objectives.md
    #[arg(long, value_name = "NAME", default_value = "kto")]
    objective: String,
    /// GPU memory, such as 80GiB
    #[arg(long, value_name = "AMOUNT", value_parser = amount, conflicts_with = "cpu")]
    gpu: Option<u64>,
    /// Number of such GPUs that train together
    ///
    /// Prints plans with weights and training state sharded across GPUs, and with all on each.
    #[arg(long, value_name = "N", requires = "gpu")]
    gpus: Option<NonZeroUsize>,
    /// Prices of devices, as a YAML file [default: example prices]
    #[arg(long, value_name = "FILE", requires = "gpu")]
    prices: Option<PathBuf>,
    /// Memory of a machine without a GPU, such as 16GiB [default: this machine's]
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    cpu: Option<u64>,
    /// Completions per optimizer step
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch_size: usize,
    /// Maximum tokens of prompt and completion together; half of them for the prompt
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_length: usize,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// Completions that prices are given for.
const PRICED_COMPLETIONS: f64 = 1e5;

fn amount(text: &str) -> Result<u64, String> {
    Bytes::try_from(text.to_owned()).map(|bytes| bytes.0)
}

/// Returns the bytes reserved for everything else: on a GPU its context and cuBLAS, on a CPU the
/// program and the dataset, and on both fragmentation.
pub(crate) fn overhead(device: DeviceKind) -> u64 {
    match device {
        DeviceKind::Gpu => 3 << 30,
        DeviceKind::Cpu => 1 << 28,
    }
}

/// Training plans that fit, for one placement of the weights on the devices.
struct PlacementPlans<'a> {
    request: PlanRequest<'a>,
    plans: Vec<TrainPlan>,
    smallest: Option<TrainPlan>,
}

impl<'a> PlacementPlans<'a> {
    fn within(request: PlanRequest<'a>, bytes: u64) -> anyhow::Result<Self> {
        Ok(Self { plans: request.plans_within(bytes)?, smallest: request.smallest_plan()?, request })
    }
}

/// Plans as `--json` prints them.
#[derive(Serialize)]
struct PlansJson<'a> {
    bytes: u64,
    overhead: u64,
    #[serde(flatten)]
    whole: PlacementJson<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gpus: Option<usize>,
    /// Plans with `--shard`, and with `--shard=3` in full training.
    #[serde(skip_serializing_if = "Option::is_none")]
    sharded: Option<PlacementJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sharded_weights: Option<PlacementJson<'a>>,
}

#[derive(Serialize)]
struct PlacementJson<'a> {
    ways: &'a [TrainPlan],
    smallest: Option<TrainPlan>,
}

impl<'a> From<&'a PlacementPlans<'_>> for PlacementJson<'a> {
    fn from(placement: &'a PlacementPlans<'_>) -> Self {
        Self { ways: &placement.plans, smallest: placement.smallest }
    }
}

/// Memory of a device.
#[derive(Clone, Copy)]
struct MemoryBudget {
    device: DeviceKind,
    bytes: u64,
    /// Bytes reserved for everything else; see [`overhead`].
    overhead: u64,
}

impl MemoryBudget {
    /// Returns the bytes that a plan may use.
    fn available(self) -> u64 {
        self.bytes.saturating_sub(self.overhead)
    }
}

/// Prints the training plans that fit, and the settings of the first.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let budget = args.memory_budget()?;
    let recipe: Recipe = args
        .overrides
        .open_model(&args.model)?
        .read::<ModelFile>()?
        // Nothing is downloaded: the architectures of published models are known.
        .resolve(&locate_cached)?;
    let architecture = architecture(&recipe)?;
    let settings = args.settings()?;
    let ranks = args.gpus.map_or(1, NonZeroUsize::get);
    let whole =
        PlanRequest { ranks, ..PlanRequest::from_recipe(&recipe, &architecture, &settings, budget.device) };
    let stages: &[ZeroStage] = match recipe.train {
        _ if ranks == 1 => &[],
        Train::Lora(_) => &[ZeroStage::Two],
        Train::Full => &[ZeroStage::Two, ZeroStage::Three],
    };
    let sharded = stages.iter().map(|stage| {
        let request = PlanRequest { zero: Some(*stage), ..whole.clone() };
        PlacementPlans::within(request, budget.available())
    });
    let sharded = sharded.collect::<anyhow::Result<Vec<_>>>()?;
    let whole = PlacementPlans::within(whole, budget.available())?;
    if args.json {
        let json = PlansJson {
            bytes: budget.bytes,
            overhead: budget.overhead,
            whole: (&whole).into(),
            gpus: (ranks > 1).then_some(ranks),
            sharded: sharded.first().map(PlacementJson::from),
            sharded_weights: sharded.get(1).map(PlacementJson::from),
        };
        output::print(serde_json::to_string_pretty(&json)?)?;
    } else {
        let overview = overview(args, &recipe, &whole, &sharded, budget)?;
        output::print(overview.text())?;
    }
    let narrowest = sharded.last().unwrap_or(&whole);
    if narrowest.plans.is_empty() {
        let least = narrowest.smallest.map_or(0, |plan| plan.demand.total() + budget.overhead);
        bail!(
            "no training plan for {} fits {}{}: the smallest needs {}; use a larger device, {}shorter sequences \
             (--max-length), or an adapter (train: lora) if all weights are trained",
            args.model.display(),
            if ranks > 1 { format!("{ranks} GPUs with ") } else { String::new() },
            human_bytes(budget.bytes),
            human_bytes(least),
            if budget.device == DeviceKind::Gpu { "more GPUs (--gpus), " } else { "" },
        );
    }
    Ok(())
}

impl Args {
    fn memory_budget(&self) -> anyhow::Result<MemoryBudget> {
        let (device, bytes) = match (self.gpu, self.cpu) {
            (Some(bytes), _) => (DeviceKind::Gpu, bytes),
            (None, Some(bytes)) => (DeviceKind::Cpu, bytes),
            (None, None) => {
                let bytes = memory::of_this_machine().context(
                    "cannot tell how much memory this machine has: give --cpu 16GiB or --gpu 80GiB",
                )?;
                (DeviceKind::Cpu, bytes)
            }
        };
        Ok(MemoryBudget { device, bytes, overhead: overhead(device) })
    }

    fn settings(&self) -> anyhow::Result<Settings> {
        let Self { objective, batch_size, max_length, .. } = self;
        let text = format!(
            "objective: {objective:?}\nlearning_rate: 1e-4\nbatch_size: {batch_size}\nmax_length: {max_length}\n"
        );
        Ok(Document::from_text("prospect plan", &text)?.read::<TrainFile>()?.resolve()?)
    }
}

/// Returns the architecture of a model without reading its weights. Of an unpublished model that is
/// not cached, its `config.json` is downloaded.
fn architecture(recipe: &Recipe) -> anyhow::Result<Architecture> {
    match recipe.architecture() {
        Err(ModelError::NotFetched(NotFetched(address))) => {
            let config = locate(&format!("{}/config.json", address.trim_end_matches('/')))
                .map_err(|error| anyhow::anyhow!("{address}: cannot get its config.json: {error}"))?;
            Ok(Architecture::from_hugging_face(&fs_err::read_to_string(config)?)?)
        }
        other => Ok(other?),
    }
}

/// Formats an amount of memory with three digits.
pub(crate) fn human_bytes(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let (unit, shift) = units.into_iter().find(|(_, shift)| bytes >> shift > 0).unwrap_or(("KiB", 10));
    let amount = bytes as f64 / f64::from(1 << shift);
    let digits = if amount < 9.995 { 2 } else { usize::from(amount < 99.95) };
    format!("{amount:.digits$} {unit}")
}

fn overview(
    args: &Args,
    recipe: &Recipe,
    whole: &PlacementPlans<'_>,
    sharded: &[PlacementPlans<'_>],
    budget: MemoryBudget,
) -> anyhow::Result<Overview> {
    let PlanRequest { architecture, settings, ranks, .. } = whole.request;
    let Footprint { trained, .. } = whole.request.footprint(None)?;
    let what = match recipe.train {
        Train::Full => "all are trained".to_owned(),
        Train::Lora(lora) => {
            format!("a LoRA adapter of rank {} with {} is trained", lora.r, grouped(trained.count))
        }
    };
    let device = match (budget.device, ranks) {
        (DeviceKind::Cpu, _) => format!("a CPU (in {})", recipe.dtype),
        (DeviceKind::Gpu, 1) => "a GPU".to_owned(),
        (DeviceKind::Gpu, _) => format!("{ranks} GPUs, each"),
    };
    let mut lead = vec![
        format!(
            "{} weights in {} blocks; {what}",
            grouped(architecture.parameter_count()? as u64),
            architecture.layers
        ),
        format!(
            "{}, {} completions per step, sequences of up to {} tokens, {} of them for the prompt",
            args.objective, settings.batch_size, settings.max_length, settings.max_prompt_length
        ),
        format!(
            "{device} with {}, {} of it reserved for other uses",
            human_bytes(budget.bytes),
            human_bytes(budget.overhead)
        ),
    ];
    // Sharding costs time: preferred only if it allows another quantization.
    let kind = |placement: &PlacementPlans<'_>| placement.plans.first().map(|plan| plan.quantization);
    let needed = |sharded: &&PlacementPlans<'_>| kind(sharded) != kind(whole) && !sharded.plans.is_empty();
    let best = sharded.iter().find(needed).unwrap_or(whole);
    if let Some(first) = best.plans.first() {
        if let (Train::Full, Some(stage)) = (recipe.train, best.request.zero) {
            lead.push(format!("The least sharding that fits is ZeRO stage {stage}"));
        }
        let settings = sweep_options(first, &best.request, budget);
        lead.push(format!("Settings: {settings}"));
    }
    let note = "The workspace is the peak of temporary tensors in a step. Sequences are assumed to have the maximum length, so real \
                batches take less.";
    let mut sections = Vec::new();
    for placement in sharded.iter().rev() {
        sections.push(sharded_section(placement, whole, budget)?);
    }
    let title = if ranks == 1 {
        "Plans that fit".to_owned()
    } else {
        format!("Plans with all weights on each GPU (--ranks {ranks})")
    };
    let mut whole_blocks = blocks(whole, budget.overhead);
    whole_blocks.push(ContentBlock::Note(note.to_owned()));
    sections.push(Section { title, blocks: whole_blocks });
    if budget.device == DeviceKind::Gpu {
        sections.push(price_section(args, recipe, &whole.request)?);
    }
    Ok(Overview {
        title: format!("Memory of {}", args.model.display()),
        lead,
        warnings: Vec::new(),
        sections,
    })
}

/// Describes the price of training, by device.
fn price_section(args: &Args, recipe: &Recipe, request: &PlanRequest<'_>) -> anyhow::Result<Section> {
    let prices = PricesFile::open(args.prices.as_deref())?;
    let operations = completion_operations(recipe, request.architecture, request.settings)?;
    let fits = |memory: u64| {
        let available = (memory << 30).saturating_sub(overhead(DeviceKind::Gpu));
        request.plans_within(available).is_ok_and(|plans| !plans.is_empty())
    };
    let costs = prices.costs(PRICED_COMPLETIONS * operations, fits);
    let note = format!(
        "For {PRICED_COMPLETIONS:.0} completions of maximum length, at an assumed {} TFLOP/s of any device unless the prices give \
         `tflops`; evaluation is not included. A device fits if one of it has room for a plan.",
        ASSUMED_RATE / 1e12
    );
    let table = DisplayTable { title: String::new(), ..price_table(&prices, &costs) };
    Ok(Section {
        title: format!("Price ({}, {}; --prices sets others)", prices.note, prices.as_of),
        blocks: vec![ContentBlock::Table(table), ContentBlock::Note(note)],
    })
}

/// Describes plans that shard something.
fn sharded_section(
    placement: &PlacementPlans<'_>,
    whole: &PlacementPlans<'_>,
    budget: MemoryBudget,
) -> anyhow::Result<Section> {
    let PlanRequest { train, zero, ranks, .. } = placement.request;
    let what = match (train, zero) {
        (Train::Lora(_), _) => "the frozen weights",
        (Train::Full, Some(ZeroStage::Three)) => {
            "trained weights, their training state and the reference model"
        }
        (Train::Full, _) => "gradients, optimizer state and reference model",
    };
    let option = zero.map(shard_option).unwrap_or_default();
    let title = format!("Plans with {what} sharded across GPUs (--ranks {ranks} {option})");
    let mut blocks = blocks(placement, budget.overhead);
    if let Some(TrainPlan { quantization, demand, .. }) = placement.plans.first() {
        let Footprint { frozen, trained, .. } = whole.request.footprint(*quantization)?;
        let moved = match train {
            Train::Lora(_) => frozen - demand.frozen,
            Train::Full => trained.bytes() - demand.trained,
        };
        if moved > 0 {
            blocks.push(ContentBlock::Note(format!(
                "Embedding, head and norms are replicated on each GPU. Every pass through the blocks gathers the other shards, \
                 {} for the first plan, a block ahead. A micro-batch takes one forward and one backward pass, and one more \
                 forward pass unless it is the last of its rank.",
                human_bytes(moved)
            )));
        }
    }
    Ok(Section { title, blocks })
}

/// Builds the table of the plans, or a note on the smallest plan if none fits.
fn blocks(placement: &PlacementPlans<'_>, overhead: u64) -> Vec<ContentBlock> {
    let PlacementPlans { request, plans, smallest } = placement;
    if let ([], true, Some(smallest)) = (&plans[..], request.ranks > 1, smallest) {
        let least = human_bytes(smallest.demand.total() + overhead);
        return vec![ContentBlock::Note(format!("None fits: the smallest needs {least} on each GPU."))];
    }
    let columns = [
        "frozen weights",
        "micro-batch",
        "blocks recomputed",
        "frozen",
        "trained",
        "gradients",
        "moments",
        "master weights",
        "activations",
        "workspace",
        "total",
    ];
    let rows = plans.iter().map(|plan| row(plan, request)).collect();
    vec![ContentBlock::Table(DisplayTable {
        title: String::new(),
        columns: columns.map(str::to_owned).to_vec(),
        rows,
    })]
}

/// Returns the name of a storage, as in `quantization: q8_0`.
pub(crate) fn quantization_name(kind: Quantization) -> Option<String> {
    serde_json::to_value(kind).ok()?.as_str().map(str::to_owned)
}

fn row(plan: &TrainPlan, request: &PlanRequest<'_>) -> Vec<TableCell> {
    let demand = plan.demand;
    let kind = plan.quantization.and_then(quantization_name).unwrap_or_else(|| request.dtype.to_string());
    let mut row = vec![
        TableCell::Text(kind),
        TableCell::count(plan.micro_batch_size as u64),
        TableCell::Text(format!("{} of {}", plan.recomputed, request.architecture.layers)),
    ];
    let parts = [
        demand.frozen,
        demand.trained,
        demand.gradients,
        demand.moments,
        demand.master_weights,
        demand.activations,
        demand.workspace,
    ];
    row.extend(parts.into_iter().chain([demand.total()]).map(|bytes| TableCell::Number(human_bytes(bytes))));
    row
}

/// Formats a plan as the options of a sweep.
fn sweep_options(plan: &TrainPlan, request: &PlanRequest<'_>, budget: MemoryBudget) -> String {
    let mut set = Vec::new();
    if request.ranks > 1 {
        set.push(format!("--ranks {}", request.ranks));
    }
    set.extend(request.zero.map(shard_option));
    if budget.device == DeviceKind::Gpu && request.dtype == Dtype::F32 {
        set.push("--set model.dtype=f32".to_owned());
    }
    if let Some(kind) = plan.quantization.and_then(quantization_name) {
        set.push(format!("--set model.quantization={kind}"));
    }
    set.push("--set model.activations=null".to_owned());
    set.push(format!("--set model.memory={}MiB", budget.available() >> 20));
    set.push(format!("--set train.micro_batch_size={}", plan.micro_batch_size));
    set.join(" ")
}
