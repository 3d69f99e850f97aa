//! JSON files and files with one JSON value per line.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
};

use fs_err::File;
use prospect_core::files::write_whole;
use serde::{Serialize, de::DeserializeOwned};

use crate::RunsError;

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, RunsError> {
    serde_json::from_slice(&fs_err::read(path)?)
        .map_err(|source| RunsError::Format { file: path.display().to_string(), source })
}

pub(crate) fn read_json_if_exists<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RunsError> {
    if path.exists() { read_json(path).map(Some) } else { Ok(None) }
}

/// Writes one value per line, all or nothing.
pub(crate) fn write_lines<T: Serialize>(path: &Path, values: &[T]) -> Result<(), RunsError> {
    Ok(write_whole(path, |writer| {
        for value in values {
            serde_json::to_writer(&mut *writer, value)?;
            writer.write_all(b"\n")?;
        }
        Ok(())
    })?)
}

/// Reads one value per line; empty if the file does not exist. An incomplete last line, as a killed
/// process leaves it, is ignored.
pub(crate) fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, RunsError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let lines: Vec<String> = BufReader::new(File::open(path)?).lines().collect::<Result<_, _>>()?;
    let mut values = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        match serde_json::from_str(line) {
            Ok(value) => values.push(value),
            Err(error) if error.is_eof() && index + 1 == lines.len() => break,
            Err(source) => {
                return Err(RunsError::Format { file: format!("{}:{}", path.display(), index + 1), source });
            }
        }
    }
    Ok(values)
}
