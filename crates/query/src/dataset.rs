//! Tables of a dataset: rows, pairs and rejected rows.

mod columns;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_array::RecordBatch;
use prospect_data::{DatasetFile, RejectedRow, Split, read_columns, read_rejected};

use self::columns::{FileColumn, pair_columns, row_columns};
use crate::{
    QueryError,
    table::{Column, ColumnType, RowBatches, RowColumn, Signed, Table, batch},
};

/// Datasets that are queried together.
#[derive(Debug)]
pub(crate) struct Datasets {
    /// Name and directory of each dataset.
    pub(crate) datasets: Vec<(String, PathBuf)>,
    /// True if tables have a column `data` with the name of the dataset.
    pub(crate) are_named: bool,
}

impl Datasets {
    /// Returns the tables `rows`, `pairs` and `rejected`.
    pub(crate) fn tables(&self) -> Vec<Table> {
        vec![self.rows(), self.pairs(), self.rejected()]
    }

    /// Returns the table `rows`.
    pub(crate) fn rows(&self) -> Table {
        let meaning = "A prompt with one completion and its label, as KTO trains on it";
        self.table("rows", meaning, DatasetFile::Binary, row_columns())
    }

    /// Returns the table `pairs`.
    pub(crate) fn pairs(&self) -> Table {
        let meaning = "A prompt with a chosen and a rejected completion, as DPO trains on it";
        self.table("pairs", meaning, DatasetFile::Pairs, pair_columns())
    }

    fn table(
        &self,
        name: &'static str,
        meaning: &'static str,
        file: DatasetFile,
        columns: Vec<FileColumn>,
    ) -> Table {
        let own = columns.iter().map(|column| Column {
            name: column.name.to_owned(),
            column_type: column.values.column_type(),
            is_nullable: column.is_nullable,
            meaning: column.meaning.to_owned(),
        });
        let data = Column {
            name: "data".to_owned(),
            column_type: ColumnType::Text,
            is_nullable: false,
            meaning: DATA.to_owned(),
        };
        let all: Vec<Column> = self.are_named.then_some(data).into_iter().chain(own).collect();
        let (datasets, columns, described) = (self.datasets.clone(), Arc::new(columns), all.clone());
        Table::new(name, meaning, all, move |only| {
            let wanted = WantedColumns {
                file,
                columns: Arc::clone(&columns),
                only: only.iter().filter_map(|index| described.get(*index).cloned()).collect(),
            };
            let files: Vec<_> = datasets
                .iter()
                .flat_map(|(data, directory)| {
                    Split::ALL.map(|split| (data.clone(), directory.clone(), split))
                })
                .collect();
            let batches = files.into_iter().flat_map(move |(data, directory, split)| {
                let failed = |error| Box::new(std::iter::once(Err(error))) as RowBatches;
                wanted.read(data, &directory, split).unwrap_or_else(failed)
            });
            Ok(Box::new(batches) as RowBatches)
        })
    }

    fn rejected(&self) -> Table {
        let mut columns = Vec::new();
        if self.are_named {
            columns.push(RowColumn::text("data", DATA, |(data, _): &Rejected| data.clone()));
        }
        columns.extend([
            RowColumn::text("file", "Name of the input file", |(_, row): &Rejected| row.file.clone()),
            RowColumn::integer("line", "Line of the row, from 1", |(_, row): &Rejected| row.line.signed()),
            RowColumn::text("reason", "Reason, or several joined by `+`", |(_, row): &Rejected| {
                row.reason.clone()
            }),
            RowColumn::text("detail", "Details of the reason", |(_, row): &Rejected| row.detail.clone()),
        ]);
        let datasets = self.datasets.clone();
        Table::of_rows("rejected", "An input row that could not be used", columns, move || {
            let mut rows = Vec::new();
            for (data, directory) in &datasets {
                rows.extend(read_rejected(directory)?.into_iter().map(|row| (data.clone(), row)));
            }
            Ok::<_, QueryError>(rows)
        })
    }
}

/// Columns of a table that are read from files of one kind.
#[derive(Clone)]
struct WantedColumns {
    file: DatasetFile,
    /// All columns of the files.
    columns: Arc<Vec<FileColumn>>,
    only: Arc<[Column]>,
}

impl WantedColumns {
    /// Reads the file of a split of the dataset `data`.
    fn read(&self, data: String, directory: &Path, split: Split) -> Result<RowBatches, QueryError> {
        let read = read_columns(directory, self.file, split, &needed(&self.columns, &self.only))?;
        let this = self.clone();
        Ok(Box::new(read.map(move |read| this.convert(&read?, &data, split))))
    }

    fn convert(&self, read: &RecordBatch, data: &str, split: Split) -> Result<RecordBatch, QueryError> {
        let array = |column: &Column| match self.columns.iter().find(|known| known.name == column.name) {
            Some(known) => known.array(read, split),
            None => Ok(columns::repeated(data, read.num_rows())),
        };
        let fields = self.only.iter().map(Column::field).collect();
        let arrays = self.only.iter().map(array).collect::<Result<_, _>>()?;
        batch(fields, arrays, read.num_rows())
    }
}

/// A rejected row, after the name of its dataset.
type Rejected = (String, RejectedRow);

/// Meaning of the column `data`.
const DATA: &str = "Directory of the dataset, as in `runs`";

/// Returns the parquet columns that the wanted columns are made from. At least one, which gives
/// the number of rows.
fn needed(columns: &[FileColumn], only: &[Column]) -> Vec<&'static str> {
    let wanted = columns.iter().filter(|column| only.iter().any(|wanted| wanted.name == column.name));
    let mut names: Vec<&'static str> = wanted.filter_map(|column| column.values.source()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() { vec!["source"] } else { names }
}
