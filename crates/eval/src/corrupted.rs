//! Whether a policy believes the training pairs whose sides noise exchanged.

use std::{collections::BTreeMap, path::Path};

use prospect_core::draw::Draw;
use prospect_data::{Split, read_pairs};
use prospect_runs::preference;
use prospect_train::{
    Encoder, MicroBatch, PairExample, Policy, ReferenceCache, Settings, TrainError, pack_pairs,
};

use crate::pairs_at_once;

/// Pairs of each class that are looked at.
const PAIRS: usize = 256;

/// Training pairs whose sides noise exchanged, and as many that it left alone.
#[derive(Debug)]
pub struct CorruptedPairs {
    clean: Vec<MicroBatch>,
    corrupted: Vec<MicroBatch>,
}

impl CorruptedPairs {
    /// Reads the training split of a prepared dataset; None if no pair of it is exchanged.
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
            pairs.chunks(pairs_at_once(settings)).map(|pairs| pack_pairs(pairs, &[])).collect()
        };
        Ok(Some(Self { clean: batches(false)?, corrupted: batches(true)? }))
    }

    /// Number of pairs.
    pub fn pairs(&self) -> usize {
        self.clean.iter().chain(&self.corrupted).map(|batch| batch.packed.sequences() / 2).sum()
    }

    /// `eval_noise/agreement/clean` and `eval_noise/agreement/corrupted`: the share of the pairs whose completion in
    /// `chosen`, as the training data has it, has the larger reward; ties count half.
    pub fn evaluate(
        &self,
        policy: &Policy<'_>,
        cache: &ReferenceCache,
    ) -> Result<BTreeMap<String, f64>, TrainError> {
        let mut values = BTreeMap::new();
        for (name, batches) in [("clean", &self.clean), ("corrupted", &self.corrupted)] {
            let mut agrees = Vec::new();
            for batch in batches {
                let log_probs = policy.log_probs(&batch.packed, false, cache)?;
                let (pairs, _) = log_probs.as_chunks::<2>();
                agrees.extend(
                    pairs.iter().map(|[chosen, rejected]| preference(chosen.ratio(), rejected.ratio())),
                );
            }
            if !agrees.is_empty() {
                let share = agrees.iter().sum::<f64>() / agrees.len() as f64;
                values.insert(format!("eval_noise/agreement/{name}"), share);
            }
        }
        Ok(values)
    }
}
