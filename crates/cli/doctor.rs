//! `prospect doctor`: shows what this machine has for training, and what is missing.

use std::{
    path::{Path, PathBuf},
    thread::available_parallelism,
};

use prospect_core::{disk, memory};
use prospect_model::device::{self, DeviceInfo};
use serde::Serialize;

use crate::{cuda_build, output, plan::human_bytes};

/// Arguments of `prospect doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON instead of lines
    #[arg(long)]
    json: bool,
}

/// Hardware, Hub access and caches of the machine.
#[derive(Debug, Serialize)]
struct MachineFacts {
    version: &'static str,
    system: String,
    /// Threads that this process may use.
    threads: usize,
    instruction_sets: Vec<&'static str>,
    /// Bytes.
    memory: Option<u64>,
    memory_available: Option<u64>,
    gpu: GpuFacts,
    hub: HubFacts,
    /// Free bytes in the current folder's file system.
    disk_free: Option<u64>,
    caches: Vec<CacheFacts>,
}

/// The GPU that models would train on, or why there is none.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum GpuFacts {
    Found(DeviceInfo),
    /// Reason.
    None(String),
}

/// Access to the Hugging Face Hub. The token itself is never shown.
#[derive(Debug, Serialize)]
struct HubFacts {
    endpoint: String,
    offline: bool,
    has_token: bool,
}

/// A folder whose content can be fetched or computed again.
#[derive(Debug, Serialize)]
struct CacheFacts {
    name: &'static str,
    path: PathBuf,
    bytes: u64,
}

impl MachineFacts {
    fn collect() -> Self {
        let hub = prospect_hub::status();
        let caches = [
            ("Hub", hub.cache),
            ("reference log-probs", Path::new("runs").join(".reference")),
            ("scores of reward models", Path::new("runs").join(".rewards")),
            ("prepared data", PathBuf::from("data")),
        ];
        Self {
            version: env!("CARGO_PKG_VERSION"),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            threads: available_parallelism().map_or(1, usize::from),
            instruction_sets: instruction_sets(),
            memory: memory::of_this_machine(),
            memory_available: memory::available(),
            gpu: gpu(),
            hub: HubFacts { endpoint: hub.endpoint, offline: hub.offline, has_token: hub.has_token },
            disk_free: disk::free_space(Path::new(".")).ok().flatten(),
            caches: caches.map(|(name, path)| CacheFacts { name, bytes: disk::used_by(&path), path }).into(),
        }
    }
}

/// Returns the instruction sets of the processor that speed up training.
fn instruction_sets() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let sets = [
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
            ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        ];
        sets.into_iter().filter(|(_, present)| *present).map(|(name, _)| name).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        Vec::new()
    }
}

fn gpu() -> GpuFacts {
    if !cfg!(feature = "cuda") {
        return GpuFacts::None(cuda_build::why_not().reason());
    }
    match device::by_local_rank(0).and_then(|device| device::info(&device)) {
        Ok(info) => GpuFacts::Found(info),
        Err(error) => GpuFacts::None(error.to_string()),
    }
}

/// Prints the facts.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let facts = MachineFacts::collect();
    if args.json {
        return Ok(output::print(serde_json::to_string_pretty(&facts)?)?);
    }
    for (name, value) in lines(&facts) {
        output::print(format!("{name:21}{value}"))?;
    }
    Ok(())
}

/// Describes the facts as names and values.
fn lines(facts: &MachineFacts) -> Vec<(String, String)> {
    let shown = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), human_bytes);
    let sets = match facts.instruction_sets[..] {
        [] => "none of AVX2, AVX-512".to_owned(),
        ref sets => sets.join(", "),
    };
    let gpu = match &facts.gpu {
        GpuFacts::None(reason) => format!("none: {reason}"),
        GpuFacts::Found(DeviceInfo { name, memory, free, driver, compute_capability }) => format!(
            "{name}, {} ({} free), compute capability {}, CUDA {}",
            shown(*memory),
            shown(*free),
            compute_capability.as_deref().unwrap_or("unknown"),
            driver.as_deref().unwrap_or("unknown")
        ),
    };
    let HubFacts { endpoint, offline, has_token } = &facts.hub;
    let token = if *has_token { "token present" } else { "no token (gated models need HF_TOKEN)" };
    let access = if *offline { "offline, only the cache is used (HF_HUB_OFFLINE)" } else { endpoint };
    let mut lines = vec![
        ("prospect".to_owned(), format!("{} on {}", facts.version, facts.system)),
        ("threads".to_owned(), facts.threads.to_string()),
        ("instruction sets".to_owned(), sets),
        (
            "memory".to_owned(),
            format!("{}, {} available", shown(facts.memory), shown(facts.memory_available)),
        ),
        ("GPU".to_owned(), gpu),
        ("Hub".to_owned(), format!("{access}, {token}")),
        ("free disk space".to_owned(), shown(facts.disk_free)),
    ];
    lines.extend(facts.caches.iter().filter(|cache| cache.bytes > 0).map(|cache| {
        (cache.name.to_owned(), format!("{} in {}", shown(Some(cache.bytes)), cache.path.display()))
    }));
    lines
}
