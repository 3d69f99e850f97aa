//! Preparing a dataset directory from a resolved recipe: all steps in order.

mod input;
mod sharded;
mod warnings;

use std::{
    io::{BufWriter, Write},
    path::Path,
};

use fs_err::File;
use prospect_core::{
    files::{WholeDir, write_json, write_whole},
    sample::auc,
};

use crate::{
    BalancedClassWeights, DataError, Manifest, Pipeline, Split, SyntheticWorld,
    ingest::{blocks::GroupBlocks, first_pass::FirstPass, raw::GroupSink, rejections, shards::shards_folder},
    output::{
        card, checksums,
        completion_store::{CompletionCollector, CompletionStore},
        manifest,
        second_pass::SecondPass,
    },
    read_manifest,
    steps::{
        contradictions, corrections, duplicates, imbalance, log_counts, one_per_pair, one_per_prompt,
        quality, selection, split,
    },
    table::feedback::{Feedback, FeedbackRow},
};
use input::FeedbackInput;
use sharded::ShardedInput;

pub use sharded::{is_shard_prepared, prepare_shard};

/// Prepares the dataset directory `out`. An earlier dataset there is replaced only when the new one
/// is complete.
pub fn prepare(pipeline: &Pipeline, out: &Path) -> Result<Manifest, DataError> {
    prepare_from(pipeline, out, &pipeline.source)
}

/// Prepares the dataset directory `out` from its shards, then removes them. The dataset is the same
/// that [`prepare`] makes.
pub fn merge_shards(pipeline: &Pipeline, out: &Path) -> Result<Manifest, DataError> {
    let manifest = prepare_from(pipeline, out, &ShardedInput::find(pipeline, out)?)?;
    fs_err::remove_dir_all(shards_folder(out))?;
    Ok(manifest)
}

/// Returns the manifest that [`prepare`] would write, without writing a dataset. Reads the input
/// once; temporary files go to the system's temporary folder.
pub fn dry_run(pipeline: &Pipeline) -> Result<Manifest, DataError> {
    let scratch = format!("prospect-count-{}", pipeline.fingerprint()?);
    let dir = WholeDir::create(&std::env::temp_dir().join(scratch))?;
    Ok(run_steps(pipeline, dir.path(), &pipeline.source)?.0)
}

/// Returns the manifest of `out` if it holds the complete and undamaged dataset of this recipe and
/// these inputs.
pub fn prepared(pipeline: &Pipeline, out: &Path) -> Result<Option<Manifest>, DataError> {
    // An unreadable manifest is from another version, so the dataset must be prepared again.
    let fingerprint = pipeline.fingerprint()?;
    let manifest = read_manifest(out).ok().filter(|manifest| manifest.fingerprint == fingerprint);
    Ok(manifest.filter(|_| checksums::check_dataset(out).is_ok()))
}

fn prepare_from(pipeline: &Pipeline, out: &Path, input: &dyn FeedbackInput) -> Result<Manifest, DataError> {
    check_replaceable(out)?;
    if let Err(DataError::Damaged { damage, .. }) = checksums::check_dataset(out) {
        tracing::warn!("{damage}; the dataset is prepared again");
    }
    let dir = WholeDir::create(out)?;
    let (manifest, feedback) = run_steps(pipeline, dir.path(), input)?;
    write_rows(pipeline, dir.path(), &feedback, input)?;
    write_whole(&dir.path().join("README.md"), |file| file.write_all(card::card(&manifest).as_bytes()))?;
    write_json(&dir.path().join(manifest::FILE), &manifest)?;
    checksums::record(dir.path())?;
    dir.commit()?;
    Ok(manifest)
}

/// Returns true if `path` is the directory of a prepared dataset.
pub fn is_dataset(path: &Path) -> bool {
    path.join(manifest::FILE).is_file() && path.join("kto").is_dir() && path.join("dpo").is_dir()
}

/// Fails if `out` holds anything but a dataset, because preparing replaces it.
fn check_replaceable(out: &Path) -> Result<(), DataError> {
    let empty = || out.is_dir() && fs_err::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
    if !out.exists() || empty() || is_dataset(out) {
        return Ok(());
    }
    Err(DataError::Occupied(out.to_owned()))
}

/// Runs the first pass and all steps: decides which rows stay and how noise changes them.
fn run_steps(
    pipeline: &Pipeline,
    dir: &Path,
    input: &dyn FeedbackInput,
) -> Result<(Manifest, Feedback), DataError> {
    let FirstPass { tally, mut feedback, .. } = first_pass(pipeline, dir, input)?;
    tally.check(pipeline.max_rejected)?;

    let unique_prompts = feedback.prompts(|_| true).len();
    let judgements = feedback.judgements();
    let quality = quality::count(&feedback, &judgements);
    let corrections = corrections::apply(&mut feedback, &pipeline.corrections);
    let judgements = if pipeline.corrections.is_none() { judgements } else { feedback.judgements() };
    let contradictions = contradictions::settle(&mut feedback, &judgements, pipeline.contradictions);
    drop(judgements);
    let mut duplicates = duplicates::exact(&mut feedback, pipeline.deduplicate);
    let leaked = split::assign(&mut feedback, &pipeline.split, pipeline.seed)?;
    duplicates::near(&mut feedback, pipeline.deduplicate, &mut duplicates);
    let selection = selection::select(&mut feedback, &pipeline.select, pipeline.seed)?;
    let one_per_pair_dropped =
        pipeline.one_per_pair.map_or(0, |policy| one_per_pair::thin(&mut feedback, policy, pipeline.seed));
    let one_per_prompt_dropped = pipeline
        .one_per_prompt
        .map_or(0, |policy| one_per_prompt::thin(&mut feedback, policy, pipeline.seed));
    let mix = pipeline.mix.apply(&mut feedback, pipeline.seed)?;
    let imbalance = imbalance::thin(&mut feedback, pipeline.imbalance, pipeline.seed)?;
    let noise = pipeline.noise.apply(&mut feedback, pipeline.seed);
    let train = feedback.counts(Split::Train);

    let mut manifest = Manifest {
        fingerprint: pipeline.fingerprint()?,
        config: serde_json::to_value(pipeline).map_err(std::io::Error::from)?,
        inputs: pipeline.source.inputs(dir)?,
        unique_prompts: unique_prompts as u64,
        unique_prompt_fraction: unique_prompts as f64 / feedback.pairs.len().max(1) as f64,
        reading: tally.finish()?,
        quality,
        corrections,
        contradictions,
        duplicates,
        leaked_rows_dropped: leaked.by_prompt,
        leaked_group_rows_dropped: leaked.by_group,
        selection,
        one_per_pair_dropped,
        one_per_prompt_dropped,
        mix,
        imbalance,
        noise,
        train,
        class_weights: BalancedClassWeights::from_counts(train),
        test: feedback.counts(Split::Test),
        logs: log_counts::count(&feedback),
        oracle_accuracy: oracle_accuracy(&feedback),
        oracle_auc: oracle_auc(&feedback),
        utility_range: pipeline.world().map(SyntheticWorld::range),
        warnings: pipeline.warnings.clone(),
    };
    if manifest.train.n_desirable + manifest.train.n_undesirable == 0 {
        return Err(DataError::EmptyTrain(warnings::explain_empty(&manifest)));
    }
    manifest.warnings.extend(warnings::collect(pipeline, &manifest, &feedback));
    Ok((manifest, feedback))
}

fn first_pass(
    pipeline: &Pipeline,
    dir: &Path,
    input: &dyn FeedbackInput,
) -> Result<FirstPass<BufWriter<File>>, DataError> {
    let rejected = BufWriter::new(File::create(dir.join(rejections::FILE))?);
    let mut first_pass = FirstPass::new(rejected, pipeline.strict, pipeline.digest_options()?);
    input.first_pass(dir, &mut first_pass)?;
    Ok(first_pass)
}

/// Runs the second pass: reads the input again and writes the kept rows.
fn write_rows(
    pipeline: &Pipeline,
    dir: &Path,
    feedback: &Feedback,
    input: &dyn FeedbackInput,
) -> Result<(), DataError> {
    let read = |label, sink: &mut dyn GroupSink| {
        let mut blocks = GroupBlocks::new(sink, label, feedback.groups.len());
        input.groups(dir, &mut blocks)?;
        blocks.finish()
    };
    // The new completion of a shuffled row can come from anywhere in the input, so these
    // completions are collected in a pass of their own.
    let donors = if feedback.donors.is_empty() {
        None
    } else {
        let mut collector = CompletionCollector::new(dir, feedback)?;
        read("fetching completions", &mut collector)?;
        Some(collector.finish()?)
    };
    let corruptor = pipeline.noise.text_corruptor(pipeline.seed);
    let mut second_pass = SecondPass::new(dir, feedback, corruptor, donors.as_ref())?;
    read("writing", &mut second_pass)?;
    second_pass.finish()?;
    donors.map_or(Ok(()), CompletionStore::remove)
}

/// Returns the AUC of the scores of test rows; None unless all of them have scores, or without both
/// labels.
fn oracle_auc(feedback: &Feedback) -> Option<f64> {
    let scored = feedback.kept(Split::Test).map(|row| Some((row.score()?, row.label())));
    auc(&scored.collect::<Option<Vec<_>>>()?)
}

/// Returns the fraction of test pairs whose chosen completion has the higher score, ties counting
/// half; None unless all of them have scores.
fn oracle_accuracy(feedback: &Feedback) -> Option<f64> {
    let (mut points, mut pairs) = (0.0, 0);
    for pair in feedback.kept_pairs(Split::Test) {
        let [chosen, rejected] = feedback.sides(pair).map(FeedbackRow::score);
        let (chosen, rejected) = (chosen?, rejected?);
        points += if chosen == rejected { 0.5 } else { f64::from(u8::from(chosen > rejected)) };
        pairs += 1;
    }
    (pairs > 0).then(|| points / f64::from(pairs))
}

#[cfg(test)]
mod tests;
