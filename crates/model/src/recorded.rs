//! Recorded hashes of the files of saved models and adapters.

use std::path::Path;

use prospect_core::checksums;

use crate::ModelError;

/// Checks a file of a folder of weights or of an adapter against its recorded hash, before it is
/// read. Folders that other tools wrote record none, so their files pass.
pub(crate) fn check_recorded(folder: &Path, name: &str) -> Result<(), ModelError> {
    let sums = folder.join(checksums::FILE);
    if !sums.exists() {
        return Ok(());
    }
    checksums::check(folder, name).map_err(|damage| ModelError::Damaged { damage, sums })
}
