//! The same four thumbs in every container: two up, two down.

use std::{io::Write, sync::Arc};

use arrow_array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int64Array, LargeStringArray, ListArray,
    NullArray, RecordBatch, StringArray, StringViewArray, StructArray,
    types::{Int8Type, Int32Type},
};
use arrow_buffer::OffsetBuffer;
use arrow_ipc::{
    CompressionType,
    writer::{FileWriter, IpcWriteOptions, StreamWriter},
};
use arrow_schema::{DataType, Field};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use serde_json::{Value, json};

use super::{Numbers, count, numbers};
use crate::ingest::sources::tests::{collect, read};

const PROMPTS: [&str; 4] = ["Sea?", "Why, \"sir\"?", "Two\nlines; or more", "Café?"];
const REPLIES: [&str; 4] = ["Wet.", "So; thus.", "“Yes”", "Oui, à côté"];
const LABELS: [bool; 4] = [true, false, true, false];

/// Counts of all four, and of three with one label missing.
fn all() -> Numbers {
    numbers(2, 2, 0, "")
}

fn without_one() -> Numbers {
    numbers(2, 1, 0, "no_judgement")
}

fn record(index: usize) -> Value {
    json!({"prompt": PROMPTS[index], "completion": REPLIES[index], "label": LABELS[index]})
}

fn records() -> Vec<Value> {
    (0..4).map(record).collect()
}

fn json_lines() -> String {
    records().iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
}

/// Checks that a file gives the labels and texts.
fn check(name: &str, content: &[u8], expected: &Numbers) {
    let found = read("{}", name, content);
    assert_eq!(count(&found), *expected, "{name}");
    for group in &found.groups {
        let prompt = PROMPTS.iter().position(|prompt| *prompt == group.prompt[0].content);
        let reply = REPLIES.iter().position(|reply| *reply == group.completions[0].messages[0].content);
        assert!(prompt.is_some() && prompt == reply, "{name}: {group:?}");
    }
}

#[test]
fn compressed_lines() {
    check("rows.jsonl", json_lines().as_bytes(), &all());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(json_lines().as_bytes()).unwrap();
    check("rows.jsonl.gz", &gzip.finish().unwrap(), &all());
    check("rows.jsonl.zst", &zstd::encode_all(json_lines().as_bytes(), 3).unwrap(), &all());
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
    bzip2.write_all(json_lines().as_bytes()).unwrap();
    check("rows.jsonl.bz2", &bzip2.finish().unwrap(), &all());
}

#[test]
fn json_documents() {
    let table = |value: &dyn Fn(&str) -> Value| json!({"prompt": value("prompt"), "completion": value("completion"), "label": value("label")});
    let column = |name: &str| records().iter().map(|record| record[name].clone()).collect::<Vec<_>>();
    let by_index = |name: &str| {
        let cells = column(name).into_iter().enumerate().map(|(index, cell)| (index.to_string(), cell));
        Value::Object(cells.collect())
    };
    let rows = records().into_iter().enumerate();
    let index: serde_json::Map<String, Value> = rows.map(|(index, row)| (index.to_string(), row)).collect();
    let cells: Vec<Value> =
        records().iter().map(|row| json!([row["prompt"], row["completion"], row["label"]])).collect();
    let split = json!({"columns": ["prompt", "completion", "label"], "index": [0, 1, 2, 3], "data": cells});
    let schema = json!({"schema": {"fields": [], "pandas_version": "1.4.0"}, "data": records()});
    for (name, document) in [
        ("records", Value::from(records())),
        ("columns", table(&by_index)),
        ("index", index.into()),
        ("split", split),
        ("table", schema),
        ("lists", table(&|name| column(name).into())),
        ("wrapped", json!({"exported": "today", "feedback": records()})),
    ] {
        check(&format!("{name}.json"), document.to_string().as_bytes(), &all());
        check(&format!("{name}.json"), serde_json::to_string_pretty(&document).unwrap().as_bytes(), &all());
    }
}

/// A table with this delimiter, and labels as pandas writes them.
fn table(delimiter: char, label: impl Fn(usize) -> String) -> String {
    let cell = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let mut text = ["", "prompt", "completion", "label"].join(&delimiter.to_string()) + "\r\n";
    for index in 0..4 {
        let cells = [index.to_string(), cell(PROMPTS[index]), cell(REPLIES[index]), label(index)];
        text += &(cells.join(&delimiter.to_string()) + "\r\n");
    }
    text
}

#[test]
fn tables_of_spreadsheets_and_pandas() {
    let words = |index: usize| if LABELS[index] { "True".to_owned() } else { "False".to_owned() };
    check("index.csv", table(',', words).as_bytes(), &all());
    check("bom.csv", format!("\u{feff}{}", table(',', words)).as_bytes(), &all());
    // Windows-1252: curly quotes are 0x93 and 0x94, and accents have their numbers in Unicode.
    let excel = table(';', words);
    let western = excel.chars().map(|letter| match letter {
        '“' => 0x93,
        '”' => 0x94,
        letter => u8::try_from(u32::from(letter)).unwrap(),
    });
    check("excel.csv", &western.collect::<Vec<u8>>(), &all());
    let utf16: Vec<u8> =
        format!("\u{feff}{}", table('\t', words)).encode_utf16().flat_map(u16::to_le_bytes).collect();
    check("excel.txt", &utf16, &all());
    let floats = |index: usize| match index {
        3 => String::new(),
        _ => f64::from(u8::from(LABELS[index])).to_string() + ".0",
    };
    check("floats.csv", table(',', floats).as_bytes(), &without_one());
}

fn texts<A: From<Vec<&'static str>>>(texts: [&'static str; 4]) -> A {
    A::from(texts.to_vec())
}

fn batch(columns: [(&str, ArrayRef); 3]) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

fn plain() -> RecordBatch {
    let [prompts, replies] = [PROMPTS, REPLIES].map(|side| Arc::new(texts::<StringArray>(side)) as ArrayRef);
    batch([
        ("prompt", prompts),
        ("completion", replies),
        ("label", Arc::new(BooleanArray::from(LABELS.to_vec()))),
    ])
}

fn parquet_file(batch: &RecordBatch) -> Vec<u8> {
    let properties =
        WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn parquet_with_the_types_of_other_writers() {
    check("plain.parquet", &parquet_file(&plain()), &all());
    let columns = |prompts: ArrayRef, replies: ArrayRef, labels: ArrayRef| {
        batch([("prompt", prompts), ("completion", replies), ("label", labels)])
    };
    let labels = || Arc::new(BooleanArray::from(LABELS.to_vec())) as ArrayRef;
    let large = [PROMPTS, REPLIES].map(|side| Arc::new(texts::<LargeStringArray>(side)) as ArrayRef);
    let views = [PROMPTS, REPLIES].map(|side| Arc::new(texts::<StringViewArray>(side)) as ArrayRef);
    let dictionaries = [PROMPTS, REPLIES]
        .map(|side| Arc::new(side.into_iter().collect::<DictionaryArray<Int32Type>>()) as ArrayRef);
    for (name, [prompts, replies]) in [("large", large), ("views", views), ("dictionaries", dictionaries)] {
        check(&format!("{name}.parquet"), &parquet_file(&columns(prompts, replies, labels())), &all());
    }
    let [prompts, replies] = [PROMPTS, REPLIES].map(|side| Arc::new(texts::<StringArray>(side)) as ArrayRef);
    let words: DictionaryArray<Int8Type> =
        LABELS.iter().map(|label| if *label { "good" } else { "bad" }).collect();
    let categories = columns(prompts.clone(), replies.clone(), Arc::new(words));
    check("category.parquet", &parquet_file(&categories), &all());
    let missing = Float64Array::from(vec![1.0, 0.0, 1.0, f64::NAN]);
    check("nan.parquet", &parquet_file(&columns(prompts, replies, Arc::new(missing))), &without_one());
}

/// A column of conversations with one turn each.
fn turns(role: &str, contents: [&'static str; 4]) -> ArrayRef {
    let fields = ["role", "content"].map(|name| Arc::new(Field::new(name, DataType::Utf8, false)));
    let columns: Vec<ArrayRef> =
        vec![Arc::new(StringArray::from(vec![role; 4])), Arc::new(texts::<StringArray>(contents))];
    let structs = StructArray::new(fields.to_vec().into(), columns, None);
    let item = Arc::new(Field::new("item", structs.data_type().clone(), true));
    Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([1; 4]), Arc::new(structs), None))
}

#[test]
fn parquet_with_lists_of_turns_an_empty_column_and_an_index() {
    let labels: ArrayRef = Arc::new(BooleanArray::from(LABELS.to_vec()));
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("prompt", turns("user", PROMPTS), false),
        ("completion", turns("assistant", REPLIES), false),
        ("label", labels, false),
        ("score", Arc::new(NullArray::new(4)) as ArrayRef, true),
        ("__index_level_0__", Arc::new(Int64Array::from(vec![7, 3, 9, 1])) as ArrayRef, false),
    ]);
    check("turns.parquet", &parquet_file(&batch.unwrap()), &all());
}

fn arrow_stream(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn arrow_files_streams_and_saved_datasets() {
    let batch = plain();
    for (name, compression) in [("file.arrow", None), ("lz4.feather", Some(CompressionType::LZ4_FRAME))] {
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        let mut writer = FileWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
        writer.write(&batch).unwrap();
        check(name, &writer.into_inner().unwrap(), &all());
    }
    check("stream.arrow", &arrow_stream(&batch), &all());
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, content: &[u8]| {
        let path = folder.path().join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, content).unwrap();
    };
    write("dataset_dict.json", br#"{"splits": ["train", "test"]}"#);
    for (split, start) in [("train", 0), ("test", 2)] {
        let file = "data-00000-of-00001.arrow";
        write(&format!("{split}/{file}"), &arrow_stream(&batch.slice(start, 2)));
        // Left over from an earlier run.
        write(&format!("{split}/data-00000-of-00002.arrow"), &arrow_stream(&batch));
        write(&format!("{split}/dataset_info.json"), br#"{"features": {}}"#);
        write(
            &format!("{split}/state.json"),
            json!({"_data_files": [{"filename": file}]}).to_string().as_bytes(),
        );
    }
    let found = collect("{}", folder.path());
    assert_eq!(count(&found), all());
    let splits: Vec<_> = found.groups.iter().filter_map(|group| group.split).collect();
    assert_eq!(splits.iter().filter(|split| **split == crate::Split::Test).count(), 2);
}
