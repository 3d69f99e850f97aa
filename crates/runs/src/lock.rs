//! One process at a time works on a sweep.

use std::{fs::TryLockError, path::Path, time::Duration};

use fs_err::{File, OpenOptions};

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("another process works on {0}; wait for it, or choose another --out")]
    Held(String),
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// How often, and how long apart, a lock is tried: [`Lock::is_held`] takes it for a moment.
const TRIES: u32 = 3;
const BETWEEN: Duration = Duration::from_millis(50);

/// An advisory lock on a file; the operating system releases it when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at `path`, creating the file and its folder.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        for attempt in 1..=TRIES {
            match file.file().try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if attempt < TRIES => std::thread::sleep(BETWEEN),
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
        Err(LockError::Held(path.parent().unwrap_or(path).display().to_string()))
    }

    /// Whether a living process holds the lock at `path`.
    pub(crate) fn is_held(path: &Path) -> std::io::Result<bool> {
        if !path.exists() {
            return Ok(false);
        }
        match File::open(path)?.file().try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(!Lock::is_held(&path).unwrap());
        let first = Lock::take(&path).unwrap();
        assert!(Lock::is_held(&path).unwrap());
        assert!(matches!(Lock::take(&path), Err(LockError::Held(_))));
        drop(first);
        assert!(!Lock::is_held(&path).unwrap());
        assert!(Lock::take(&path).is_ok());
    }
}
