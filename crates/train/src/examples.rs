//! Training examples: rows of a prepared dataset as tokens.

use std::path::Path;

use prospect_data::{BinaryRow, Message, PairRow, Split, read_binary, read_pairs};
use prospect_objective::ClassCounts;
use rayon::prelude::*;

use crate::{Encoded, Encoder, EncodingCounts, Objective, TrainError, settings::FeedbackFormat};

/// A completion with a binary label.
#[derive(Debug, Clone)]
pub struct UnpairedExample {
    /// Identity of the prompt. Completions of one prompt are never each other's mismatched
    /// completion.
    pub prompt_id: String,
    /// Messages of the prompt, to be joined with another example's completion.
    pub prompt: Vec<Message>,
    /// Messages of the completion.
    pub completion: Vec<Message>,
    /// Tokens.
    pub encoded: Encoded,
    /// True if the completion is desirable.
    pub desirable: bool,
    /// Weight of the row.
    pub weight: f64,
    /// True if noise changed the row.
    pub corrupted: bool,
}

/// A chosen and a rejected completion of one prompt.
#[derive(Debug, Clone)]
pub struct PairExample {
    /// Row of the dataset.
    pub row: PairRow,
    /// Tokens with the chosen completion.
    pub chosen: Encoded,
    /// Tokens with the rejected completion.
    pub rejected: Encoded,
}

/// A completion to imitate.
#[derive(Debug, Clone)]
pub struct SupervisedExample {
    /// Tokens.
    pub encoded: Encoded,
    /// True if the completion is desirable.
    pub desirable: bool,
    /// Weight of the row.
    pub weight: f64,
    /// True if noise changed the row.
    pub corrupted: bool,
}

/// Training examples in the format of the objective.
#[derive(Debug, Clone)]
pub enum TrainingSet {
    /// Labelled completions, for KTO and its relatives.
    Unpaired(Vec<UnpairedExample>),
    /// Pairs, for DPO and its relatives.
    Paired(Vec<PairExample>),
    /// Completions to imitate, for SFT.
    Completions(Vec<SupervisedExample>),
}

impl TrainingSet {
    /// Reads and encodes the training split of a prepared dataset in the format of `objective`.
    pub fn read(dataset: &Path, objective: &Objective, encoder: &Encoder<'_>) -> Result<Self, TrainError> {
        Ok(Self::read_counted(dataset, objective, encoder)?.0)
    }

    /// Like [`read`](Self::read); also returns the counts of truncated and dropped conversations.
    pub fn read_counted(
        dataset: &Path,
        objective: &Objective,
        encoder: &Encoder<'_>,
    ) -> Result<(Self, EncodingCounts), TrainError> {
        let mut counts = EncodingCounts::default();
        let set = match objective.feedback_format() {
            FeedbackFormat::Paired => {
                let rows = read_pairs(dataset, Split::Train)?;
                Self::Paired(encode_pairs(rows, "", encoder, &mut counts)?)
            }
            FeedbackFormat::Unpaired => {
                let rows = read_binary(dataset, Split::Train)?;
                let encoded = encode_rows(&rows, encoder, |_| "", &mut counts)?;
                let examples = rows.into_iter().zip(encoded).filter_map(|(row, encoded)| {
                    let corrupted = row.is_corrupted();
                    let BinaryRow { prompt_id, prompt, completion, label, weight, .. } = row;
                    let (encoded, desirable) = (encoded?, label);
                    Some(UnpairedExample {
                        prompt_id,
                        prompt,
                        completion,
                        encoded,
                        desirable,
                        weight,
                        corrupted,
                    })
                });
                Self::Unpaired(examples.collect())
            }
            format @ (FeedbackFormat::Desirable | FeedbackFormat::All) => {
                let mut rows = read_binary(dataset, Split::Train)?;
                rows.retain(|row| format == FeedbackFormat::All || row.label);
                let encoded = encode_rows(&rows, encoder, |row| objective.control(row.label), &mut counts)?;
                let examples = rows.iter().zip(encoded).filter_map(|(row, encoded)| {
                    Some(SupervisedExample {
                        encoded: encoded?,
                        desirable: row.label,
                        weight: row.weight,
                        corrupted: row.is_corrupted(),
                    })
                });
                Self::Completions(examples.collect())
            }
        };
        if set.len() == 0 {
            return Err(TrainError::Examples(no_examples(dataset, objective, &counts)));
        }
        Ok((set, counts))
    }

    /// Number of examples: rows, pairs or completions.
    #[expect(clippy::len_without_is_empty, reason = "reading an empty training set is an error")]
    pub fn len(&self) -> usize {
        match self {
            Self::Unpaired(examples) => examples.len(),
            Self::Paired(examples) => examples.len(),
            Self::Completions(examples) => examples.len(),
        }
    }

    /// Completions per example: 2 for pairs, else 1.
    pub(crate) fn completions_per_example(&self) -> usize {
        if matches!(self, Self::Paired(_)) { 2 } else { 1 }
    }

    /// Completions in all examples.
    pub fn completions(&self) -> usize {
        self.len() * self.completions_per_example()
    }

    /// Returns true if noise changed any row.
    pub fn has_corrupted(&self) -> bool {
        match self {
            Self::Unpaired(examples) => examples.iter().any(|example| example.corrupted),
            Self::Paired(examples) => examples.iter().any(|example| example.row.is_corrupted()),
            Self::Completions(examples) => examples.iter().any(|example| example.corrupted),
        }
    }

    /// Counts desirable and undesirable completions.
    pub fn class_counts(&self) -> ClassCounts {
        let count = |desirable: &dyn Fn(usize) -> bool| {
            let desirable = (0..self.len()).filter(|index| desirable(*index)).count();
            ClassCounts { desirable, undesirable: self.len() - desirable }
        };
        match self {
            Self::Unpaired(examples) => count(&|index| examples[index].desirable),
            Self::Completions(examples) => count(&|index| examples[index].desirable),
            Self::Paired(examples) => ClassCounts { desirable: examples.len(), undesirable: examples.len() },
        }
    }
}

/// Explains why a dataset has no training examples for an objective.
fn no_examples(dataset: &Path, objective: &Objective, counts: &EncodingCounts) -> String {
    let (name, path) = (objective.name(), dataset.display());
    if counts.refused + counts.without_completion > 0 {
        let dropped = counts.describe_dropped().unwrap_or_default();
        return format!(
            "{path}: all conversations are dropped: {dropped}; use another chat template or other data"
        );
    }
    if counts.prompt_too_long > 0 {
        return format!(
            "{path}: all {} conversations are dropped, since the last turn of their prompt is longer than \
             max_prompt_length: raise it and max_length, or use other data",
            counts.prompt_too_long
        );
    }
    match objective.feedback_format() {
        FeedbackFormat::Paired => format!("{path}: {}", needs_pairs(name)),
        FeedbackFormat::Desirable => {
            format!("{path} has no desirable training rows, which {name} imitates: use other data")
        }
        FeedbackFormat::Unpaired | FeedbackFormat::All => {
            format!("{path} has no training rows: use other data")
        }
    }
}

/// Explains that an objective for pairs cannot train on thumbs, and the way out.
pub fn needs_pairs(objective: &str) -> String {
    format!(
        "{objective} trains on pairs, and these thumbs are none: train with kto, bco, apo_zero_unpaired, csft or sft, \
         which take binary feedback, or, if completions have scores, turn them into pairs with \
         `source.binarise: {{by: best_and_worst}}`"
    )
}

/// Encodes rows in parallel, each with its control text; results keep the order of the rows.
pub(crate) fn encode_rows<'a>(
    rows: &[BinaryRow],
    encoder: &Encoder<'_>,
    control: impl Fn(&BinaryRow) -> &'a str + Sync,
    counts: &mut EncodingCounts,
) -> Result<Vec<Option<Encoded>>, TrainError> {
    let encode = |row: &BinaryRow| encoder.try_encode(&row.prompt, control(row), &row.completion);
    // Collected before the first error is returned, so that it is the same in every run.
    let encoded: Vec<Result<_, _>> = rows.par_iter().map(encode).collect();
    let encoded = encoded.into_iter().collect::<Result<Vec<_>, TrainError>>()?;
    for (row, encoded) in rows.iter().zip(&encoded) {
        counts.add(&row.prompt_id, encoded);
    }
    Ok(encoded.into_iter().map(Result::ok).collect())
}

/// Encodes pairs in parallel, both sides after `control`. A pair is dropped if either side is.
pub(crate) fn encode_pairs(
    rows: Vec<PairRow>,
    control: &str,
    encoder: &Encoder<'_>,
    counts: &mut EncodingCounts,
) -> Result<Vec<PairExample>, TrainError> {
    let encode = |row: PairRow| {
        let chosen = encoder.try_encode(&row.prompt, control, &row.chosen)?;
        let rejected = encoder.try_encode(&row.prompt, control, &row.rejected)?;
        Ok((row, chosen, rejected))
    };
    let encoded: Vec<Result<_, TrainError>> = rows.into_par_iter().map(encode).collect();
    let mut examples = Vec::with_capacity(encoded.len());
    for encoded in encoded {
        let (row, chosen, rejected) = encoded?;
        counts.add(&row.pair_id, &chosen);
        counts.add(&row.pair_id, &rejected);
        if let (Ok(chosen), Ok(rejected)) = (chosen, rejected) {
            examples.push(PairExample { row, chosen, rejected });
        }
    }
    Ok(examples)
}

impl PairExample {
    /// Encodes pairs for evaluation. Both sides follow the control text that the objective's policy
    /// is sampled with.
    pub fn encode_for_evaluation(
        rows: Vec<PairRow>,
        objective: &Objective,
        encoder: &Encoder<'_>,
    ) -> Result<Vec<Self>, TrainError> {
        encode_pairs(rows, objective.control(true), encoder, &mut EncodingCounts::default())
    }

    /// Reads and encodes the held-out pairs of a prepared dataset.
    pub fn read_held_out(
        dataset: &Path,
        objective: &Objective,
        encoder: &Encoder<'_>,
    ) -> Result<Vec<Self>, TrainError> {
        Self::encode_for_evaluation(read_pairs(dataset, Split::Test)?, objective, encoder)
    }
}

/// Encodes labelled rows for evaluation, and drops those that cannot be encoded. Completions follow
/// the control text that the objective's policy is sampled with.
pub fn encode_for_evaluation(
    rows: Vec<BinaryRow>,
    objective: &Objective,
    encoder: &Encoder<'_>,
) -> Result<Vec<(BinaryRow, Encoded)>, TrainError> {
    let control = objective.control(true);
    let encoded = encode_rows(&rows, encoder, |_| control, &mut EncodingCounts::default())?;
    Ok(rows.into_iter().zip(encoded).filter_map(|(row, encoded)| Some((row, encoded?))).collect())
}
