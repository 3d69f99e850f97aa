//! Agreement of a policy with training pairs that noise swapped.

use std::{collections::BTreeMap, path::Path};

use prospect_core::{draw::Draw, sample::mean};
use prospect_data::{Split, read_pairs};
use prospect_runs::preference;
use prospect_train::{
    Encoder, MicroBatch, PairExample, Policy, ReferenceCache, Settings, TrainError, pack_pairs,
};

use crate::{passes, rows_of_pair};

/// Most pairs of each class that are evaluated.
const PAIRS: usize = 256;

/// Training pairs whose sides noise swapped, and as many uncorrupted ones.
#[derive(Debug)]
pub struct CorruptedPairs {
    clean: Vec<MicroBatch>,
    corrupted: Vec<MicroBatch>,
}

impl CorruptedPairs {
    /// Reads the training split of a prepared dataset; None if it has no swapped pair.
    pub fn read(
        dataset: &Path,
        settings: &Settings,
        encoder: &Encoder<'_>,
    ) -> Result<Option<Self>, TrainError> {
        let rows = read_pairs(dataset, Split::Train)?;
        if !rows.iter().any(|row| row.swapped) {
            return Ok(None);
        }
        let batches = |swapped: bool| -> Result<Vec<MicroBatch>, TrainError> {
            let mut rows: Vec<_> = rows
                .iter()
                .filter(|row| row.swapped == swapped && (swapped || !row.is_corrupted()))
                .cloned()
                .collect();
            rows.sort_by(|a, b| a.pair_id.cmp(&b.pair_id));
            Draw::new(0, "pairs of the noise ledger").keep_lowest(&mut rows, PAIRS, |row| &row.pair_id);
            let pairs = PairExample::encode_for_evaluation(rows, &settings.objective, encoder)?;
            let pairs: Vec<&PairExample> = pairs.iter().collect();
            let passes = passes(pairs.iter().map(|pair| rows_of_pair(pair)));
            passes.into_iter().map(|pass| pack_pairs(&pairs[pass], &[])).collect()
        };
        Ok(Some(Self { clean: batches(false)?, corrupted: batches(true)? }))
    }

    /// Returns the most pairs that are evaluated of `pairs` training pairs, of which noise swapped
    /// `swapped`: of each class up to 256, and none without swapped ones.
    pub fn at_most(pairs: u64, swapped: u64) -> u64 {
        let limit = PAIRS as u64;
        if swapped == 0 { 0 } else { swapped.min(limit) + pairs.saturating_sub(swapped).min(limit) }
    }

    /// Number of pairs.
    pub fn pairs(&self) -> usize {
        self.clean.iter().chain(&self.corrupted).map(|batch| batch.packed.sequences() / 2).sum()
    }

    /// Returns `eval_noise/agreement/clean` and `eval_noise/agreement/corrupted`: the share of
    /// pairs whose `chosen` completion, as labelled in the training data, has the larger reward.
    /// Ties count half.
    pub fn evaluate(
        &self,
        policy: &Policy<'_>,
        cache: &ReferenceCache,
    ) -> Result<BTreeMap<String, f64>, TrainError> {
        let mut values = BTreeMap::new();
        for (name, batches) in [("clean", &self.clean), ("corrupted", &self.corrupted)] {
            let mut agreements = Vec::new();
            for batch in batches {
                let log_probs = policy.log_probs(&batch.packed, false, cache)?;
                let (pairs, _) = log_probs.as_chunks::<2>();
                agreements.extend(
                    pairs.iter().map(|[chosen, rejected]| preference(chosen.ratio(), rejected.ratio())),
                );
            }
            values.extend(mean(agreements).map(|share| (format!("eval_noise/agreement/{name}"), share)));
        }
        Ok(values)
    }
}
