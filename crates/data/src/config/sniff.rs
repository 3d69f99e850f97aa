//! Detects the kind of a source from its first records.

use std::io;

use serde_json::Value;

use crate::{
    DataError,
    config::source_kind::SourceKind,
    ingest::{
        records,
        sources::{
            Columns, RecordField, chats,
            comparisons::layouts::Layout,
            files::HashedFile,
            json::{self, Object},
            judgements, scores,
        },
    },
};

/// Records examined before giving up.
const LOOKED_AT: usize = 1024;

/// Columns that tell a kind, besides those that a recipe may map.
const TELLING: [&str; 6] = ["history", "human_ref_A", "message_tree_id", "message_id", "text", "role"];

/// Kind of a file, and how it was recognised.
pub(crate) struct Detected {
    pub(crate) kind: SourceKind,
    /// Name of the set or tool, if it is a known one.
    pub(crate) name: Option<&'static str>,
    /// Layout of a known set of comparisons.
    pub(crate) layout: Option<&'static Layout>,
    /// Keys that it was recognised by.
    pub(crate) found: String,
}

impl Detected {
    /// Returns the kind without more.
    pub(crate) fn new(kind: SourceKind) -> Self {
        Self { kind, name: None, layout: None, found: String::new() }
    }
}

/// Returns the kind of a file, and the keys it was recognised by.
pub(crate) fn sniff(file: &HashedFile, columns: &Columns) -> Result<Detected, DataError> {
    let (mut kind, mut seen, mut found) = (None, 0, "it is empty".to_owned());
    let mut names: Vec<String> = Vec::new();
    let known = known_columns(file, columns)?;
    let read = file.for_each_record(known.as_deref(), &mut |_, record| {
        seen += 1;
        match record.and_then(json::parse::<Object>) {
            Ok(object) => {
                names = object.0.keys().cloned().collect();
                found = format!("keys {}", names.join(", "));
                kind = judge(&object, columns);
            }
            Err(flaw) => found = flaw.detail,
        }
        // Only an error stops the reader early; it is discarded if the kind is known.
        if kind.is_some() || seen == LOOKED_AT { Err(io::Error::other("enough").into()) } else { Ok(()) }
    });
    match (kind, read) {
        (Some(detected), _) => Ok(Detected { found, ..detected }),
        (None, Err(error)) if seen < LOOKED_AT => Err(error),
        _ => {
            // Of a parquet file, only the known columns were read.
            if let Some(all) = records::column_names(&file.path)?.filter(|_| seen > 0) {
                found = format!("keys {}", all.join(", "));
                names = all;
            }
            Err(DataError::UnknownKind { file: file.path.clone(), found, columns: names })
        }
    }
}

/// Returns the columns of a columnar file that may tell its kind: the known ones, or all if it is
/// the export of a tool, whose columns have names of their own.
fn known_columns(file: &HashedFile, columns: &Columns) -> Result<Option<Vec<String>>, DataError> {
    let names = records::column_names(&file.path)?.unwrap_or_default();
    let is_export = |name: &String| {
        name.ends_with(".responses")
            || name.ends_with("-suggestion")
            || ["bookmarked", "traceId", "run_type", "run_id", "op_name", "snapshot"].contains(&name.as_str())
    };
    if names.iter().any(is_export) {
        return Ok(None);
    }
    let telling = TELLING.into_iter().chain(Layout::telling()).map(str::to_owned);
    Ok(Some(columns.names().into_iter().chain(telling).collect()))
}

fn judge(object: &Object, columns: &Columns) -> Option<Detected> {
    if let Some(name) = chats::application(object) {
        return Some(Detected { name: Some(name), ..Detected::new(SourceKind::Chats) });
    }
    // Mapped columns take precedence over the places where a tool has its judgements.
    let mapped = [RecordField::Label, RecordField::Score, RecordField::Chosen];
    if let Some(tool) =
        judgements::tool(object).filter(|_| mapped.iter().all(|field| columns.mapping(*field).is_none()))
    {
        let detected = Detected::new(SourceKind::Judgements);
        return Some(Detected { name: Some(tool.into()), ..detected });
    }
    own(object, columns).map(Detected::new).or_else(|| {
        let layout = Layout::find(object)?;
        let detected = Detected::new(SourceKind::Comparisons);
        Some(Detected { name: Some(layout.name), layout: Some(layout), ..detected })
    })
}

/// Returns the kind of a record of the user's own, or of a set whose kind is named after it.
fn own(object: &Object, columns: &Columns) -> Option<SourceKind> {
    let key = |key: &str| object.0.get(key);
    let has = |field| columns.find(object, field).is_some();
    if key("history").is_some() && key("human_ref_A").is_some() {
        return Some(SourceKind::Shp);
    }
    let tree = key("message_tree_id").is_some() && key("prompt").is_some_and(Value::is_object);
    if tree || (key("message_id").is_some() && key("text").is_some() && key("role").is_some()) {
        return Some(SourceKind::Oasst);
    }
    if has(RecordField::First) && has(RecordField::Second) {
        return Some(SourceKind::Comparisons);
    }
    if has(RecordField::Rejected) && (has(RecordField::Chosen) || has(RecordField::Conversation)) {
        let transcript = |key: &str| {
            object.0.get(key).and_then(Value::as_str).is_some_and(|text| text.contains("\n\nAssistant:"))
        };
        let hh = !has(RecordField::Prompt)
            && !has(RecordField::Conversation)
            && transcript("chosen")
            && transcript("rejected");
        return Some(if hh { SourceKind::Hh } else { SourceKind::Pairs });
    }
    if has(RecordField::Completions) && Layout::find(object).is_none() {
        let ranked = scores::are_ranked(columns, object);
        return Some(if ranked { SourceKind::Ranks } else { SourceKind::Scores });
    }
    // In a log, most rows may have no judgement.
    let label = has(RecordField::Label) || columns.is_null(object, RecordField::Label);
    let judged = has(RecordField::Completion) || has(RecordField::Conversation);
    match (judged, label, has(RecordField::Score)) {
        (true, true, _) => Some(SourceKind::Labels),
        (true, false, true) => Some(SourceKind::Scores),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ingest::{records::FileFormat, sources::files};

    #[test]
    fn each_kind_is_told_by_its_keys() {
        for (record, kind) in [
            (
                json!({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}),
                Some(SourceKind::Hh),
            ),
            (json!({"prompt": "p", "chosen": "\n\nAssistant: b", "rejected": "c"}), Some(SourceKind::Pairs)),
            (
                json!({"history": "h", "human_ref_A": "a", "human_ref_B": "b", "labels": 1}),
                Some(SourceKind::Shp),
            ),
            (json!({"message_id": "m", "text": "t", "role": "prompter"}), Some(SourceKind::Oasst)),
            (json!({"message_tree_id": "m", "prompt": {}}), Some(SourceKind::Oasst)),
            (json!({"prompt": "p", "completion": "c", "label": true}), Some(SourceKind::Labels)),
            (json!({"messages": [], "label": true}), Some(SourceKind::Labels)),
            (json!({"prompt": "p", "completion": "c", "label": null}), Some(SourceKind::Labels)),
            (json!({"prompt": "p", "completion": "c", "score": 1}), Some(SourceKind::Scores)),
            (json!({"instruction": "p", "completions": []}), Some(SourceKind::Scores)),
            (json!({"prompt": "p", "completion": "c"}), None),
        ] {
            let Value::Object(map) = record.clone() else { panic!() };
            let found = judge(&Object(map), &Columns::default()).map(|detected| detected.kind);
            assert_eq!(found, kind, "{record}");
        }
    }

    #[test]
    fn a_file_that_tells_nothing_is_an_error_with_its_keys() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let sniff = || {
            let files = files::find("", file.path(), FileFormat::default(), |_, _| true).unwrap().files;
            super::sniff(&files[0], &Columns::default())
        };
        for (text, found) in
            [("{\"a\": 1, \"b\": 2}\n", "keys a, b"), ("", "it is empty"), ("hello\n", "expected value")]
        {
            fs_err::write(file.path(), text).unwrap();
            let error = sniff().err().unwrap().to_string();
            assert!(error.contains(found) && error.contains("source.kind"), "{error}");
        }
    }
}
