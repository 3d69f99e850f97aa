//! What a run trains on.

use std::path::Path;

use prospect_data::{PairRow, Split, read_binary, read_pairs};

use crate::{Encoded, Encoder, Objective, TrainError};

/// A completion with a thumb.
#[derive(Debug, Clone)]
pub struct UnpairedExample {
    /// Completions of the same prompt are no partners of each other.
    pub prompt_id: String,
    /// The prompt's messages, for pairing it with another example's completion.
    pub prompt: Vec<prospect_data::Message>,
    /// The completion's messages.
    pub completion: Vec<prospect_data::Message>,
    /// Tokens.
    pub encoded: Encoded,
    /// Thumbs up.
    pub desirable: bool,
    /// The row's own weight.
    pub weight: f64,
}

/// Two completions of one prompt, one preferred.
#[derive(Debug, Clone)]
pub struct PairExample {
    /// The dataset's row.
    pub row: PairRow,
    /// Tokens of the preferred completion.
    pub chosen: Encoded,
    /// Tokens of the other.
    pub rejected: Encoded,
}

/// A training set in the form that its objective takes.
#[derive(Debug, Clone)]
pub enum TrainingSet {
    /// For KTO.
    Unpaired(Vec<UnpairedExample>),
    /// For DPO.
    Paired(Vec<PairExample>),
    /// For SFT: desirable completions.
    Completions(Vec<Encoded>),
}

impl TrainingSet {
    /// Reads and encodes the training split of a prepared dataset for `objective`.
    pub fn read(dataset: &Path, objective: &Objective, encoder: &Encoder<'_>) -> Result<Self, TrainError> {
        let set = match objective {
            Objective::Dpo { .. } => Self::Paired(pairs(dataset, Split::Train, encoder)?),
            Objective::Kto { .. } => {
                let mut examples = Vec::new();
                for row in read_binary(dataset, Split::Train)? {
                    if let Some(encoded) = encoder.encode(&row.prompt, &row.completion)? {
                        let prospect_data::BinaryRow { prompt_id, prompt, completion, label, weight, .. } =
                            row;
                        examples.push(UnpairedExample {
                            prompt_id,
                            prompt,
                            completion,
                            encoded,
                            desirable: label,
                            weight,
                        });
                    }
                }
                Self::Unpaired(examples)
            }
            Objective::Sft => {
                let mut completions = Vec::new();
                for row in read_binary(dataset, Split::Train)?.into_iter().filter(|row| row.label) {
                    completions.extend(encoder.encode(&row.prompt, &row.completion)?);
                }
                Self::Completions(completions)
            }
        };
        if set.len() == 0 {
            return Err(TrainError::Examples(format!(
                "{}: no training example fits max_prompt_length and the objective; {:?}",
                dataset.display(),
                encoder.counts()
            )));
        }
        Ok(set)
    }

    /// Number of examples: rows, pairs or completions.
    #[expect(clippy::len_without_is_empty, reason = "an empty training set is refused when it is read")]
    pub fn len(&self) -> usize {
        match self {
            Self::Unpaired(examples) => examples.len(),
            Self::Paired(examples) => examples.len(),
            Self::Completions(examples) => examples.len(),
        }
    }

    /// Completions in one example.
    pub(crate) fn completions_per_example(&self) -> usize {
        if matches!(self, Self::Paired(_)) { 2 } else { 1 }
    }

    /// Desirable and undesirable rows.
    pub fn class_counts(&self) -> (usize, usize) {
        match self {
            Self::Unpaired(examples) => {
                let desirable = examples.iter().filter(|example| example.desirable).count();
                (desirable, examples.len() - desirable)
            }
            Self::Paired(examples) => (examples.len(), examples.len()),
            Self::Completions(examples) => (examples.len(), 0),
        }
    }
}

/// Encoded pairs of a split; a pair of which one side is dropped goes as a whole.
pub(crate) fn pairs(
    dataset: &Path,
    split: Split,
    encoder: &Encoder<'_>,
) -> Result<Vec<PairExample>, TrainError> {
    let mut examples = Vec::new();
    for row in read_pairs(dataset, split)? {
        let chosen = encoder.encode(&row.prompt, &row.chosen)?;
        let rejected = encoder.encode(&row.prompt, &row.rejected)?;
        if let (Some(chosen), Some(rejected)) = (chosen, rejected) {
            examples.push(PairExample { row, chosen, rejected });
        }
    }
    Ok(examples)
}

impl PairExample {
    /// Reads and encodes the held-out pairs of a prepared dataset.
    pub fn held_out(dataset: &Path, encoder: &Encoder<'_>) -> Result<Vec<Self>, TrainError> {
        let pairs = pairs(dataset, Split::Test, encoder)?;
        if pairs.is_empty() {
            return Err(TrainError::Examples(format!(
                "{}: no held-out pair fits max_prompt_length",
                dataset.display()
            )));
        }
        Ok(pairs)
    }
}
