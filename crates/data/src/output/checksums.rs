//! Recorded hashes of a dataset's files.

use std::path::Path;

use prospect_core::{checksums, files::short_hash};

use super::{manifest, parquet};
use crate::{BinaryRow, DataError, PairRow, Split, ingest::rejections};

/// Returns the names of the files with recorded hashes: all that are read again. The dataset card
/// is not among them, since people edit it before they publish a dataset.
fn names() -> Vec<String> {
    let mut names = vec![manifest::FILE.to_owned(), rejections::FILE.to_owned()];
    for split in Split::ALL {
        names.push(parquet::name::<BinaryRow>(split));
        names.push(parquet::name::<PairRow>(split));
    }
    names
}

/// Records the hashes of a complete dataset directory.
pub(crate) fn record(dataset: &Path) -> std::io::Result<()> {
    checksums::record(dataset, &names())
}

/// Checks a file of a dataset directory. Call it before the file is read.
pub(crate) fn check(dataset: &Path, name: &str) -> Result<(), DataError> {
    for file in [dataset.join(name), dataset.join(checksums::FILE)] {
        if !file.exists() {
            return Err(DataError::Missing { file, dataset: dataset.to_owned() });
        }
    }
    checksums::check(dataset, name)
        .map_err(|damage| DataError::Damaged { damage, dataset: dataset.to_owned() })
}

/// Checks all files of a dataset directory.
pub(crate) fn check_dataset(dataset: &Path) -> Result<(), DataError> {
    names().iter().try_for_each(|name| check(dataset, name))
}

/// Checks all files of a dataset directory against their recorded hashes, and returns a hash of
/// their content.
pub fn dataset_fingerprint(dataset: &Path) -> Result<String, DataError> {
    check_dataset(dataset)?;
    Ok(short_hash(&fs_err::read(dataset.join(checksums::FILE))?))
}
