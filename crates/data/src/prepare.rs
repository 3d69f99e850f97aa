//! From a resolved recipe to a dataset directory.

use std::{
    io::{BufWriter, Write},
    path::Path,
};

use fs_err::File;
use prospect_core::files::{WholeDir, write_json, write_whole};

use crate::{
    AutoWeights, BinaryRow, DataError, Manifest, PairRow, Pipeline, Split, World, card, contradictions,
    donors::{Collecting, Donors},
    duplicates,
    feedback::{Feedback, Row},
    imbalance, manifest, one_per_pair, parquet_file,
    raw::{Blocks, GroupBlocks, Texts},
    read_manifest, selection,
    shard::Shard,
    shards::{self, Shards},
    sources::Sources,
    split,
    survey::Survey,
    writing::Writing,
};

/// Makes the dataset directory `out`, whole or not at all, replacing an earlier dataset.
pub fn prepare(pipeline: &Pipeline, out: &Path) -> Result<Manifest, DataError> {
    make(pipeline, out, &pipeline.source)
}

/// Makes the dataset directory `out` of the shards beside it, then removes them. It is the one that [`prepare`] makes.
pub fn merge_shards(pipeline: &Pipeline, out: &Path) -> Result<Manifest, DataError> {
    let shards = Shards::find(pipeline, out)?;
    let manifest = make(pipeline, out, &Sharded { sources: &pipeline.source, shards })?;
    fs_err::remove_dir_all(shards::shards_folder(out))?;
    Ok(manifest)
}

/// What is read twice: once to decide, once to write. Both give the same groups in the same order. `dir` is the
/// dataset being made.
trait Input {
    fn survey(&self, dir: &Path, into: &mut Survey<BufWriter<File>>) -> Result<(), DataError>;
    fn groups(&self, dir: &Path, into: &mut GroupBlocks<'_>) -> Result<(), DataError>;
}

impl Input for Sources {
    fn survey(&self, dir: &Path, into: &mut Survey<BufWriter<File>>) -> Result<(), DataError> {
        let mut blocks = Blocks::new(into);
        self.read(dir, &mut blocks)?;
        blocks.finish()
    }

    fn groups(&self, dir: &Path, into: &mut GroupBlocks<'_>) -> Result<(), DataError> {
        self.read(dir, into)
    }
}

/// Sources that other processes have read, but for those that are generated.
struct Sharded<'a> {
    sources: &'a Sources,
    shards: Shards,
}

impl Input for Sharded<'_> {
    fn survey(&self, dir: &Path, into: &mut Survey<BufWriter<File>>) -> Result<(), DataError> {
        let mut shards = self.shards.open()?;
        self.sources.as_slice().iter().enumerate().try_for_each(|(index, source)| {
            if source.is_generated() {
                source.read(dir, Shard::WHOLE, into)
            } else {
                shards.survey(index, into)
            }
        })
    }

    fn groups(&self, dir: &Path, into: &mut GroupBlocks<'_>) -> Result<(), DataError> {
        let mut shards = self.shards.open()?;
        self.sources.as_slice().iter().enumerate().try_for_each(|(index, source)| {
            if source.is_generated() {
                source.read(dir, Shard::WHOLE, into)
            } else {
                shards.groups(index, into)
            }
        })
    }
}

/// The manifest that [`prepare`] would write, without a dataset: the source is read once, and no more than a moment's scratch
/// is written, in the system's folder for such.
pub fn count(pipeline: &Pipeline) -> Result<Manifest, DataError> {
    let scratch = format!("prospect-count-{}", pipeline.fingerprint()?);
    let dir = WholeDir::create(&std::env::temp_dir().join(scratch))?;
    Ok(decide(pipeline, dir.path(), &pipeline.source)?.0)
}

fn make(pipeline: &Pipeline, out: &Path, input: &dyn Input) -> Result<Manifest, DataError> {
    refuse_foreign(out)?;
    let dir = WholeDir::create(out)?;
    let (manifest, feedback) = decide(pipeline, dir.path(), input)?;
    write(pipeline, dir.path(), &feedback, input)?;
    write_whole(&dir.path().join("README.md"), |file| file.write_all(card::card(&manifest).as_bytes()))?;
    write_json(&dir.path().join(manifest::FILE), &manifest)?;
    dir.commit()?;
    Ok(manifest)
}

/// Reads the source for the first time and decides what becomes of every row.
fn decide(pipeline: &Pipeline, dir: &Path, input: &dyn Input) -> Result<(Manifest, Feedback), DataError> {
    let source = &pipeline.source;
    let Survey { reading, mut feedback, .. } = survey(pipeline, dir, input)?;
    reading.check(pipeline.max_rejected)?;

    let unique_prompts = feedback.prompts(|_| true).len();
    let contradictions = contradictions::settle(&mut feedback, pipeline.contradictions);
    let mut duplicates = duplicates::exact(&mut feedback, pipeline.deduplicate);
    let leaked_rows_dropped = split::assign(&mut feedback, &pipeline.split, pipeline.seed);
    duplicates::near(&mut feedback, pipeline.deduplicate, &mut duplicates);
    let selection = selection::select(&mut feedback, &pipeline.select, pipeline.seed)?;
    let one_per_pair_dropped =
        pipeline.one_per_pair.map_or(0, |policy| one_per_pair::thin(&mut feedback, policy, pipeline.seed));
    let mix = pipeline.mix.apply(&mut feedback, pipeline.seed)?;
    let imbalance = imbalance::thin(&mut feedback, pipeline.imbalance, pipeline.seed)?;
    let noise = pipeline.noise.apply(&mut feedback, pipeline.seed);
    let train = feedback.counts(Split::Train);

    let mut manifest = Manifest {
        fingerprint: pipeline.fingerprint()?,
        config: serde_json::to_value(pipeline).map_err(std::io::Error::from)?,
        inputs: source.inputs(dir)?,
        unique_prompts: unique_prompts as u64,
        unique_prompt_fraction: unique_prompts as f64 / feedback.pairs.len().max(1) as f64,
        reading: reading.finish()?,
        contradictions,
        duplicates,
        leaked_rows_dropped,
        selection,
        one_per_pair_dropped,
        mix,
        imbalance,
        noise,
        train,
        class_weights: AutoWeights::of(train),
        test: feedback.counts(Split::Test),
        oracle_accuracy: oracle_accuracy(&feedback),
        utility_range: pipeline.world().map(World::range),
        warnings: pipeline.warnings.clone(),
    };
    if manifest.train.n_desirable + manifest.train.n_undesirable == 0 {
        return Err(DataError::EmptyTrain(why_empty(&manifest)));
    }
    manifest.warnings.extend(warnings(pipeline, &manifest));
    Ok((manifest, feedback))
}

/// Reads the source for the first time.
fn survey(pipeline: &Pipeline, dir: &Path, input: &dyn Input) -> Result<Survey<BufWriter<File>>, DataError> {
    let rejected = BufWriter::new(File::create(dir.join("rejected.jsonl"))?);
    let mut survey = Survey::new(rejected, pipeline.strict, pipeline.measure()?);
    input.survey(dir, &mut survey)?;
    Ok(survey)
}

/// Reads the source again, and writes what is left of it.
fn write(pipeline: &Pipeline, dir: &Path, feedback: &Feedback, input: &dyn Input) -> Result<(), DataError> {
    let read = |label, texts: &mut dyn Texts| {
        let mut blocks = GroupBlocks::new(texts, label, feedback.groups.len());
        input.groups(dir, &mut blocks)?;
        blocks.finish()
    };
    // A completion that goes to another row may stand anywhere in the input: these are fetched first.
    let donors = if feedback.donors.is_empty() {
        None
    } else {
        let mut collecting = Collecting::new(dir, feedback)?;
        read("fetching completions", &mut collecting)?;
        Some(collecting.finish()?)
    };
    let spoiler = pipeline.noise.spoiler(pipeline.seed);
    let mut writing = Writing::new(dir, feedback, spoiler, donors.as_ref())?;
    read("writing", &mut writing)?;
    writing.finish()?;
    donors.map_or(Ok(()), Donors::remove)
}

/// The manifest of `out`, if it holds the dataset of this very recipe, whole.
pub fn prepared(pipeline: &Pipeline, out: &Path) -> Result<Option<Manifest>, DataError> {
    let whole = Split::ALL.into_iter().all(|split| {
        parquet_file::path::<BinaryRow>(out, split).exists()
            && parquet_file::path::<PairRow>(out, split).exists()
    });
    // A manifest that cannot be read is from another version: the dataset has to be made again.
    let manifest = if whole { read_manifest(out).ok() } else { None };
    let fingerprint = pipeline.fingerprint()?;
    Ok(manifest.filter(|manifest| manifest.fingerprint == fingerprint))
}

/// Making a dataset replaces what is there, so that must be a dataset.
fn refuse_foreign(out: &Path) -> Result<(), DataError> {
    let empty = || out.is_dir() && fs_err::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
    let dataset =
        || out.join(manifest::FILE).is_file() && out.join("kto").is_dir() && out.join("dpo").is_dir();
    if !out.exists() || empty() || dataset() {
        return Ok(());
    }
    Err(DataError::Occupied(out.to_owned()))
}

fn oracle_accuracy(feedback: &Feedback) -> Option<f64> {
    let (mut points, mut pairs) = (0.0, 0);
    for pair in feedback.kept_pairs(Split::Test) {
        let [chosen, rejected] = feedback.sides(pair).map(Row::score);
        let (chosen, rejected) = (chosen?, rejected?);
        points += if chosen == rejected { 0.5 } else { f64::from(u8::from(chosen > rejected)) };
        pairs += 1;
    }
    (pairs > 0).then(|| points / f64::from(pairs))
}

fn why_empty(manifest: &Manifest) -> String {
    let Manifest { reading, contradictions, imbalance, .. } = manifest;
    format!(
        "of {} rows read, {} were rejected, {} completions dropped for contradictory labels, {} for a prompt that \
         is in the test split, {} by imbalance; {} pairs are held out",
        reading.read,
        reading.rejected,
        contradictions.dropped,
        manifest.leaked_rows_dropped,
        imbalance.desirable.dropped + imbalance.undesirable.dropped,
        manifest.test.pairs,
    )
}

/// What a user should know: settings without effect, and splits that lack something.
fn warnings(pipeline: &Pipeline, manifest: &Manifest) -> Vec<String> {
    let Manifest { train, test, imbalance, noise, .. } = manifest;
    let keep = pipeline.imbalance;
    let mut warnings = pipeline.noise.idle(noise);
    let mut warn = |condition: bool, text: &str| {
        if condition {
            warnings.push(text.to_owned());
        }
    };
    for (key, share, counts) in [
        ("imbalance.keep_desirable", keep.keep_desirable, imbalance.desirable),
        ("imbalance.keep_undesirable", keep.keep_undesirable, imbalance.undesirable),
    ] {
        let text = format!("`{key}: {share}` has no effect: it rounds to no row");
        warn(share != 1.0 && counts.dropped == 0, &text);
    }
    warn(train.n_desirable == 0, "the training split has no desirable row");
    warn(train.n_undesirable == 0, "the training split has no undesirable row");
    warn(
        train.pairs == 0,
        "the training split has no whole pair: paired objectives have nothing to train on",
    );
    warn(test.pairs == 0, "the test split has no pair: nothing can be evaluated");
    warnings
}

#[cfg(test)]
mod tests;
