//! Summary of a dataset directory: counts, lengths, noise, contradictions, rejected rows and
//! examples.
//!
//! Counts come from lazy expressions over the tables `rows` and `pairs`, one part of their rows
//! after another. Texts are measured while they are read and not kept.

use std::{collections::BTreeMap, path::Path};

use prospect_data::{
    BinaryRow, Manifest, Split, TokenCounter, read_binary_batches, read_manifest, read_rejected,
};
use serde::Serialize;

use crate::QueryError;

mod counts;
mod examples;
mod lengths;
mod rejections;

pub use examples::Example;
pub use lengths::{LengthHistogram, Lengths};
pub use rejections::{RejectedExample, Rejections};

use counts::DatasetCounts;

/// Summary of a dataset directory.
#[derive(Debug, Serialize)]
pub struct DatasetSummary {
    /// Rows and pairs by split, source and domain.
    pub groups: Vec<DomainSummary>,
    /// Statistics of each split.
    pub splits: BTreeMap<Split, SplitSummary>,
    /// Rejected rows.
    pub rejected: Rejections,
    /// Example rows of each split and label, and of rows changed by noise.
    pub examples: Vec<Example>,
    /// Manifest that the preparation wrote.
    pub manifest: Manifest,
}

/// Rows and pairs of one domain in one split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DomainSummary {
    /// Split.
    pub split: Split,
    /// Source.
    pub source: String,
    /// Domain within the source.
    pub domain: String,
    /// Counts of the group.
    #[serde(flatten)]
    pub counts: RowCounts,
}

/// Rows by label after noise, and pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RowCounts {
    /// Rows with label true.
    pub desirable: u64,
    /// Rows with label false.
    pub undesirable: u64,
    /// Rows of the paired files.
    pub pairs: u64,
}

/// Statistics of a split.
#[derive(Debug, Default, Serialize)]
pub struct SplitSummary {
    /// Numbers of rows and pairs.
    pub counts: RowCounts,
    /// Number of rows with a score.
    pub scored: u64,
    /// Sums of the rows' weights: desirable, undesirable.
    pub weights: (f64, f64),
    /// Counts by kind of noise: rows by their label before noise, and pairs.
    pub noise: BTreeMap<String, RowCounts>,
    /// Lengths in characters.
    pub characters: TextLengths,
    /// Lengths in tokens, if a tokenizer was given.
    pub tokens: Option<TextLengths>,
}

/// Length statistics of texts.
#[derive(Debug, Default, Serialize)]
pub struct TextLengths {
    /// Prompts, one per row.
    pub prompt: Lengths,
    /// Completions with label true.
    pub desirable: Lengths,
    /// Completions with label false.
    pub undesirable: Lengths,
}

impl RowCounts {
    fn add(&mut self, other: Self) {
        self.desirable += other.desirable;
        self.undesirable += other.undesirable;
        self.pairs += other.pairs;
    }
}

/// Summarises the dataset directory `dataset`, with up to `examples` example rows per stratum.
///
/// With `tokens`, all texts are read again to count their tokens, and `progress` is called with the
/// size of each batch of rows.
pub fn summarise(
    dataset: &Path,
    tokens: Option<&TokenCounter>,
    examples: usize,
    progress: &dyn Fn(u64),
) -> Result<DatasetSummary, QueryError> {
    let manifest = read_manifest(dataset)?;
    let counts = DatasetCounts::read(dataset, examples)?;
    let groups = counts.groups();
    let mut splits = counts.splits(&groups);
    if let Some(tokens) = tokens {
        for (split, summary) in &mut splits {
            summary.tokens = Some(token_lengths(dataset, *split, tokens, progress)?);
        }
    }
    let groups = groups.into_iter().map(|((split, source, domain), counts)| DomainSummary {
        split,
        source,
        domain,
        counts,
    });
    Ok(DatasetSummary {
        groups: groups.collect(),
        splits,
        rejected: Rejections::new(read_rejected(dataset)?),
        examples: counts.examples(dataset)?,
        manifest,
    })
}

/// Counts the tokens of a split's texts.
fn token_lengths(
    dataset: &Path,
    split: Split,
    tokens: &TokenCounter,
    progress: &dyn Fn(u64),
) -> Result<TextLengths, QueryError> {
    let mut lengths = TextLengths::default();
    for batch in read_binary_batches(dataset, split, None)? {
        let rows = batch?;
        for BinaryRow { prompt, completion, label, .. } in &rows {
            let (prompt, completion) = tokens.count(prompt, completion)?;
            lengths.prompt.add(prompt, 1);
            lengths.completions(*label).add(completion, 1);
        }
        progress(rows.len() as u64);
    }
    Ok(lengths)
}

impl TextLengths {
    fn prompts(&mut self, _label: bool) -> &mut Lengths {
        &mut self.prompt
    }

    fn completions(&mut self, label: bool) -> &mut Lengths {
        if label { &mut self.desirable } else { &mut self.undesirable }
    }
}

#[cfg(test)]
mod tests;
