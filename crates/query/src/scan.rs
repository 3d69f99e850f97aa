//! Tables as lazy frames, which read the columns that a query needs.

use std::{any::Any, sync::Arc};

use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use polars::{
    error::{PolarsError, PolarsResult},
    prelude::{
        AnonymousScan, AnonymousScanArgs, Column, DataFrame, DataType, Field, LazyFrame, NamedFrom,
        PlSmallStr, ScanArgsAnonymous, Schema, SchemaRef, Series,
    },
};

use crate::{
    QueryError,
    table::{self, ColumnType, Table},
};

/// Returns a table as a lazy frame.
pub(crate) fn scan(table: &Table) -> PolarsResult<LazyFrame> {
    let arguments = ScanArgsAnonymous { name: table.name, ..ScanArgsAnonymous::default() };
    LazyFrame::anonymous_scan(Arc::new(TableScan(table.clone())), arguments)
}

/// Reads columns of a table.
pub(crate) fn frame(table: &Table, names: &[&str]) -> Result<DataFrame, QueryError> {
    let mut frame = empty(table, names);
    for batch in table.read(&positions(table, names))? {
        append(&mut frame, &batch?)?;
    }
    Ok(frame)
}

/// Reads columns of a table in parts of at least `rows` rows, but for the last.
pub(crate) fn frames(
    table: &Table,
    names: &[&str],
    rows: usize,
    each: &mut dyn FnMut(DataFrame) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    let mut frame = empty(table, names);
    for batch in table.read(&positions(table, names))? {
        append(&mut frame, &batch?)?;
        if frame.height() >= rows {
            each(std::mem::replace(&mut frame, empty(table, names)))?;
        }
    }
    if frame.height() > 0 { each(frame) } else { Ok(()) }
}

fn positions(table: &Table, names: &[&str]) -> Vec<usize> {
    names.iter().filter_map(|name| table.position(name)).collect()
}

fn empty(table: &Table, names: &[&str]) -> DataFrame {
    let positions = positions(table, names);
    let described = positions.iter().filter_map(|position| table.columns.get(*position));
    DataFrame::empty_with_schema(&described.map(field).collect::<Schema>())
}

fn append(frame: &mut DataFrame, batch: &RecordBatch) -> Result<(), QueryError> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let columns = columns.map(|(field, array)| column(field.name().as_str().into(), array));
    let part = DataFrame::new(batch.num_rows(), columns.collect::<PolarsResult<_>>()?)?;
    *frame = if frame.height() == 0 { part } else { frame.vstack(&part)? };
    Ok(())
}

struct TableScan(Table);

impl AnonymousScan for TableScan {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self, _: Option<usize>) -> PolarsResult<SchemaRef> {
        Ok(Arc::new(self.0.columns.iter().map(field).collect::<Schema>()))
    }

    fn allows_projection_pushdown(&self) -> bool {
        true
    }

    fn scan(&self, arguments: AnonymousScanArgs) -> PolarsResult<DataFrame> {
        let names: Vec<&str> = match &arguments.with_columns {
            Some(names) => names.iter().map(PlSmallStr::as_str).collect(),
            None => self.0.columns.iter().map(|column| column.name.as_str()).collect(),
        };
        let frame =
            frame(&self.0, &names).map_err(|error| PolarsError::ComputeError(error.to_string().into()))?;
        Ok(match arguments.n_rows {
            Some(rows) => frame.head(Some(rows)),
            None => frame,
        })
    }
}

fn field(column: &table::Column) -> Field {
    let dtype = match column.column_type {
        ColumnType::Text => DataType::String,
        ColumnType::Integer => DataType::Int64,
        ColumnType::Number => DataType::Float64,
        ColumnType::Boolean => DataType::Boolean,
    };
    Field::new(column.name.as_str().into(), dtype)
}

/// Converts an Arrow array of one of the types of [`ColumnType`].
fn column(name: PlSmallStr, array: &ArrayRef) -> PolarsResult<Column> {
    let any = array.as_any();
    let series = if let Some(values) = any.downcast_ref::<StringArray>() {
        Series::new(name, values.iter().collect::<Vec<_>>())
    } else if let Some(values) = any.downcast_ref::<Int64Array>() {
        Series::new(name, values.iter().collect::<Vec<_>>())
    } else if let Some(values) = any.downcast_ref::<Float64Array>() {
        Series::new(name, values.iter().collect::<Vec<_>>())
    } else if let Some(values) = any.downcast_ref::<BooleanArray>() {
        Series::new(name, values.iter().collect::<Vec<_>>())
    } else {
        let message = format!("column `{name}` has type {}, which queries do not know", array.data_type());
        return Err(PolarsError::SchemaMismatch(message.into()));
    };
    Ok(series.into())
}
