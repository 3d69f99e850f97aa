//! What a run trains on.

use std::path::Path;

use prospect_data::{PairRow, Split, read_binary, read_pairs};

use crate::{Encoded, Encoder, Objective, TrainError, settings::Examples};

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
    /// Whether noise changed the row.
    pub corrupted: bool,
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

/// A completion to imitate.
#[derive(Debug, Clone)]
pub struct SupervisedExample {
    /// Tokens.
    pub encoded: Encoded,
    /// Thumbs up.
    pub desirable: bool,
    /// The row's own weight.
    pub weight: f64,
    /// Whether noise changed the row.
    pub corrupted: bool,
}

/// A training set in the form that its objective takes.
#[derive(Debug, Clone)]
pub enum TrainingSet {
    /// For KTO and its relatives.
    Unpaired(Vec<UnpairedExample>),
    /// For DPO and its relatives.
    Paired(Vec<PairExample>),
    /// For SFT.
    Completions(Vec<SupervisedExample>),
}

impl TrainingSet {
    /// Reads and encodes the training split of a prepared dataset for `objective`.
    pub fn read(dataset: &Path, objective: &Objective, encoder: &Encoder<'_>) -> Result<Self, TrainError> {
        let rows = || read_binary(dataset, Split::Train);
        let set = match objective.examples() {
            Examples::Paired => Self::Paired(pairs(read_pairs(dataset, Split::Train)?, "", encoder)?),
            Examples::Unpaired => {
                let mut examples = Vec::new();
                for row in rows()? {
                    if let Some(encoded) = encoder.encode(&row.prompt, &row.completion)? {
                        let corrupted = row.is_corrupted();
                        let prospect_data::BinaryRow { prompt_id, prompt, completion, label, weight, .. } =
                            row;
                        examples.push(UnpairedExample {
                            prompt_id,
                            prompt,
                            completion,
                            encoded,
                            desirable: label,
                            weight,
                            corrupted,
                        });
                    }
                }
                Self::Unpaired(examples)
            }
            Examples::Desirable | Examples::All => {
                let all = objective.examples() == Examples::All;
                let mut examples = Vec::new();
                for row in rows()?.into_iter().filter(|row| all || row.label) {
                    let (desirable, weight, corrupted) = (row.label, row.weight, row.is_corrupted());
                    let encoded =
                        encoder.encode_after(&row.prompt, objective.control(desirable), &row.completion)?;
                    let example = |encoded| SupervisedExample { encoded, desirable, weight, corrupted };
                    examples.extend(encoded.map(example));
                }
                Self::Completions(examples)
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
    pub fn completions_per_example(&self) -> usize {
        if matches!(self, Self::Paired(_)) { 2 } else { 1 }
    }

    /// Whether noise changed any row.
    pub fn has_corrupted(&self) -> bool {
        match self {
            Self::Unpaired(examples) => examples.iter().any(|example| example.corrupted),
            Self::Paired(examples) => examples.iter().any(|example| example.row.is_corrupted()),
            Self::Completions(examples) => examples.iter().any(|example| example.corrupted),
        }
    }

    /// Desirable and undesirable rows.
    pub fn class_counts(&self) -> (usize, usize) {
        let count = |desirable: &dyn Fn(usize) -> bool| {
            let desirable = (0..self.len()).filter(|index| desirable(*index)).count();
            (desirable, self.len() - desirable)
        };
        match self {
            Self::Unpaired(examples) => count(&|index| examples[index].desirable),
            Self::Completions(examples) => count(&|index| examples[index].desirable),
            Self::Paired(examples) => (examples.len(), examples.len()),
        }
    }
}

/// Encoded pairs, both sides after `control`; a pair of which one side is dropped goes as a whole.
fn pairs(rows: Vec<PairRow>, control: &str, encoder: &Encoder<'_>) -> Result<Vec<PairExample>, TrainError> {
    let mut examples = Vec::new();
    for row in rows {
        let chosen = encoder.encode_after(&row.prompt, control, &row.chosen)?;
        let rejected = encoder.encode_after(&row.prompt, control, &row.rejected)?;
        if let (Some(chosen), Some(rejected)) = (chosen, rejected) {
            examples.push(PairExample { row, chosen, rejected });
        }
    }
    Ok(examples)
}

impl PairExample {
    /// Encodes pairs to judge a policy on, both sides after the text that the objective's policy is sampled with.
    pub fn to_judge(
        rows: Vec<PairRow>,
        objective: &Objective,
        encoder: &Encoder<'_>,
    ) -> Result<Vec<Self>, TrainError> {
        pairs(rows, objective.control(true), encoder)
    }

    /// Reads and encodes the held-out pairs of a prepared dataset.
    pub fn held_out(
        dataset: &Path,
        objective: &Objective,
        encoder: &Encoder<'_>,
    ) -> Result<Vec<Self>, TrainError> {
        let pairs = Self::to_judge(read_pairs(dataset, Split::Test)?, objective, encoder)?;
        if pairs.is_empty() {
            return Err(TrainError::Examples(format!(
                "{}: no held-out pair fits max_prompt_length",
                dataset.display()
            )));
        }
        Ok(pairs)
    }
}
