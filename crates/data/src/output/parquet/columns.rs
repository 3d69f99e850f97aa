//! Typed columns: Arrow fields, arrays from values, and values from a batch.

use std::{path::Path, sync::Arc};

use arrow_array::{
    Array, ArrayRef, BooleanArray, Float64Array, ListArray, RecordBatch, StringArray, StructArray,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType, Field, Fields};

use crate::{DataError, Message};

/// Field of a non-null string column.
pub(crate) fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

/// Field of a nullable string column.
pub(crate) fn optional_text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

/// Field of a non-null boolean column.
pub(crate) fn flag(name: &str) -> Field {
    Field::new(name, DataType::Boolean, false)
}

/// Field of a nullable number column.
pub(crate) fn optional_number(name: &str) -> Field {
    Field::new(name, DataType::Float64, true)
}

/// Field of a non-null list of `{role, content}`.
pub(crate) fn messages(name: &str) -> Field {
    Field::new_list(name, message_field(), false)
}

fn message_fields() -> Fields {
    vec![text("role"), text("content")].into()
}

fn message_field() -> Field {
    Field::new_struct("element", message_fields(), false)
}

/// Converts strings to an array.
pub(crate) fn text_array(values: impl Iterator<Item = impl AsRef<str>>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

/// Converts nullable strings to an array.
pub(crate) fn optional_text_array(values: impl Iterator<Item = Option<impl AsRef<str>>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

/// Converts conversations to an array.
pub(crate) fn message_array<'a>(
    values: impl Iterator<Item = &'a [Message]> + Clone,
) -> Result<ArrayRef, ArrowError> {
    let offsets = OffsetBuffer::from_lengths(values.clone().map(<[Message]>::len));
    let roles = text_array(values.clone().flatten().map(|message| message.role.as_str()));
    let contents = text_array(values.flatten().map(|message| message.content.as_str()));
    let turns = StructArray::try_new(message_fields(), vec![roles, contents], None)?;
    Ok(Arc::new(ListArray::try_new(Arc::new(message_field()), offsets, Arc::new(turns), None)?))
}

/// Columns of a batch, by name. Their types must have been checked against the schema.
pub(crate) struct ColumnReader<'a> {
    pub(crate) file: &'a Path,
    pub(crate) batch: &'a RecordBatch,
}

impl ColumnReader<'_> {
    fn array<T: 'static>(&self, name: &str) -> Result<&T, DataError> {
        self.batch
            .column_by_name(name)
            .and_then(|array| array.as_any().downcast_ref())
            .ok_or_else(|| DataError::column(self.file, name, "has an unexpected type"))
    }

    /// Collects non-null values; fails at a null.
    fn non_null<T>(&self, name: &str, values: impl Iterator<Item = Option<T>>) -> Result<Vec<T>, DataError> {
        values.collect::<Option<_>>().ok_or_else(|| DataError::column(self.file, name, "holds nulls"))
    }

    /// Reads a column of strings.
    pub(crate) fn text(&self, name: &str) -> Result<Vec<String>, DataError> {
        self.non_null(name, self.optional_text(name)?.into_iter())
    }

    /// Reads a column of nullable strings.
    pub(crate) fn optional_text(&self, name: &str) -> Result<Vec<Option<String>>, DataError> {
        Ok(self.array::<StringArray>(name)?.iter().map(|value| value.map(str::to_owned)).collect())
    }

    /// Reads a column of nullable strings that older or other files lack: nulls.
    pub(crate) fn optional_column(&self, name: &str) -> Result<Vec<Option<String>>, DataError> {
        match self.batch.column_by_name(name) {
            Some(_) => self.optional_text(name),
            None => Ok(vec![None; self.batch.num_rows()]),
        }
    }

    /// Reads a column of booleans.
    pub(crate) fn flags(&self, name: &str) -> Result<Vec<bool>, DataError> {
        self.non_null(name, self.array::<BooleanArray>(name)?.iter())
    }

    /// Reads a column of numbers.
    pub(crate) fn numbers(&self, name: &str) -> Result<Vec<f64>, DataError> {
        self.non_null(name, self.array::<Float64Array>(name)?.iter())
    }

    /// Reads a column of nullable numbers.
    pub(crate) fn optional_numbers(&self, name: &str) -> Result<Vec<Option<f64>>, DataError> {
        Ok(self.array::<Float64Array>(name)?.iter().collect())
    }

    /// Reads a column of conversations.
    pub(crate) fn messages(&self, name: &str) -> Result<Vec<Vec<Message>>, DataError> {
        let wrong = || DataError::column(self.file, name, "is not a list of {role, content}");
        let list = self.non_null(name, self.array::<ListArray>(name)?.iter())?;
        list.iter()
            .map(|turns| {
                let turns = turns.as_any().downcast_ref::<StructArray>().ok_or_else(wrong)?;
                let field = |field| {
                    turns
                        .column_by_name(field)
                        .and_then(|array| array.as_any().downcast_ref::<StringArray>())
                        .ok_or_else(wrong)
                };
                let turn = |(role, content): (Option<&str>, Option<&str>)| {
                    Some(Message { role: role?.to_owned(), content: content?.to_owned() })
                };
                self.non_null(name, field("role")?.iter().zip(field("content")?.iter()).map(turn))
            })
            .collect()
    }
}
