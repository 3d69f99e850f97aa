//! OpenAssistant's conversations: nested trees (one per line, as in the export) and flat messages
//! (as in the Hub's parquet files), also mixed in one file.
//!
//! People ranked the assistant's replies to a message; rank 0 is best. Replies of adjacent or of
//! all ranks become pairs (see [`RankPairing`]). A reply's score is minus its rank, so that higher
//! is better, or the mean of one of its ratings. A message is used only if all its ancestors are.

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

/// Ranks that form pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RankPairing {
    /// Consecutive ranks only; a missing rank leaves a gap, which is not bridged (as in HALOs).
    #[default]
    Adjacent,
    /// All pairs of different ranks.
    All,
}

/// Filters and settings of the source.
#[derive(Debug, Clone, Serialize)]
pub struct Oasst {
    pub(crate) ranks: RankPairing,
    /// Required language of every message of a conversation; any if absent.
    pub(crate) language: Option<String>,
    /// Keep only messages that passed review.
    pub(crate) only_reviewed: bool,
    pub(crate) drop_deleted: bool,
    /// Drop messages written by a model.
    pub(crate) drop_synthetic: bool,
    /// Rating used as a reply's score, for example `quality`; minus the rank if absent.
    pub(crate) rating: Option<String>,
}

impl Oasst {
    /// Returns the reason to drop a message, judged on its own.
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

/// Reads a file. A tree is one row. Flat messages follow after all trees, in file order, one row
/// each: a reply may appear anywhere after (or even before) its parent.
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
