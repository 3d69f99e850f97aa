//! OpenAssistant's conversations: nested trees (one per line, as in the export), flat messages (as
//! in the Hub's parquet files) and messages with their replies in them, also mixed in one file.
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
        raw::{RawRow, RowSink},
        sources::{files::HashedFile, per_record::SourceContext},
    },
};

use message::{OasstLine, OasstMessage};
use thread::Thread;

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

/// Reads a file. A tree is one row. Messages follow after all trees, in file order, one row each
/// with the replies in it: a reply may appear anywhere after (or even before) its parent.
pub(crate) fn read(
    file: &HashedFile,
    oasst: &Oasst,
    context: &SourceContext<'_>,
    into: &mut dyn RowSink,
) -> Result<(), DataError> {
    let name: Arc<str> = file.name().into();
    let row = |line, threads: Vec<Thread>| {
        let mut row = RawRow {
            file: name.clone(),
            line,
            outcome: Ok(Vec::new()),
            remarks: Vec::new(),
            in_other_rows: false,
        };
        let mut groups = Vec::new();
        for Thread { draft, remarks, in_group } in threads {
            groups.extend(draft.map(|draft| draft.group(file.split, context)));
            row.remarks.extend(remarks);
            row.in_other_rows |= in_group;
        }
        RawRow { outcome: Ok(groups), ..row }
    };
    let rated = oasst.rating.is_some();
    // All messages outside of trees, and for each row its line and number of messages.
    let (mut flat, mut rows) = (Vec::new(), Vec::new());
    let columns = message::COLUMNS.map(str::to_owned);
    let notes = file.for_each_record(Some(&columns), &mut |line, record| match record
        .and_then(|record| message::parse(record, rated))
    {
        Ok(OasstLine::Messages(mut messages)) => {
            rows.push((line, messages.len()));
            flat.append(&mut messages);
            Ok(())
        }
        Ok(OasstLine::Tree(messages)) => into.rows(vec![row(line, thread::threads(&messages, oasst))]),
        Err(flaw) => {
            let (file, outcome, remarks) = (name.clone(), Err(vec![flaw]), Vec::new());
            into.rows(vec![RawRow { file, line, outcome, remarks, in_other_rows: false }])
        }
    })?;
    let mut threads = thread::threads(&flat, oasst).into_iter();
    into.rows(
        rows.into_iter().map(|(line, count)| row(line, threads.by_ref().take(count).collect())).collect(),
    )?;
    notes.remarks().for_each(|(remark, times)| into.remark(remark, times));
    Ok(())
}
