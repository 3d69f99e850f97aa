//! Tables with described columns, read as Arrow arrays.

use std::{fmt, sync::Arc};

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
};
use arrow_schema::{DataType, Field, Schema};
use strum::Display;

use crate::QueryError;

/// Type of the values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[strum(serialize_all = "lowercase")]
pub enum ColumnType {
    /// UTF-8 text.
    Text,
    /// 64-bit integer.
    Integer,
    /// 64-bit floating-point number.
    Number,
    /// True or false.
    Boolean,
}

impl ColumnType {
    fn arrow(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8,
            Self::Integer => DataType::Int64,
            Self::Number => DataType::Float64,
            Self::Boolean => DataType::Boolean,
        }
    }
}

/// Description of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name in queries.
    pub name: String,
    /// Type of the values.
    pub column_type: ColumnType,
    /// True if values may be missing.
    pub is_nullable: bool,
    /// Meaning, with unit.
    pub meaning: String,
}

impl Column {
    /// Returns the Arrow field of the column.
    pub(crate) fn field(&self) -> Field {
        Field::new(&self.name, self.column_type.arrow(), self.is_nullable)
    }
}

/// Batches of the rows of a table, each read when it is asked for.
pub(crate) type RowBatches = Box<dyn Iterator<Item = Result<RecordBatch, QueryError>>>;

/// Reads the columns at these positions of a table, in batches.
type ReadColumns = dyn Fn(&[usize]) -> Result<RowBatches, QueryError> + Send + Sync;

/// A table of a dataset or sweep. Its values are read when they are needed.
#[derive(Clone)]
pub struct Table {
    /// Name in queries.
    pub name: &'static str,
    /// Content of a row.
    pub meaning: &'static str,
    /// Columns in order.
    pub columns: Vec<Column>,
    read: Arc<ReadColumns>,
}

impl Table {
    /// Makes a table from its description and the function that reads its columns.
    pub(crate) fn new(
        name: &'static str,
        meaning: &'static str,
        columns: Vec<Column>,
        read: impl Fn(&[usize]) -> Result<RowBatches, QueryError> + Send + Sync + 'static,
    ) -> Self {
        Self { name, meaning, columns, read: Arc::new(read) }
    }

    /// Makes a table of the rows that `load` returns.
    pub(crate) fn of_rows<R: 'static, L: AsRef<[R]>>(
        name: &'static str,
        meaning: &'static str,
        columns: Vec<RowColumn<R>>,
        load: impl Fn() -> Result<L, QueryError> + Send + Sync + 'static,
    ) -> Self {
        let described = columns.iter().map(RowColumn::column).collect();
        let read = move |only: &[usize]| {
            let loaded = load()?;
            let rows = loaded.as_ref();
            let wanted: Vec<_> = only.iter().filter_map(|index| columns.get(*index)).collect();
            let fields = wanted.iter().map(|column| column.column().field()).collect();
            let arrays = wanted.iter().map(|column| column.array(rows)).collect();
            Ok(Box::new(std::iter::once(batch(fields, arrays, rows.len()))) as RowBatches)
        };
        Self::new(name, meaning, described, read)
    }

    /// Reads the columns at these positions, in batches.
    pub(crate) fn read(&self, columns: &[usize]) -> Result<RowBatches, QueryError> {
        (self.read)(columns)
    }

    /// Reads all columns, in batches.
    pub(crate) fn read_all(&self) -> Result<Vec<RecordBatch>, QueryError> {
        self.read(&(0..self.columns.len()).collect::<Vec<_>>())?.collect()
    }

    /// Returns the position of a column.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Returns the Arrow schema of all columns.
    pub(crate) fn schema(&self) -> Schema {
        Schema::new(self.columns.iter().map(Column::field).collect::<Vec<_>>())
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("name", &self.name)
            .field("columns", &self.columns)
            .finish_non_exhaustive()
    }
}

/// Makes a batch of `rows` rows, which may have no columns.
pub(crate) fn batch(
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, QueryError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
}

/// Unsigned numbers as the integers of a column.
pub(crate) trait Signed {
    /// Returns the same number, which is far below the limit of both types.
    fn signed(self) -> i64;
}

impl Signed for u64 {
    fn signed(self) -> i64 {
        self.cast_signed()
    }
}

impl Signed for usize {
    fn signed(self) -> i64 {
        (self as u64).cast_signed()
    }
}

/// A column of a table whose rows have type `R`, with the function that takes its value from a row.
pub(crate) struct RowColumn<R> {
    name: String,
    meaning: String,
    value: RowValue<R>,
}

type Getter<R, T> = Box<dyn Fn(&R) -> T + Send + Sync>;

/// Function that takes a value from a row.
enum RowValue<R> {
    Text(Getter<R, String>),
    OptionalText(Getter<R, Option<String>>),
    Integer(Getter<R, i64>),
    OptionalInteger(Getter<R, Option<i64>>),
    Number(Getter<R, f64>),
    OptionalNumber(Getter<R, Option<f64>>),
    Boolean(Getter<R, bool>),
    OptionalBoolean(Getter<R, Option<bool>>),
}

/// Defines the constructor of a column for each type of value.
macro_rules! constructors {
    ($($function:ident $variant:ident $value:ty, $what:literal;)*) => {
        impl<R> RowColumn<R> {
            $(
                #[doc = concat!("Makes a column of ", $what, ".")]
                pub(crate) fn $function(
                    name: impl Into<String>,
                    meaning: impl Into<String>,
                    value: impl Fn(&R) -> $value + Send + Sync + 'static,
                ) -> Self {
                    Self { name: name.into(), meaning: meaning.into(), value: RowValue::$variant(Box::new(value)) }
                }
            )*
        }
    };
}

constructors! {
    text Text String, "texts";
    optional_text OptionalText Option<String>, "texts that may be missing";
    integer Integer i64, "integers";
    optional_integer OptionalInteger Option<i64>, "integers that may be missing";
    number Number f64, "numbers";
    optional_number OptionalNumber Option<f64>, "numbers that may be missing";
    boolean Boolean bool, "booleans";
    optional_boolean OptionalBoolean Option<bool>, "booleans that may be missing";
}

impl<R> RowColumn<R> {
    /// Returns the name of the column.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the description of the column.
    fn column(&self) -> Column {
        let (column_type, is_nullable) = match self.value {
            RowValue::Text(_) => (ColumnType::Text, false),
            RowValue::OptionalText(_) => (ColumnType::Text, true),
            RowValue::Integer(_) => (ColumnType::Integer, false),
            RowValue::OptionalInteger(_) => (ColumnType::Integer, true),
            RowValue::Number(_) => (ColumnType::Number, false),
            RowValue::OptionalNumber(_) => (ColumnType::Number, true),
            RowValue::Boolean(_) => (ColumnType::Boolean, false),
            RowValue::OptionalBoolean(_) => (ColumnType::Boolean, true),
        };
        Column { name: self.name.clone(), column_type, is_nullable, meaning: self.meaning.clone() }
    }

    /// Returns the values of the rows.
    fn array(&self, rows: &[R]) -> ArrayRef {
        match &self.value {
            RowValue::Text(get) => Arc::new(StringArray::from_iter_values(rows.iter().map(get))),
            RowValue::OptionalText(get) => Arc::new(rows.iter().map(get).collect::<StringArray>()),
            RowValue::Integer(get) => Arc::new(Int64Array::from_iter_values(rows.iter().map(get))),
            RowValue::OptionalInteger(get) => Arc::new(rows.iter().map(get).collect::<Int64Array>()),
            RowValue::Number(get) => Arc::new(Float64Array::from_iter_values(rows.iter().map(get))),
            RowValue::OptionalNumber(get) => Arc::new(rows.iter().map(get).collect::<Float64Array>()),
            RowValue::Boolean(get) => {
                Arc::new(rows.iter().map(|row| Some(get(row))).collect::<BooleanArray>())
            }
            RowValue::OptionalBoolean(get) => Arc::new(rows.iter().map(get).collect::<BooleanArray>()),
        }
    }
}
