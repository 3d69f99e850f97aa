//! Counts over the columns of a dataset, as lazy expressions.

use std::{collections::BTreeMap, path::Path};

use polars::prelude::{DataFrame, Expr, IntoLazy, LazyFrame, SortMultipleOptions, col, len};
use prospect_data::{Split, read_binary_batches};

use super::{
    Example, Lengths, RowCounts, SplitSummary, TextLengths,
    examples::{ExampleSampler, RowKey},
};
use crate::{QueryError, answer::Answer, dataset::Datasets, scan::frame};

/// Rows and pairs by split, source and domain.
pub(super) type Groups = BTreeMap<(Split, String, String), RowCounts>;

/// Columns of rows and pairs without their texts, in the order of the files.
pub(super) struct DatasetColumns {
    rows: DataFrame,
    pairs: DataFrame,
}

impl DatasetColumns {
    /// Checks and reads the columns of a dataset directory.
    pub(super) fn read(dataset: &Path) -> Result<Self, QueryError> {
        let tables = Datasets { datasets: vec![(String::new(), dataset.to_owned())], are_named: false };
        let rows = [
            "split",
            "source",
            "domain",
            "noise",
            "id",
            "label",
            "original_label",
            "score",
            "weight",
            "prompt_characters",
            "completion_characters",
        ];
        let pairs = ["split", "source", "domain", "noise"];
        Ok(Self { rows: frame(&tables.rows(), &rows)?, pairs: frame(&tables.pairs(), &pairs)? })
    }

    /// Counts rows by label, and pairs.
    pub(super) fn groups(&self) -> Result<Groups, QueryError> {
        let keys = ["split", "source", "domain"];
        let named = |groups: &Answer| {
            let (splits, sources, domains) = (splits(groups), groups.texts("source"), groups.texts("domain"));
            splits
                .into_iter()
                .zip(sources)
                .zip(domains)
                .map(|((split, source), domain)| (split, source, domain))
        };
        let mut counts = Groups::new();
        let rows = grouped(&self.rows, &keys, by_label("label"))?;
        for (group, rows) in named(&rows).zip(row_counts(&rows)) {
            counts.insert(group, rows);
        }
        let pairs = grouped(&self.pairs, &keys, vec![number()])?;
        for (group, pairs) in named(&pairs).zip(pairs.integers(NUMBER)) {
            counts.entry(group).or_default().pairs = pairs as u64;
        }
        Ok(counts)
    }

    /// Summarises each split, without tokens.
    pub(super) fn splits(&self, groups: &Groups) -> Result<BTreeMap<Split, SplitSummary>, QueryError> {
        let mut summaries: BTreeMap<_, _> =
            Split::ALL.into_iter().map(|split| (split, SplitSummary::default())).collect();
        let mut of = |split: Split, change: &mut dyn FnMut(&mut SplitSummary)| {
            if let Some(summary) = summaries.get_mut(&split) {
                change(summary);
            }
        };
        for ((split, _, _), counts) in groups {
            of(*split, &mut |summary| summary.counts.add(*counts));
        }

        let noise = grouped(&self.rows, &["split", "noise"], by_label("original_label"))?;
        for ((split, kind), rows) in
            splits(&noise).into_iter().zip(noise.texts("noise")).zip(row_counts(&noise))
        {
            of(split, &mut |summary| {
                summary.noise.insert(kind.clone(), rows);
            });
        }
        let noise = grouped(&self.pairs, &["split", "noise"], vec![number()])?;
        for ((split, kind), pairs) in
            splits(&noise).into_iter().zip(noise.texts("noise")).zip(noise.integers(NUMBER))
        {
            of(split, &mut |summary| summary.noise.entry(kind.clone()).or_default().pairs = pairs as u64);
        }

        // Sums of few distinct weights, in their order: a sum of all rows would depend on threads.
        let scored = vec![number(), col("score").count().alias("scored")];
        let weights = grouped(&self.rows, &["split", "label", "weight"], scored)?;
        let classes =
            splits(&weights).into_iter().zip(weights.booleans("label")).zip(weights.numbers("weight"));
        let counts = weights.integers(NUMBER).into_iter().zip(weights.integers("scored"));
        for (((split, label), weight), (rows, scored)) in classes.zip(counts) {
            of(split, &mut |summary| {
                summary.scored += scored as u64;
                *(if label { &mut summary.weights.0 } else { &mut summary.weights.1 }) +=
                    weight * rows as f64;
            });
        }

        for (column, lengths) in [
            ("prompt_characters", TextLengths::prompts as fn(&mut TextLengths, bool) -> &mut Lengths),
            ("completion_characters", TextLengths::completions),
        ] {
            let counted = grouped(&self.rows, &["split", "label", column], vec![number()])?;
            let classes = splits(&counted).into_iter().zip(counted.booleans("label"));
            let counts = counted.integers(column).into_iter().zip(counted.integers(NUMBER));
            for ((split, label), (length, rows)) in classes.zip(counts) {
                of(split, &mut |summary| {
                    lengths(&mut summary.characters, label).add(length as usize, rows as u64);
                });
            }
        }
        Ok(summaries)
    }

    /// Draws up to `count` rows of each split and label, and of those changed by noise, and reads
    /// their texts.
    pub(super) fn examples(&self, dataset: &Path, count: usize) -> Result<Vec<Example>, QueryError> {
        let keys = self.rows.clone().lazy().select([col("split"), col("id"), col("label"), col("noise")]);
        let keys = Answer::of_frame(&keys.collect()?)?;
        let mut sampler = ExampleSampler::new(count);
        let mut positions = BTreeMap::<Split, usize>::new();
        let flags = keys.booleans("label").into_iter().zip(keys.texts("noise"));
        for ((split, id), (label, noise)) in splits(&keys).into_iter().zip(keys.texts("id")).zip(flags) {
            let position = positions.entry(split).or_default();
            sampler.offer(&id, RowKey { split, label, is_corrupted: noise != "none", position: *position });
            *position += 1;
        }
        let chosen = sampler.into_keys();
        let mut examples = BTreeMap::new();
        for split in Split::ALL {
            let mut at: Vec<usize> =
                chosen.iter().filter(|key| key.split == split).map(|key| key.position).collect();
            at.sort_unstable();
            let mut rows = Vec::new();
            for batch in read_binary_batches(dataset, split, Some(&at))? {
                rows.extend(batch?);
            }
            examples.extend(at.into_iter().zip(rows).map(|(position, row)| ((split, position), row)));
        }
        let taken = chosen
            .into_iter()
            .filter_map(|key| Some(Example::new(key.split, examples.remove(&(key.split, key.position))?)));
        Ok(taken.collect())
    }
}

/// Name of the number of rows of a group.
const NUMBER: &str = "number";

fn number() -> Expr {
    len().alias(NUMBER)
}

/// Numbers of rows whose `label` is true and false.
fn by_label(label: &str) -> Vec<Expr> {
    vec![col(label).sum().alias("desirable"), col(label).not().sum().alias("undesirable")]
}

fn row_counts(groups: &Answer) -> impl Iterator<Item = RowCounts> {
    let counts = groups.integers("desirable").into_iter().zip(groups.integers("undesirable"));
    counts.map(|(desirable, undesirable)| RowCounts {
        desirable: desirable as u64,
        undesirable: undesirable as u64,
        pairs: 0,
    })
}

/// Computes values of each group, in the order of the keys.
fn grouped(frame: &DataFrame, keys: &[&str], values: Vec<Expr>) -> Result<Answer, QueryError> {
    let by = || keys.iter().map(|key| col(*key)).collect::<Vec<_>>();
    let groups: LazyFrame = frame.clone().lazy().group_by(by()).agg(values);
    Ok(Answer::of_frame(&groups.sort_by_exprs(by(), SortMultipleOptions::default()).collect()?)?)
}

/// Splits in the column `split`.
fn splits(groups: &Answer) -> Vec<Split> {
    let split = |name: String| if name == Split::Train.to_string() { Split::Train } else { Split::Test };
    groups.texts("split").into_iter().map(split).collect()
}
