//! Two completions of one prompt and which of them is better: arenas, PKU-SafeRLHF, HelpSteer,
//! summaries, WebGPT, and tables of the user's own.
//!
//! Each side is a completion, or a conversation that contains the prompt. From the second turn on,
//! the sides of an arena have different contexts; such a record is rejected (`unequal_prompts`),
//! since its last replies answer different prompts.

mod better;
pub(crate) mod layouts;

use serde::Serialize;
use serde_json::{Value, json};

pub use better::{Better, BothBad, OneHot, Side, first_score};
pub(crate) use better::{Outcome, Verdict};

use crate::ingest::{
    raw::{Flaw, RawCompletion, RejectReason, Remark},
    sources::{
        columns::{Columns, FoundValue, RecordField, completion, split_last},
        embedded,
        json::{self, Object, wrong_type},
        numbers,
        pairs::sides,
        per_record::{Draft, Parsed, RecordFormat, SourceRecord},
        record_log::RecordLog,
        thumb_words::ThumbWords,
        turns::turns,
    },
};

/// Format of comparisons, with the names of columns and the meaning of verdicts.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ComparisonsFormat {
    pub(crate) columns: Columns,
    pub(crate) better: Better,
    pub(crate) both_bad: BothBad,
    /// Words for the labels of single sides.
    #[serde(skip_serializing_if = "ThumbWords::is_empty")]
    pub(crate) words: ThumbWords,
}

impl RecordFormat for ComparisonsFormat {
    fn columns(&self) -> Option<Vec<String>> {
        let names = self.columns.names().into_iter();
        Some(
            names
                .chain(self.better.columns())
                .chain([layouts::INFO, layouts::VOTE].map(str::to_owned))
                .collect(),
        )
    }

    fn parse(&self, record: &SourceRecord<'_>) -> Parsed {
        let (mut object, mut remarks) = match embedded::parse(record.bytes, &self.columns) {
            Ok(parsed) => parsed,
            Err(flaw) => return Parsed::rejected(vec![flaw]),
        };
        if layouts::is_later_vote(&object) {
            return Parsed::filtered("after_an_earlier_vote");
        }
        layouts::restore_prompt(&mut object);
        let verdict = match self.better.read(&object, &self.columns) {
            Ok(verdict) => verdict,
            Err(flaw) => return Parsed::rejected(vec![flaw]),
        };
        let log = RecordLog::read(&self.columns, &object);
        let alone = [RecordField::LabelFirst, RecordField::LabelSecond]
            .iter()
            .any(|field| self.columns.find(&object, *field).is_some());
        let outcome = verdict.outcome;
        let bad = outcome == Outcome::BothBad && self.both_bad == BothBad::Undesirable;
        if bad {
            return both_undesirable(&self.columns, &object).logged(log).noting(remarks);
        }
        if let Some(why) = outcome.no_pair() {
            if !alone {
                return Parsed::filtered(why);
            }
            remarks.push(Remark::Filtered(why));
        }
        Parsed::from(self.draft(&object, &verdict)).logged(log).noting(remarks)
    }
}

impl ComparisonsFormat {
    fn draft(&self, record: &Object, verdict: &Verdict) -> Result<Draft, Flaw> {
        let Self { columns, words, .. } = self;
        let (first, second) = two_sides(columns, record)?;
        let turns = Turns::find(columns, record, first, second)?;
        let (prompt, mut first, mut second) = match &turns {
            None => sides(columns, record, first, second)?,
            Some(Turns { first: one, second: other }) => sides(
                &Columns::default(),
                &Object::default(),
                FoundValue { name: first.name, value: one },
                FoundValue { name: second.name, value: other },
            )?,
        };
        for (side, score, label) in [
            (&mut first, RecordField::ScoreFirst, RecordField::LabelFirst),
            (&mut second, RecordField::ScoreSecond, RecordField::LabelSecond),
        ] {
            side.score = columns.score(record, score)?;
            side.label =
                columns.find(record, label).map_or(Ok(None), |found| Ok(words.read(found)?.label))?;
        }
        if let Some(margin) = verdict.margin {
            let (better, worse) = if verdict.outcome == Outcome::Second {
                (&mut second, &mut first)
            } else {
                (&mut first, &mut second)
            };
            (better.score, worse.score) = (Some(margin), Some(0.0));
        }
        let pairs = match verdict.outcome {
            Outcome::First => vec![(0, 1)],
            Outcome::Second => vec![(1, 0)],
            _ => Vec::new(),
        };
        Ok(Draft { domain: columns.domain(record)?, prompt, completions: vec![first, second], pairs })
    }
}

fn two_sides<'a>(columns: &'a Columns, record: &'a Object) -> Result<(FoundValue<'a>, FoundValue<'a>), Flaw> {
    Ok((columns.need(record, RecordField::First)?, columns.need(record, RecordField::Second)?))
}

/// Reads both sides as undesirable; their contexts may differ.
fn both_undesirable(columns: &Columns, record: &Object) -> Parsed {
    let side = |found: FoundValue<'_>| -> Result<Draft, Flaw> {
        let prompt = columns.prompt(record)?;
        let (prompt, judged) = if let Some(prompt) = prompt {
            let completion = completion(found, &prompt)?;
            (prompt, completion)
        } else {
            let (prompt, last) = split_last(found.name, turns(found.name, found.value, "assistant")?)?;
            (prompt, RawCompletion { messages: vec![last], score: None, label: None })
        };
        let completions = vec![RawCompletion { label: Some(false), ..judged }];
        Ok(Draft { domain: columns.domain(record)?, prompt, completions, pairs: Vec::new() })
    };
    let drafts = two_sides(columns, record).and_then(|(first, second)| Ok([side(first)?, side(second)?]));
    match drafts {
        Err(flaw) => Parsed::rejected(vec![flaw]),
        Ok([first, second]) => {
            let flaws: Vec<Flaw> = first.flaws().into_iter().chain(second.flaws()).collect();
            if !flaws.is_empty() {
                return Parsed::rejected(flaws);
            }
            let remarks = first.remarks().into_iter().chain(second.remarks()).collect();
            if first.prompt == second.prompt {
                let Draft { domain, prompt, mut completions, pairs } = first;
                completions.extend(second.completions);
                let draft = Draft { domain, prompt, completions, pairs };
                return Parsed { drafts: Ok(vec![draft]), remarks, log: RecordLog::default() };
            }
            Parsed { drafts: Ok(vec![first, second]), remarks, log: RecordLog::default() }
        }
    }
}

/// Conversations of both sides, in records that list the user's turns and each side's replies.
struct Turns {
    first: Value,
    second: Value,
}

impl Turns {
    /// Returns the conversations if prompt and sides are lists of texts with one item a turn.
    fn find(
        columns: &Columns,
        record: &Object,
        first: FoundValue<'_>,
        second: FoundValue<'_>,
    ) -> Result<Option<Self>, Flaw> {
        let Some(prompt) = columns.find(record, RecordField::Prompt) else { return Ok(None) };
        let [prompt, one, other] = [prompt, first, second].map(|found| (found, texts(found.value)));
        let (Some(users), Some(ones), Some(others)) = (&prompt.1, &one.1, &other.1) else {
            let all = [&prompt, &one, &other];
            if all.iter().all(|(_, texts)| texts.is_none()) {
                return Ok(None);
            }
            // A list that cannot be read must not become a text with brackets.
            let broken = all.iter().find(|(_, texts)| texts.is_none());
            let name = broken.map_or("", |(found, _)| found.name);
            let detail = format!("`{name}` is no list of texts, but prompt or sides are");
            return Err(Flaw { reason: RejectReason::TurnsAsText, detail });
        };
        if users.len() != ones.len() || users.len() != others.len() {
            let detail = format!("{} prompts with {} and {} replies", users.len(), ones.len(), others.len());
            return Err(Flaw { reason: RejectReason::BadValue, detail });
        }
        let conversation = |replies: &[String]| -> Value {
            let turn = |role: &str, text: &String| json!({ "role": role, "content": text });
            users
                .iter()
                .zip(replies)
                .flat_map(|(user, reply)| [turn("user", user), turn("assistant", reply)])
                .collect()
        };
        Ok(Some(Self { first: conversation(ones), second: conversation(others) }))
    }
}

/// Returns the texts of a list, which may be JSON in a text; nulls are empty.
fn texts(value: &Value) -> Option<Vec<String>> {
    let parsed;
    let list = match value {
        Value::Array(list) => list,
        Value::String(text) if text.trim_start().starts_with('[') => {
            parsed = json::value(text)?;
            parsed.as_array()?
        }
        _ => return None,
    };
    let text = |item: &Value| match item {
        Value::String(text) => Some(text.clone()),
        Value::Null => Some(String::new()),
        _ => None,
    };
    (!list.is_empty()).then(|| list.iter().map(text).collect()).flatten()
}

/// Returns a number of a verdict.
fn number(found: FoundValue<'_>) -> Result<f64, Flaw> {
    numbers::number(found.value).ok_or_else(|| wrong_type(found.name, found.value, "a finite number"))
}
