//! Atomic writes of files and directories, and hashes of their contents.

use std::{
    hash::{BuildHasher, RandomState},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::LazyLock,
};

use fs_err::File;
use serde::Serialize;

/// Writes a file atomically: to a temporary file, which is synced and renamed into place.
pub fn write_whole<T>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>,
) -> io::Result<T> {
    write_whole_at(path, |aside| {
        let mut writer = BufWriter::new(File::create(aside)?);
        let result = write(&mut writer)?;
        writer.flush()?;
        Ok(result)
    })
}

/// Like [`write_whole`], for writers that open the file themselves: `write` receives the temporary
/// path.
pub fn write_whole_at<T, E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<T, E> {
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder)?;
    }
    let aside = aside(path);
    let attempt = || -> Result<T, E> {
        let result = write(&aside)?;
        File::open(&aside)?.sync_all()?;
        fs_err::rename(&aside, path)?;
        Ok(result)
    };
    let result = attempt();
    if result.is_err() {
        let _ = fs_err::remove_file(&aside);
    }
    result
}

/// Writes `value` as indented JSON, atomically.
pub fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    write_whole(path, |writer| {
        serde_json::to_writer_pretty(&mut *writer, value)?;
        writer.write_all(b"\n")
    })
}

fn aside(path: &Path) -> PathBuf {
    // Processes on two machines can have the same id.
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(()));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{:08x}.partial", std::process::id(), *PROCESS as u32))
}

/// Directory that is filled under a temporary name and renamed into place by
/// [`commit`](Self::commit).
#[derive(Debug)]
pub struct WholeDir {
    target: PathBuf,
    aside: PathBuf,
    committed: bool,
}

impl WholeDir {
    /// Creates an empty temporary directory that will become `target`.
    pub fn create(target: &Path) -> io::Result<Self> {
        let aside = aside(target);
        if aside.exists() {
            fs_err::remove_dir_all(&aside)?;
        }
        fs_err::create_dir_all(&aside)?;
        Ok(Self { target: target.to_owned(), aside, committed: false })
    }

    /// Returns the directory to write to until the commit.
    pub fn path(&self) -> &Path {
        &self.aside
    }

    /// Moves the directory into place, replacing an existing one.
    pub fn commit(mut self) -> io::Result<()> {
        if self.target.exists() {
            let old = aside(&self.target.with_extension("old"));
            fs_err::rename(&self.target, &old)?;
            fs_err::rename(&self.aside, &self.target)?;
            fs_err::remove_dir_all(old)?;
        } else {
            fs_err::rename(&self.aside, &self.target)?;
        }
        self.committed = true;
        Ok(())
    }
}

impl Drop for WholeDir {
    fn drop(&mut self) {
        if !self.committed {
            let _ = fs_err::remove_dir_all(&self.aside);
        }
    }
}

/// Returns a 16-digit hexadecimal fingerprint of a value: the start of the BLAKE3 hash of its JSON.
pub fn fingerprint(value: &impl Serialize) -> io::Result<String> {
    Ok(short_hash(&serde_json::to_vec(value)?))
}

/// Returns the first 16 hexadecimal digits of the BLAKE3 hash of `bytes`.
pub fn short_hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

/// Returns the BLAKE3 hash of a file's contents, in hexadecimal.
pub fn hash_file(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_scraps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_whole(&path, |writer| writer.write_all(b"old")).unwrap();
        let failed: io::Result<()> = write_whole(&path, |writer| {
            writer.write_all(b"new")?;
            Err(io::Error::other("stop"))
        });
        assert!(failed.is_err());
        assert_eq!(fs_err::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_appears_on_commit_and_replaces_the_old() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        for text in ["one", "two"] {
            let dir = WholeDir::create(&target).unwrap();
            fs_err::write(dir.path().join("a"), text).unwrap();
            dir.commit().unwrap();
            assert_eq!(fs_err::read_to_string(target.join("a")).unwrap(), text);
        }
        drop(WholeDir::create(&target).unwrap());
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
    }
}
