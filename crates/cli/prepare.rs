//! `prospect prepare`: prepares a dataset from raw human feedback.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::bail;
use prospect_data::{
    Manifest, Shard, SplitCounts, is_dataset, is_shard_prepared, merge_shards, prepare, prepare_shard,
    prepared, shard_file, shards_folder,
};

use crate::{locate::SOURCES, output, output::say, overrides::Overrides};

mod slurm;

/// Arguments of `prospect prepare`.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of the command line")]
pub(crate) struct Args {
    /// Data recipe, for example hh (`prospect recipes`), or a file or folder of feedback, whose
    /// kind is detected
    #[arg(value_name = "RECIPE|FEEDBACK")]
    pipeline: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
    /// Output directory [default: data/NAME for NAME.yaml]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Read only this part of the input, such as 2/8, into DIR.shards
    ///
    /// --merge combines the parts.
    #[arg(long, value_name = "I/N", conflicts_with = "merge")]
    shard: Option<Shard>,
    /// Combine the parts that --shard read; the files are the same as without shards
    #[arg(long)]
    merge: bool,
    #[command(flatten)]
    executor: ExecutorArgs,
    /// Prepare the dataset again even if it is up to date
    #[arg(long)]
    force: bool,
    /// Stop at the first unusable row instead of writing it to rejected.jsonl
    #[arg(long)]
    strict: bool,
    /// Print the counts of the dataset (its manifest) as JSON instead of its directory
    #[arg(long, conflicts_with_all = ["shard", "dry_run"])]
    json: bool,
}

/// Options of the executor.
#[derive(Debug, clap::Args)]
struct ExecutorArgs {
    /// Executor of the tasks that read the input
    #[arg(long, value_enum, default_value_t, conflicts_with_all = ["shard", "merge"])]
    executor: PrepareExecutor,
    /// Slurm profile [default: slurm.yaml next to the recipe or in the current directory]
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// With --executor slurm, print the job scripts and stop
    #[arg(long)]
    dry_run: bool,
}

/// Executor of the tasks that read the input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum PrepareExecutor {
    /// This process
    #[default]
    Local,
    /// Slurm tasks, one for each worker of the profile, which read one part each
    Slurm,
}

/// Prepares the dataset unless it is up to date, and prints its path.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if is_dataset(&args.pipeline) {
        bail!(
            "{} is a prepared dataset already: train on it (`prospect train DIR --model FILE`), or name its recipe",
            args.pipeline.display()
        );
    }
    let mut pipeline = SOURCES.pipeline(&args.overrides.open_data(&args.pipeline)?, &mut BTreeMap::new())?;
    if args.strict {
        pipeline = pipeline.strict();
    }
    for note in pipeline.notes() {
        say(note);
    }
    let out = args.out.clone().unwrap_or_else(|| default_out(&args.pipeline));
    let up_to_date = || say("up to date: same recipe and inputs (--force prepares it again)");
    if let Some(shard) = args.shard {
        if !args.force && is_shard_prepared(&pipeline, &out, shard)? {
            up_to_date();
        } else {
            let counts = prepare_shard(&pipeline, &out, shard)?;
            say(format!("{} rows read: {} pairs, {} rejected", counts.read, counts.pairs, counts.rejected));
        }
        return Ok(output::print(shard_file(&out, shard).display())?);
    }
    let ExecutorArgs { executor, profile, dry_run } = &args.executor;
    if *executor == PrepareExecutor::Local && (profile.is_some() || *dry_run) {
        bail!("--profile and --dry-run have no effect without --executor slurm: add it or remove them");
    }
    let known = if args.force { None } else { prepared(&pipeline, &out)? };
    let manifest = if let Some(manifest) = known {
        // A merge that was killed at its end has left the shards.
        if args.merge && shards_folder(&out).exists() {
            fs_err::remove_dir_all(shards_folder(&out))?;
        }
        up_to_date();
        manifest
    } else if *executor == PrepareExecutor::Slurm {
        anyhow::ensure!(
            !args.json,
            "--json has no effect on a job: call again with it when the job has ended"
        );
        return slurm::submit(args, &out);
    } else {
        let manifest = if args.merge { merge_shards(&pipeline, &out)? } else { prepare(&pipeline, &out)? };
        describe(&manifest);
        manifest
    };
    if args.json {
        return Ok(output::print(serde_json::to_string_pretty(&manifest)?)?);
    }
    Ok(output::print(out.display())?)
}

fn default_out(pipeline: &Path) -> PathBuf {
    Path::new("data").join(pipeline.file_stem().unwrap_or_default())
}

/// Prints what the dataset has, and its warnings.
fn describe(manifest: &Manifest) {
    say(summary(manifest));
    for warning in &manifest.warnings {
        output::warn(format!("warning: {warning}"));
    }
}

/// Describes the prepared dataset.
fn summary(manifest: &Manifest) -> String {
    let Manifest { reading, imbalance, noise, corrections, contradictions, duplicates, .. } = manifest;
    let feedback = match reading.pairs {
        0 => format!("thumbs about {} prompts, no pairs", manifest.unique_prompts),
        pairs => format!("{pairs} pairs about {} prompts", manifest.unique_prompts),
    };
    let mut lines = vec![format!("{} rows read: {feedback}, {} rejected", reading.read, reading.rejected)];
    let mut list = |title: &str, counts: &BTreeMap<String, u64>| {
        lines.extend(counts.iter().map(|(what, count)| format!("  {title} {what}: {count}")));
    };
    list("rejected", &reading.rejected_by_reason);
    list("rejected for both", &reading.rejected_overlaps);
    list("repaired", &reading.repaired);
    list("kept", &reading.noted);
    list("filtered", &reading.filtered);
    for (what, counts) in [
        (
            "exact duplicates (judgements, rows dropped)",
            &[duplicates.exact, duplicates.exact_rows_dropped][..],
        ),
        (
            "left out by the list `exclude` (pairs, rows)",
            &[corrections.excluded_pairs, corrections.excluded_rows],
        ),
        ("flipped by the list `flip` (pairs, rows)", &[corrections.flipped_pairs, corrections.flipped_rows]),
        ("contradictory labels (rows, dropped)", &[contradictions.rows, contradictions.dropped]),
        ("dropped, prompt is in the test split (rows)", &[manifest.leaked_rows_dropped]),
        ("dropped, group is in the test split (rows)", &[manifest.leaked_group_rows_dropped]),
        (
            "dropped for length (pairs, unpaired rows)",
            &[manifest.selection.long_pairs, manifest.selection.long_rows],
        ),
        ("dropped by one_per_pair (rows)", &[manifest.one_per_pair_dropped]),
        ("dropped by one_per_prompt (rows)", &[manifest.one_per_prompt_dropped]),
        (
            "near duplicates of test prompts (training prompts, rows dropped)",
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
        ("completion changed by noise (rows)", &[noise.changed_completions]),
    ] {
        if counts.iter().any(|count| *count > 0) {
            let counts: Vec<String> = counts.iter().map(u64::to_string).collect();
            lines.push(format!("  {what}: {}", counts.join(", ")));
        }
    }
    if let Some(accuracy) = manifest.oracle_accuracy {
        lines.push(format!("  oracle accuracy on the test split: {accuracy:.3}"));
    } else if let Some(auc) = manifest.oracle_auc {
        lines.push(format!("  oracle AUC on the test split: {auc:.3}"));
    }
    lines.push(format!("{:8}{:>10}{:>10}{:>12}{:>14}", "", "prompts", "pairs", "desirable", "undesirable"));
    for (name, counts) in [("train", manifest.train), ("test", manifest.test)] {
        let SplitCounts { prompts, pairs, n_desirable, n_undesirable } = counts;
        lines.push(format!("{name:8}{prompts:>10}{pairs:>10}{n_desirable:>12}{n_undesirable:>14}"));
    }
    lines.join("\n")
}
