//! Summary of a dataset directory: counts, lengths, noise, contradictions, rejected rows and
//! examples.
//!
//! Rows are read in batches and discarded. Memory grows only with the numbers of sources, domains,
//! kinds of noise and distinct lengths.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;

use crate::{
    BinaryRow, DataError, Manifest, Message, PairRow, Split, TokenCounter, output::parquet, read_manifest,
};

mod examples;
mod lengths;
mod rejections;

pub use examples::Example;
pub use lengths::{LengthHistogram, Lengths};
pub use rejections::{RejectedExample, Rejections};

use examples::ExampleSampler;

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

impl TextLengths {
    fn add(&mut self, prompt: usize, completion: usize, label: bool) {
        self.prompt.add(prompt);
        (if label { &mut self.desirable } else { &mut self.undesirable }).add(completion);
    }
}

/// Summarises the dataset directory `dataset`, with up to `examples` example rows per stratum.
/// `progress` is called with the size of each batch of rows read.
pub fn summarise(
    dataset: &Path,
    tokens: Option<&TokenCounter>,
    examples: usize,
    progress: &dyn Fn(u64),
) -> Result<DatasetSummary, DataError> {
    let manifest = read_manifest(dataset)?;
    let (mut groups, mut splits, mut chosen) =
        (BTreeMap::new(), BTreeMap::new(), ExampleSampler::new(examples));
    for split in Split::ALL {
        let mut of_split =
            SplitSummary { tokens: tokens.map(|_| TextLengths::default()), ..SplitSummary::default() };
        for batch in parquet::batches::<BinaryRow>(dataset, split, &[])? {
            let rows: Vec<BinaryRow> = batch?.rows()?;
            progress(rows.len() as u64);
            for row in rows {
                of_split.add(&row, tokens)?;
                let group: &mut RowCounts = group(&mut groups, split, &row.source, &row.domain);
                *group.side(row.label) += 1;
                chosen.offer(split, row);
            }
        }
        for batch in parquet::batches::<PairRow>(dataset, split, &["source", "domain", "noise"])? {
            let batch = batch?;
            let columns = batch.columns();
            let origins = columns.text("source")?.into_iter().zip(columns.text("domain")?);
            for ((source, domain), noise) in origins.zip(columns.text("noise")?) {
                of_split.counts.pairs += 1;
                of_split.noise.entry(noise).or_default().pairs += 1;
                group(&mut groups, split, &source, &domain).pairs += 1;
            }
        }
        splits.insert(split, of_split);
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
        rejected: Rejections::read(dataset)?,
        examples: chosen.into_examples(),
        manifest,
    })
}

fn group<'a>(
    groups: &'a mut BTreeMap<(Split, String, String), RowCounts>,
    split: Split,
    source: &str,
    domain: &str,
) -> &'a mut RowCounts {
    groups.entry((split, source.to_owned(), domain.to_owned())).or_default()
}

impl RowCounts {
    fn side(&mut self, label: bool) -> &mut u64 {
        if label { &mut self.desirable } else { &mut self.undesirable }
    }
}

impl SplitSummary {
    fn add(&mut self, row: &BinaryRow, tokens: Option<&TokenCounter>) -> Result<(), DataError> {
        *self.counts.side(row.label) += 1;
        self.scored += u64::from(row.score.is_some());
        *(if row.label { &mut self.weights.0 } else { &mut self.weights.1 }) += row.weight;
        if !self.noise.contains_key(&row.noise) {
            self.noise.insert(row.noise.clone(), RowCounts::default());
        }
        if let Some(noise) = self.noise.get_mut(&row.noise) {
            *noise.side(row.original_label) += 1;
        }
        self.characters.add(characters(&row.prompt), characters(&row.completion), row.label);
        if let (Some(lengths), Some(tokens)) = (&mut self.tokens, tokens) {
            let (prompt, completion) = tokens.count(&row.prompt, &row.completion)?;
            lengths.add(prompt, completion, row.label);
        }
        Ok(())
    }
}

fn characters(messages: &[Message]) -> usize {
    messages.iter().map(|message| message.content.chars().count()).sum()
}

#[cfg(test)]
mod tests;
