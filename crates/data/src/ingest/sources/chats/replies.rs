//! Rated replies of all conversations: labels, and pairs of opposite thumbs under one message.

use std::collections::HashMap;

use crate::{
    Message,
    ingest::{
        raw::{RawCompletion, Remark},
        sources::per_record::Draft,
    },
};

/// A reply with a thumb.
#[derive(Debug)]
pub(super) struct RatedReply {
    /// Conversation, and message that was replied to.
    pub(super) parent: (String, Option<String>),
    pub(super) id: String,
    pub(super) prompt: Vec<Message>,
    pub(super) reply: Message,
    pub(super) label: bool,
    /// Other replies to the same message, with their ids, that nobody rated.
    pub(super) siblings: Vec<(String, Message)>,
}

/// Rated replies by the message that they reply to.
#[derive(Default)]
pub(super) struct Replies {
    groups: Vec<ReplyGroup>,
    by_parent: HashMap<(String, Option<String>), Vec<usize>>,
}

/// Rated replies to one message.
struct ReplyGroup {
    /// Row that the group belongs to: the first one.
    row: usize,
    draft: Draft,
    /// Ids of the completions.
    ids: Vec<String>,
    siblings: Vec<(String, Message)>,
    remarks: Vec<Remark>,
}

impl Replies {
    /// Returns the number of rated replies.
    pub(super) fn len(&self) -> usize {
        self.groups.iter().map(|group| group.draft.completions.len()).sum()
    }

    /// Adds judged replies that belong to no tree.
    pub(super) fn add_draft(&mut self, row: usize, draft: Draft) {
        let (ids, siblings, remarks) = (Vec::new(), Vec::new(), Vec::new());
        self.groups.push(ReplyGroup { row, draft, ids, siblings, remarks });
    }

    /// Adds a reply. Returns true if it joins replies of another row.
    pub(super) fn add(&mut self, row: usize, reply: RatedReply) -> bool {
        let RatedReply { parent, id, prompt, reply, label, siblings } = reply;
        let indices = self.by_parent.entry(parent).or_default();
        // An edited message makes another prompt.
        let found = indices.iter().copied().find(|index| self.groups[*index].draft.prompt == prompt);
        let index = found.unwrap_or_else(|| {
            indices.push(self.groups.len());
            let draft = Draft { prompt, ..Draft::default() };
            let (ids, siblings, remarks) = (Vec::new(), Vec::new(), Vec::new());
            self.groups.push(ReplyGroup { row, draft, ids, siblings, remarks });
            self.groups.len() - 1
        });
        let group = &mut self.groups[index];
        let repeats = |other: usize| {
            let completion = &group.draft.completions[other];
            group.ids[other] == id && completion.label == Some(label) && completion.messages[0] == reply
        };
        if (0..group.ids.len()).any(repeats) {
            group.remarks.push(Remark::Noted("repeated_judgement"));
        } else {
            let completion = RawCompletion { messages: vec![reply], score: None, label: Some(label) };
            group.draft.completions.push(completion);
            group.ids.push(id);
        }
        let new = siblings.into_iter().filter(|(id, _)| group.siblings.iter().all(|(other, _)| other != id));
        let new: Vec<_> = new.collect();
        group.siblings.extend(new);
        group.row != row
    }

    /// Returns the drafts with their rows, and remarks on them. If `unrated_lose`, replies with a
    /// thumb up are preferred to the unrated ones.
    pub(super) fn into_drafts(self, unrated_lose: bool) -> impl Iterator<Item = (usize, Draft, Vec<Remark>)> {
        self.groups.into_iter().map(move |group| {
            let ReplyGroup { row, mut draft, ids, siblings, mut remarks } = group;
            if ids.is_empty() {
                return (row, draft, remarks);
            }
            let rated = draft.completions.len();
            if unrated_lose {
                let unrated = siblings.into_iter().filter(|(id, _)| !ids.contains(id));
                draft.completions.extend(unrated.map(|(_, reply)| RawCompletion {
                    messages: vec![reply],
                    score: None,
                    label: None,
                }));
            }
            for (chosen, better) in draft.completions.iter().enumerate().take(rated) {
                for (rejected, worse) in draft.completions.iter().enumerate() {
                    let same = ids.get(rejected).is_some_and(|id| *id == ids[chosen]);
                    if better.label != Some(true) || worse.label == Some(true) || same {
                        continue;
                    }
                    if better.messages == worse.messages {
                        remarks.push(Remark::Filtered("identical_replies"));
                    } else {
                        draft.pairs.push((chosen, rejected));
                    }
                }
            }
            // An unrated reply that lost to nobody has no judgement.
            if draft.pairs.is_empty() {
                draft.completions.truncate(rated);
            }
            (row, draft, remarks)
        })
    }
}
