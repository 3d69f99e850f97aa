//! Preview of training data: examples in the order of the first epoch, or held-out feedback, as
//! text.

use std::path::Path;

use prospect_core::visible::visible;
use prospect_data::{BinaryRow, Message, Split, read_binary, read_pairs};
use prospect_model::Model;

use crate::{
    Adaptation, Encoded, Encoder, EncodingCache, EncodingCounts, PairExample, Settings, TrainError,
    TrainingSet, UnpairedExample,
    batches::{epoch_order, find_partners, partners},
    examples::{encode_pairs, encode_rows},
    settings::Z0,
};

/// An example with its sequences in a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct ExamplePreview {
    /// Split, label, and id of the pair or prompt.
    pub title: String,
    /// Sequences of the example.
    pub sequences: Vec<SequencePreview>,
}

/// A prompt and a completion, as the model receives them.
#[derive(Debug, Clone, PartialEq)]
pub struct SequencePreview {
    /// Role in the objective.
    pub role: String,
    /// Text of the prompt's tokens, which are not scored.
    pub prompt: String,
    /// Text of the completion's tokens, which are scored, without the end marker.
    pub completion: String,
    /// End marker; `None` if it was truncated.
    pub end: Option<String>,
    /// Token counts, truncation, end marker and boundary.
    pub notes: Vec<String>,
}

/// Style of a rendered preview. Scored tokens are between ⟦ and ⟧ in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreviewStyle {
    /// Plain text.
    Plain,
    /// ANSI colours.
    Colour,
}

/// Examples, and the rows that are not among them.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// The first examples.
    pub examples: Vec<ExamplePreview>,
    /// Numbers of rows that training or evaluation leaves out, each with the reason, in sentences.
    pub left_out: Vec<String>,
}

/// Previews the first `count` training examples for `settings` and `seed`, or, for the test split,
/// the first held-out pairs, or thumbs if there are no pairs. Mismatched completions ("KL
/// partners") come from the global batch, as with `z0: global`.
pub fn preview(
    dataset: &Path,
    split: Split,
    model: &Model,
    settings: &Settings,
    seed: u64,
    count: usize,
) -> Result<Preview, TrainError> {
    let cache = EncodingCache::default();
    let encoder = Encoder::new(model, settings.max_length, settings.max_prompt_length);
    let previewer = Previewer {
        model,
        settings,
        encoder: encoder.with_cache(model, &cache),
        unlimited: Encoder::new(model, usize::MAX, usize::MAX),
    };
    match split {
        Split::Test => previewer.held_out(dataset, count),
        Split::Train => previewer.training(dataset, seed, count),
    }
}

struct Previewer<'a> {
    model: &'a Model,
    settings: &'a Settings,
    encoder: Encoder<'a>,
    /// Encoder without truncation.
    unlimited: Encoder<'a>,
}

impl Previewer<'_> {
    fn held_out(&self, dataset: &Path, count: usize) -> Result<Preview, TrainError> {
        let objective = &self.settings.objective;
        let rows = read_pairs(dataset, Split::Test)?;
        if rows.is_empty() {
            return self.held_out_thumbs(dataset, count);
        }
        let all = rows.len();
        let mut counts = EncodingCounts::default();
        let mut pairs = encode_pairs(rows, objective.control(true), &self.encoder, &mut counts)?;
        let left_out = self.left_out(&counts, all - pairs.len(), all, "held-out pairs");
        pairs.sort_by(|a, b| a.row.pair_id.cmp(&b.row.pair_id));
        let all: Vec<usize> = (0..pairs.len()).collect();
        let mut examples = Vec::new();
        for (index, pair) in pairs.iter().enumerate().take(count) {
            let mut preview = self.pair(Split::Test, pair)?;
            let same_prompt = |other: usize| pairs[other].row.prompt_id == pair.row.prompt_id;
            for other in partners(&all, index, same_prompt).take(self.settings.objective.kl_partners()) {
                let other = &pairs[other].row;
                let role =
                    format!("KL partner: the prompt with the chosen completion of pair {}", other.pair_id);
                preview.sequences.push(self.sequence(role, &pair.row.prompt, &other.chosen)?);
            }
            examples.push(preview);
        }
        Ok(Preview { examples, left_out })
    }

    fn held_out_thumbs(&self, dataset: &Path, count: usize) -> Result<Preview, TrainError> {
        let rows = read_binary(dataset, Split::Test)?;
        let all = rows.len();
        let (control, mut counts) = (self.settings.objective.control(true), EncodingCounts::default());
        let encoded = encode_rows(&rows, &self.encoder, |_| control, &mut counts)?;
        let thumbs = rows.iter().zip(&encoded).filter(|(_, encoded)| encoded.is_some());
        let mut thumbs: Vec<&BinaryRow> = thumbs.map(|(row, _)| row).collect();
        let left_out = self.left_out(&counts, all - thumbs.len(), all, "held-out thumbs");
        thumbs.sort_by(|a, b| a.id.cmp(&b.id));
        let example = |row: &&BinaryRow| {
            let label = label_name(row.label);
            Ok(ExamplePreview {
                title: format!("test, {label}, prompt {}", row.prompt_id),
                sequences: vec![self.sequence(label.to_owned(), &row.prompt, &row.completion)?],
            })
        };
        let examples = thumbs.iter().take(count).map(example).collect::<Result<_, TrainError>>()?;
        Ok(Preview { examples, left_out })
    }

    /// Sentence about `dropped` of `all` rows; none if no row is dropped.
    fn left_out(&self, counts: &EncodingCounts, dropped: usize, all: usize, what: &str) -> Vec<String> {
        if dropped == 0 {
            return Vec::new();
        }
        if counts.refused + counts.without_completion > 0 {
            let reasons = counts.describe_dropped().unwrap_or_default();
            return vec![format!("{dropped} of {all} {what} are left out: {reasons}")];
        }
        vec![format!(
            "{dropped} of {all} {what} are left out: the last turn of the prompt alone has more than {} tokens \
             (max_prompt_length)",
            self.settings.max_prompt_length
        )]
    }

    fn training(&self, dataset: &Path, seed: u64, count: usize) -> Result<Preview, TrainError> {
        let (set, counts) = TrainingSet::read_counted(dataset, &self.settings.objective, &self.encoder)?;
        let dropped = (counts.prompt_too_long + counts.refused + counts.without_completion) as usize;
        let all = dropped + counts.encoded as usize;
        let left_out = self.left_out(&counts, dropped, all, "training conversations");
        let order = epoch_order(seed, 0, set.len());
        let examples = match &set {
            TrainingSet::Unpaired(examples) => {
                let z0 = self.settings.objective.z0().unwrap_or(Z0::Global);
                let scope = match z0 {
                    Z0::MicroBatch => self.settings.micro_batch_size,
                    Z0::Global | Z0::DividedByWorldSize(_) => self.settings.batch_size,
                };
                let kl_partners = self.settings.objective.kl_partners();
                let batches = order.chunks(scope);
                let positions =
                    batches.flat_map(|batch| (0..batch.len()).map(move |position| (batch, position)));
                positions
                    .take(count)
                    .map(|(batch, position)| {
                        let found = find_partners(examples, batch, position, &order, (z0, kl_partners))?;
                        let others = found.into_iter().map(|other| &examples[other]);
                        self.unpaired(&examples[batch[position]], others)
                    })
                    .collect::<Result<Vec<_>, TrainError>>()?
            }
            TrainingSet::Paired(examples) => {
                let pairs = order.iter().take(count).map(|index| self.pair(Split::Train, &examples[*index]));
                pairs.collect::<Result<Vec<_>, TrainError>>()?
            }
            TrainingSet::Completions(_) => {
                return Err(TrainError::Settings(
                    "preview supports objectives on rows (kto) and on pairs (dpo)".to_owned(),
                ));
            }
        };
        Ok(Preview { examples, left_out })
    }

    fn unpaired<'b>(
        &self,
        example: &UnpairedExample,
        partners: impl Iterator<Item = &'b UnpairedExample>,
    ) -> Result<ExamplePreview, TrainError> {
        let UnpairedExample { prompt_id, prompt, completion, desirable, weight, .. } = example;
        let label = label_name(*desirable);
        let mut sequences = vec![self.sequence(label.to_owned(), prompt, completion)?];
        for other in partners {
            let role = format!("KL partner: the prompt with a completion of prompt {}", other.prompt_id);
            sequences.push(self.sequence(role, prompt, &other.completion)?);
        }
        let weight = if *weight == 1.0 { String::new() } else { format!(", weight {weight}") };
        Ok(ExamplePreview { title: format!("train, {label}{weight}, prompt {prompt_id}"), sequences })
    }

    fn pair(
        &self,
        split: Split,
        PairExample { row, .. }: &PairExample,
    ) -> Result<ExamplePreview, TrainError> {
        let noise = if row.swapped { ", swapped by noise" } else { "" };
        Ok(ExamplePreview {
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
    ) -> Result<SequencePreview, TrainError> {
        let encoded = self.encoder.encode(prompt, completion)?;
        let unlimited = self.unlimited.encode(prompt, completion)?;
        let (Some(encoded), Some(unlimited)) = (encoded, unlimited) else {
            return Err(TrainError::Examples("a prompt that fitted before is too long".to_owned()));
        };
        let tokenizer = &self.model.tokenizer;
        let marker = self.encoder.end_marker();
        let mut scored = encoded.completion.clone();
        let has_end = scored.last() == Some(&marker.id);
        if has_end {
            scored.pop();
        }
        let completion = tokenizer.decode(&scored, true)?;
        let notes = self.notes(&encoded, &unlimited, has_end, &completion);
        Ok(SequencePreview {
            role,
            prompt: tokenizer.decode(&encoded.prompt, true)?,
            completion,
            end: has_end.then(|| marker.token.clone()),
            notes,
        })
    }

    fn notes(
        &self,
        encoded: &Encoded,
        unlimited: &Encoded,
        has_end: bool,
        completion_text: &str,
    ) -> Vec<String> {
        let (prompt, completion) = (encoded.prompt.len(), encoded.completion.len());
        let mut notes = vec![format!(
            "tokens: {prompt} of prompt (at most {}), {completion} of completion, together {} (at most {})",
            self.settings.max_prompt_length,
            prompt + completion,
            self.settings.max_length
        )];
        if encoded.truncation.prompt {
            let dropped = unlimited.prompt.len() - prompt;
            notes.push(format!("cut: the prompt's oldest turns, {dropped} tokens, are left out"));
        }
        if encoded.truncation.completion {
            let dropped = unlimited.completion.len() - completion;
            notes.push(format!("cut: the completion loses its last {dropped} tokens"));
        }
        notes.push(if has_end {
            format!("end marker: {}, scored", self.encoder.end_marker().token)
        } else {
            "end marker: none, it was cut off".to_owned()
        });
        notes.push(if encoded.boundary_merged {
            let start: String = completion_text.chars().take(12).collect();
            format!("boundary: the prompt's last characters share a token with the completion, so scoring begins at {start:?}")
        } else {
            "boundary: clean, the prompt's own tokens are a prefix".to_owned()
        });
        notes.extend(adaptation_notes(encoded.adaptation));
        notes
    }
}

/// Describes what the chat template made necessary.
fn adaptation_notes(adaptation: Adaptation) -> impl Iterator<Item = String> {
    let Adaptation { turns_merged, system_folded, cut_to_user, markers_as_text, apart, rewritten } =
        adaptation;
    let notes = [
        (system_folded, "template: refuses system turns, so the text is at the start of a user turn"),
        (turns_merged, "template: refuses consecutive turns of one role, so they are joined"),
        (cut_to_user, "template: refuses to begin with the assistant, so the first turns are left out"),
        (apart, "template: renders the prompt differently before a completion; the form without one is used"),
        (rewritten, "template: does not write the completion as given"),
        (markers_as_text, "special tokens in the text of a turn: encoded as text"),
    ];
    notes.into_iter().filter(|(applies, _)| *applies).map(|(_, note)| note.to_owned())
}

fn label_name(desirable: bool) -> &'static str {
    if desirable { "desirable" } else { "undesirable" }
}

/// Renders the examples of a preview as text.
pub fn render_previews(previews: &[ExamplePreview], style: PreviewStyle) -> String {
    let paint = |code: &str, text: &str| match style {
        PreviewStyle::Colour => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        PreviewStyle::Plain => text.to_owned(),
    };
    let mut lines = Vec::new();
    for (index, example) in previews.iter().enumerate() {
        let title = format!("== {} of {}: {}", index + 1, previews.len(), visible(&example.title));
        lines.push(paint("1", &title));
        for SequencePreview { role, prompt, completion, end, notes } in &example.sequences {
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
