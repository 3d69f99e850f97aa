//! What training would see: the first examples of its first epoch, or held-out pairs, as text.

use std::path::Path;

use prospect_core::visible::visible;
use prospect_data::{Message, Split};
use prospect_model::Model;

use crate::{
    Encoded, Encoder, EncodingCounts, Objective, PairExample, Settings, TrainError, TrainingSet,
    UnpairedExample,
    batches::{epoch_order, find_partners, partners},
};

/// An example and the sequences that it brings into a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Previewed {
    /// What the example is.
    pub title: String,
    /// Its sequences.
    pub sequences: Vec<Sequence>,
}

/// A prompt and a completion as the model gets them.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequence {
    /// What it is to the objective.
    pub role: String,
    /// The text of the prompt's tokens, which are read only.
    pub prompt: String,
    /// The text of the completion's tokens, which are scored, without the end marker.
    pub completion: String,
    /// The end marker, where the completion has kept it.
    pub end: Option<String>,
    /// Token counts, and what happened on the way.
    pub notes: Vec<String>,
}

/// How sequences are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Scored tokens stand between ⟦ and ⟧.
    Plain,
    /// They are coloured, too.
    Colour,
}

/// The first `count` examples that training with `settings` and `seed` takes from `dataset`, or, of the test split,
/// the first pairs of the evaluation. KL partners are those of the global batch, as with `z0: global`.
pub fn preview(
    dataset: &Path,
    split: Split,
    model: &Model,
    settings: &Settings,
    seed: u64,
    count: usize,
) -> Result<Vec<Previewed>, TrainError> {
    let encoder = Encoder::new(model, settings.max_length, settings.max_prompt_length);
    let look =
        Look { model, settings, encoder: &encoder, whole: Encoder::new(model, usize::MAX, usize::MAX) };
    let count_partners = match settings.objective {
        Objective::Kto { kl_partners, .. } => kl_partners,
        _ => 0,
    };
    let mut shown = Vec::new();
    if split == Split::Test {
        let mut pairs = PairExample::held_out(dataset, &settings.objective, &encoder)?;
        pairs.sort_by(|a, b| a.row.pair_id.cmp(&b.row.pair_id));
        let all: Vec<usize> = (0..pairs.len()).collect();
        for (index, pair) in pairs.iter().enumerate().take(count) {
            let mut previewed = look.pair(split, pair)?;
            let same_prompt = |other: usize| pairs[other].row.prompt_id == pair.row.prompt_id;
            for other in partners(&all, index, same_prompt).take(count_partners) {
                let other = &pairs[other].row;
                let role =
                    format!("KL partner: the prompt with the chosen completion of pair {}", other.pair_id);
                previewed.sequences.push(look.sequence(role, &pair.row.prompt, &other.chosen)?);
            }
            shown.push(previewed);
        }
        return Ok(shown);
    }
    let set = TrainingSet::read(dataset, &settings.objective, &encoder)?;
    let order = epoch_order(seed, 0, set.len());
    match &set {
        TrainingSet::Unpaired(examples) => {
            let batches = order.chunks(settings.batch_size);
            let places = batches.flat_map(|batch| (0..batch.len()).map(move |position| (batch, position)));
            for (batch, position) in places.take(count) {
                let found = find_partners(examples, batch, position, &order, count_partners)?;
                let others = found.into_iter().map(|other| &examples[other]);
                shown.push(look.unpaired(&examples[batch[position]], others)?);
            }
        }
        TrainingSet::Paired(examples) => {
            for index in order.iter().take(count) {
                shown.push(look.pair(split, &examples[*index])?);
            }
        }
        TrainingSet::Completions(_) => {
            return Err(TrainError::Settings("a preview shows thumbs (kto) or pairs (dpo)".to_owned()));
        }
    }
    Ok(shown)
}

/// What it takes to turn messages into a sequence to look at.
struct Look<'a> {
    model: &'a Model,
    settings: &'a Settings,
    encoder: &'a Encoder<'a>,
    /// Cuts nothing.
    whole: Encoder<'a>,
}

impl Look<'_> {
    fn unpaired<'b>(
        &self,
        example: &UnpairedExample,
        partners: impl Iterator<Item = &'b UnpairedExample>,
    ) -> Result<Previewed, TrainError> {
        let UnpairedExample { prompt_id, prompt, completion, desirable, weight, .. } = example;
        let label = if *desirable { "desirable" } else { "undesirable" };
        let mut sequences = vec![self.sequence(label.to_owned(), prompt, completion)?];
        for other in partners {
            let role = format!("KL partner: the prompt with a completion of prompt {}", other.prompt_id);
            sequences.push(self.sequence(role, prompt, &other.completion)?);
        }
        let weight = if *weight == 1.0 { String::new() } else { format!(", weight {weight}") };
        Ok(Previewed { title: format!("train, {label}{weight}, prompt {prompt_id}"), sequences })
    }

    fn pair(&self, split: Split, PairExample { row, .. }: &PairExample) -> Result<Previewed, TrainError> {
        let noise = if row.swapped { ", swapped by noise" } else { "" };
        Ok(Previewed {
            title: format!("{split}, pair {}{noise}", row.pair_id),
            sequences: vec![
                self.sequence("chosen".to_owned(), &row.prompt, &row.chosen)?,
                self.sequence("rejected".to_owned(), &row.prompt, &row.rejected)?,
            ],
        })
    }

    fn sequence(
        &self,
        role: String,
        prompt: &[Message],
        completion: &[Message],
    ) -> Result<Sequence, TrainError> {
        let before = self.encoder.counts();
        let (encoded, whole) =
            (self.encoder.encode(prompt, completion)?, self.whole.encode(prompt, completion)?);
        let (Some(encoded), Some(whole)) = (encoded, whole) else {
            return Err(TrainError::Examples("a prompt that fitted before is too long".to_owned()));
        };
        let tokenizer = &self.model.tokenizer;
        let (end_id, mut scored) = (tokenizer.eos_token_id()?, encoded.completion.clone());
        let ends = scored.last() == Some(&end_id);
        if ends {
            scored.pop();
        }
        let completion = tokenizer.decode(&scored, true)?;
        let notes = self.notes(before, &encoded, &whole, ends, &completion);
        Ok(Sequence {
            role,
            prompt: tokenizer.decode(&encoded.prompt, true)?,
            completion,
            end: ends.then(|| tokenizer.eos_token().to_owned()),
            notes,
        })
    }

    fn notes(
        &self,
        before: EncodingCounts,
        encoded: &Encoded,
        whole: &Encoded,
        ends: bool,
        text: &str,
    ) -> Vec<String> {
        let after = self.encoder.counts();
        let (prompt, completion) = (encoded.prompt.len(), encoded.completion.len());
        let mut notes = vec![format!(
            "tokens: {prompt} of prompt (at most {}), {completion} of completion, together {} (at most {})",
            self.settings.max_prompt_length,
            prompt + completion,
            self.settings.max_length
        )];
        if after.prompts_cut > before.prompts_cut {
            let gone = whole.prompt.len() - prompt;
            notes.push(format!("cut: the prompt's oldest turns, {gone} tokens, are left out"));
        }
        if after.completions_cut > before.completions_cut {
            let gone = whole.completion.len() - completion;
            notes.push(format!("cut: the completion loses its last {gone} tokens"));
        }
        notes.push(if ends {
            format!("end marker: {}, scored", self.model.tokenizer.eos_token())
        } else {
            "end marker: none, it was cut off".to_owned()
        });
        notes.push(if after.boundary_merges > before.boundary_merges {
            let start: String = text.chars().take(12).collect();
            format!("boundary: the prompt's last characters share a token with the completion, so scoring begins at {start:?}")
        } else {
            "boundary: clean, the prompt's own tokens are a prefix".to_owned()
        });
        notes
    }
}

/// Examples as text.
pub fn show(previewed: &[Previewed], style: Style) -> String {
    let paint = |code: &str, text: &str| match style {
        Style::Colour => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        Style::Plain => text.to_owned(),
    };
    let mut lines = Vec::new();
    for (index, example) in previewed.iter().enumerate() {
        lines.push(paint(
            "1",
            &format!("== {} of {}: {}", index + 1, previewed.len(), visible(&example.title)),
        ));
        for Sequence { role, prompt, completion, end, notes } in &example.sequences {
            lines.push(format!("-- {}", paint("1", &visible(role))));
            lines.extend(notes.iter().map(|note| paint("2", &visible(note))));
            let end = end.as_deref().map(|end| paint("1;33", &visible(end))).unwrap_or_default();
            lines.push(format!(
                "{}⟦{}{end}⟧",
                paint("2", &visible(prompt)),
                paint("32", &visible(completion))
            ));
        }
        lines.push(String::new());
    }
    lines.join("\n").trim_end().to_owned()
}
