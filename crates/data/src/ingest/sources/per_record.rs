//! Sources whose records are independent. Records are parsed in parallel and passed on in order.

use std::sync::Arc;

use rayon::prelude::*;

use crate::{
    DataError, Message, Split,
    ingest::{
        raw::{Flaw, RawCompletion, RawGroup, RawRow, RejectReason, Remark, RowSink},
        shard::Shard,
        sources::{columns::FLAGS, excerpt::excerpt, files::HashedFile, record_log::RecordLog},
    },
    table::{group_salt::GroupSalt, log_entry::LogEntry},
};

/// Record with its position.
pub(crate) struct SourceRecord<'a> {
    /// Bytes of a JSON object.
    pub(crate) bytes: &'a [u8],
    /// Split of the record's file.
    pub(crate) split: Option<Split>,
    /// Index among all records of the source, from 0.
    pub(crate) number: u64,
}

/// Record format of a source.
pub(crate) trait RecordFormat: Sync {
    /// Returns the names of the columns that the format reads; None for all.
    fn columns(&self) -> Option<Vec<String>> {
        None
    }
    /// Parses one record into one draft per prompt, or none if the record is filtered out.
    fn parse(&self, record: &SourceRecord<'_>) -> Parsed;
}

/// Result of parsing a record.
pub(crate) struct Parsed {
    pub(crate) drafts: Result<Vec<Draft>, Vec<Flaw>>,
    pub(crate) remarks: Vec<Remark>,
    pub(crate) log: RecordLog,
}

/// A group before its source and file are filled in.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// Value of the `domain` column; the source's domain if the record has none.
    pub(crate) domain: Option<String>,
    pub(crate) prompt: Vec<Message>,
    pub(crate) completions: Vec<RawCompletion>,
    pub(crate) pairs: Vec<(usize, usize)>,
}

/// Values shared by all groups of a source.
pub(crate) struct SourceContext<'a> {
    pub(crate) source: Arc<str>,
    pub(crate) domain: Arc<str>,
    /// Domains to keep; all if empty.
    pub(crate) domains: &'a [String],
    /// Shard of the records to read.
    pub(crate) shard: Shard,
    /// Salt of the hashes that replace the names of groups.
    pub(crate) salt: GroupSalt,
}

impl Parsed {
    /// Returns the result for an unusable record.
    pub(crate) fn rejected(flaws: Vec<Flaw>) -> Self {
        Self { drafts: Err(flaws), remarks: Vec::new(), log: RecordLog::default() }
    }

    /// Adds remarks, unless the record is rejected.
    pub(crate) fn noting(mut self, remarks: Vec<Remark>) -> Self {
        if self.drafts.is_ok() {
            self.remarks.extend(remarks);
        }
        self
    }

    /// Returns the result for a record that is filtered out.
    pub(crate) fn filtered(why: &'static str) -> Self {
        Self { drafts: Ok(Vec::new()), remarks: vec![Remark::Filtered(why)], log: RecordLog::default() }
    }

    /// Adds the group and time of the record, which is rejected if they have a flaw.
    pub(crate) fn logged(self, log: Result<RecordLog, Flaw>) -> Self {
        match (log, self.drafts) {
            (Ok(log), drafts) => Self { drafts, log, ..self },
            (Err(flaw), Ok(_)) => Self::rejected(vec![flaw]),
            (Err(flaw), Err(mut flaws)) => {
                flaws.push(flaw);
                Self::rejected(flaws)
            }
        }
    }
}

impl From<Result<Draft, Flaw>> for Parsed {
    /// Checks a draft and adds remarks.
    fn from(draft: Result<Draft, Flaw>) -> Self {
        match draft {
            Err(flaw) => Self::rejected(vec![flaw]),
            Ok(draft) => match draft.flaws() {
                flaws if flaws.is_empty() => {
                    Self { remarks: draft.remarks(), drafts: Ok(vec![draft]), log: RecordLog::default() }
                }
                flaws => Self::rejected(flaws),
            },
        }
    }
}

impl Draft {
    /// Returns the flaws that make the whole draft unusable.
    pub(crate) fn flaws(&self) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        if self.prompt.iter().all(|turn| turn.content.is_empty()) {
            flaws.push(Flaw { reason: RejectReason::EmptyPrompt, detail: "the prompt is empty".to_owned() });
        }
        for (index, completion) in self.completions.iter().enumerate() {
            if completion.messages.iter().all(|turn| turn.content.is_empty()) {
                let detail = format!("{} is empty", self.side(index));
                flaws.push(Flaw { reason: RejectReason::EmptyCompletion, detail });
            }
        }
        for (chosen, rejected) in &self.pairs {
            if let (Some(chosen), Some(rejected)) =
                (self.completions.get(*chosen), self.completions.get(*rejected))
                && chosen.messages == rejected.messages
                && let Some(turn) = chosen.messages.iter().find(|turn| !turn.content.is_empty())
            {
                let detail = format!("chosen and rejected are both {}", excerpt(&turn.content));
                flaws.push(Flaw { reason: RejectReason::IdenticalCompletions, detail });
            }
        }
        flaws
    }

    /// Names a completion in messages.
    fn side(&self, index: usize) -> String {
        match (self.pairs.as_slice(), self.completions.len()) {
            ([(chosen, _)], 2) => (if index == *chosen { "chosen" } else { "rejected" }).to_owned(),
            (_, 1) => "the completion".to_owned(),
            _ => format!("completion {}", index + 1),
        }
    }

    /// Returns remarks on unusual but valid properties.
    pub(crate) fn remarks(&self) -> Vec<Remark> {
        let completion_role = self.completions.first().and_then(|first| first.messages.first());
        let roles: Vec<_> =
            self.prompt.iter().chain(completion_role).map(|turn| turn.role.as_str()).collect();
        let consecutive = roles.windows(2).any(|two| two[0] == two[1]);
        let empty = self.prompt.iter().any(|turn| turn.content.is_empty());
        let equal = self.pairs.iter().any(|(chosen, rejected)| {
            let score = |index: &usize| self.completions.get(*index).and_then(|completion| completion.score);
            score(chosen).is_some() && score(chosen) == score(rejected)
        });
        let reasons = |completion: &RawCompletion| {
            completion.messages.iter().any(|turn| turn.content.starts_with("<think>"))
        };
        let reasoning = self.completions.iter().any(reasons);
        [
            reasoning.then_some(Remark::Noted("reasoning_block")),
            consecutive.then_some(Remark::Noted("consecutive_turns")),
            empty.then_some(Remark::Noted("empty_prompt_turn")),
            equal.then_some(Remark::Noted("equal_scores")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Turns the draft into a group of a source.
    pub(crate) fn group(self, split: Option<Split>, context: &SourceContext<'_>) -> RawGroup {
        let Self { domain, prompt, completions, pairs } = self;
        let domain = domain.map_or_else(|| context.domain.clone(), Arc::from);
        let (source, log) = (context.source.clone(), LogEntry::default());
        RawGroup { split, source, domain, log, prompt, completions, pairs }
    }
}

impl SourceContext<'_> {
    /// Leaves out the groups of other domains, and returns true if there are some. Of several
    /// domains that a record joins, those that are kept stay.
    pub(crate) fn keep_domains(&self, groups: &mut Vec<RawGroup>) -> bool {
        let is_kept = |name: &str| self.domains.iter().any(|domain| domain == name);
        let before = groups.len();
        if !self.domains.is_empty() {
            groups.retain_mut(|group| {
                if is_kept(&group.domain) {
                    return true;
                }
                let kept: Vec<&str> = group.domain.split(FLAGS).filter(|name| is_kept(name)).collect();
                group.domain = kept.join(FLAGS).into();
                !group.domain.is_empty()
            });
        }
        groups.len() < before
    }
}

/// Records that fill a batch.
const BATCH_RECORDS: usize = 1024;

/// Bytes of records that fill a batch.
const BATCH_BYTES: usize = 1 << 20;

/// Reads the file's records that are in the shard. Returns the number of records in the whole file.
pub(crate) fn read(
    file: &HashedFile,
    format: &dyn RecordFormat,
    context: &SourceContext<'_>,
    before: u64,
    into: &mut dyn RowSink,
) -> Result<u64, DataError> {
    let name: Arc<str> = file.name().into();
    let mut number = before;
    let mut batch = PendingRecords::default();
    let mut flush = |batch: &mut PendingRecords| {
        let parse = |record: &PendingRecord| {
            let parsed = match &record.bytes {
                Ok(bytes) => format.parse(&SourceRecord { bytes, split: file.split, number: record.number }),
                Err(flaw) => Parsed::rejected(vec![flaw.clone()]),
            };
            row(parsed, &name, record.line, file.split, context)
        };
        let rows = batch.records.par_iter().map(parse).collect();
        *batch = PendingRecords::default();
        into.rows(rows)
    };
    let notes = file.for_each_record(format.columns().as_deref(), &mut |line, record| {
        if context.shard.contains(number) {
            batch.bytes += record.as_ref().map_or(0, |bytes| bytes.len());
            batch.records.push(PendingRecord { line, number, bytes: record.map(<[u8]>::to_vec) });
        }
        number += 1;
        if batch.records.len() >= BATCH_RECORDS || batch.bytes >= BATCH_BYTES {
            flush(&mut batch)
        } else {
            Ok(())
        }
    })?;
    flush(&mut batch)?;
    if context.shard.is_first() {
        notes.remarks().for_each(|(remark, times)| into.remark(remark, times));
    }
    Ok(number - before)
}

/// Records that are not yet parsed.
#[derive(Default)]
struct PendingRecords {
    records: Vec<PendingRecord>,
    /// Bytes of all records.
    bytes: usize,
}

/// A record that is not yet parsed.
struct PendingRecord {
    line: usize,
    /// Number among all records of the source, from 0.
    number: u64,
    bytes: Result<Vec<u8>, Flaw>,
}

fn row(
    parsed: Parsed,
    file: &Arc<str>,
    line: usize,
    split: Option<Split>,
    context: &SourceContext<'_>,
) -> RawRow {
    let Parsed { drafts, mut remarks, log } = parsed;
    let split = log.split.or(split);
    let outcome = drafts.map(|drafts| {
        let log = log.entry(&context.salt);
        let group = |draft: Draft| RawGroup { log, ..draft.group(split, context) };
        let mut groups: Vec<RawGroup> = drafts.into_iter().map(group).collect();
        if context.keep_domains(&mut groups) {
            remarks = vec![Remark::Filtered("other_domain")];
        }
        groups
    });
    RawRow { file: file.clone(), line, outcome, remarks, in_other_rows: false }
}
