//! Packed batches, without padding and with each prompt shared by its completions.
//!
//! A batch is a forest of two-level trees: a prompt and its completions. The rows of all trees form
//! one `[rows, hidden]` matrix. A completion's rows attend to its prompt's rows and causally to
//! each other. Rows that need no gradient (KTO's mismatched completions) come last, so that the
//! backward pass works on a prefix of every matrix.
//!
//! ```text
//! row     0 1 2 | 3 4 | 5 | 6 7 | 8 9
//!         prompt  y1    y2  prompt' y'
//! ```
//!
//! The last token of a completion has no row, because it predicts nothing.

use std::{collections::HashMap, ops::Range};

use crate::ModelError;

/// Index of a prompt in a [`Packer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptId(usize);

/// Collects prompts and completions for a [`PackedBatch`].
#[derive(Debug, Default)]
pub struct Packer<'a> {
    prompts: Vec<&'a [u32]>,
    completions: Vec<PackedCompletion<'a>>,
}

#[derive(Debug)]
struct PackedCompletion<'a> {
    prompt: PromptId,
    tokens: &'a [u32],
    gradient: bool,
}

impl<'a> Packer<'a> {
    /// Adds a prompt of at least one token.
    pub fn add_prompt(&mut self, tokens: &'a [u32]) -> PromptId {
        self.prompts.push(tokens);
        PromptId(self.prompts.len() - 1)
    }

    /// Adds a completion of `prompt`, of at least one token, and returns the index of its log-prob.
    /// Without `gradient`, the backward pass ignores it.
    pub fn add_completion(&mut self, prompt: PromptId, tokens: &'a [u32], gradient: bool) -> usize {
        self.completions.push(PackedCompletion { prompt, tokens, gradient });
        self.completions.len() - 1
    }

    /// Arranges the rows.
    pub fn pack(self) -> Result<PackedBatch, ModelError> {
        let mut batch = PackedBatch { sequences: self.completions.len(), ..PackedBatch::default() };
        for (prompt, tokens) in self.prompts.iter().enumerate() {
            if tokens.is_empty() {
                return Err(ModelError::Batch(format!(
                    "prompt {prompt} has no tokens: nothing predicts its completion"
                )));
            }
            let rows = batch.append(tokens, 0);
            batch.trees.push(PromptTree { prompt: rows, branches: Vec::new() });
            self.append_branches(&mut batch, |completion| {
                completion.gradient && completion.prompt.0 == prompt
            })?;
        }
        (batch.gradient_rows, batch.gradient_scored) = (batch.tokens.len(), batch.scored.len());
        self.append_branches(&mut batch, |completion| !completion.gradient)?;
        Ok(batch)
    }

    fn append_branches(
        &self,
        batch: &mut PackedBatch,
        belongs: impl Fn(&PackedCompletion<'_>) -> bool,
    ) -> Result<(), ModelError> {
        for (sequence, completion) in
            self.completions.iter().enumerate().filter(|(_, completion)| belongs(completion))
        {
            let Some((first, rest)) = completion.tokens.split_first() else {
                return Err(ModelError::Batch(format!("completion {sequence} has no tokens")));
            };
            let tree = completion.prompt.0;
            let prompt = batch.trees[tree].prompt.clone();
            let rows = batch.append(&completion.tokens[..rest.len()], prompt.len());
            batch.scored.push(ScoredToken { row: prompt.end as u32 - 1, target: *first, sequence });
            let scored = rest.iter().zip(rows.clone());
            batch.scored.extend(scored.map(|(target, row)| ScoredToken {
                row: row as u32,
                target: *target,
                sequence,
            }));
            batch.trees[tree].branches.push(rows);
        }
        Ok(())
    }
}

/// Rows of a prompt and of its completions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptTree {
    /// Rows of the prompt, at positions 0, 1, ….
    pub prompt: Range<usize>,
    /// Rows of each completion, at the positions following the prompt.
    pub branches: Vec<Range<usize>>,
}

/// Tokens of one sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceText<'a> {
    tree: usize,
    /// Tokens of the prompt.
    pub prompt: &'a [u32],
    /// Tokens of the completion.
    pub completion: Vec<u32>,
}

/// Completion token, whose log-prob is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoredToken {
    /// Row that predicts the token.
    pub row: u32,
    /// Token id.
    pub target: u32,
    /// Index of the token's sequence.
    pub sequence: usize,
}

/// Batch ready for a forward pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackedBatch {
    pub(crate) tokens: Vec<u32>,
    pub(crate) positions: Vec<u32>,
    pub(crate) trees: Vec<PromptTree>,
    pub(crate) scored: Vec<ScoredToken>,
    pub(crate) sequences: usize,
    /// Number of leading rows that may receive a gradient.
    pub(crate) gradient_rows: usize,
    /// Number of leading scored tokens that may receive a gradient.
    pub(crate) gradient_scored: usize,
}

impl PackedBatch {
    fn append(&mut self, tokens: &[u32], position: usize) -> Range<usize> {
        let start = self.tokens.len();
        self.tokens.extend_from_slice(tokens);
        self.positions.extend((position..position + tokens.len()).map(|position| position as u32));
        start..self.tokens.len()
    }

    /// Makes a batch of one sequence without scored tokens, to compute logits.
    pub fn context(tokens: &[u32]) -> Self {
        Self::contexts(&[tokens])
    }

    /// Makes a batch of sequences without scored tokens.
    pub(crate) fn contexts(sequences: &[&[u32]]) -> Self {
        let mut batch = Self::default();
        for tokens in sequences {
            let rows = batch.append(tokens, 0);
            batch.trees.push(PromptTree { prompt: rows, branches: Vec::new() });
        }
        batch
    }

    /// Returns the number of rows: tokens that pass through the model.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Returns the number of completions.
    pub fn sequences(&self) -> usize {
        self.sequences
    }

    /// Iterates over the sequence of every scored token, in the order of token log-probs.
    pub fn scored_sequences(&self) -> impl Iterator<Item = usize> {
        self.scored.iter().map(|scored| scored.sequence)
    }

    /// Returns the number of scored tokens of every sequence.
    pub fn lengths(&self) -> Vec<usize> {
        let mut lengths = vec![0; self.sequences];
        self.scored_sequences().for_each(|sequence| lengths[sequence] += 1);
        lengths
    }

    /// Sums values of scored tokens by sequence.
    pub fn sum_by_sequence(&self, token_values: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.sequences];
        for (sequence, value) in self.scored_sequences().zip(token_values) {
            sums[sequence] += value;
        }
        sums
    }

    /// Returns the prompt and the completion of every sequence.
    pub fn texts(&self) -> Vec<SequenceText<'_>> {
        let tree_of_row: HashMap<u32, usize> =
            (0..).zip(&self.trees).map(|(index, tree)| (tree.prompt.end as u32 - 1, index)).collect();
        let mut texts = vec![SequenceText { tree: 0, prompt: &[], completion: Vec::new() }; self.sequences];
        for scored in &self.scored {
            let text = &mut texts[scored.sequence];
            // The last row of a prompt predicts the first token of its completions.
            if let (true, Some(tree)) = (text.completion.is_empty(), tree_of_row.get(&scored.row)) {
                (text.tree, text.prompt) = (*tree, &self.tokens[self.trees[*tree].prompt.clone()]);
            }
            text.completion.push(scored.target);
        }
        texts
    }

    /// Packs some of the sequences, in this order and without gradient. Sequences of one prompt
    /// share it.
    pub fn select(&self, sequences: &[usize]) -> Result<Self, ModelError> {
        let texts = self.texts();
        let mut packer = Packer::default();
        let mut prompts: HashMap<usize, PromptId> = HashMap::new();
        for sequence in sequences {
            let SequenceText { tree, prompt, completion } = &texts[*sequence];
            let id = *prompts.entry(*tree).or_insert_with(|| packer.add_prompt(prompt));
            packer.add_completion(id, completion, false);
        }
        packer.pack()
    }

    /// Returns as bytes everything besides the weights that the log-probs depend on, as a cache
    /// key.
    pub fn content(&self) -> Vec<u8> {
        let ranges = self.trees.iter().flat_map(|tree| std::iter::once(&tree.prompt).chain(&tree.branches));
        let words = ranges
            .flat_map(|range| [range.start as u32, range.end as u32])
            .chain(self.tokens.iter().copied())
            .chain(self.positions.iter().copied())
            .chain(self.scored.iter().flat_map(|scored| [scored.row, scored.target, scored.sequence as u32]));
        words.flat_map(u32::to_le_bytes).collect()
    }

    /// Returns the part of the batch that may receive gradients.
    pub(crate) fn gradient_part(&self) -> Self {
        let trees = self.trees.iter().map(|tree| PromptTree {
            prompt: tree.prompt.clone(),
            branches: tree.branches.iter().filter(|rows| rows.end <= self.gradient_rows).cloned().collect(),
        });
        Self {
            tokens: self.tokens[..self.gradient_rows].to_vec(),
            positions: self.positions[..self.gradient_rows].to_vec(),
            trees: trees.collect(),
            scored: self.scored[..self.gradient_scored].to_vec(),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_shared_and_gradient_free_rows_come_last() {
        let mut packer = Packer::default();
        let (first, second) = (packer.add_prompt(&[1, 2, 3]), packer.add_prompt(&[4]));
        packer.add_completion(first, &[9, 8], false);
        packer.add_completion(first, &[5, 6, 7], true);
        packer.add_completion(second, &[5], true);
        let batch = packer.pack().unwrap();
        assert_eq!(batch.tokens, [1, 2, 3, 5, 6, 4, 9]);
        assert_eq!(batch.positions, [0, 1, 2, 3, 4, 0, 3]);
        assert_eq!((batch.gradient_rows, batch.gradient_scored), (6, 4));
        let scored: Vec<_> = batch.scored.iter().map(|s| (s.row, s.target, s.sequence)).collect();
        assert_eq!(scored, [(2, 5, 1), (3, 6, 1), (4, 7, 1), (5, 5, 2), (2, 9, 0), (6, 8, 0)]);
        assert_eq!(batch.lengths(), [2, 3, 1]);
        assert_eq!(batch.sum_by_sequence(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), [11.0, 6.0, 4.0]);
        assert_eq!(batch.gradient_part().trees[0].branches, std::slice::from_ref(&(3..5)));
    }

    #[test]
    fn texts_are_those_that_were_packed() {
        let mut packer = Packer::default();
        let (first, second) = (packer.add_prompt(&[1, 2, 3]), packer.add_prompt(&[4]));
        packer.add_completion(first, &[9], false);
        packer.add_completion(first, &[5, 6, 7], true);
        packer.add_completion(second, &[5, 5], true);
        let batch = packer.pack().unwrap();
        let texts: Vec<_> =
            batch.texts().into_iter().map(|text| (text.prompt.to_vec(), text.completion)).collect();
        let expected = [(vec![1, 2, 3], vec![9]), (vec![1, 2, 3], vec![5, 6, 7]), (vec![4], vec![5, 5])];
        assert_eq!(texts, expected);

        let part = batch.select(&[2, 0, 1]).unwrap();
        assert_eq!((part.tokens.as_slice(), part.sequences), (&[4, 1, 2, 3, 5, 5, 6][..], 3));
        assert_eq!(part.texts()[1].completion, [9]);
        assert_eq!(part.gradient_scored, 0);
    }

    #[test]
    fn empty_prompts_and_completions_are_errors() {
        let mut packer = Packer::default();
        packer.add_prompt(&[]);
        assert!(packer.pack().is_err());
        let mut packer = Packer::default();
        let prompt = packer.add_prompt(&[1]);
        packer.add_completion(prompt, &[], true);
        assert!(packer.pack().is_err());
    }
}
