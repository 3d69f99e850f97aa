//! Log-probs of the next steps' sequences, computed in large passes before them.
//!
//! A pass of many rows multiplies faster than a micro-batch, and prompts that several steps share
//! run once. Sequences do not depend on the others of a pass, so the log-probs have the same bits.

use std::collections::{BTreeMap, HashSet};

use prospect_model::{PackedBatch, Packer};

use super::{CacheKey, LogProbGranularity, ReferenceCache, ReferenceModel, lock, sequence_keys};
use crate::TrainError;

/// Rows of a pass. It needs less memory than a training step with recomputed activations.
const ROWS: usize = 2048;

/// A prompt and its completions.
type Tree = (Vec<u32>, Vec<Vec<u32>>);

impl ReferenceCache {
    /// Computes the log-probs of `batches` that are missing, but not those of sequences that are
    /// also in the `excluded` batches.
    pub(crate) fn compute_ahead(
        &self,
        name: &str,
        reference: &ReferenceModel<'_>,
        (excluded, batches): (&[PackedBatch], &[PackedBatch]),
        granularity: LogProbGranularity,
    ) -> Result<(), TrainError> {
        let shard = self.shard(name)?;
        let keys = |batch| sequence_keys(name, batch, granularity);
        let excluded: HashSet<CacheKey> = excluded.iter().flat_map(keys).collect();
        let is_known =
            |key: &CacheKey| excluded.contains(key) || lock(&shard.entries).values.contains_key(key);
        for pass in passes(missing(name, batches, granularity, is_known)) {
            let mut packer = Packer::default();
            for (prompt, completions) in &pass {
                let id = packer.add_prompt(prompt);
                for completion in completions {
                    packer.add_completion(id, completion, false);
                }
            }
            self.log_probs(name, reference, &packer.pack()?, granularity)?;
        }
        Ok(())
    }
}

/// Returns the sequences of `batches` that are not known, each once, by prompt.
fn missing(
    name: &str,
    batches: &[PackedBatch],
    granularity: LogProbGranularity,
    is_known: impl Fn(&CacheKey) -> bool,
) -> Vec<Tree> {
    let mut seen = HashSet::new();
    let mut trees: BTreeMap<Vec<u32>, Vec<Vec<u32>>> = BTreeMap::new();
    for batch in batches {
        for (key, text) in sequence_keys(name, batch, granularity).into_iter().zip(batch.texts()) {
            if !is_known(&key) && seen.insert(key) {
                trees.entry(text.prompt.to_vec()).or_default().push(text.completion);
            }
        }
    }
    trees.into_iter().collect()
}

/// Returns the rows of a prompt and its completions.
fn rows((prompt, completions): &Tree) -> usize {
    prompt.len() + completions.iter().map(|completion| completion.len() - 1).sum::<usize>()
}

/// Divides trees into passes of at most [`ROWS`] rows, or of one tree. Trees of similar length run
/// together.
fn passes(mut trees: Vec<Tree>) -> Vec<Vec<Tree>> {
    trees.sort_by_key(|tree| std::cmp::Reverse(rows(tree)));
    let (mut passes, mut filled): (Vec<Vec<Tree>>, usize) = (Vec::new(), 0);
    for tree in trees {
        filled += rows(&tree);
        match passes.last_mut() {
            Some(pass) if filled <= ROWS => pass.push(tree),
            _ => {
                filled = rows(&tree);
                passes.push(vec![tree]);
            }
        }
    }
    passes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(texts: &[(&[u32], &[u32])]) -> PackedBatch {
        let mut packer = Packer::default();
        for (prompt, completion) in texts {
            let id = packer.add_prompt(prompt);
            packer.add_completion(id, completion, true);
        }
        packer.pack().unwrap()
    }

    #[test]
    fn every_missing_sequence_is_computed_once_with_its_prompt() {
        let batches = [
            batch(&[(&[1, 2], &[3]), (&[1, 2], &[4, 5])]),
            batch(&[(&[9], &[3]), (&[1, 2], &[3]), (&[1, 2], &[6])]),
        ];
        let granularity = LogProbGranularity::Sequences;
        let known = sequence_keys("a", &batches[1], granularity)[2];
        let trees = missing("a", &batches, granularity, |key| *key == known);
        assert_eq!(trees, [(vec![1, 2], vec![vec![3], vec![4, 5]]), (vec![9], vec![vec![3]])]);
        assert_eq!(trees.iter().map(rows).collect::<Vec<_>>(), [3, 1]);
    }

    #[test]
    fn passes_are_full_and_sorted_by_length() {
        let tree = |rows: usize| (vec![0; rows], vec![vec![0]]);
        let lengths = [5, 1500, 600, 1448, 3000].map(tree).to_vec();
        let passes: Vec<Vec<usize>> =
            passes(lengths).iter().map(|pass| pass.iter().map(rows).collect()).collect();
        assert_eq!(passes, [vec![3000], vec![1500], vec![1448, 600], vec![5]]);
    }
}
