//! CSV tables (RFC 4180, with line feeds). Names come from experiment files and may be hostile, so no
//! cell is a formula ([`spreadsheet_safe`]).

use std::{io, path::Path};

use prospect_core::visible::spreadsheet_safe;
use prospect_runs::Estimate;

use crate::write_text;

/// A table with named columns.
pub(crate) struct CsvTable {
    /// File name without extension.
    pub(crate) name: &'static str,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl CsvTable {
    /// Returns the table as CSV text.
    pub(crate) fn csv(&self) -> String {
        let mut text = String::new();
        for row in std::iter::once(&self.columns).chain(&self.rows) {
            let cells: Vec<String> = row.iter().map(|cell| quoted(cell)).collect();
            text.push_str(&cells.join(","));
            text.push('\n');
        }
        text
    }

    /// Writes the table as `tables/NAME.csv` below `out`.
    pub(crate) fn write(&self, out: &Path) -> io::Result<()> {
        write_text(&out.join("tables").join(format!("{}.csv", self.name)), &self.csv())
    }
}

fn quoted(cell: &str) -> String {
    let cell = spreadsheet_safe(cell);
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.into_owned()
    }
}

/// Returns owned column names.
pub(super) fn columns(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Returns the cells of an estimate: value, low and high.
pub(super) fn numbers(estimate: Estimate) -> [String; 3] {
    [estimate.value, estimate.low, estimate.high].map(|value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_with_commas_and_quotes_are_quoted() {
        let table = CsvTable {
            name: "t",
            columns: columns(&["a", "b"]),
            rows: vec![columns(&["x, y", "say \"so\""]), columns(&["-0.5", "=1,2"])],
        };
        assert_eq!(table.csv(), "a,b\n\"x, y\",\"say \"\"so\"\"\"\n-0.5,\"'=1,2\"\n");
    }
}
