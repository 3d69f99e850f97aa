//! Reading `rejected.jsonl`.

use std::{
    io::{BufRead, BufReader},
    path::Path,
};

use super::checksums;
use crate::{
    DataError,
    ingest::{RejectedRow, rejections::FILE},
};

/// Checks and reads the rejected rows of a dataset directory.
pub fn read_rejected(dataset: &Path) -> Result<Vec<RejectedRow>, DataError> {
    checksums::check(dataset, FILE)?;
    let file = dataset.join(FILE);
    let lines = BufReader::new(fs_err::File::open(&file)?).lines().enumerate();
    let row = |(index, line): (usize, std::io::Result<String>)| {
        serde_json::from_str(&line?).map_err(|error| DataError::Schema {
            file: file.clone(),
            column: String::new(),
            message: format!("line {} is not a rejected row ({error})", index + 1),
        })
    };
    lines.map(row).collect()
}
