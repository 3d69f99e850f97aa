//! Mean lengths of training sequences, from a sample of the prepared data.

use std::collections::{BTreeMap, btree_map::Entry};

use prospect_data::{Manifest, Split, TokenCounter, read_binary_batches};
use prospect_train::{Settings, token_counter};

use crate::{SweepError, plan::SweepPlan};

/// Rows of a dataset whose tokens are counted. A sweep may have hundreds of datasets.
const SAMPLE: usize = 64;

/// Tokens of a prompt and of a completion.
type Lengths = (usize, usize);

/// Lengths of sampled rows, by model and dataset.
#[derive(Default)]
pub(super) struct LengthSamples {
    counters: BTreeMap<usize, TokenCounter>,
    samples: BTreeMap<(usize, usize), Vec<Lengths>>,
}

impl LengthSamples {
    /// Returns the settings with the mean lengths of the training rows of a dataset in the place of
    /// the maximum lengths. `manifest` is that of the dataset.
    pub(super) fn typical(
        &mut self,
        plan: &SweepPlan,
        (model, dataset): (usize, usize),
        manifest: &Manifest,
        settings: &Settings,
    ) -> Result<Settings, SweepError> {
        let sample = match self.samples.entry((model, dataset)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let counter = match self.counters.entry(model) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(unknown) => unknown.insert(token_counter(&plan.models[model])?),
                };
                unknown.insert(sample(counter, plan, dataset, manifest)?)
            }
        };
        Ok(with_mean_lengths(settings, sample))
    }
}

/// Counts the tokens of training rows that are spread evenly over a dataset.
fn sample(
    counter: &TokenCounter,
    plan: &SweepPlan,
    dataset: usize,
    manifest: &Manifest,
) -> Result<Vec<Lengths>, SweepError> {
    let rows = (manifest.train.n_desirable + manifest.train.n_undesirable) as usize;
    let count = rows.min(SAMPLE);
    let at: Vec<usize> = (0..count).map(|index| index * rows / count).collect();
    let mut lengths = Vec::with_capacity(count);
    for batch in read_binary_batches(&plan.datasets[dataset].path, Split::Train, Some(&at))? {
        for row in batch? {
            lengths.push(counter.count(&row.prompt, &row.completion)?);
        }
    }
    Ok(lengths)
}

/// Replaces the maximum lengths by the means of a sample, truncated as in training.
fn with_mean_lengths(settings: &Settings, sample: &[Lengths]) -> Settings {
    let truncated = sample.iter().map(|(prompt, completion)| {
        let prompt = (*prompt).min(settings.max_prompt_length);
        (prompt, (*completion).min(settings.max_length - prompt))
    });
    let (prompts, completions) = truncated.fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
    let mean = |sum: usize, least: usize| sum.div_ceil(sample.len().max(1)).max(least);
    // The first token of a completion is predicted by the prompt.
    let (prompt, completion) = (mean(prompts, 1), mean(completions, 2));
    match sample {
        [] => settings.clone(),
        _ => Settings { max_prompt_length: prompt, max_length: prompt + completion, ..settings.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_those_of_truncated_rows() {
        let settings = prospect_train::benchmark::settings("kto", 4, 20, 1).unwrap();
        assert_eq!((settings.max_prompt_length, settings.max_length), (10, 20));
        let mean = |sample: &[Lengths]| {
            let Settings { max_prompt_length, max_length, .. } = with_mean_lengths(&settings, sample);
            (max_prompt_length, max_length - max_prompt_length)
        };
        assert_eq!(mean(&[(4, 6), (8, 4)]), (6, 5));
        // A prompt keeps 10 tokens, and what follows fits into 20.
        assert_eq!(mean(&[(400, 600), (10, 10)]), (10, 10));
        assert_eq!(mean(&[(1, 1)]), (1, 2));
        assert_eq!(mean(&[]), (10, 10));
    }
}
