//! Names of unfinished files and directories, and the removal of those that killed processes left.
//!
//! `.NAME.PID-START-SYSTEM-NUMBER.partial` is written by the process PID that started at START on
//! SYSTEM: a hash of the machine's boot and of the namespace of the process id. So every process of
//! the same system can tell whether the writer is still alive. Where the system has no `/proc`,
//! nobody can, and START is random.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    io,
    path::{Path, PathBuf},
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use super::short_hash;

/// Extension of unfinished files and directories. A writer that chooses the format of a file by its
/// extension may add one.
const EXTENSION: &str = "partial";

/// Age from which a temporary file counts as abandoned if its writer is on another machine.
const ABANDONED: Duration = Duration::from_hours(1);

/// Temporary files and directories that this process is writing.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// This process, as part of a temporary name.
static THIS_PROCESS: LazyLock<String> = LazyLock::new(|| {
    let pid = std::process::id();
    match start_of(pid).zip(SYSTEM.as_ref()) {
        Some((start, system)) => format!("{pid}-{start:x}-{system}"),
        None => format!("{pid}-{:x}-0", RandomState::new().hash_one(())),
    }
});

/// Hash of this boot of the machine and of the namespace of process ids; None without `/proc`.
static SYSTEM: LazyLock<Option<String>> = LazyLock::new(|| {
    let boot = fs_err::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(short_hash(format!("{boot} {}", namespace.display()).as_bytes())[..8].to_owned())
});

/// Returns a name for an unfinished version of `path`, in the same folder. No two calls return the
/// same one, on any machine.
pub fn temporary_path(path: &Path) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{number:x}.{EXTENSION}", *THIS_PROCESS))
}

/// Returns true if `path` is the name of an unfinished file or directory.
pub fn is_temporary(path: &Path) -> bool {
    stem(path).is_some()
}

/// Returns the name of an unfinished file or directory before its [`EXTENSION`].
fn stem(path: &Path) -> Option<&str> {
    let (stem, rest) = path.file_name()?.to_str()?.rsplit_once(".partial")?;
    (rest.is_empty() || rest.starts_with('.')).then_some(stem)
}

/// Returns true if no process writes this file or directory any more: if its writer is dead, or,
/// where that cannot be told, if it is more than an hour old.
pub fn is_abandoned(path: &Path) -> io::Result<bool> {
    if let Some(is_alive) = writer_is_alive(path) {
        return Ok(!is_alive);
    }
    let age = SystemTime::now().duration_since(fs_err::symlink_metadata(path)?.modified()?);
    Ok(age.is_ok_and(|age| age > ABANDONED))
}

/// Returns true if the writer of a temporary file is alive; None if it is on another system.
fn writer_is_alive(path: &Path) -> Option<bool> {
    let (_, writer) = stem(path)?.rsplit_once('.')?;
    let mut parts = writer.split('-');
    let (pid, start, system) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
    if SYSTEM.as_deref() != Some(system) {
        return None;
    }
    let start = u64::from_str_radix(start, 16).ok()?;
    Some(start_of(pid) == Some(start))
}

/// Returns the start of a process in clock ticks since boot, field 22 of proc_pid_stat(5). Zombies
/// have ended.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field may contain spaces and parentheses.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

/// Removes what killed processes of this system left in `folder`. Looks at each folder once: what
/// other processes leave later is removed by the next ones.
///
/// It does not fail, since nothing depends on it.
pub(super) fn remove_abandoned(folder: &Path) {
    static SEEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    if !SEEN.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned()) {
        return;
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if is_temporary(&path) && writer_is_alive(&path) == Some(false) {
            tracing::debug!("removing {}, which a killed process left", path.display());
            remove(&path);
        }
    }
}

/// Removes everything that this process has not finished. For a process that is about to exit.
pub fn remove_unfinished() {
    for path in &*UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner) {
        remove(path);
    }
}

/// Removes a file or a directory, if it exists.
fn remove(path: &Path) {
    let _ = match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs_err::remove_dir_all(path),
        _ => fs_err::remove_file(path),
    };
}

/// Temporary name of a file or directory, which is removed on drop unless it was renamed.
#[derive(Debug)]
pub(super) struct Temporary(PathBuf);

impl Temporary {
    /// Reserves a temporary name beside `target`.
    pub(super) fn new(target: &Path) -> Self {
        let path = temporary_path(target);
        UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Moves the file or directory to `target`.
    pub(super) fn rename(self, target: &Path) -> io::Result<()> {
        fs_err::rename(&self.0, target)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Finds nothing after a rename.
        remove(&self.0);
        UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn files_of_dead_processes_are_abandoned_and_those_of_live_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let own = temporary_path(&folder.path().join("a.b.json"));
        fs_err::write(&own, "half").unwrap();
        assert!(is_temporary(&own) && !is_abandoned(&own).unwrap());
        let Some(system) = SYSTEM.as_ref() else { return };
        let mut child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        let start = start_of(child.id()).unwrap();
        let of = |pid: u32, start: u64, system: &str| {
            let path = folder.path().join(format!(".a.json.{pid}-{start:x}-{system}-0.partial"));
            fs_err::write(&path, "half").unwrap();
            path
        };
        let (living, recycled) = (of(child.id(), start, system), of(child.id(), start + 1, system));
        let elsewhere = of(1, 2, "00000000");
        assert!(!is_abandoned(&living).unwrap() && is_abandoned(&recycled).unwrap());
        assert!(!is_abandoned(&elsewhere).unwrap(), "young, and nobody can tell");
        remove_abandoned(folder.path());
        assert!(own.exists() && living.exists() && elsewhere.exists() && !recycled.exists());
        child.kill().unwrap();
        // A killed process is a zombie until its parent waits for it.
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !is_abandoned(&living).unwrap() {
            assert!(std::time::Instant::now() < deadline, "a zombie counts as dead");
            std::thread::sleep(Duration::from_millis(5));
        }
        child.wait().unwrap();
        assert!(is_abandoned(&living).unwrap());
        let earlier = folder.path().join(".summary.json.1.partial");
        fs_err::write(&earlier, "half").unwrap();
        assert!(is_temporary(&folder.path().join(".a.png.1.partial.png")));
        assert!(!is_temporary(&folder.path().join("a.partially.png")));
        assert!(!is_abandoned(&earlier).unwrap(), "a name of earlier versions, an hour to wait");
    }

    #[test]
    fn unfinished_files_are_removed_before_an_exit() {
        let folder = tempfile::tempdir().unwrap();
        let file = Temporary::new(&folder.path().join("file"));
        fs_err::write(file.path(), "half").unwrap();
        let directory = Temporary::new(&folder.path().join("directory"));
        fs_err::create_dir(directory.path()).unwrap();
        remove_unfinished();
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
    }
}
