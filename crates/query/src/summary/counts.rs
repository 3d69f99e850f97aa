//! Counts over the columns of a dataset, as lazy expressions on one part of its rows after another.
//! Memory does not depend on the number of rows.

use std::{collections::BTreeMap, path::Path};

use polars::prelude::{DataFrame, DataType, Expr, IntoLazy, SortMultipleOptions, col, len};
use prospect_data::{Split, read_binary_batches};

use super::{
    Example, Lengths, RowCounts, SplitSummary, TextLengths,
    examples::{ExampleSampler, RowKey},
};
use crate::{QueryError, answer::Answer, dataset::Datasets, scan::frames};

/// Rows and pairs by split, source and domain.
pub(super) type Groups = BTreeMap<(Split, String, String), RowCounts>;

/// Rows of a part.
const PART: usize = 1 << 16;

/// Counts of a dataset, without its texts.
pub(super) struct DatasetCounts {
    /// Rows by split, source and domain.
    rows: Answer,
    /// Pairs by split, source and domain.
    pairs: Answer,
    /// Rows by split and noise, before noise.
    row_noise: Answer,
    /// Pairs by split and noise.
    pair_noise: Answer,
    /// Rows by split, label and weight.
    weights: Answer,
    prompts: Answer,
    completions: Answer,
    /// Rows chosen as examples.
    examples: Vec<RowKey>,
}

impl DatasetCounts {
    /// Checks and counts the columns of a dataset directory, and draws up to `examples` rows of each
    /// split and label, and of those changed by noise.
    pub(super) fn read(dataset: &Path, examples: usize) -> Result<Self, QueryError> {
        const GROUP: [&str; 3] = ["split", "source", "domain"];
        let tables = Datasets { datasets: vec![(String::new(), dataset.to_owned())], are_named: false };
        let mut rows = Sums::new(&GROUP, by_label("label"));
        let mut row_noise = Sums::new(&["split", "noise"], by_label("original_label"));
        let scored = vec![number(), whole(col("score").count()).alias("scored")];
        let mut weights = Sums::new(&["split", "label", "weight"], scored);
        let mut prompts = Sums::new(&["split", "label", "prompt_characters"], vec![number()]);
        let mut completions = Sums::new(&["split", "label", "completion_characters"], vec![number()]);
        let mut sampler = ExampleSampler::new(examples);
        let mut positions = BTreeMap::<Split, usize>::new();
        let columns = [
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
        frames(&tables.rows(), &columns, PART, &mut |part| {
            for sums in [&mut rows, &mut row_noise, &mut weights, &mut prompts, &mut completions] {
                sums.add(&part)?;
            }
            let keys = Answer::of_frame(&part.select(["split", "id", "label", "noise"])?)?;
            let flags = keys.booleans("label").into_iter().zip(keys.texts("noise"));
            for ((split, id), (label, noise)) in splits(&keys).into_iter().zip(keys.texts("id")).zip(flags) {
                let position = positions.entry(split).or_default();
                let key = RowKey { split, label, is_corrupted: noise != "none", position: *position };
                sampler.offer(&id, key);
                *position += 1;
            }
            Ok(())
        })?;
        let mut pairs = Sums::new(&GROUP, vec![number()]);
        let mut pair_noise = Sums::new(&["split", "noise"], vec![number()]);
        frames(&tables.pairs(), &["split", "source", "domain", "noise"], PART, &mut |part| {
            pairs.add(&part)?;
            pair_noise.add(&part)
        })?;
        Ok(Self {
            rows: rows.finish()?,
            pairs: pairs.finish()?,
            row_noise: row_noise.finish()?,
            pair_noise: pair_noise.finish()?,
            weights: weights.finish()?,
            prompts: prompts.finish()?,
            completions: completions.finish()?,
            examples: sampler.into_keys(),
        })
    }

    /// Returns rows by label, and pairs.
    pub(super) fn groups(&self) -> Groups {
        let named = |groups: &Answer| {
            let (splits, sources, domains) = (splits(groups), groups.texts("source"), groups.texts("domain"));
            splits
                .into_iter()
                .zip(sources)
                .zip(domains)
                .map(|((split, source), domain)| (split, source, domain))
        };
        let mut counts: Groups = named(&self.rows).zip(row_counts(&self.rows)).collect();
        for (group, pairs) in named(&self.pairs).zip(self.pairs.integers(NUMBER)) {
            counts.entry(group).or_default().pairs = pairs as u64;
        }
        counts
    }

    /// Summarises each split, without tokens.
    pub(super) fn splits(&self, groups: &Groups) -> BTreeMap<Split, SplitSummary> {
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

        let noise = &self.row_noise;
        for ((split, kind), rows) in
            splits(noise).into_iter().zip(noise.texts("noise")).zip(row_counts(noise))
        {
            of(split, &mut |summary| {
                summary.noise.insert(kind.clone(), rows);
            });
        }
        let noise = &self.pair_noise;
        for ((split, kind), pairs) in
            splits(noise).into_iter().zip(noise.texts("noise")).zip(noise.integers(NUMBER))
        {
            of(split, &mut |summary| summary.noise.entry(kind.clone()).or_default().pairs = pairs as u64);
        }

        // Sums of few distinct weights, in their order: a sum of all rows would depend on threads.
        let weights = &self.weights;
        let classes =
            splits(weights).into_iter().zip(weights.booleans("label")).zip(weights.numbers("weight"));
        let counts = weights.integers(NUMBER).into_iter().zip(weights.integers("scored"));
        for (((split, label), weight), (rows, scored)) in classes.zip(counts) {
            of(split, &mut |summary| {
                summary.scored += scored as u64;
                *(if label { &mut summary.weights.0 } else { &mut summary.weights.1 }) +=
                    weight * rows as f64;
            });
        }

        for (counted, column, lengths) in [
            (
                &self.prompts,
                "prompt_characters",
                TextLengths::prompts as fn(&mut TextLengths, bool) -> &mut Lengths,
            ),
            (&self.completions, "completion_characters", TextLengths::completions),
        ] {
            let classes = splits(counted).into_iter().zip(counted.booleans("label"));
            let counts = counted.integers(column).into_iter().zip(counted.integers(NUMBER));
            for ((split, label), (length, rows)) in classes.zip(counts) {
                of(split, &mut |summary| {
                    lengths(&mut summary.characters, label).add(length as usize, rows as u64);
                });
            }
        }
        summaries
    }

    /// Reads the texts of the examples.
    pub(super) fn examples(&self, dataset: &Path) -> Result<Vec<Example>, QueryError> {
        let mut examples = BTreeMap::new();
        for split in Split::ALL {
            let mut at: Vec<usize> =
                self.examples.iter().filter(|key| key.split == split).map(|key| key.position).collect();
            at.sort_unstable();
            let mut rows = Vec::new();
            for batch in read_binary_batches(dataset, split, Some(&at))? {
                rows.extend(batch?);
            }
            examples.extend(at.into_iter().zip(rows).map(|(position, row)| ((split, position), row)));
        }
        let taken = self
            .examples
            .iter()
            .filter_map(|key| Some(Example::new(key.split, examples.remove(&(key.split, key.position))?)));
        Ok(taken.collect())
    }
}

/// Sums of values by key, over the parts of a table.
struct Sums {
    keys: &'static [&'static str],
    /// Values of a part. Their sums are those of the whole.
    values: Vec<Expr>,
    so_far: Option<DataFrame>,
}

impl Sums {
    fn new(keys: &'static [&'static str], values: Vec<Expr>) -> Self {
        Self { keys, values, so_far: None }
    }

    fn add(&mut self, part: &DataFrame) -> Result<(), QueryError> {
        let added = grouped(part, self.keys, self.values.clone())?;
        self.so_far = Some(match self.so_far.take() {
            None => added,
            Some(before) => {
                let names = added.get_column_names().into_iter().skip(self.keys.len());
                let sums = names.map(|name| col(name.clone()).sum()).collect();
                grouped(&before.vstack(&added)?, self.keys, sums)?
            }
        });
        Ok(())
    }

    /// Returns the sums, in the order of the keys.
    fn finish(self) -> Result<Answer, QueryError> {
        self.so_far.map_or(Ok(Answer::default()), |sums| Ok(Answer::of_frame(&sums)?))
    }
}

/// Name of the number of rows of a group.
const NUMBER: &str = "number";

fn whole(value: Expr) -> Expr {
    value.cast(DataType::Int64)
}

fn number() -> Expr {
    whole(len()).alias(NUMBER)
}

/// Numbers of rows whose `label` is true and false.
fn by_label(label: &str) -> Vec<Expr> {
    let rows = |label: Expr, name: &str| whole(label.sum()).alias(name);
    vec![rows(col(label), "desirable"), rows(col(label).not(), "undesirable")]
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
fn grouped(frame: &DataFrame, keys: &[&str], values: Vec<Expr>) -> Result<DataFrame, QueryError> {
    let by = || keys.iter().map(|key| col(*key)).collect::<Vec<_>>();
    let groups = frame.clone().lazy().group_by(by()).agg(values);
    Ok(groups.sort_by_exprs(by(), SortMultipleOptions::default()).collect()?)
}

/// Splits in the column `split`.
fn splits(groups: &Answer) -> Vec<Split> {
    let split = |name: String| if name == Split::Train.to_string() { Split::Train } else { Split::Test };
    groups.texts("split").into_iter().map(split).collect()
}

#[cfg(test)]
mod tests {
    use polars::prelude::{NamedFrom, Series};

    use super::*;

    #[test]
    fn sums_of_parts_are_those_of_the_whole() {
        let rows = 50;
        let labels: Vec<bool> = (0..rows).map(|row| row % 3 == 0).collect();
        let scores: Vec<Option<f64>> = (0..rows).map(|row| (row % 4 == 0).then_some(1.0)).collect();
        let kinds: Vec<&str> = (0..rows).map(|row| ["a", "b", "c"][row % 7 % 3]).collect();
        let columns = vec![
            Series::new("kind".into(), kinds).into(),
            Series::new("label".into(), labels).into(),
            Series::new("score".into(), scores).into(),
        ];
        let whole_frame = DataFrame::new(rows, columns).unwrap();
        let values =
            || [by_label("label"), vec![number(), whole(col("score").count()).alias("scored")]].concat();
        let sums = |part: usize| {
            let mut sums = Sums::new(&["kind"], values());
            for start in (0..rows).step_by(part) {
                sums.add(&whole_frame.slice(i64::try_from(start).unwrap(), part)).unwrap();
            }
            sums.finish().unwrap()
        };
        let expected = sums(rows);
        assert_eq!(expected.integers(NUMBER).iter().sum::<i64>(), 50);
        assert_eq!(expected.integers("desirable").iter().sum::<i64>(), 17);
        assert_eq!(expected.integers("scored").iter().sum::<i64>(), 13);
        for part in [1, 7, 49] {
            assert_eq!(sums(part), expected, "{part}");
        }
        assert_eq!(Sums::new(&["kind"], values()).finish().unwrap().rows(), 0);
    }
}
