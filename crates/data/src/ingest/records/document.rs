//! JSON documents whose top level is an object: one record, records in pandas' orientations, or an
//! array with something around it.
//!
//! | form | example |
//! |---|---|
//! | by column | `{"prompt": {"0": "a", "1": "b"}, …}` (pandas' default) |
//! | by row | `{"0": {"prompt": "a", …}, …}` (`orient="index"`) |
//! | split | `{"columns": […], "index": […], "data": [[…], …]}` |
//! | lists | `{"prompt": ["a", "b"], …}` |
//! | wrapped | `{"info": …, "rows": [{…}, …]}`, also `orient="table"` |
//!
//! The whole document is held in memory.

use std::io::{self, BufRead, Read};

use serde_json::{Map, Value};

use crate::{
    DataError,
    ingest::{
        records::{MAX_RECORD_BYTES, RecordHandler, lines::too_long, text::InputText},
        sources::json::{self, Object},
    },
};

/// Contents of a file that begins with a brace.
pub(super) enum Form {
    /// Records of one document, and the form that they had; None for a single record.
    Records(Option<&'static str>),
    /// JSON Lines: nothing has been passed on.
    Lines,
}

/// Largest document that is read.
const MOST: u64 = 1 << 30;

/// Calls `each` for the records of a document, unless the text is JSON Lines.
pub(super) fn read(text: &mut InputText, each: &mut RecordHandler<'_>) -> Result<Form, DataError> {
    let mut start = Vec::new();
    while start.trim_ascii().is_empty() {
        if text.line(&mut start, MAX_RECORD_BYTES)? == 0 {
            return Ok(Form::Lines);
        }
    }
    let whole = is_whole(&start);
    if whole && text.first_visible_byte()?.is_some() {
        return Ok(Form::Lines);
    }
    let path = text.path().to_owned();
    let mut document = start;
    if !whole {
        // After a damaged line, the next one is whole; within a document, no line is.
        let first = document.len();
        while document[first..].trim_ascii().is_empty() && text.line(&mut document, MAX_RECORD_BYTES)? > 0 {}
        if json::parse::<Object>(&document[first..]).is_ok() {
            return Ok(Form::Lines);
        }
        let mut rest = TextReader { text, left: MOST };
        if let Err(error) = rest.read_to_end(&mut document) {
            let message = format!("cannot read the document: {error}");
            return Err(DataError::Table { file: path, message });
        }
    }
    let Ok(document) = json::parse::<Object>(&document) else { return Ok(Form::Lines) };
    let (form, records) = match records(document) {
        Ok(records) => records,
        Err(message) => return Err(DataError::Table { file: path, message }),
    };
    for (number, record) in records.into_iter().enumerate() {
        let line = Value::Object(record).to_string();
        let record = if line.len() > MAX_RECORD_BYTES { Err(too_long()) } else { Ok(line.as_bytes()) };
        each(number + 1, record)?;
    }
    Ok(Form::Records(form))
}

fn is_whole(line: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok()
}

/// Reader of the rest of a text.
struct TextReader<'a> {
    text: &'a mut InputText,
    left: u64,
}

impl Read for TextReader<'_> {
    fn read(&mut self, mut buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.text.peek().map_err(io::Error::other)?;
        let count = bytes.len().min(buffer.len());
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::other(format!("it is longer than {} MiB; write it as JSON Lines", MOST >> 20))
        })?;
        let mut bytes = &bytes[..count];
        io::Write::write_all(&mut buffer, bytes)?;
        bytes.consume(count);
        self.text.consume(count);
        Ok(count)
    }
}

type Records = (Option<&'static str>, Vec<Map<String, Value>>);

fn records(Object(document): Object) -> Result<Records, String> {
    let values = || document.values();
    let rows = |key: &str| document.get(key).and_then(Value::as_array);
    if let (Some(columns), Some(data)) = (rows("columns"), rows("data"))
        && data.iter().all(Value::is_array)
    {
        return split(columns, data).map(|rows| (Some("pandas_split"), rows));
    }
    if document.contains_key("schema")
        && let Some(list) = rows("data").and_then(|list| objects(list))
    {
        return Ok((Some("pandas_table"), list));
    }
    if document.len() > 1 && values().all(Value::is_array) {
        let lists: Vec<&Vec<Value>> = values().filter_map(Value::as_array).collect();
        let length = lists.first().map_or(0, |list| list.len());
        // Two conversations of one length are a record, not a table.
        let turns = lists.iter().any(|list| list.iter().any(is_turn));
        if !turns && length > 0 && lists.iter().all(|list| list.len() == length) {
            let row = |index: usize| {
                let cells = document.iter().filter_map(|(name, list)| Some((name, list.get(index)?)));
                cells.map(|(name, cell)| (name.clone(), cell.clone())).collect()
            };
            return Ok((Some("lists_by_column"), (0..length).map(row).collect()));
        }
    }
    if let Some(records) = nested(&document)? {
        return Ok(records);
    }
    if let Some(list) = wrapped(&document) {
        return Ok((Some("wrapped_array"), list));
    }
    Ok((None, vec![document]))
}

fn is_turn(value: &Value) -> bool {
    value.get("role").is_some() || value.get("from").is_some() && value.get("value").is_some()
}

fn objects(list: &[Value]) -> Option<Vec<Map<String, Value>>> {
    list.iter().map(|value| value.as_object().cloned()).collect()
}

fn split(columns: &[Value], data: &[Value]) -> Result<Vec<Map<String, Value>>, String> {
    let names: Option<Vec<&str>> = columns.iter().map(Value::as_str).collect();
    let names = names.ok_or("the names of the columns are not all texts; name the columns")?;
    let row = |cells: &Value| {
        let cells = cells.as_array().filter(|cells| cells.len() == names.len());
        let cells = cells.ok_or_else(|| format!("a row has not {} cells, as the header has", names.len()))?;
        Ok(names.iter().map(|name| (*name).to_owned()).zip(cells.iter().cloned()).collect())
    };
    data.iter().map(row).collect()
}

/// Returns the rows of an object of objects that all have the same keys.
fn nested(document: &Map<String, Value>) -> Result<Option<Records>, String> {
    let inner: Option<Vec<&Map<String, Value>>> = document.values().map(Value::as_object).collect();
    let Some(inner) = inner.filter(|inner| !inner.is_empty()) else { return Ok(None) };
    let same = |one: &Map<String, Value>| {
        one.len() == inner[0].len() && one.keys().all(|key| inner[0].contains_key(key))
    };
    let turns = document.values().any(is_turn);
    if turns || inner[0].is_empty() || !inner.iter().all(|one| same(one)) {
        return Ok(None);
    }
    let numbered = |mut keys: serde_json::map::Keys<'_>| keys.all(|key| key.parse::<i64>().is_ok());
    match (numbered(document.keys()), numbered(inner[0].keys())) {
        (true, false) => {
            Ok(Some((Some("pandas_index"), inner.into_iter().cloned().collect())))
        }
        (false, true) => {
            let row = |index: &String| {
                let cells = document.iter().filter_map(|(name, cells)| Some((name, cells.get(index)?)));
                cells.map(|(name, cell)| (name.clone(), cell.clone())).collect()
            };
            Ok(Some((Some("pandas_columns"), inner[0].keys().map(row).collect())))
        }
        (true, true) => Err("a table without names of columns; write it with `orient=\"records\"`".to_owned()),
        // A record of objects, or a table whose index has names.
        (false, false) if inner.len() > 1 => Err(
            "an object of objects with the same keys: a table by column or by row whose index is no number; write it \
             with `orient=\"records\"`"
                .to_owned(),
        ),
        (false, false) => Ok(None),
    }
}

/// Keys of a record, which may hold a list of objects as one of its fields.
const OF_RECORDS: [&str; 16] = [
    "prompt",
    "instruction",
    "question",
    "input",
    "inputs",
    "chosen",
    "rejected",
    "completion",
    "completions",
    "label",
    "conversationId",
    "conversation_id",
    "mapping",
    "message_tree_id",
    "message_id",
    "run_id",
];

/// Returns the only list of objects in a document, if it is no field of a record.
fn wrapped(document: &Map<String, Value>) -> Option<Vec<Map<String, Value>>> {
    if OF_RECORDS.iter().any(|key| document.contains_key(*key)) {
        return None;
    }
    let mut lists =
        document.values().filter_map(|value| objects(value.as_array()?)).filter(|list| !list.is_empty());
    let (list, other) = (lists.next()?, lists.next());
    let turns = list.iter().all(|record| record.len() < 2 || is_turn(&Value::Object(record.clone())));
    (other.is_none() && !turns).then_some(list)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::ingest::records::{FileNotes, tests::records};

    fn read(text: &str) -> (Vec<Value>, Option<&'static str>) {
        let (rows, notes) = records("a.json", text.as_bytes()).unwrap();
        (
            rows.into_iter().map(|(_, row)| serde_json::from_str(&row.unwrap()).unwrap()).collect(),
            notes.document,
        )
    }

    #[test]
    fn every_orientation_of_pandas_is_a_table() {
        let rows = [json!({"p": "a", "n": 1}), json!({"p": "b", "n": null})];
        for (document, form) in [
            (json!({"p": {"0": "a", "1": "b"}, "n": {"0": 1, "1": null}}), "pandas_columns"),
            (json!({"0": rows[0], "1": rows[1]}), "pandas_index"),
            (
                json!({"columns": ["p", "n"], "index": [0, 1], "data": [["a", 1], ["b", null]]}),
                "pandas_split",
            ),
            (json!({"schema": {"fields": []}, "data": rows}), "pandas_table"),
            (json!({"p": ["a", "b"], "n": [1, null]}), "lists_by_column"),
            (json!({"info": {"total": 2}, "rows": rows}), "wrapped_array"),
            (json!({"rows": rows}), "wrapped_array"),
        ] {
            for text in [document.to_string(), serde_json::to_string_pretty(&document).unwrap()] {
                assert_eq!(read(&text), (rows.to_vec(), Some(form)), "{text}");
            }
        }
    }

    #[test]
    fn a_record_of_its_own_is_no_table() {
        let turn = |role: &str| json!({"role": role, "content": "x"});
        for record in [
            json!({"prompt": "p", "completion": "c", "label": true}),
            json!({"chosen": [turn("user"), turn("assistant")], "rejected": [turn("user"), turn("assistant")]}),
            json!({"messages": [turn("user"), turn("assistant")], "label": true}),
            json!({"messages": [turn("user"), turn("assistant")]}),
            json!({"instruction": "p", "completions": [{"text": "a", "score": 1}, {"text": "b", "score": 2}]}),
            json!({"conversationId": "c", "messages": [{"messageId": "1", "text": "a"}]}),
            json!({"data": {"rating": 1}, "meta": {"id": 1}}),
            json!({"chosen": turn("assistant"), "rejected": turn("assistant")}),
            json!({"conversations": [{"from": "human", "value": "a"}]}),
        ] {
            assert_eq!(read(&record.to_string()), (vec![record.clone()], None));
            assert_eq!(read(&serde_json::to_string_pretty(&record).unwrap()), (vec![record], None));
        }
    }

    #[test]
    fn lines_stay_lines_even_if_the_first_is_damaged() {
        let (rows, notes) = records("a.json", b"\n{\"a\": 1}\n\n{\"a\": 2}\n").unwrap();
        let lines: Vec<usize> = rows.iter().map(|(line, _)| *line).collect();
        assert_eq!((lines, notes), (vec![2, 4], FileNotes { blank_lines: 2, ..FileNotes::default() }));
        let (rows, _) = records("a.json", b"{\"a\": \n{\"a\": 2}\n").unwrap();
        assert_eq!(rows.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 2]);
        assert!(records("a.json", b"{").unwrap().0.len() == 1);
    }

    #[test]
    fn tables_without_names_are_errors() {
        for (text, message) in [
            (r#"{"0": {"0": "a"}, "1": {"0": "b"}}"#, "without names of columns"),
            (r#"{"x": {"p": "a"}, "y": {"p": "b"}}"#, "whose index is no number"),
            (r#"{"columns": ["a", "b"], "data": [[1]]}"#, "a row has not 2 cells"),
            (r#"{"columns": [0, 1], "data": [[1, 2]]}"#, "not all texts"),
        ] {
            let error = records("a.json", text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
