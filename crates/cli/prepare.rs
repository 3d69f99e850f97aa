//! `prospect prepare`: raw human feedback to a dataset.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::bail;
use prospect_core::progress::say;
use prospect_data::{
    Manifest, Shard, SplitCounts, is_shard_prepared, merge_shards, prepare, prepare_shard, prepared,
    shard_file,
};

use crate::{locate::SOURCES, output, overrides::Overrides};

mod slurm;

/// Arguments of `prospect prepare`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The recipe, for example pipelines/hh.yaml
    pipeline: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
    /// Where to put the dataset [default: data/NAME for NAME.yaml]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Read only this part of the input, such as 2/8, and keep what it holds in DIR.shards; --merge puts parts together
    #[arg(long, value_name = "I/N", conflicts_with = "merge")]
    shard: Option<Shard>,
    /// Make the dataset of the parts that --shard made: the same files as without them
    #[arg(long)]
    merge: bool,
    #[command(flatten)]
    place: Place,
    /// Make the dataset again even if it is up to date
    #[arg(long)]
    force: bool,
    /// Stop at the first row that cannot be used, instead of setting it aside in rejected.jsonl
    #[arg(long)]
    strict: bool,
}

/// Where the input is read, and how.
#[derive(Debug, clap::Args)]
struct Place {
    /// Where the input is read
    #[arg(long, value_enum, default_value_t, conflicts_with_all = ["shard", "merge"])]
    executor: Executor,
    /// What to ask the cluster for [default: slurm.yaml beside the recipe, or here]
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// With --executor slurm, print the scripts that would be submitted, and stop
    #[arg(long)]
    dry_run: bool,
}

/// Where the input is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Executor {
    /// In this process
    #[default]
    Local,
    /// By tasks that Slurm starts, each of which reads a part: as many as the profile has workers
    Slurm,
}

/// Makes the dataset unless it is there already, and prints where it is.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut pipeline = SOURCES.pipeline(&args.overrides.open(&args.pipeline)?, &mut BTreeMap::new())?;
    if args.strict {
        pipeline = pipeline.strict();
    }
    for note in pipeline.notes() {
        say(note);
    }
    let out = args.out.clone().unwrap_or_else(|| default_out(&args.pipeline));
    let up_to_date = || say("up to date: same recipe, same inputs (--force makes it again)");
    if let Some(shard) = args.shard {
        if !args.force && is_shard_prepared(&pipeline, &out, shard)? {
            up_to_date();
        } else {
            let counts = prepare_shard(&pipeline, &out, shard)?;
            say(format!("{} rows read: {} pairs, {} rejected", counts.read, counts.pairs, counts.rejected));
        }
        return Ok(output::print(shard_file(&out, shard).display())?);
    }
    let Place { executor, profile, dry_run } = &args.place;
    if *executor == Executor::Local && (profile.is_some() || *dry_run) {
        bail!("--profile and --dry-run are for --executor slurm: give it too, or leave them out");
    }
    if !args.force && prepared(&pipeline, &out)?.is_some() {
        up_to_date();
    } else if *executor == Executor::Slurm {
        return slurm::submit(args, &out);
    } else if args.merge {
        say(summary(&merge_shards(&pipeline, &out)?));
    } else {
        say(summary(&prepare(&pipeline, &out)?));
    }
    output::print(out.display())?;
    Ok(())
}

fn default_out(pipeline: &Path) -> PathBuf {
    Path::new("data").join(pipeline.file_stem().unwrap_or_default())
}

/// What happened, for people.
fn summary(manifest: &Manifest) -> String {
    let Manifest { reading, imbalance, noise, contradictions, duplicates, .. } = manifest;
    let mut lines = vec![format!(
        "{} rows read: {} pairs about {} prompts, {} rejected",
        reading.read, reading.pairs, manifest.unique_prompts, reading.rejected
    )];
    let mut list = |title: &str, counts: &BTreeMap<String, u64>| {
        lines.extend(counts.iter().map(|(what, count)| format!("  {title} {what}: {count}")));
    };
    list("rejected", &reading.rejected_by_reason);
    list("of these with both", &reading.rejected_overlaps);
    list("repaired", &reading.repaired);
    list("kept", &reading.noted);
    list("left out", &reading.filtered);
    for (what, counts) in [
        (
            "exact duplicates (judgements, of these rows dropped)",
            &[duplicates.exact, duplicates.exact_rows_dropped][..],
        ),
        (
            "with contradictory labels (rows, of these dropped)",
            &[contradictions.rows, contradictions.dropped],
        ),
        ("dropped, prompt is in the test split (rows)", &[manifest.leaked_rows_dropped]),
        (
            "dropped for their length (pairs, rows without a pair)",
            &[manifest.selection.long_pairs, manifest.selection.long_rows],
        ),
        ("dropped, one side of each pair stays (rows)", &[manifest.one_per_pair_dropped]),
        (
            "nearly the same as a test prompt (training prompts, rows dropped)",
            &[duplicates.near_train_prompts.unwrap_or_default(), duplicates.near_rows_dropped],
        ),
        (
            "dropped by imbalance (desirable, undesirable rows)",
            &[imbalance.desirable.dropped, imbalance.undesirable.dropped],
        ),
        (
            "flipped by noise (desirable, undesirable rows)",
            &[noise.flipped_desirable, noise.flipped_undesirable],
        ),
        ("swapped by noise (pairs)", &[noise.swapped_pairs]),
        ("with another completion by noise (rows)", &[noise.changed_completions]),
    ] {
        if counts.iter().any(|count| *count > 0) {
            let counts: Vec<String> = counts.iter().map(u64::to_string).collect();
            lines.push(format!("  {what}: {}", counts.join(", ")));
        }
    }
    if let Some(accuracy) = manifest.oracle_accuracy {
        lines.push(format!("  oracle accuracy on the test split: {accuracy:.3}"));
    }
    lines.push(format!("{:8}{:>10}{:>10}{:>12}{:>14}", "", "prompts", "pairs", "desirable", "undesirable"));
    for (name, counts) in [("train", manifest.train), ("test", manifest.test)] {
        let SplitCounts { prompts, pairs, n_desirable, n_undesirable } = counts;
        lines.push(format!("{name:8}{prompts:>10}{pairs:>10}{n_desirable:>12}{n_undesirable:>14}"));
    }
    lines.extend(manifest.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines.join("\n")
}
