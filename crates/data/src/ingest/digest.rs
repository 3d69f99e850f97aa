//! Groups to table rows: ids, lengths and signatures in place of texts.

use crate::{
    DataError, Message,
    ingest::raw::RawGroup,
    table::{
        feedback::{CompletionDigest, Feedback, FeedbackPair, FeedbackRow, GroupDigest, PromptGroup},
        ids,
        minhash::Signature,
    },
    tokens::TokenCounter,
};

/// Optional measurements of a group, besides ids and lengths.
#[derive(Debug, Clone, Default)]
pub(crate) struct DigestOptions {
    /// Computes MinHash signatures of prompts, for near duplicates.
    pub(crate) sign: bool,
    /// Limit on the tokens of prompt and completion together, and the counter that measures them.
    pub(crate) max_tokens: Option<(usize, TokenCounter)>,
}

/// Hashes and measures a group: one row for every label, and one for every side of a pair whose
/// completion has no label of its own.
pub(crate) fn digest_group(group: &RawGroup, options: &DigestOptions) -> Result<GroupDigest, DataError> {
    let prompt = ids::prompt_id(&group.prompt);
    let completions = digest_completions(group, prompt, options)?;
    let mut rows = Vec::new();
    // A completion with a label gives one row, however many pairs it is in; the row refers to the
    // first.
    let labelled: Vec<Option<u32>> = (0..group.completions.len())
        .map(|index| {
            let label = group.completions[index].label?;
            let pair =
                group.pairs.iter().position(|(chosen, rejected)| *chosen == index || *rejected == index);
            rows.push(FeedbackRow::new(completions[index], label, pair.map(|pair| pair as u32)));
            Some(rows.len() as u32 - 1)
        })
        .collect();
    let mut pairs = Vec::with_capacity(group.pairs.len());
    for (pair, (chosen, rejected)) in (0..).zip(&group.pairs) {
        let mut side = |index: usize, label| {
            labelled[index].unwrap_or_else(|| {
                rows.push(FeedbackRow::new(completions[index], label, Some(pair)));
                rows.len() as u32 - 1
            })
        };
        let (chosen_row, rejected_row) = (side(*chosen, true), side(*rejected, false));
        let id = ids::pair_id(prompt, completions[*chosen].id, completions[*rejected].id);
        pairs.push(FeedbackPair { id, chosen: chosen_row, rejected: rejected_row });
    }
    Ok(GroupDigest {
        group: PromptGroup {
            prompt,
            split: group.split,
            origin: 0,
            characters: characters(&group.prompt),
            first_row: 0,
            first_pair: 0,
        },
        rows,
        pairs,
        log: group.log,
        signature: options.sign.then(|| Signature::new(&group.prompt)),
    })
}

fn digest_completions(
    group: &RawGroup,
    prompt: ids::Id,
    options: &DigestOptions,
) -> Result<Vec<CompletionDigest>, DataError> {
    let completions = (0..).zip(&group.completions);
    completions
        .map(|(index, completion)| {
            let many_tokens = match &options.max_tokens {
                None => false,
                Some((limit, tokens)) => {
                    let (prompt, completion) = tokens.count(&group.prompt, &completion.messages)?;
                    prompt + completion > *limit
                }
            };
            Ok(CompletionDigest {
                id: ids::row_id(prompt, &completion.messages),
                score: completion.score,
                completion: index,
                characters: characters(&completion.messages),
                several_words: several_words(&completion.messages),
                many_tokens,
            })
        })
        .collect()
}

/// Returns whether a group from the second pass has the lengths of the group that the first pass
/// saw under this index. It differs if the input changed in between.
pub(crate) fn matches_table(feedback: &Feedback, index: usize, group: &RawGroup) -> bool {
    feedback.groups[index].characters == characters(&group.prompt)
        && feedback.rows[feedback.group_rows(index)].iter().all(|row| {
            let completion = group.completions.get(row.completion as usize);
            completion.is_some_and(|completion| row.characters == characters(&completion.messages))
        })
}

fn characters(messages: &[Message]) -> u32 {
    messages.iter().map(|message| message.content.chars().count()).sum::<usize>() as u32
}

fn several_words(messages: &[Message]) -> bool {
    messages.last().is_some_and(|message| message.content.trim().contains(char::is_whitespace))
}
