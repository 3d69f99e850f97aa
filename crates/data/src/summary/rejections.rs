//! Summary of `rejected.jsonl`.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{DataError, ingest::rejections::FILE, output::checksums};

/// Rejected rows.
#[derive(Debug, Default, Serialize)]
pub struct Rejections {
    /// Total number.
    pub rows: u64,
    /// Counts by reason; several reasons for one row are joined by `+`.
    pub by_reason: BTreeMap<String, u64>,
    /// Counts by input file.
    pub by_file: BTreeMap<String, u64>,
    /// First rejected rows of each reason.
    pub examples: Vec<RejectedExample>,
}

/// A rejected row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedExample {
    /// Reason.
    pub reason: String,
    /// Name of the input file.
    pub file: String,
    /// Line of the row, from 1.
    pub line: u64,
    /// Details of the reason.
    pub detail: String,
}

/// Example rows per reason.
const EXAMPLES: u64 = 3;

impl Rejections {
    /// Reads the file from a dataset directory, line by line.
    pub(super) fn read(dataset: &Path) -> Result<Self, DataError> {
        checksums::check(dataset, FILE)?;
        let path = dataset.join(FILE);
        let mut rejections = Self::default();
        for (index, line) in BufReader::new(fs_err::File::open(&path)?).lines().enumerate() {
            let row: RejectedExample = serde_json::from_str(&line?).map_err(|error| DataError::Schema {
                file: path.clone(),
                column: String::new(),
                message: format!("line {} is not a rejected row ({error})", index + 1),
            })?;
            rejections.rows += 1;
            *rejections.by_file.entry(row.file.clone()).or_default() += 1;
            let of_reason = rejections.by_reason.entry(row.reason.clone()).or_default();
            *of_reason += 1;
            if *of_reason <= EXAMPLES {
                rejections.examples.push(row);
            }
        }
        rejections.examples.sort_by(|a, b| a.reason.cmp(&b.reason));
        Ok(rejections)
    }
}
