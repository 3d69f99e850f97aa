//! OpenAssistant's conversations: nested trees (one a line, as in the export) and flat messages (as in the Hub's parquet
//! files), also mixed in one file.
//!
//! Replies of the assistant to one message are ranked by people, 0 being best. They become pairs, by adjacent ranks or
//! by all (see [`Ranks`]); the score of a reply is minus its rank, so that higher is better, or the mean of one of the
//! ratings that people gave it. A message counts only if every message before it does.

mod message;
mod thread;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DataError,
    ingest::{
        raw::{RawRow, Remark, RowSink},
        records::for_each_record,
        sources::{files::HashedFile, per_record::SourceContext},
    },
};

use message::{OasstLine, OasstMessage};

/// Which replies to one message form pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RankPairing {
    /// Each rank with the next one; a missing rank leaves a gap that is not bridged (as in HALOs).
    #[default]
    Adjacent,
    /// Every two different ranks.
    All,
}

/// Which messages are used, and how.
#[derive(Debug, Clone, Serialize)]
pub struct Oasst {
    pub(crate) ranks: RankPairing,
    /// The language that every message of a conversation has; any if absent.
    pub(crate) language: Option<String>,
    /// Only messages that passed review.
    pub(crate) only_reviewed: bool,
    pub(crate) drop_deleted: bool,
    /// Without messages that a model wrote.
    pub(crate) drop_synthetic: bool,
    /// The rating that is a reply's score, for example `quality`; minus the rank if absent.
    pub(crate) rating: Option<String>,
}

impl Oasst {
    /// Why a message is left out by itself.
    fn filter(&self, message: &OasstMessage) -> Option<&'static str> {
        let language = self.language.as_ref().is_some_and(|language| message.lang.as_ref() != Some(language));
        [
            (language, "other_language"),
            (self.drop_deleted && message.deleted, "deleted"),
            (self.drop_synthetic && message.synthetic, "synthetic"),
            (self.only_reviewed && message.review_result != Some(true), "not_reviewed"),
            (message.text.is_empty(), "empty_text"),
        ]
        .into_iter()
        .find_map(|(out, why)| out.then_some(why))
    }
}

/// Reads a file. A tree is a row of its own; flat messages are rows in their order after all trees, since a reply may
/// stand anywhere after (or even before) the message that it answers.
pub(crate) fn read(
    file: &HashedFile,
    oasst: &Oasst,
    context: &SourceContext<'_>,
    into: &mut dyn RowSink,
) -> Result<(), DataError> {
    let name: Arc<str> = file.name().into();
    let row = |line, drafts: Vec<_>, remarks| {
        let groups = drafts
            .into_iter()
            .map(|draft: super::per_record::Draft| draft.group(file.split, context))
            .collect();
        RawRow { file: name.clone(), line, outcome: Ok(groups), remarks }
    };
    let (mut flat, mut lines) = (Vec::new(), Vec::new());
    let notes = for_each_record(&file.path, &mut |line, record| match record.and_then(message::parse) {
        Ok(OasstLine::Message(message)) => {
            flat.push(*message);
            lines.push(line);
            Ok(())
        }
        Ok(OasstLine::Tree(messages)) => {
            let (drafts, remarks): (Vec<_>, Vec<_>) = thread::threads(&messages, oasst).into_iter().unzip();
            let drafts = drafts.into_iter().flatten().collect();
            into.rows(vec![row(line, drafts, remarks.into_iter().flatten().collect())])
        }
        Err(flaw) => {
            let (file, remarks) = (name.clone(), Vec::new());
            into.rows(vec![RawRow { file, line, outcome: Err(vec![flaw]), remarks }])
        }
    })?;
    let threads = thread::threads(&flat, oasst).into_iter().zip(lines);
    into.rows(
        threads.map(|((draft, remarks), line)| row(line, draft.into_iter().collect(), remarks)).collect(),
    )?;
    into.remark(Remark::Repaired("byte_order_mark"), notes.byte_order_mark.into());
    into.remark(Remark::Repaired("blank_line"), notes.blank_lines);
    Ok(())
}
