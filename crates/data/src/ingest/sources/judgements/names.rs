//! Names of the judgements in the files of a source, with how often people and models gave them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{ANY, tools};
use crate::{
    DataError,
    ingest::sources::{
        files::HashedFile,
        json::{self, Object},
        numbers,
        thumb_words::spelling,
    },
};

/// Judgements with one name.
#[derive(Debug, Default)]
pub(crate) struct NamedCounts {
    pub(crate) by_people: u64,
    pub(crate) by_machines: u64,
    /// Different answers of people that are texts, at most [`MOST`].
    pub(crate) texts: BTreeSet<String>,
    /// Names of text columns in the records.
    pub(crate) columns: BTreeSet<String>,
    /// True if an answer is a number that is no thumb.
    pub(crate) graded: bool,
}

/// Different answers that are kept.
const MOST: usize = 16;

/// Tables of a source, by what their records are.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct TableKinds {
    /// A table holds judgements of records in another.
    pub(crate) judgements: bool,
    /// A table holds texts.
    pub(crate) texts: bool,
}

/// Looks at the first records of each file.
pub(crate) fn rows(files: &[HashedFile]) -> Result<TableKinds, DataError> {
    /// Records of a file that are looked at.
    const FIRST: usize = 64;
    let mut kinds = TableKinds::default();
    for file in files {
        let mut seen = 0;
        let read = file.for_each_record(None, &mut |_, record| {
            seen += 1;
            if let Some(tool) = record.and_then(json::parse::<Object>).ok().as_ref().and_then(tools::tool) {
                kinds.judgements |= tool.is_row();
                kinds.texts |= !tool.is_row();
            }
            if seen == FIRST { Err(std::io::Error::other("enough").into()) } else { Ok(()) }
        });
        if seen < FIRST {
            read?;
        }
    }
    Ok(kinds)
}

/// Counts the judgements of all files by name.
pub(crate) fn count_names(files: &[HashedFile]) -> Result<BTreeMap<String, NamedCounts>, DataError> {
    let mut names: BTreeMap<String, NamedCounts> = BTreeMap::new();
    for file in files {
        file.for_each_record(None, &mut |_, record| {
            let Ok(record) = record.and_then(json::parse::<Object>) else { return Ok(()) };
            let row = tools::row(&record).map(|row| row.judgement);
            for judgement in tools::judgements(&record).into_iter().chain(row) {
                if judgement.name == ANY {
                    continue;
                }
                let counts = names.entry(judgement.name).or_default();
                if judgement.by_machine {
                    counts.by_machines += 1;
                    continue;
                }
                counts.by_people += u64::from(judgement.unanswered.is_none() && !judgement.value.is_null());
                if counts.texts.len() < MOST {
                    counts.texts.extend(judgement.value.as_str().map(str::to_owned));
                }
                let number = numbers::number(&judgement.value);
                counts.graded |= number.is_some_and(|number| ![-1.0, 0.0, 1.0].contains(&number));
                if counts.columns.is_empty() {
                    let flat = tools::flat(record.clone());
                    let is_turns =
                        |value: &Value| value.get(0).is_some_and(|turn| turn.get("content").is_some());
                    let texts = flat.0.iter().filter(|(_, value)| value.is_string() || is_turns(value));
                    counts.columns = texts.map(|(name, _)| name.clone()).collect();
                }
            }
            Ok(())
        })?;
    }
    Ok(names)
}

/// Returns the two sides of a comparison: the columns of the record that the answers name.
pub(crate) fn two_sides(counts: &NamedCounts) -> Option<[&str; 2]> {
    let mut sides = counts.texts.iter().filter(|text| counts.columns.contains(*text));
    match (sides.next(), sides.next(), sides.next()) {
        (Some(first), Some(second), None) => Some([first, second]),
        _ => None,
    }
}

/// Returns true if the answers name sides, not thumbs.
pub(crate) fn is_verdict(counts: &NamedCounts) -> bool {
    let side =
        |text: &String| matches!(spelling(&Value::String(text.clone())).as_deref(), Some("left" | "right"));
    counts.texts.iter().any(side) || two_sides(counts).is_some()
}
