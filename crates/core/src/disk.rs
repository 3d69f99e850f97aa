//! Disk space: what is free, and what a folder uses.

use std::{io, path::Path};

/// Returns the free bytes of the file system of `folder`. None where the system does not report
/// them.
pub fn free_space(folder: &Path) -> io::Result<Option<u64>> {
    #[cfg(unix)]
    {
        let stat = rustix::fs::statvfs(folder)?;
        Ok(Some(stat.f_bavail.saturating_mul(stat.f_frsize)))
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        Ok(None)
    }
}

/// Returns the bytes of all files below `folder`, without following links. Zero if it does not
/// exist; files that cannot be read are left out.
pub fn used_by(folder: &Path) -> u64 {
    let Ok(entries) = fs_err::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => used_by(&entry.path()),
            Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |metadata| metadata.len()),
            _ => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_subfolders_count_and_links_do_not() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(used_by(&folder.path().join("missing")), 0);
        fs_err::create_dir(folder.path().join("a")).unwrap();
        fs_err::write(folder.path().join("a/file"), [0; 100]).unwrap();
        fs_err::write(folder.path().join("file"), [0; 11]).unwrap();
        #[cfg(unix)]
        fs_err::os::unix::fs::symlink(folder.path().join("file"), folder.path().join("link")).unwrap();
        assert_eq!(used_by(folder.path()), 111);
        assert!(free_space(folder.path()).unwrap().is_none_or(|bytes| bytes > 0));
    }
}
