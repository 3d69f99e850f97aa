//! Random damage to files of every kind, in every container: each row is kept, filtered or
//! rejected, or the file is refused; none is swallowed by another.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Collected, resolve_and_read};
use crate::{DataError, ingest::raw::RawGroup};

const KINDS: [&str; 7] = ["hh", "shp", "oasst", "pairs", "labels", "scores", "comparisons"];

/// Container of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Lines,
    Array,
    PrettyArray,
    Csv,
    SemicolonCsv,
    Tsv,
}

const CONTAINERS: [Container; 6] = [
    Container::Lines,
    Container::Array,
    Container::PrettyArray,
    Container::Csv,
    Container::SemicolonCsv,
    Container::Tsv,
];

/// Change to the bytes of a file. Places are fractions of its length.
#[derive(Debug, Clone)]
enum Damage {
    None,
    Cut(f64),
    InsertQuote(f64),
    DoubleQuote(f64),
    RemoveQuote(f64),
    ReplaceByte(f64, u8),
    Western,
    Utf16,
}

fn source(kind: &str) -> String {
    match kind {
        "scores" => "{kind: scores, binarise: {by: threshold, at: 5}}".to_owned(),
        "shp" => "{kind: shp, min_score_ratio: 1}".to_owned(),
        "comparisons" => {
            "{kind: comparisons, columns: {first: one, second: other, better: best}, better: {low: first}}"
                .to_owned()
        }
        _ => format!("{{kind: {kind}}}"),
    }
}

/// Returns the rows of one example; all its texts have the tag `rowN_`.
fn example(kind: &str, number: usize, text: &str) -> Vec<Value> {
    let text = |what: &str| format!("row{number}_ {what} {text} row{number}_");
    match kind {
        "hh" => {
            let side = |answer: &str| format!("\n\nHuman: {}\n\nAssistant: {}", text("ask"), text(answer));
            vec![json!({"chosen": side("good"), "rejected": side("bad")})]
        }
        "shp" => vec![json!({
            "post_id": format!("p{number}"), "history": text("ask"), "human_ref_A": text("good"),
            "human_ref_B": text("bad"), "labels": 1, "score_A": 4, "score_B": 2,
        })],
        "oasst" => {
            let message = |id: &str, parent: &str, role: &str, rank: Value| json!({"message_id": format!("{id}{number}"), "parent_id": parent, "text": text(id), "role": role, "lang": "en", "rank": rank});
            let parent = format!("p{number}");
            vec![
                message("p", "", "prompter", json!(null)),
                message("a", &parent, "assistant", json!(0.0)),
                message("b", &parent, "assistant", json!(1.0)),
            ]
        }
        "pairs" => vec![json!({"prompt": text("ask"), "chosen": text("good"), "rejected": text("bad")})],
        "comparisons" => {
            vec![json!({"prompt": text("ask"), "one": text("good"), "other": text("bad"), "best": -2})]
        }
        "labels" => vec![json!({"prompt": text("ask"), "completion": text("answer"), "label": true})],
        _ => vec![json!({"prompt": text("ask"), "completion": text("answer"), "score": 7})],
    }
}

fn write(rows: &[Map<String, Value>], container: Container) -> (&'static str, String) {
    let lines = |rows: &[Map<String, Value>]| {
        rows.iter().map(|row| Value::Object(row.clone()).to_string()).collect::<Vec<_>>().join("\n")
    };
    match container {
        Container::Lines => ("a.jsonl", lines(rows) + "\n"),
        Container::Array => ("a.json", serde_json::to_string(rows).unwrap()),
        Container::PrettyArray => ("a.json", serde_json::to_string_pretty(rows).unwrap()),
        Container::Csv => ("a.csv", table(rows, ",", true)),
        Container::SemicolonCsv => ("a.csv", table(rows, ";", true)),
        Container::Tsv => ("a.tsv", table(rows, "\t", false)),
    }
}

/// Writes a table; without quotes, white space within fields becomes blanks.
fn table(rows: &[Map<String, Value>], delimiter: &str, quoted: bool) -> String {
    let field = |value: &Value| {
        let text = match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if !quoted {
            return text.replace(['\t', '\n', '\r'], " ");
        }
        let needs_quotes = text.contains([',', ';', '"', '\n', '\r']);
        if needs_quotes { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
    };
    let header = rows[0].keys().cloned().collect::<Vec<_>>().join(delimiter);
    let lines = rows.iter().map(|row| row.values().map(field).collect::<Vec<_>>().join(delimiter));
    std::iter::once(header).chain(lines).map(|line| line + "\n").collect()
}

fn apply(damage: &Damage, text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    // The first byte tells the container.
    let place = |fraction: f64, length: usize| 1 + (fraction * (length - 1) as f64) as usize;
    let quotes: Vec<usize> = (1..bytes.len()).filter(|index| bytes[*index] == b'"').collect();
    let quote = |fraction: f64| quotes.get((fraction * quotes.len() as f64) as usize).copied();
    match damage {
        Damage::None => {}
        Damage::Cut(at) => bytes.truncate(place(*at, bytes.len())),
        Damage::InsertQuote(at) => bytes.insert(place(*at, bytes.len()), b'"'),
        Damage::DoubleQuote(at) => {
            if let Some(index) = quote(*at) {
                bytes.insert(index, b'"');
            }
        }
        Damage::RemoveQuote(at) => {
            if let Some(index) = quote(*at) {
                bytes.remove(index);
            }
        }
        Damage::ReplaceByte(at, byte) => {
            let index = place(*at, bytes.len()).min(bytes.len() - 1);
            bytes[index] = *byte;
        }
        Damage::Western => bytes = text.chars().map(|letter| u8::try_from(letter).unwrap()).collect(),
        Damage::Utf16 => {
            bytes = vec![0xff, 0xfe];
            bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
        }
    }
    bytes
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = || 0.0..1.0f64;
    prop_oneof![
        Just(Damage::None),
        place().prop_map(Damage::Cut),
        place().prop_map(Damage::InsertQuote),
        place().prop_map(Damage::DoubleQuote),
        place().prop_map(Damage::RemoveQuote),
        (place(), proptest::sample::select(b"x\\ \xff".to_vec()))
            .prop_map(|(at, byte)| Damage::ReplaceByte(at, byte)),
        Just(Damage::Western),
        Just(Damage::Utf16),
    ]
}

/// Returns the tags of a group's texts.
fn tags(group: &RawGroup) -> BTreeSet<String> {
    let sides = group.completions.iter().flat_map(|side| &side.messages);
    let texts = group.prompt.iter().chain(sides).map(|turn| turn.content.as_str());
    let words =
        texts.flat_map(|text| text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_'));
    let is_tag = |word: &&str| {
        let number = word.strip_prefix("row").and_then(|word| word.strip_suffix('_'));
        number.is_some_and(|number| number.parse::<usize>().is_ok())
    };
    words.filter(is_tag).map(str::to_owned).collect()
}

fn read_bytes(kind: &str, name: &str, bytes: &[u8]) -> Result<Collected, DataError> {
    resolve_and_read(&source(kind), name, bytes)
}

fn adds_up(read: &Collected) -> bool {
    let counts = &read.counts;
    counts.read == counts.kept + counts.filtered_rows + counts.rejected
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_row_vanishes_in_a_damaged_file(
        kind in proptest::sample::select(KINDS.to_vec()),
        container in proptest::sample::select(CONTAINERS.to_vec()),
        texts in proptest::collection::vec("[a-c,;\"\t\né ]{0,12}", 2..8),
        damage in damage(),
    ) {
        // A TSV has no line breaks, which HH's transcripts need.
        prop_assume!((kind, container) != ("hh", Container::Tsv));
        let rows: Vec<Map<String, Value>> = texts
            .iter()
            .enumerate()
            .flat_map(|(number, text)| example(kind, number, text))
            .map(|row| row.as_object().unwrap().clone())
            .collect();
        let (name, text) = write(&rows, container);
        match read_bytes(kind, name, &apply(&damage, &text)) {
            // A file that is refused is named.
            Err(error) => prop_assert!(error.to_string().contains(name), "{error}"),
            Ok(read) => {
                prop_assert!(adds_up(&read), "{:?}", read.counts);
                for group in &read.groups {
                    prop_assert!(tags(group).len() <= 1, "{group:?}");
                }
                let written = rows.len() as u64;
                match damage {
                    Damage::None | Damage::Utf16 => {
                        prop_assert_eq!((read.counts.read, read.counts.kept), (written, written));
                    }
                    Damage::Western => prop_assert_eq!(read.counts.read, written),
                    // What follows the cut is not in the file.
                    Damage::Cut(_) => {}
                    // A line break or comma that is lost joins two rows.
                    Damage::ReplaceByte(..) => prop_assert!(read.counts.read + 1 >= written, "{:?}", read.counts),
                    _ => prop_assert!(read.counts.read >= written, "{:?}", read.counts),
                }
            }
        }
    }

    #[test]
    fn a_bad_value_costs_only_its_own_row(
        kind in proptest::sample::select(KINDS.to_vec()),
        container in proptest::sample::select(CONTAINERS.to_vec()),
        count in 2usize..6,
        (row, field) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        value in proptest::sample::select(vec![
            json!(null), json!(7), json!(0.5), json!(-1), json!(true), json!([]), json!({}), json!(""), json!([{"role": "user"}]), json!("nan"),
        ]),
    ) {
        prop_assume!((kind, container) != ("hh", Container::Tsv));
        let mut rows: Vec<Map<String, Value>> = (0..count)
            .flat_map(|number| example(kind, number, "text"))
            .map(|row| row.as_object().unwrap().clone())
            .collect();
        let row = row.index(rows.len());
        let name = rows[row].keys().nth(field.index(rows[row].len())).unwrap().clone();
        rows[row].insert(name, value);
        let (name, text) = write(&rows, container);
        let read = read_bytes(kind, name, text.as_bytes()).unwrap();
        prop_assert!(adds_up(&read), "{:?}", read.counts);
        prop_assert_eq!(read.counts.read, rows.len() as u64);
        prop_assert!(read.groups.len() + 1 >= count, "{:?}", read.counts);
        prop_assert!(read.groups.iter().all(|group| tags(group).len() <= 1));
    }
}
