//! Two tables: traces with their texts, and judgements that refer to them by id.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{Judgement, JudgementRow, Judgements, Meaning, texts, tools};
use crate::{
    DataError, Split,
    ingest::{
        raw::{Flaw, RawCompletion, RawGroup, RawRow, RejectReason, Remark},
        shard::ShardFilter,
        sources::{
            files::HashedFile,
            json::{self, Object},
            numbers,
            per_record::{Draft, SourceContext},
            record_log::RecordLog,
        },
    },
};

/// Rows that are passed on at a time.
const BATCH: usize = 1024;

/// Judgements of all tables, and the ids of the traces.
#[derive(Default)]
struct Tables {
    /// Judgements of single traces by the trace's id.
    by_trace: HashMap<String, Vec<Judgement>>,
    /// Comparisons by the ids of the traces that they compare.
    comparisons: HashMap<String, Vec<(String, Judgement)>>,
    traces: HashSet<String>,
}

/// A trace of a comparison: its prompt, its completion, and the number that it was given.
struct Compared {
    prompt: Vec<crate::Message>,
    completion: RawCompletion,
    number: f64,
}

/// Reads the files twice: first the judgements, which are few, then the texts.
pub(crate) fn read<'a>(
    files: &'a [HashedFile],
    judgements: &Judgements,
    context: &dyn Fn(&'a HashedFile) -> SourceContext<'a>,
    into: &mut ShardFilter<'_>,
) -> Result<(), DataError> {
    use crate::ingest::raw::RowSink;
    let tables = Tables::read(files)?;
    let mut groups: HashMap<String, Vec<Compared>> = HashMap::new();
    for file in files {
        let name: Arc<str> = file.name().into();
        let context = context(file);
        let mut batch = Vec::new();
        let notes = file.for_each_record(None, &mut |line, record| {
            let parsed = record.and_then(json::parse::<Object>).map_err(|flaw| vec![flaw]);
            let row = RawRow {
                file: name.clone(),
                line,
                outcome: Ok(Vec::new()),
                remarks: Vec::new(),
                in_other_rows: false,
            };
            batch.push(match parsed {
                Err(flaws) => RawRow { outcome: Err(flaws), ..row },
                Ok(object) => match tools::row(&object) {
                    Some(judgement) => judgements.judgement_row(&judgement, &tables, row),
                    None => judgements.trace_row(object, &tables, &mut groups, file.split, &context, row),
                },
            });
            if batch.len() < BATCH { Ok(()) } else { into.rows(std::mem::take(&mut batch)) }
        })?;
        into.rows(batch)?;
        notes.remarks().for_each(|(remark, times)| into.remark(remark, times));
    }
    Ok(())
}

impl Tables {
    fn read(files: &[HashedFile]) -> Result<Self, DataError> {
        let mut tables = Self::default();
        for file in files {
            file.for_each_record(None, &mut |_, record| {
                let Ok(object) = record.and_then(json::parse::<Object>) else { return Ok(()) };
                match tools::row(&object) {
                    Some(JudgementRow { target, group: Some(group), judgement }) => {
                        tables.comparisons.entry(target).or_default().push((group, judgement));
                    }
                    Some(JudgementRow { target, group: None, judgement }) => {
                        tables.by_trace.entry(target).or_default().push(judgement);
                    }
                    None => tables.traces.extend(tools::id(&object).map(str::to_owned)),
                }
                Ok(())
            })?;
        }
        Ok(tables)
    }
}

impl Judgements {
    /// Returns the row of a judgement, whose text is in the row of its trace.
    fn judgement_row(&self, row: &JudgementRow, tables: &Tables, raw: RawRow) -> RawRow {
        let JudgementRow { target, group, judgement } = row;
        let mut remarks = Vec::new();
        let usable = if group.is_some() {
            let reason = self.reason(judgement);
            remarks.extend(reason.map(Remark::Filtered));
            Ok(reason.is_none())
        } else {
            let judged = self.judge(std::slice::from_ref(judgement), &mut remarks);
            judged.map(|judged| !matches!(judged, super::policy::Judged::Nothing))
        };
        match usable {
            Err(flaw) => RawRow { outcome: Err(vec![flaw]), ..raw },
            Ok(false) => RawRow { remarks, ..raw },
            Ok(true) if tables.traces.contains(target) => RawRow { in_other_rows: true, ..raw },
            Ok(true) => {
                let detail = "no trace has the id that was judged; read its table too (`join`)".to_owned();
                RawRow { outcome: Err(vec![Flaw { reason: RejectReason::MissingField, detail }]), ..raw }
            }
        }
    }

    /// Returns the reason why a judgement of a comparison does not count.
    fn reason(&self, judgement: &Judgement) -> Option<&'static str> {
        if !self.names.contains(&judgement.name) {
            Some("other_judgement")
        } else if judgement.by_machine && !self.machines {
            Some("machine_judgement")
        } else {
            judgement.unanswered.or_else(|| judgement.value.is_null().then_some("no_judgement"))
        }
    }

    /// Returns the row of a trace with the groups that its judgements give.
    fn trace_row(
        &self,
        object: Object,
        tables: &Tables,
        groups: &mut HashMap<String, Vec<Compared>>,
        split: Option<Split>,
        context: &SourceContext<'_>,
        raw: RawRow,
    ) -> RawRow {
        let id = tools::id(&object).unwrap_or_default().to_owned();
        let comparisons = tables.comparisons.get(&id).map_or(&[][..], Vec::as_slice);
        let comparisons: Vec<_> = comparisons.iter().filter(|(_, one)| self.reason(one).is_none()).collect();
        let (mut drafts, mut remarks, mut log) = (Vec::new(), Vec::new(), RecordLog::default());
        let mut used = false;
        if !comparisons.is_empty() {
            used = true;
            match self.compared_trace(&object, &comparisons, groups) {
                Ok((found, noted)) => {
                    drafts.extend(found);
                    remarks.extend(noted);
                }
                Err(flaw) => return RawRow { outcome: Err(vec![flaw]), ..raw },
            }
        }
        let judged = tables.by_trace.get(&id).filter(|_| self.meaning != Meaning::Verdict);
        if let Some(judged) = judged {
            match self.draft(object, judged) {
                Ok((found, noted, logged)) => {
                    drafts.extend(found);
                    remarks.extend(noted);
                    log = logged;
                }
                Err(flaws) => return RawRow { outcome: Err(flaws), ..raw },
            }
        }
        let log = log.entry(&context.salt);
        let group = |draft: Draft| RawGroup { log, ..draft.group(split, context) };
        let mut found: Vec<RawGroup> = drafts.into_iter().map(group).collect();
        if context.keep_domains(&mut found) {
            remarks.push(Remark::Filtered("other_domain"));
        }
        RawRow { outcome: Ok(found), remarks, in_other_rows: used, ..raw }
    }

    /// Adds a trace to the comparisons that it is part of, and returns the pairs with those before.
    fn compared_trace(
        &self,
        object: &Object,
        comparisons: &[&(String, Judgement)],
        groups: &mut HashMap<String, Vec<Compared>>,
    ) -> Result<(Vec<Draft>, Vec<Remark>), Flaw> {
        let (prompt, completion) = texts::prompt_and_completion(&self.columns, object, true)?;
        let completion = match completion {
            Ok(completion) => completion,
            Err(why) => return Ok((Vec::new(), vec![Remark::Filtered(why)])),
        };
        let (mut drafts, mut remarks) = (Vec::new(), Vec::new());
        for (group, judgement) in comparisons {
            let truth = judgement.value.as_bool().map(|truth| f64::from(u8::from(truth)));
            let number = numbers::number(&judgement.value).or(truth).ok_or_else(|| Flaw {
                reason: RejectReason::WrongType,
                detail: format!("`{}` of a comparison is no number", judgement.name),
            })?;
            let group = groups.entry(group.clone()).or_default();
            for other in group.iter() {
                if other.prompt != prompt {
                    let detail = "the compared traces have different prompts".to_owned();
                    return Err(Flaw { reason: RejectReason::UnequalPrompts, detail });
                }
                let (better, worse) = match number.partial_cmp(&other.number) {
                    Some(std::cmp::Ordering::Greater) => (&completion, &other.completion),
                    Some(std::cmp::Ordering::Less) => (&other.completion, &completion),
                    _ => {
                        remarks.push(Remark::Filtered("tie"));
                        continue;
                    }
                };
                let draft = Draft {
                    domain: None,
                    prompt: prompt.clone(),
                    completions: vec![better.clone(), worse.clone()],
                    pairs: vec![(0, 1)],
                };
                if let Some(flaw) = draft.flaws().pop() {
                    return Err(flaw);
                }
                drafts.push(draft);
            }
            group.push(Compared { prompt: prompt.clone(), completion: completion.clone(), number });
        }
        Ok((drafts, remarks))
    }
}
