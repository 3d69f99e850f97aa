//! What is known of a group of rows without its texts.

use super::{Group, NO_PAIR, Pair, Row};
use crate::{
    DataError, Message,
    ids::{self, Id},
    minhash::Signature,
    noise::Noisy,
    raw::RawGroup,
    tokens::TokenCounter,
};

/// What to find out about groups beside their ids and lengths.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measure {
    /// Whether to sign prompts, so that they can be compared.
    pub(crate) sign: bool,
    /// The most tokens that a row should have, and what counts them.
    pub(crate) max_tokens: Option<(usize, TokenCounter)>,
}

/// A group without its texts, indices counted from 0 within it.
#[derive(Debug)]
pub(crate) struct Digest {
    pub(super) group: Group,
    pub(super) rows: Vec<Row>,
    pub(super) pairs: Vec<Pair>,
    pub(super) signature: Option<Signature>,
}

impl Digest {
    /// Hashes and measures a group: one row for every label and for every side of a pair without a label.
    pub(crate) fn new(group: &RawGroup, measure: &Measure) -> Result<Self, DataError> {
        let signature = measure.sign.then(|| Signature::new(&group.prompt));
        let prompt = ids::prompt_id(&group.prompt);
        let ids: Vec<Id> =
            group.completions.iter().map(|completion| ids::row_id(prompt, &completion.messages)).collect();
        let many_tokens = match &measure.max_tokens {
            None => vec![false; group.completions.len()],
            Some((most, tokens)) => group
                .completions
                .iter()
                .map(|completion| {
                    let (prompt, completion) = tokens.count(&group.prompt, &completion.messages)?;
                    Ok(prompt + completion > *most)
                })
                .collect::<Result<_, DataError>>()?,
        };
        let row = |index: usize, original_label, pair| Row {
            id: ids[index],
            score: group.completions[index].score.unwrap_or(f64::NAN),
            group: 0,
            pair,
            completion: index as u32,
            characters: characters(&group.completions[index].messages),
            original_label,
            kept: true,
            several_words: several_words(&group.completions[index].messages),
            many_tokens: many_tokens[index],
            noisy: Noisy::default(),
        };
        let mut rows = Vec::new();
        // A row with a label of its own stands once; it belongs to its first pair.
        let labelled: Vec<Option<u32>> = (0..group.completions.len())
            .map(|index| {
                let label = group.completions[index].label?;
                let pair =
                    group.pairs.iter().position(|(chosen, rejected)| *chosen == index || *rejected == index);
                rows.push(row(index, label, pair.map_or(NO_PAIR, |pair| pair as u32)));
                Some(rows.len() as u32 - 1)
            })
            .collect();
        let mut pairs = Vec::with_capacity(group.pairs.len());
        for (pair, (chosen, rejected)) in group.pairs.iter().enumerate() {
            let mut side = |index: usize, label| {
                labelled[index].unwrap_or_else(|| {
                    rows.push(row(index, label, pair as u32));
                    rows.len() as u32 - 1
                })
            };
            let (chosen_row, rejected_row) = (side(*chosen, true), side(*rejected, false));
            let id = ids::pair_id(prompt, ids[*chosen], ids[*rejected]);
            pairs.push(Pair { id, chosen: chosen_row, rejected: rejected_row });
        }
        let group = Group {
            prompt,
            split: group.split,
            origin: 0,
            characters: characters(&group.prompt),
            first_row: 0,
            first_pair: 0,
        };
        Ok(Self { group, rows, pairs, signature })
    }
}

/// Characters of a text.
pub(super) fn characters(messages: &[Message]) -> u32 {
    messages.iter().map(|message| message.content.chars().count()).sum::<usize>() as u32
}

fn several_words(messages: &[Message]) -> bool {
    messages.last().is_some_and(|message| message.content.trim().contains(char::is_whitespace))
}
