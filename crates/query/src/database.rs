//! SQL over the tables of a dataset or sweep.

use std::path::Path;

use polars::{
    error::{PolarsError, PolarsResult},
    prelude::DataFrame,
    sql::SQLContext,
};
use prospect_core::{config::closest, contain::contain};
use prospect_runs::SweepDir;

use crate::{Answer, QueryError, Table, dataset::Datasets, scan::scan, sweep};

/// Tables that are queried together.
#[derive(Debug, Clone)]
pub struct Database {
    tables: Vec<Table>,
}

impl Database {
    /// Opens a dataset directory: tables `rows`, `pairs` and `rejected`.
    pub fn of_dataset(dataset: &Path) -> Self {
        let datasets = vec![(dataset.display().to_string(), dataset.to_owned())];
        Self { tables: Datasets { datasets, are_named: false }.tables() }
    }

    /// Opens a sweep: tables `runs`, `metrics`, `heldout`, `generations`, `samples`,
    /// `questions` and `judgements`, and those of its datasets with a column `data`.
    pub fn of_sweep(sweep: &SweepDir) -> Result<Self, QueryError> {
        Ok(Self { tables: sweep::tables(sweep)? })
    }

    /// Returns the tables.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Describes the tables, with one row for each column.
    pub fn describe(&self) -> Answer {
        Answer::of_tables(&self.tables)
    }

    /// Answers a SQL query.
    pub fn query(&self, sql: &str) -> Result<Answer, QueryError> {
        // A panic in the query engine must not look like a defect of the data.
        match contain(|| self.collect(sql)) {
            Some(Ok(frame)) => Answer::of_frame(&frame).map_err(|error| QueryError::Query(error.to_string())),
            Some(Err(error)) => Err(self.explain(sql, &error)),
            None => Err(QueryError::Query("the query engine does not support it".to_owned())),
        }
    }

    fn collect(&self, sql: &str) -> PolarsResult<DataFrame> {
        let mut context = SQLContext::new();
        for table in &self.tables {
            context.register(table.name, scan(table)?);
        }
        context.execute(sql)?.collect()
    }

    /// Finds the name that the query has wrong, and a similar one.
    fn explain(&self, sql: &str, error: &PolarsError) -> QueryError {
        let columns =
            || self.tables.iter().flat_map(|table| &table.columns).map(|column| column.name.as_str());
        match unknown_name(error) {
            Some(UnknownName::Table(name)) => {
                let known = self.tables.iter().map(|table| table.name);
                let advice = match closest(&name, known.clone()) {
                    Some(similar) => format!("; did you mean `{similar}`?"),
                    None => format!("; the tables are {}", known.collect::<Vec<_>>().join(", ")),
                };
                QueryError::Name { kind: "table", name, advice }
            }
            Some(UnknownName::Column(name)) => {
                // Without quotes, `train.beta` is the column `beta` of a table `train`.
                let start = format!("{name}.");
                let dotted = columns().find(|column| column.starts_with(&start) && sql.contains(column));
                let advice = match dotted.or_else(|| closest(&name, columns())) {
                    Some(similar) if similar.contains('.') => {
                        format!("; did you mean `\"{similar}\"`? A name with a dot needs double quotes")
                    }
                    Some(similar) => format!("; did you mean `{similar}`?"),
                    None => "; `--tables` lists tables and columns".to_owned(),
                };
                QueryError::Name { kind: "column", name, advice }
            }
            None => QueryError::Query(error.to_string()),
        }
    }
}

/// Name in a query that nothing has.
enum UnknownName {
    Table(String),
    Column(String),
}

/// Returns the text between `from` and `to`.
fn between(text: &str, from: &str, to: char) -> Option<String> {
    Some(text.split_once(from)?.1.split_once(to)?.0.to_owned())
}

/// Extracts the unknown name from an error. The engine has it in its message only.
fn unknown_name(error: &PolarsError) -> Option<UnknownName> {
    match error {
        PolarsError::Context { error, .. } | PolarsError::ExprContext { error, .. } => unknown_name(error),
        PolarsError::ColumnNotFound(message) | PolarsError::SchemaFieldNotFound(message) => {
            between(message, "\"", '"').map(UnknownName::Column)
        }
        PolarsError::SQLInterface(message) => between(message, "relation '", '\'')
            .map(UnknownName::Table)
            .or_else(|| between(message, "column named '", '\'').map(UnknownName::Column)),
        _ => None,
    }
}
