//! Detects the kind of a source from its first records.

use std::io;

use serde_json::Value;

use crate::{
    DataError,
    config::source_kind::SourceKind,
    ingest::{
        records,
        sources::{
            Columns, RecordField,
            files::HashedFile,
            json::{self, Object},
        },
    },
};

/// Records examined before giving up.
const LOOKED_AT: usize = 1024;

/// Columns that tell a kind, besides those that a recipe may map.
const TELLING: [&str; 6] = ["history", "human_ref_A", "message_tree_id", "message_id", "text", "role"];

/// Returns the kind of a file, and the keys it was recognised by.
pub(crate) fn sniff(file: &HashedFile, columns: &Columns) -> Result<(SourceKind, String), DataError> {
    let (mut kind, mut seen, mut found) = (None, 0, "it is empty".to_owned());
    let known: Vec<String> = columns.names().into_iter().chain(TELLING.map(str::to_owned)).collect();
    let read = file.for_each_record(Some(&known), &mut |_, record| {
        seen += 1;
        match record.and_then(json::parse::<Object>) {
            Ok(object) => {
                let keys: Vec<&str> = object.0.keys().map(String::as_str).collect();
                found = format!("keys {}", keys.join(", "));
                kind = judge(&object, columns);
            }
            Err(flaw) => found = flaw.detail,
        }
        // Only an error stops the reader early; it is discarded if the kind is known.
        if kind.is_some() || seen == LOOKED_AT { Err(io::Error::other("enough").into()) } else { Ok(()) }
    });
    match (kind, read) {
        (Some(kind), _) => Ok((kind, found)),
        (None, Err(error)) if seen < LOOKED_AT => Err(error),
        _ => {
            // Of a parquet file, only the known columns were read.
            if let Some(names) = records::column_names(&file.path)?.filter(|_| seen > 0) {
                found = format!("keys {}", names.join(", "));
            }
            Err(DataError::UnknownKind { file: file.path.clone(), found })
        }
    }
}

fn judge(object: &Object, columns: &Columns) -> Option<SourceKind> {
    let key = |key: &str| object.0.get(key);
    let has = |field| columns.find(object, field).is_some();
    if key("history").is_some() && key("human_ref_A").is_some() {
        return Some(SourceKind::Shp);
    }
    let tree = key("message_tree_id").is_some() && key("prompt").is_some_and(Value::is_object);
    if tree || (key("message_id").is_some() && key("text").is_some() && key("role").is_some()) {
        return Some(SourceKind::Oasst);
    }
    if has(RecordField::Chosen) && has(RecordField::Rejected) {
        let transcript = |key: &str| {
            object.0.get(key).and_then(Value::as_str).is_some_and(|text| text.contains("\n\nAssistant:"))
        };
        let hh = !has(RecordField::Prompt)
            && !has(RecordField::Conversation)
            && transcript("chosen")
            && transcript("rejected");
        return Some(if hh { SourceKind::Hh } else { SourceKind::Pairs });
    }
    if has(RecordField::Completions) {
        return Some(SourceKind::Scores);
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
            assert_eq!(judge(&Object(map), &Columns::default()), kind, "{record}");
        }
    }

    #[test]
    fn a_file_that_tells_nothing_is_an_error_with_its_keys() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let sniff = || {
            let files = files::find("", file.path(), FileFormat::default(), |_| true).unwrap().files;
            super::sniff(&files[0], &Columns::default())
        };
        for (text, found) in
            [("{\"a\": 1, \"b\": 2}\n", "keys a, b"), ("", "it is empty"), ("hello\n", "expected value")]
        {
            fs_err::write(file.path(), text).unwrap();
            let error = sniff().unwrap_err().to_string();
            assert!(error.contains(found) && error.contains("source.kind"), "{error}");
        }
    }
}
