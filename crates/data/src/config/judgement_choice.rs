//! Choice of the judgement to learn from, among those that the files of a source hold.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DataError,
    ingest::sources::{
        Better, BothBad, Columns, RecordField, Several, SourceFormat, ThumbWords,
        files::HashedFile,
        judgements::{self, Judgements, Meaning, NamedCounts},
    },
};

/// Name of a judgement, or several names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Names {
    /// None is given.
    #[default]
    Unset,
    /// One name.
    One(String),
    /// Several names.
    Many(Vec<String>),
}

impl Names {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::Unset
    }

    fn into_vec(self) -> Vec<String> {
        match self {
            Self::Unset => Vec::new(),
            Self::One(name) => vec![name],
            Self::Many(names) => names,
        }
    }
}

/// Settings of a source of judgements, before its files have been looked at.
pub(crate) struct Choice {
    pub(crate) names: Names,
    pub(crate) columns: Columns,
    pub(crate) several: Several,
    pub(crate) machines: bool,
    pub(crate) better: Better,
    pub(crate) both_bad: BothBad,
    pub(crate) words: ThumbWords,
    /// True if scores become labels.
    pub(crate) scored: bool,
}

impl Choice {
    /// Chooses the judgement, and says in `notes` which one and what it was taken for.
    pub(crate) fn resolve(
        self,
        files: &[HashedFile],
        notes: &mut Vec<String>,
    ) -> Result<SourceFormat, DataError> {
        let rows = judgements::rows(files)?;
        if rows.judgements && !rows.texts {
            let message =
                "the file holds judgements without texts; name the table of the traces that they refer to";
            let (key, value) = ("source.join".into(), "not given".to_owned());
            return Err(DataError::Value { key, value, message });
        }
        let found = judgements::count_names(files)?;
        let Self { names, mut columns, several, machines, better, both_bad, words, scored } = self;
        let names = chosen(names.into_vec(), &found, machines)?;
        let counts: Vec<&NamedCounts> = names.iter().filter_map(|name| found.get(name)).collect();
        let sides = |columns: &Columns| {
            [RecordField::First, RecordField::Second].iter().all(|side| columns.mapping(*side).is_some())
        };
        let verdicts = counts.iter().any(|counts| judgements::is_verdict(counts));
        if verdicts && !sides(&columns) {
            let two = counts.iter().find_map(|counts| judgements::two_sides(counts));
            let Some([first, second]) = two else { return Err(unknown_sides(&counts)) };
            notes.push(format!("compared are the columns {first} and {second}, which the answers name"));
            columns = columns.or([(RecordField::First, first), (RecordField::Second, second)]);
        }
        let meaning = if sides(&columns) {
            Meaning::Verdict
        } else if scored {
            Meaning::Score
        } else {
            Meaning::Thumb
        };
        if meaning == Meaning::Thumb && words == ThumbWords::default() && counts.iter().any(|one| one.graded)
        {
            let value = format!("not given, but {} holds numbers other than 1, 0 and -1", names.join(", "));
            let message = "give a rule, for example `{by: threshold, at: 4}`, or `words` for thumbs";
            return Err(DataError::Value { key: "source.binarise".into(), value, message });
        }
        notes.push(format!("judgement {}; in the files: {}", names.join(", "), list(&found)));
        let format = Judgements { columns, names, several, machines, better, both_bad, words, meaning };
        Ok(if rows.judgements { SourceFormat::Joined(format) } else { SourceFormat::Judgements(format) })
    }
}

/// Returns the names that are given, or the only one that people used.
fn chosen(
    names: Vec<String>,
    found: &BTreeMap<String, NamedCounts>,
    machines: bool,
) -> Result<Vec<String>, DataError> {
    let fail =
        |value: String, message| Err(DataError::Value { key: "source.judgement".into(), value, message });
    if let Some(name) = names.iter().find(|name| !found.contains_key(*name)) {
        let value = format!("{name}, and the files have {}", list(found));
        return fail(value, "no judgement has this name; name one of those");
    }
    if !names.is_empty() {
        return Ok(names);
    }
    let counts = |counts: &NamedCounts| counts.by_people + if machines { counts.by_machines } else { 0 };
    let mut used = found.iter().filter(|(_, found)| counts(found) > 0).map(|(name, _)| name.clone());
    match (used.next(), used.next()) {
        (Some(name), None) => Ok(vec![name]),
        (Some(_), Some(_)) => {
            fail(format!("not given, and the files have {}", list(found)), "name the one to learn from")
        }
        (None, _) if found.values().any(|counts| counts.by_machines > 0) => fail(
            format!("not given, and the files have {}", list(found)),
            "only models judged; to learn from them, name one and set `machines: true`",
        ),
        (None, _) => fail(
            "not given".to_owned(),
            "the files hold no judgement; if another table does, name it in `join`",
        ),
    }
}

/// Lists names with counts.
fn list(found: &BTreeMap<String, NamedCounts>) -> String {
    let one = |(name, counts): (&String, &NamedCounts)| {
        let NamedCounts { by_people, by_machines, .. } = counts;
        let machines = if *by_machines > 0 { format!(", {by_machines} by models") } else { String::new() };
        format!("{name} ({by_people} by people{machines})")
    };
    if found.is_empty() { "none".to_owned() } else { found.iter().map(one).collect::<Vec<_>>().join(", ") }
}

fn unknown_sides(counts: &[&NamedCounts]) -> DataError {
    let mut columns: Vec<&str> =
        counts.iter().flat_map(|counts| &counts.columns).map(String::as_str).collect();
    columns.dedup();
    let value = format!("not given, and the text columns are {}", columns.join(", "));
    let message = "the answers say left and right; the project's settings say which column is which, the file does not: \
                   set `columns: {first: LEFT, second: RIGHT}`";
    DataError::Value { key: "source.columns".into(), value, message }
}
