//! Folds of a dataset: datasets that each hold out another part of its prompts.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use prospect_core::{
    draw::Draw,
    files::{WholeDir, fingerprint, write_json},
};

use super::items::parse;
use crate::{
    BalancedClassWeights, BinaryRow, DataError, Manifest, PairRow, Split, SplitCounts, dataset_fingerprint,
    ingest::rejections,
    output::{
        checksums, manifest,
        parquet::{DatasetWriter, binary_rows::BinaryRowRef, pair_rows::PairRowRef, record_batch},
    },
    read_binary, read_manifest, read_pairs,
    table::{
        feedback::Origin,
        ids::{Id, pair_id, row_id},
    },
};

/// A fold: a dataset whose test split is one part of the prompts, and whose training split is all
/// others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold {
    /// Index of the fold, from 0.
    pub index: usize,
    /// Dataset directory.
    pub path: PathBuf,
    /// Prompts in its test split.
    pub prompts: BTreeSet<String>,
}

/// Rows of a record batch.
const BATCH_ROWS: usize = 4096;

/// Writes `count` folds of a prepared dataset below `out`, unless they are there. Prompts of both
/// splits are ranked by keyed hashes, and dealt out in turn; so a prompt is held out once, and
/// judged by a policy that saw none of its rows.
///
/// Rows and pairs get ids of what they hold after noise, so that equal texts have equal ids.
pub fn write_folds(dataset: &Path, out: &Path, count: usize, seed: u64) -> Result<Vec<Fold>, DataError> {
    let whole = Whole::read(dataset)?;
    let folds = assign(whole.prompts(), count, seed);
    if folds.iter().any(BTreeSet::is_empty) {
        return Err(DataError::NotEnough(format!(
            "{}: {} prompts do not fill {count} folds; use fewer folds or more data",
            dataset.display(),
            whole.prompts().len()
        )));
    }
    let source = dataset_fingerprint(dataset)?;
    let mut written = Vec::new();
    for (index, prompts) in folds.into_iter().enumerate() {
        let path = out.join(format!("fold-{index}"));
        let mark = fingerprint(&("fold v1", &source, index, count, seed))?;
        let is_there = read_manifest(&path).is_ok_and(|manifest| manifest.fingerprint == mark)
            && checksums::check_dataset(&path).is_ok();
        if !is_there {
            whole.write(&path, &prompts, mark)?;
        }
        written.push(Fold { index, path, prompts });
    }
    Ok(written)
}

/// Deals prompts out to folds.
fn assign(prompts: BTreeSet<&str>, count: usize, seed: u64) -> Vec<BTreeSet<String>> {
    let draw = Draw::new(seed, "triage folds");
    let mut ranked: Vec<(u64, &str)> =
        prompts.into_iter().map(|prompt| (draw.bits(prompt), prompt)).collect();
    ranked.sort_unstable();
    let mut folds = vec![BTreeSet::new(); count];
    for (rank, (_, prompt)) in ranked.into_iter().enumerate() {
        folds[rank % count].insert(prompt.to_owned());
    }
    folds
}

/// All rows and pairs of a dataset.
struct Whole {
    manifest: Manifest,
    rows: Vec<BinaryRow>,
    pairs: Vec<PairRow>,
    /// Ids of rows and pairs by content after noise.
    row_ids: Vec<Id>,
    pair_ids: Vec<Id>,
    /// Pair that each row is a side of, by content.
    pair_of_row: Vec<Option<Id>>,
    /// Sources and domains of rows and pairs.
    row_origins: Vec<Origin>,
    pair_origins: Vec<Origin>,
}

impl Whole {
    fn read(dataset: &Path) -> Result<Self, DataError> {
        let (mut rows, mut pairs) = (Vec::new(), Vec::new());
        for split in Split::ALL {
            rows.extend(read_binary(dataset, split)?);
            pairs.extend(read_pairs(dataset, split)?);
        }
        let row_ids = rows
            .iter()
            .map(|row| Ok(row_id(parse(&row.prompt_id)?, &row.completion)))
            .collect::<Result<Vec<_>, DataError>>()?;
        let mut pair_ids = Vec::new();
        // Copies of a pair may differ by noise, so a row finds its pair by its side as well.
        let mut sides: BTreeMap<(&str, Id, bool), Id> = BTreeMap::new();
        for pair in &pairs {
            let prompt = parse(&pair.prompt_id)?;
            let [chosen, rejected] = [&pair.chosen, &pair.rejected].map(|side| row_id(prompt, side));
            let id = pair_id(prompt, chosen, rejected);
            sides.insert((&pair.pair_id, chosen, true), id);
            sides.insert((&pair.pair_id, rejected, false), id);
            pair_ids.push(id);
        }
        let pair_of_row = rows
            .iter()
            .zip(&row_ids)
            .map(|(row, id)| {
                let pair = row.pair_id.as_deref()?;
                let side = |label| sides.get(&(pair, *id, label)).copied();
                side(row.label).or_else(|| side(!row.label))
            })
            .collect();
        let origin =
            |source: &String, domain: &String| Origin { source: source.clone(), domain: domain.clone() };
        let row_origins = rows.iter().map(|row| origin(&row.source, &row.domain)).collect();
        let pair_origins = pairs.iter().map(|pair| origin(&pair.source, &pair.domain)).collect();
        let manifest = read_manifest(dataset)?;
        Ok(Self { manifest, rows, pairs, row_ids, pair_ids, pair_of_row, row_origins, pair_origins })
    }

    fn prompts(&self) -> BTreeSet<&str> {
        let of_pairs = self.pairs.iter().map(|pair| pair.prompt_id.as_str());
        self.rows.iter().map(|row| row.prompt_id.as_str()).chain(of_pairs).collect()
    }

    /// Writes the dataset that holds out `prompts`.
    fn write(&self, path: &Path, prompts: &BTreeSet<String>, mark: String) -> Result<(), DataError> {
        let dir = WholeDir::create(path)?;
        let groups = self.rows.iter().any(|row| row.group.is_some());
        let mut writer = DatasetWriter::create(dir.path(), groups)?;
        for split in Split::ALL {
            let is_in = |prompt: &str| prompts.contains(prompt) == (split == Split::Test);
            let rows: Vec<usize> =
                (0..self.rows.len()).filter(|row| is_in(&self.rows[*row].prompt_id)).collect();
            for batch in rows.chunks(BATCH_ROWS) {
                let rows = batch.iter().map(|row| self.row(*row)).collect::<Result<Vec<_>, _>>()?;
                let batch = record_batch::<BinaryRow>(&rows, groups).map_err(DataError::Columns)?;
                writer.push::<BinaryRow>(split, batch)?;
            }
            let pairs: Vec<usize> =
                (0..self.pairs.len()).filter(|pair| is_in(&self.pairs[*pair].prompt_id)).collect();
            for batch in pairs.chunks(BATCH_ROWS) {
                let pairs = batch.iter().map(|pair| self.pair(*pair)).collect::<Result<Vec<_>, _>>()?;
                let batch = record_batch::<PairRow>(&pairs, groups).map_err(DataError::Columns)?;
                writer.push::<PairRow>(split, batch)?;
            }
        }
        writer.finish()?;
        fs_err::write(dir.path().join(rejections::FILE), "")?;
        let [train, test] = Split::ALL.map(|split| self.counts(prompts, split));
        let class_weights = BalancedClassWeights::from_counts(train);
        let manifest = Manifest { fingerprint: mark, train, test, class_weights, ..self.manifest.clone() };
        write_json(&dir.path().join(manifest::FILE), &manifest)?;
        checksums::record(dir.path())?;
        Ok(dir.commit()?)
    }

    fn counts(&self, prompts: &BTreeSet<String>, split: Split) -> SplitCounts {
        let is_in = |prompt: &str| prompts.contains(prompt) == (split == Split::Test);
        let rows = || self.rows.iter().filter(|row| is_in(&row.prompt_id));
        let all = rows().count() as u64;
        let n_desirable = rows().filter(|row| row.label).count() as u64;
        SplitCounts {
            prompts: self.prompts().into_iter().filter(|prompt| is_in(prompt)).count() as u64,
            pairs: self.pairs.iter().filter(|pair| is_in(&pair.prompt_id)).count() as u64,
            n_desirable,
            n_undesirable: all - n_desirable,
        }
    }

    fn row(&self, index: usize) -> Result<BinaryRowRef<'_>, DataError> {
        let row = &self.rows[index];
        Ok(BinaryRowRef {
            id: self.row_ids[index],
            prompt_id: parse(&row.prompt_id)?,
            pair_id: self.pair_of_row[index],
            prompt: &row.prompt,
            completion: Cow::Borrowed(&row.completion),
            label: row.label,
            origin: &self.row_origins[index],
            score: row.score,
            original_label: row.original_label,
            noise: Cow::Borrowed(&row.noise),
            weight: row.weight,
            group: row.group.as_deref().map(parse).transpose()?,
        })
    }

    fn pair(&self, index: usize) -> Result<PairRowRef<'_>, DataError> {
        let pair = &self.pairs[index];
        Ok(PairRowRef {
            pair_id: self.pair_ids[index],
            prompt_id: parse(&pair.prompt_id)?,
            prompt: &pair.prompt,
            chosen: Cow::Borrowed(&pair.chosen),
            rejected: Cow::Borrowed(&pair.rejected),
            origin: &self.pair_origins[index],
            score_chosen: pair.score_chosen,
            score_rejected: pair.score_rejected,
            noise: Cow::Borrowed(&pair.noise),
            swapped: pair.swapped,
            group: pair.group.as_deref().map(parse).transpose()?,
        })
    }
}
