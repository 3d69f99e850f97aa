//! `prospect plan`: which way to train a model fits into so much memory.

use std::path::PathBuf;

use anyhow::{Context, bail};
use prospect_core::{config::Document, memory};
use prospect_model::{Architecture, Bytes, Dtype, Footprint, ModelFile, Place, Recipe, Train};
use prospect_report::overview::{Block, Cell, Overview, Section, Table, grouped};
use prospect_train::{Settings, TrainFile, Wanted, Way};

use crate::{locate::locate, output, overrides::Overrides};

/// Arguments of `prospect plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model recipe, for example models/llama-30b.yaml; its weights need not be here
    model: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
    /// What is minimised: kto, dpo, or another objective of docs/objectives.md
    #[arg(long, value_name = "NAME", default_value = "kto")]
    objective: String,
    /// Memory of the GPU, such as 80GiB
    #[arg(long, value_name = "AMOUNT", value_parser = amount, conflicts_with = "cpu")]
    gpu: Option<u64>,
    /// Memory of a machine without one, such as 16GiB [default: this machine's]
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    cpu: Option<u64>,
    /// Completions in an optimizer step
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch_size: usize,
    /// Tokens of prompt and completion together; half of them for the prompt
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_length: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn amount(text: &str) -> Result<u64, String> {
    Bytes::try_from(text.to_owned()).map(|bytes| bytes.0)
}

/// Bytes that are left for all else: of a GPU's memory for its context, cuBLAS and what is lost between allocations, of a
/// machine's for the program, the dataset and the same.
pub(crate) fn overhead(place: Place) -> u64 {
    match place {
        Place::Gpu => 3 << 29,
        Place::Cpu => 1 << 28,
    }
}

/// Prints the ways to train that fit, and the settings of the first.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (place, bytes) = args.place()?;
    let mut recipe: Recipe = args
        .overrides
        .open(&args.model)?
        .read::<ModelFile>()?
        // Only their names matter here.
        .resolve(&|address| {
            if address.starts_with("hf://") { Ok(address.into()) } else { locate(address) }
        })?;
    if place == Place::Cpu {
        recipe.dtype = Dtype::F32;
    }
    let architecture = architecture(&recipe)?;
    let settings = args.settings()?;
    let overhead = overhead(place);
    let wanted = Wanted::of(&recipe, &architecture, &settings, place);
    let ways = wanted.ways(bytes.saturating_sub(overhead))?;
    if args.json {
        let smallest = wanted.smallest()?;
        let told =
            serde_json::json!({ "bytes": bytes, "overhead": overhead, "ways": ways, "smallest": smallest });
        output::print(format!("{told:#}"))?;
    } else {
        let told = told(args, &recipe, &wanted, &ways, (place, bytes, overhead))?;
        output::print(told.text())?;
    }
    if ways.is_empty() {
        let least = wanted.smallest()?.map_or(0, |way| way.demand.total() + overhead);
        bail!(
            "no way to train {} fits into {}: the smallest takes {}; use a larger device, shorter sequences (--max-length), \
             or an adapter (train: lora) where all weights are trained",
            args.model.display(),
            shown(bytes),
            shown(least)
        );
    }
    Ok(())
}

impl Args {
    fn place(&self) -> anyhow::Result<(Place, u64)> {
        Ok(match (self.gpu, self.cpu) {
            (Some(bytes), _) => (Place::Gpu, bytes),
            (None, Some(bytes)) => (Place::Cpu, bytes),
            (None, None) => {
                let bytes = memory::of_this_machine().context(
                    "this machine does not say how much memory it has: give --cpu 16GiB or --gpu 80GiB",
                )?;
                (Place::Cpu, bytes)
            }
        })
    }

    fn settings(&self) -> anyhow::Result<Settings> {
        let Self { objective, batch_size, max_length, .. } = self;
        let text = format!(
            "objective: {objective:?}\nlearning_rate: 1e-4\nbatch_size: {batch_size}\nmax_length: {max_length}\n"
        );
        Ok(Document::from_text("prospect plan", &text)?.read::<TrainFile>()?.resolve()?)
    }
}

/// The shape of a model whose weights need not be here.
fn architecture(recipe: &Recipe) -> anyhow::Result<Architecture> {
    let Some(address) = recipe.name.strip_prefix("hf://") else { return Ok(recipe.architecture()?) };
    let repository = address.split('@').next().unwrap_or(address);
    if let Some(architecture) = Architecture::published(repository) {
        return Ok(architecture);
    }
    let config = locate(&format!("{}/config.json", recipe.name.trim_end_matches('/')))
        .map_err(|error| anyhow::anyhow!("{}: its config.json is needed: {error}", recipe.name))?;
    Ok(Architecture::from_hugging_face(&fs_err::read_to_string(config)?)?)
}

/// An amount in three digits.
pub(crate) fn shown(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let (unit, shift) = units.into_iter().find(|(_, shift)| bytes >> shift > 0).unwrap_or(("KiB", 10));
    let amount = bytes as f64 / f64::from(1 << shift);
    let digits = if amount < 9.995 { 2 } else { usize::from(amount < 99.95) };
    format!("{amount:.digits$} {unit}")
}

fn told(
    args: &Args,
    recipe: &Recipe,
    wanted: &Wanted<'_>,
    ways: &[Way],
    (place, bytes, overhead): (Place, u64, u64),
) -> anyhow::Result<Overview> {
    let Wanted { architecture: a, settings, .. } = wanted;
    let Footprint { trained: (trained, _), .. } = wanted.footprint(None)?;
    let what = match recipe.train {
        Train::Full => "all of them are trained".to_owned(),
        Train::Lora(lora) => format!("an adapter of rank {} with {} is trained", lora.r, grouped(trained)),
    };
    let device = match place {
        Place::Cpu => "a CPU (in f32)",
        Place::Gpu => "a GPU",
    };
    let mut lead = vec![
        format!("{} weights in {} blocks; {what}", grouped(a.parameter_count()? as u64), a.layers),
        format!(
            "{}, {} completions a step, sequences of up to {} tokens, {} of them the prompt's",
            args.objective, settings.batch_size, settings.max_length, settings.max_prompt_length
        ),
        format!("{device} with {}, of which {} are left for all else", shown(bytes), shown(overhead)),
    ];
    if let Some(first) = ways.first() {
        lead.push(format!("Settings: {}", settings_of(first, wanted, place, bytes.saturating_sub(overhead))));
    }
    let dtype = match wanted.dtype {
        Dtype::F32 => "f32",
        Dtype::Bf16 => "bf16",
    };
    let row = |way: &Way| {
        let demand = way.demand;
        let kind = way.quantization.and_then(|kind| serde_json::to_value(kind).ok());
        let kind = kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or(dtype).to_owned();
        let mut row = vec![
            Cell::Text(kind),
            Cell::count(way.micro_batch_size as u64),
            Cell::Text(format!("{} of {}", way.recomputed, a.layers)),
        ];
        let parts = [
            demand.frozen,
            demand.trained,
            demand.gradients,
            demand.moments,
            demand.activations,
            demand.at_hand,
        ];
        row.extend(parts.into_iter().chain([demand.total()]).map(|bytes| Cell::Number(shown(bytes))));
        row
    };
    let columns = [
        "frozen weights",
        "micro-batch",
        "blocks recomputed",
        "frozen",
        "trained",
        "gradients",
        "moments",
        "activations",
        "at hand",
        "in all",
    ];
    let table = Table {
        title: String::new(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: ways.iter().map(row).collect(),
    };
    let note = "What is at hand are the matrices of the largest moment of a step; sequences are taken to be as long as they \
                may be, so that real batches take less.";
    let section = Section {
        title: "Ways that fit".to_owned(),
        blocks: vec![Block::Table(table), Block::Note(note.to_owned())],
    };
    Ok(Overview {
        title: format!("Memory of {}", args.model.display()),
        lead,
        warnings: Vec::new(),
        sections: vec![section],
    })
}

/// A way as settings of a sweep.
fn settings_of(way: &Way, wanted: &Wanted<'_>, place: Place, budget: u64) -> String {
    let mut set = Vec::new();
    if place == Place::Gpu && wanted.dtype == Dtype::F32 {
        set.push("model.dtype=f32".to_owned());
    }
    if let Some(kind) = way.quantization.and_then(|kind| serde_json::to_value(kind).ok()) {
        set.push(format!("model.quantization={}", kind.as_str().unwrap_or_default()));
    }
    set.push("model.activations=null".to_owned());
    set.push(format!("model.memory={}MiB", budget >> 20));
    set.push(format!("train.micro_batch_size={}", way.micro_batch_size));
    set.iter().map(|set| format!("--set {set}")).collect::<Vec<_>>().join(" ")
}
