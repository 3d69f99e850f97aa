//! Answer of a query, and writing it as text, CSV, JSON lines and parquet.

use std::{borrow::Cow, path::Path, sync::Arc};

use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{Field, Schema};
use polars::{
    error::PolarsResult,
    prelude::{AnyValue, Column, DataFrame, DataType},
};
use prospect_core::visible::{spreadsheet_safe, visible};
use serde_json::{Map, Value};

use crate::{QueryError, Table, parquet_file::write_batches};

/// Result of a query: named columns of equal length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    columns: Vec<(String, Values)>,
    rows: usize,
}

/// Values of a column.
#[derive(Debug, Clone, PartialEq)]
enum Values {
    Text(Vec<Option<String>>),
    Integer(Vec<Option<i64>>),
    Number(Vec<Option<f64>>),
    Boolean(Vec<Option<bool>>),
    /// Lists and structures.
    Nested(Vec<Value>),
}

/// Maximum number of characters of a text in a table for people.
const CELL_CHARACTERS: usize = 60;

impl Answer {
    /// Converts a frame.
    pub(crate) fn of_frame(frame: &DataFrame) -> PolarsResult<Self> {
        let column = |column: &Column| Ok((column.name().to_string(), Values::of_column(column)?));
        Ok(Self {
            columns: frame.columns().iter().map(column).collect::<PolarsResult<_>>()?,
            rows: frame.height(),
        })
    }

    /// Describes tables, with one row for each column.
    pub(crate) fn of_tables(tables: &[Table]) -> Self {
        let columns: Vec<_> =
            tables.iter().flat_map(|table| table.columns.iter().map(move |column| (table, column))).collect();
        let texts = |text: fn(&Table, &crate::Column) -> String| {
            Values::Text(columns.iter().map(|(table, column)| Some(text(table, column))).collect())
        };
        let nullable = columns.iter().map(|(_, column)| Some(column.is_nullable)).collect();
        let described = [
            ("table", texts(|table, _| table.name.to_owned())),
            ("column", texts(|_, column| column.name.clone())),
            ("type", texts(|_, column| column.column_type.to_string())),
            ("nullable", Values::Boolean(nullable)),
            ("meaning", texts(|_, column| column.meaning.clone())),
        ];
        Self {
            columns: described.map(|(name, values)| (name.to_owned(), values)).into(),
            rows: columns.len(),
        }
    }

    /// Values of a column of texts, without missing ones.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        match self.column(name) {
            Some(Values::Text(values)) => values.iter().flatten().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// Values of a column of integers, without missing ones.
    pub(crate) fn integers(&self, name: &str) -> Vec<i64> {
        match self.column(name) {
            Some(Values::Integer(values)) => values.iter().flatten().copied().collect(),
            _ => Vec::new(),
        }
    }

    /// Values of a column of numbers, without missing ones.
    pub(crate) fn numbers(&self, name: &str) -> Vec<f64> {
        match self.column(name) {
            Some(Values::Number(values)) => values.iter().flatten().copied().collect(),
            _ => Vec::new(),
        }
    }

    /// Values of a column of booleans, without missing ones.
    pub(crate) fn booleans(&self, name: &str) -> Vec<bool> {
        match self.column(name) {
            Some(Values::Boolean(values)) => values.iter().flatten().copied().collect(),
            _ => Vec::new(),
        }
    }

    fn column(&self, name: &str) -> Option<&Values> {
        self.columns.iter().find(|(column, _)| column == name).map(|(_, values)| values)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the answer as a table for people.
    ///
    /// Texts are cut to 60 characters, numbers to 6 digits, and control characters are escaped.
    pub fn table(&self) -> String {
        let head = |(name, _): &(String, Values)| cell(name);
        let heads: Vec<String> = self.columns.iter().map(head).collect();
        let rows =
            (0..self.rows).map(|row| self.columns.iter().map(|(_, values)| values.shown(row)).collect());
        let lines: Vec<Vec<String>> = std::iter::once(heads).chain(rows).collect();
        let width = |column: usize| {
            lines
                .iter()
                .filter_map(|line| line.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |cells: &Vec<String>| {
            let cells = cells.iter().zip(&self.columns).zip(&widths);
            let padded = cells.map(|((cell, (_, values)), width)| match values {
                Values::Integer(_) | Values::Number(_) => format!("{cell:>width$}"),
                _ => format!("{cell:<width$}"),
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        lines.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Returns the answer as CSV with a line of names. Missing values are empty. Texts that a
    /// spreadsheet would run as formulas begin with an apostrophe ([`spreadsheet_safe`]).
    pub fn csv(&self) -> Result<String, QueryError> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let failed = |error: csv::Error| QueryError::Io(error.into());
        let names = self.columns.iter().map(|(name, _)| spreadsheet_safe(name).into_owned());
        writer.write_record(names).map_err(failed)?;
        for row in 0..self.rows {
            let cells = self.columns.iter().map(|(_, values)| values.text(row).unwrap_or_default());
            let safe = cells.map(|cell| spreadsheet_safe(&cell).into_owned());
            writer.write_record(safe).map_err(failed)?;
        }
        let bytes = writer.into_inner().map_err(|error| QueryError::Io(error.into_error()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Returns the answer as JSON, one object per line. Missing values are null.
    pub fn json_lines(&self) -> String {
        let object = |row: usize| -> Map<String, Value> {
            self.columns.iter().map(|(name, values)| (name.clone(), values.json(row))).collect()
        };
        (0..self.rows).map(|row| Value::Object(object(row)).to_string() + "\n").collect()
    }

    /// Writes the answer as a parquet file, atomically. Lists and structures become JSON texts.
    pub fn write_parquet(&self, file: &Path) -> Result<(), QueryError> {
        let arrays: Vec<ArrayRef> = self.columns.iter().map(|(_, values)| values.array()).collect();
        let named = self.columns.iter().zip(&arrays);
        let field = |((name, _), array): (&(String, Values), &ArrayRef)| {
            Field::new(name, array.data_type().clone(), array.null_count() > 0)
        };
        let schema = Arc::new(Schema::new(named.map(field).collect::<Vec<_>>()));
        write_batches(file, Arc::clone(&schema), &[RecordBatch::try_new(schema, arrays)?])
    }
}

impl Values {
    fn of_column(column: &Column) -> PolarsResult<Self> {
        let dtype = column.dtype();
        Ok(match dtype {
            DataType::Boolean => Self::Boolean(column.bool()?.iter().collect()),
            DataType::String => {
                Self::Text(column.str()?.iter().map(|text| text.map(str::to_owned)).collect())
            }
            DataType::Null => Self::Text(vec![None; column.len()]),
            _ if dtype.is_integer() => {
                Self::Integer(column.strict_cast(&DataType::Int64)?.i64()?.iter().collect())
            }
            _ if dtype.is_float() => {
                Self::Number(column.strict_cast(&DataType::Float64)?.f64()?.iter().collect())
            }
            DataType::List(_) | DataType::Array(..) | DataType::Struct(_) => {
                let values = (0..column.len()).map(|row| column.get(row).map(|value| nested(&value)));
                Self::Nested(values.collect::<PolarsResult<_>>()?)
            }
            _ => {
                let text = |row| {
                    let value = column.get(row)?;
                    Ok((!value.is_null()).then(|| value.str_value().into_owned()))
                };
                Self::Text((0..column.len()).map(text).collect::<PolarsResult<_>>()?)
            }
        })
    }

    /// Returns a value as text; None if it is missing.
    fn text(&self, row: usize) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(values) => values.get(row)?.as_deref().map(Cow::Borrowed),
            Self::Integer(values) => values.get(row)?.map(|value| value.to_string().into()),
            Self::Number(values) => values.get(row)?.map(|value| value.to_string().into()),
            Self::Boolean(values) => values.get(row)?.map(|value| value.to_string().into()),
            Self::Nested(values) => {
                values.get(row).filter(|value| !value.is_null()).map(|v| v.to_string().into())
            }
        }
    }

    /// Returns a value as a cell of a table for people.
    fn shown(&self, row: usize) -> String {
        match self {
            Self::Number(values) => values.get(row).copied().flatten().map_or_else(|| "–".to_owned(), digits),
            _ => self.text(row).map_or_else(|| "–".to_owned(), |text| cell(&text)),
        }
    }

    fn json(&self, row: usize) -> Value {
        match self {
            Self::Text(values) => values.get(row).cloned().flatten().into(),
            Self::Integer(values) => values.get(row).copied().flatten().into(),
            Self::Number(values) => values.get(row).copied().flatten().into(),
            Self::Boolean(values) => values.get(row).copied().flatten().into(),
            Self::Nested(values) => values.get(row).cloned().unwrap_or_default(),
        }
    }

    fn array(&self) -> ArrayRef {
        match self {
            Self::Text(values) => Arc::new(values.iter().map(Option::as_deref).collect::<StringArray>()),
            Self::Integer(values) => Arc::new(values.iter().copied().collect::<Int64Array>()),
            Self::Number(values) => Arc::new(values.iter().copied().collect::<Float64Array>()),
            Self::Boolean(values) => Arc::new(values.iter().copied().collect::<BooleanArray>()),
            Self::Nested(values) => {
                let text = |value: &Value| (!value.is_null()).then(|| value.to_string());
                Arc::new(values.iter().map(text).collect::<StringArray>())
            }
        }
    }
}

/// Returns a text in one line, cut and without characters that a terminal obeys.
fn cell(text: &str) -> String {
    let line = text.replace("\r\n", "\n").replace('\n', "↵").replace('\t', " ");
    let shown = visible(&line);
    match shown.char_indices().nth(CELL_CHARACTERS) {
        Some((end, _)) => format!("{}…", shown.get(..end).unwrap_or_default()),
        None => shown.into_owned(),
    }
}

/// Formats a number with at most 6 significant digits.
fn digits(value: f64) -> String {
    let exponent = value.abs().log10().floor();
    if value == 0.0 || !value.is_finite() {
        value.to_string()
    } else if (-4.0..15.0).contains(&exponent) {
        let decimals = (5.0 - exponent).max(0.0) as usize;
        let fixed = format!("{value:.decimals$}");
        if fixed.contains('.') { fixed.trim_end_matches('0').trim_end_matches('.').to_owned() } else { fixed }
    } else {
        format!("{value:.5e}")
    }
}

/// Converts a nested value.
fn nested(value: &AnyValue<'_>) -> Value {
    match value {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(flag) => (*flag).into(),
        AnyValue::List(series) | AnyValue::Array(series, _) => {
            series.iter().map(|item| nested(&item)).collect()
        }
        AnyValue::Struct(_, _, fields) => {
            let named = fields.iter().zip(value._iter_struct_av());
            Value::Object(named.map(|(field, value)| (field.name().to_string(), nested(&value))).collect())
        }
        other if other.is_integer() => other.try_extract::<i64>().map_or(Value::Null, Value::from),
        other if other.is_float() => other.try_extract::<f64>().map_or(Value::Null, Value::from),
        other => other.str_value().into_owned().into(),
    }
}
