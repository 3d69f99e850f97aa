//! Atomic writes of files and directories, and hashes of their contents.

use std::{
    collections::HashMap,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use fs_err::{File, OpenOptions};
use serde::Serialize;

mod temporary;

use temporary::{Temporary, remove_abandoned};
pub use temporary::{is_abandoned, is_temporary, remove_unfinished, temporary_path};

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
    let (result, _) = write_renamed(path, |aside| Ok::<_, E>((write(aside)?, path.to_owned())))?;
    Ok(result)
}

/// Like [`write_whole_at`], for names that depend on the content: `write` also returns the final
/// path, which is in the folder of `path`.
pub(crate) fn write_renamed<T, E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(T, PathBuf), E>,
) -> Result<(T, PathBuf), E> {
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder)?;
        remove_abandoned(folder);
    }
    let aside = Temporary::new(path);
    let (result, path) = write(aside.path())?;
    File::open(aside.path())?.sync_all()?;
    aside.rename(&path)?;
    Ok((result, path))
}

/// Opens a file for reading and appending, and creates it if it does not exist. A symbolic link is
/// an error, because a folder from strangers could lead to a file elsewhere.
pub fn open_to_append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).read(true).append(true);
    #[cfg(unix)]
    {
        use fs_err::os::unix::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    }
    options.open(path).map_err(|error| {
        if path.is_symlink() {
            io::Error::other(format!(
                "{} is a symbolic link, which Prospect does not write through: remove it, or replace it with the file",
                path.display()
            ))
        } else {
            error
        }
    })
}

/// Lets writes beyond the largest size of a file (`ulimit -f`) fail with an error. By default, a
/// signal ends the process without a message.
pub fn fail_beyond_size_limit() -> io::Result<()> {
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default()).map(|_| ())
}

/// Creates `folder` and checks that files can be written there.
pub fn check_writable(folder: &Path) -> io::Result<()> {
    fs_err::create_dir_all(folder)?;
    let probe = Temporary::new(&folder.join("write-test"));
    fs_err::write(probe.path(), [])
}

/// Writes `value` as indented JSON, atomically.
pub fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    write_whole(path, |writer| {
        serde_json::to_writer_pretty(&mut *writer, value)?;
        writer.write_all(b"\n")
    })
}

/// Directory that is filled under a temporary name and renamed into place by
/// [`commit`](Self::commit).
#[derive(Debug)]
pub struct WholeDir {
    target: PathBuf,
    aside: Temporary,
}

impl WholeDir {
    /// Creates an empty temporary directory that will become `target`.
    pub fn create(target: &Path) -> io::Result<Self> {
        let aside = Temporary::new(target);
        fs_err::create_dir_all(aside.path())?;
        if let Some(folder) = target.parent() {
            remove_abandoned(folder);
        }
        Ok(Self { target: target.to_owned(), aside })
    }

    /// Returns the directory to write to until the commit.
    pub fn path(&self) -> &Path {
        self.aside.path()
    }

    /// Moves the directory into place, replacing an existing one.
    pub fn commit(self) -> io::Result<()> {
        if !self.target.exists() {
            return self.aside.rename(&self.target);
        }
        if exchange(self.aside.path(), &self.target) {
            // The old directory has the temporary name now, and is removed on drop.
            return Ok(());
        }
        let old = Temporary::new(&self.target);
        fs_err::rename(&self.target, old.path())?;
        self.aside.rename(&self.target)
    }
}

/// Exchanges two directories in one step, where the system can.
#[cfg(target_os = "linux")]
fn exchange(one: &Path, other: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> bool {
    false
}

/// Returns a 16-digit hexadecimal fingerprint of a value: the start of the BLAKE3 hash of its JSON.
pub fn fingerprint(value: &impl Serialize) -> io::Result<String> {
    Ok(short_hash(&serde_json::to_vec(value)?))
}

/// Returns the first 16 hexadecimal digits of the BLAKE3 hash of `bytes`.
pub fn short_hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

/// Size and modification time of a file.
type FileVersion = (u64, SystemTime);

/// Age from which a modification time identifies a version. A younger file may change again without
/// a new time, since file systems round times.
const SETTLED: Duration = Duration::from_secs(2);

/// Returns the BLAKE3 hash of a file's contents, in hexadecimal.
///
/// A process reads each version of a file once: the hash is remembered with the path, the size and
/// the modification time.
pub fn hash_file(path: &Path) -> io::Result<String> {
    static KNOWN: LazyLock<Mutex<HashMap<PathBuf, (FileVersion, String)>>> = LazyLock::new(Mutex::default);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let modified = metadata.modified()?;
    let version = (metadata.len(), modified);
    if let Some((_, hash)) = known().get(path).filter(|(other, _)| *other == version) {
        return Ok(hash.clone());
    }
    let (settled, started) = (modified.elapsed().is_ok_and(|age| age > SETTLED), Instant::now());
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    let hash = hasher.finalize().to_hex().to_string();
    let seconds = started.elapsed().as_secs_f64();
    tracing::debug!("hashed {} bytes in {seconds:.4} s: {}", metadata.len(), path.display());
    if settled {
        known().insert(path.to_owned(), (version, hash.clone()));
    }
    Ok(hash)
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
    #[cfg(unix)]
    fn nothing_is_appended_through_a_symbolic_link() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link] = ["file", "link"].map(|name| folder.path().join(name));
        for line in ["one\n", "two\n"] {
            open_to_append(&file).unwrap().write_all(line.as_bytes()).unwrap();
        }
        for target in [file.as_path(), Path::new("missing")] {
            let _ = fs_err::remove_file(&link);
            fs_err::os::unix::fs::symlink(target, &link).unwrap();
            let error = open_to_append(&link).unwrap_err().to_string();
            assert!(
                error.contains("link is a symbolic link, which Prospect does not write through"),
                "{error}"
            );
        }
        assert_eq!(fs_err::read_to_string(&file).unwrap(), "one\ntwo\n");
        assert!(open_to_append(folder.path()).unwrap_err().to_string().contains("directory"));
    }

    #[test]
    fn a_version_of_a_file_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let hash = |text: &str, time: SystemTime| {
            fs_err::write(&path, text).unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            hash_file(&path).unwrap()
        };
        let [first, second] = ["one", "two"].map(|text| blake3::hash(text.as_bytes()).to_hex().to_string());
        let (now, old) = (SystemTime::now(), SystemTime::now() - Duration::from_mins(1));
        assert_eq!(hash("one", now), first);
        assert_eq!(hash("two", now), second, "a young file may have changed within its time");
        assert_eq!(hash("one", old), first);
        assert_eq!(hash("two", old), first, "the same size and time are the same version");
        assert_eq!(hash("two", old - Duration::from_secs(1)), second);
        let longer = blake3::hash(b"three").to_hex().to_string();
        assert_eq!(hash("three", old - Duration::from_secs(1)), longer);
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
