//! Rows of Arrow record batches as JSON objects.
//!
//! The crate arrow-json does this too, but depends on arrow-cast and arrow-ord, which take minutes
//! to compile. This module covers the types that Parquet files hold. Null fields are left out, as
//! in arrow-json.

use arrow_array::{
    Array, ArrowPrimitiveType, GenericListArray, MapArray, OffsetSizeTrait, RecordBatch, StructArray,
    cast::AsArray,
    temporal_conversions::as_datetime,
    types::{
        Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
        DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType,
        Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
        Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
        TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
        UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_schema::{DataType, TimeUnit};
use serde_json::{Map, Value};

/// Returns a row of a batch as an object without its null fields.
pub(super) fn row(batch: &RecordBatch, row: usize) -> Value {
    let schema = batch.schema_ref();
    let names = schema.fields().iter().map(|field| field.name());
    object(names.zip(batch.columns().iter().map(AsRef::as_ref)), row)
}

fn object<'a>(columns: impl Iterator<Item = (&'a String, &'a dyn Array)>, row: usize) -> Value {
    let mut object = Map::new();
    for (name, column) in columns {
        let value = cell(column, row);
        if !value.is_null() {
            object.insert(name.clone(), value);
        }
    }
    Value::Object(object)
}

/// Returns a cell as JSON.
///
/// Dates and timestamps are in ISO 8601, and timestamps with a time zone in UTC. Times of day and
/// durations are integers in their unit, bytes are text if they are UTF-8, decimals are text. Types
/// that Parquet does not store (unions, intervals) are null.
fn cell(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).into(),
        DataType::Utf8View => array.as_string_view().value(row).into(),
        DataType::Int8 => number::<Int8Type>(array, row).into(),
        DataType::Int16 => number::<Int16Type>(array, row).into(),
        DataType::Int32 => number::<Int32Type>(array, row).into(),
        DataType::Int64 => number::<Int64Type>(array, row).into(),
        DataType::UInt8 => number::<UInt8Type>(array, row).into(),
        DataType::UInt16 => number::<UInt16Type>(array, row).into(),
        DataType::UInt32 => number::<UInt32Type>(array, row).into(),
        DataType::UInt64 => number::<UInt64Type>(array, row).into(),
        DataType::Float16 => f64::from(number::<Float16Type>(array, row)).into(),
        DataType::Float32 => shortest(number::<Float32Type>(array, row)),
        DataType::Float64 => number::<Float64Type>(array, row).into(),
        DataType::List(_) => list(array.as_list::<i32>(), row),
        DataType::LargeList(_) => list(array.as_list::<i64>(), row),
        DataType::FixedSizeList(..) => items(array.as_fixed_size_list().value(row).as_ref()),
        DataType::Struct(_) => structure(array.as_struct(), row),
        DataType::Map(..) => map(array.as_map(), row),
        DataType::Dictionary(..) => dictionary(array, row),
        DataType::Binary => binary(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => binary(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => binary(array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => binary(array.as_fixed_size_binary().value(row)),
        DataType::Decimal32(..) => array.as_primitive::<Decimal32Type>().value_as_string(row).into(),
        DataType::Decimal64(..) => array.as_primitive::<Decimal64Type>().value_as_string(row).into(),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(row).into(),
        DataType::Decimal256(..) => array.as_primitive::<Decimal256Type>().value_as_string(row).into(),
        _ => temporal(array, row),
    }
}

fn temporal(array: &dyn Array, row: usize) -> Value {
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    let int = |value: i64| Value::from(value);
    match array.data_type() {
        DataType::Date32 => {
            array.as_primitive::<Date32Type>().value_as_date(row).map(|date| date.to_string()).into()
        }
        DataType::Date64 => instant::<Date64Type>(array, row, ""),
        DataType::Timestamp(unit, zone) => {
            let suffix = if zone.is_some() { "Z" } else { "" };
            match unit {
                Second => instant::<TimestampSecondType>(array, row, suffix),
                Millisecond => instant::<TimestampMillisecondType>(array, row, suffix),
                Microsecond => instant::<TimestampMicrosecondType>(array, row, suffix),
                Nanosecond => instant::<TimestampNanosecondType>(array, row, suffix),
            }
        }
        DataType::Time32(Second) => number::<Time32SecondType>(array, row).into(),
        DataType::Time32(_) => number::<Time32MillisecondType>(array, row).into(),
        DataType::Time64(Microsecond) => int(number::<Time64MicrosecondType>(array, row)),
        DataType::Time64(_) => int(number::<Time64NanosecondType>(array, row)),
        DataType::Duration(Second) => int(number::<DurationSecondType>(array, row)),
        DataType::Duration(Millisecond) => int(number::<DurationMillisecondType>(array, row)),
        DataType::Duration(Microsecond) => int(number::<DurationMicrosecondType>(array, row)),
        DataType::Duration(Nanosecond) => int(number::<DurationNanosecondType>(array, row)),
        _ => Value::Null,
    }
}

fn number<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> T::Native {
    array.as_primitive::<T>().value(row)
}

/// Returns a single-precision number with the digits that identify it (0.1, not 0.10000000149).
fn shortest(x: f32) -> Value {
    x.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// Returns a date with time in ISO 8601.
fn instant<T: ArrowPrimitiveType<Native = i64>>(array: &dyn Array, row: usize, suffix: &str) -> Value {
    as_datetime::<T>(number::<T>(array, row)).map(|time| format!("{time:?}{suffix}")).into()
}

/// Returns bytes as text if they are UTF-8: some writers do not mark columns as text. Other bytes
/// become an object with their number, which no field of feedback accepts.
fn binary(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| serde_json::json!({ "bytes": bytes.len() }), Value::from)
}

fn list<O: OffsetSizeTrait>(array: &GenericListArray<O>, row: usize) -> Value {
    items(array.value(row).as_ref())
}

fn items(items: &dyn Array) -> Value {
    (0..items.len()).map(|index| cell(items, index)).collect()
}

fn structure(array: &StructArray, row: usize) -> Value {
    let names = array.fields().iter().map(|field| field.name());
    object(names.zip(array.columns().iter().map(AsRef::as_ref)), row)
}

/// Returns a map as an object; keys that are not texts are written as JSON.
fn map(array: &MapArray, row: usize) -> Value {
    let entries = array.value(row);
    let (keys, values) = (entries.column(0), entries.column(1));
    let key = |index| match cell(keys.as_ref(), index) {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Value::Object((0..entries.len()).map(|index| (key(index), cell(values.as_ref(), index))).collect())
}

fn dictionary(array: &dyn Array, row: usize) -> Value {
    let dictionary = array.as_any_dictionary();
    let key = cell(dictionary.keys(), row).as_u64();
    key.map_or(Value::Null, |key| cell(dictionary.values().as_ref(), key as usize))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        ArrayRef, Date32Array, Decimal128Array, DictionaryArray, DurationSecondArray, Float32Array,
        Float64Array, Int64Array, ListArray, NullArray, StringArray, StringViewArray,
        TimestampMillisecondArray,
    };
    use serde_json::json;

    use super::*;

    fn first(column: impl Array + 'static) -> Value {
        let column: ArrayRef = Arc::new(column);
        let batch = RecordBatch::try_from_iter_with_nullable([("x", column, true)]).unwrap();
        row(&batch, 0).get("x").cloned().unwrap_or(Value::Null)
    }

    #[test]
    fn cells_of_every_kind_become_json() {
        assert_eq!(first(Int64Array::from(vec![i64::MAX])), json!(i64::MAX));
        assert_eq!(first(Float32Array::from(vec![0.1])), json!(0.1));
        assert_eq!(first(Float64Array::from(vec![1.0])).to_string(), "1.0");
        assert_eq!(first(Float64Array::from(vec![f64::NAN])), Value::Null);
        assert_eq!(first(StringViewArray::from(vec!["a \"b\""])), json!("a \"b\""));
        assert_eq!(first(NullArray::new(1)), Value::Null);
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None])]);
        assert_eq!(first(list), json!([1, null]));
        let words: DictionaryArray<Int8Type> = ["up", "down"].into_iter().collect();
        assert_eq!(first(words), json!("up"));
        assert_eq!(first(Date32Array::from(vec![1])), json!("1970-01-02"));
        let time = TimestampMillisecondArray::from(vec![1500]);
        assert_eq!(first(time.clone()), json!("1970-01-01T00:00:01.500"));
        assert_eq!(first(time.with_timezone("UTC")), json!("1970-01-01T00:00:01.500Z"));
        assert_eq!(first(DurationSecondArray::from(vec![90])), json!(90));
        let price = Decimal128Array::from(vec![1234]).with_precision_and_scale(6, 2).unwrap();
        assert_eq!(first(price), json!("12.34"));
        assert_eq!(first(StringArray::from(vec![None::<&str>])), Value::Null);
    }

    #[test]
    fn fields_of_structures_lose_their_nulls_and_maps_become_objects() {
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("user"), None]));
        let field = |name: &str| Arc::new(arrow_schema::Field::new(name, DataType::Utf8, true));
        let turn = StructArray::from(vec![
            (field("role"), Arc::clone(&names)),
            (field("note"), Arc::new(StringArray::from(vec![None::<&str>, None])) as ArrayRef),
        ]);
        assert_eq!(first(turn), json!({"role": "user"}));
        let mut builder = arrow_array::builder::MapBuilder::new(
            None,
            arrow_array::builder::StringBuilder::new(),
            arrow_array::builder::Int64Builder::new(),
        );
        builder.keys().append_value("k");
        builder.values().append_value(2);
        builder.append(true).unwrap();
        assert_eq!(first(builder.finish()), json!({"k": 2}));
    }
}
