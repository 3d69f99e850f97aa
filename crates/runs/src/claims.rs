//! Claims: mutual exclusion between processes, also on several machines that share a file system.
//!
//! The claim on a piece of work is the file with the highest number in `claims/<name>/`. The file
//! names its holder, whose heartbeat sets the file's modification time. Another process takes the
//! work over by creating the file with the next number, once the last claim was released or its
//! holder is dead. The file is written and locked under a temporary name, then linked to its number:
//! it appears with its holder or not at all, and one of several takers succeeds, on network file
//! systems too. Numbers never decrease, and the last claims stay, so that a taker with an old list
//! of the folder finds its number taken instead of claiming what somebody holds.
//!
//! A holder counts as dead after several missed heartbeats. Only modification times of one file are
//! compared with each other, over time measured by the observer's clock, so the clocks of machines
//! need not agree. On the holder's own machine, its lock on the file tells at once.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use fs_err::{File, OpenOptions};
use prospect_core::files::temporary_path;

mod claim;
mod clock;
mod holder;

pub use claim::Claim;
use clock::Clock;
pub use holder::Holder;

/// Missed heartbeats after which a holder counts as dead.
const MISSED_BEATS: u32 = 6;

/// Claims before the last one that stay. A taker whose list of the folder is older than this many
/// claims could claim work that somebody holds.
const KEPT: u64 = 16;

/// Last line of the file of a released claim.
const RELEASED: &str = "given up\n";

/// Claims of a sweep.
#[derive(Debug)]
pub struct Claims {
    folder: PathBuf,
    this_process: Holder,
    clock: Clock,
    /// Last heartbeat seen of other machines' claims, by file.
    seen: Mutex<BTreeMap<PathBuf, LastBeat>>,
}

/// Last heartbeat seen of a claim.
#[derive(Debug)]
struct LastBeat {
    /// Modification time of the claim's file.
    time: SystemTime,
    /// When it was first seen, by this process's clock.
    since: Duration,
}

/// State of the last claim on a piece of work.
enum ClaimState {
    /// Released, or its holder is dead.
    Free,
    /// Held by a live process on this machine.
    Held(Holder),
    /// Held by a process on another machine, if its file can be read yet, with its last heartbeat.
    Remote(Option<Holder>, SystemTime),
}

impl Claims {
    /// Claims in `folder`, which need not exist.
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self::with_holder(folder, Holder::this_process(), Clock::system())
    }

    fn with_holder(folder: PathBuf, this_process: Holder, clock: Clock) -> Self {
        Self { folder, this_process, clock, seen: Mutex::default() }
    }

    /// Claims the work `name`; None if it is already claimed, by this process or another one.
    pub fn take(&self, name: &str) -> std::io::Result<Option<Claim>> {
        let folder = self.folder.join(name);
        fs_err::create_dir_all(&folder)?;
        let numbers = numbers(&folder)?;
        let last = numbers.last().copied().unwrap_or(0);
        if last > 0 && !self.is_free(&folder.join(last.to_string()))? {
            return Ok(None);
        }
        let Some(file) = self.create(&folder, last + 1)? else { return Ok(None) };
        // A slow process may have recreated a file that was taken over and removed.
        if is_taken_over(&folder, last + 1)? {
            return Ok(None);
        }
        remove_others(&folder, last + 1)?;
        Ok(Some(Claim::new(folder, last + 1, file, self.this_process.beat(), self.clock.clone())?))
    }

    /// Creates the claim `number` in `folder`, locked and naming this process; None if another
    /// process has created it.
    fn create(&self, folder: &Path, number: u64) -> std::io::Result<Option<File>> {
        let path = folder.join(number.to_string());
        let aside = temporary_path(&path);
        let created = self.write_holder(&aside).and_then(|file| {
            Ok(match link(&aside, &path)? {
                Linked::Created => Some(file),
                Linked::Exists => None,
                Linked::Unsupported => self.create_in_place(&path)?,
            })
        });
        // The link keeps the file.
        let _ = fs_err::remove_file(&aside);
        created
    }

    /// Creates the claim in the file `path`, on file systems without hard links.
    fn create_in_place(&self, path: &Path) -> std::io::Result<Option<File>> {
        match self.write_holder(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
            // A claim without a holder would block the work until it times out.
            Err(error) => {
                let _ = fs_err::remove_file(path);
                Err(error)
            }
            Ok(file) => Ok(Some(file)),
        }
    }

    /// Creates the file `path`, locks it, and writes this process into it.
    fn write_holder(&self, path: &Path) -> std::io::Result<File> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        // Some file systems have no locks.
        let holder = match file.file().lock() {
            Ok(()) => self.this_process.clone(),
            Err(_) => Holder { system: None, ..self.this_process.clone() },
        };
        let mut text = serde_json::to_vec(&holder)?;
        text.push(b'\n');
        file.write_all(&text)?;
        file.sync_all()?;
        Ok(file)
    }

    /// Time after which a claim that could not be taken is known to have a live holder.
    pub fn patience(&self) -> Duration {
        self.this_process.beat() * (MISSED_BEATS + 1)
    }

    /// Interval for polling claims.
    pub fn pause(&self) -> Duration {
        self.this_process.beat() / 2
    }

    /// Current holders by the name of the work. Holders on other machines are judged by their
    /// clocks, since a single look cannot observe heartbeats.
    pub fn held(&self) -> std::io::Result<BTreeMap<String, Holder>> {
        let mut held = BTreeMap::new();
        if !self.folder.exists() {
            return Ok(held);
        }
        for entry in fs_err::read_dir(&self.folder)? {
            let entry = entry?;
            let Some(last) = numbers(&entry.path())?.last().copied() else { continue };
            let holder = match self.state(&entry.path().join(last.to_string()))? {
                ClaimState::Held(holder) => holder,
                ClaimState::Remote(Some(holder), beat)
                    if beat.elapsed().unwrap_or_default() < MISSED_BEATS * holder.beat() =>
                {
                    holder
                }
                ClaimState::Free | ClaimState::Remote(..) => continue,
            };
            held.insert(entry.file_name().to_string_lossy().into_owned(), holder);
        }
        Ok(held)
    }

    /// Returns true if the claim in the file `path` may be taken over.
    fn is_free(&self, path: &Path) -> std::io::Result<bool> {
        let (holder, beat) = match self.state(path)? {
            ClaimState::Free => return Ok(true),
            ClaimState::Held(_) => return Ok(false),
            ClaimState::Remote(holder, beat) => (holder, beat),
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let last = seen.entry(path.to_owned()).or_insert(LastBeat { time: beat, since: now });
        if last.time != beat {
            *last = LastBeat { time: beat, since: now };
        }
        Ok(now.saturating_sub(last.since)
            >= MISSED_BEATS * holder.as_ref().unwrap_or(&self.this_process).beat())
    }

    /// State of the claim in the file `path`.
    fn state(&self, path: &Path) -> std::io::Result<ClaimState> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            // Another process has just taken the work over.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(ClaimState::Remote(None, SystemTime::now()));
            }
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        if text.ends_with(RELEASED) {
            return Ok(ClaimState::Free);
        }
        let holder: Option<Holder> = text.lines().next().and_then(|line| serde_json::from_str(line).ok());
        if let Some(holder) = holder.as_ref().filter(|holder| holder.is_on_system_of(&self.this_process)) {
            match file.file().try_lock_shared() {
                Ok(()) => return Ok(ClaimState::Free),
                Err(std::fs::TryLockError::WouldBlock) => return Ok(ClaimState::Held(holder.clone())),
                Err(std::fs::TryLockError::Error(_)) => {}
            }
        }
        Ok(ClaimState::Remote(holder, file.metadata()?.modified()?))
    }
}

/// Outcome of linking a file to the name of a claim.
enum Linked {
    Created,
    /// There is such a claim.
    Exists,
    /// The file system has no hard links.
    Unsupported,
}

/// Links the file `aside` to `path`, unless that exists.
fn link(aside: &Path, path: &Path) -> std::io::Result<Linked> {
    match fs_err::hard_link(aside, path) {
        Ok(()) => Ok(Linked::Created),
        // A network file system may repeat a request that succeeded and whose answer was lost.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Ok(if has_two_names(aside) { Linked::Created } else { Linked::Exists })
        }
        // The taker of the claim has removed what others prepared.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Linked::Exists),
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
            Ok(Linked::Unsupported)
        }
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn has_two_names(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs_err::metadata(path).is_ok_and(|metadata| metadata.nlink() == 2)
}

#[cfg(not(unix))]
fn has_two_names(_: &Path) -> bool {
    false
}

/// Removes claims long before `number`, and what other takers have prepared. A file that cannot be
/// removed does no harm.
fn remove_others(folder: &Path, number: u64) -> std::io::Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let other = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
        if other.is_none_or(|other| other + KEPT < number) {
            let _ = fs_err::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Returns true if there is a newer claim than `number`.
fn is_taken_over(folder: &Path, number: u64) -> std::io::Result<bool> {
    Ok(numbers(folder)?.last().is_some_and(|last| *last > number))
}

/// Numbers of the claims in a folder, in ascending order.
fn numbers(folder: &Path) -> std::io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread::scope,
        time::Instant,
    };

    use super::*;

    /// Heartbeat interval. Longer than a test, so that heartbeats come only when a test sends them.
    const BEAT: Duration = Duration::from_mins(10);

    /// Claims of a process on the machine `host` whose clock stands still.
    fn on(folder: &Path, host: &str) -> Claims {
        Claims::with_holder(folder.to_owned(), Holder::on(host, BEAT), Clock::manual())
    }

    /// Claims `name` on the machine `host` and is killed.
    fn claim_and_die(folder: &Path, host: &str, name: &str) {
        let claim = on(folder, host).take(name).unwrap().unwrap();
        claim.stop_as_if_killed();
    }

    #[test]
    fn work_is_claimed_once_and_again_after_release() {
        let folder = tempfile::tempdir().unwrap();
        let (mine, other) = (on(folder.path(), "a"), on(folder.path(), "b"));
        let claim = mine.take("run").unwrap().unwrap();
        assert!(claim.holds());
        assert!(mine.take("run").unwrap().is_none() && other.take("run").unwrap().is_none());
        assert!(other.take("another").unwrap().is_some());
        assert_eq!(other.held().unwrap().keys().collect::<Vec<_>>(), ["run"]);
        assert_eq!(other.held().unwrap()["run"].host, "a");
        drop(claim);
        assert!(mine.held().unwrap().is_empty());
        let claim = other.take("run").unwrap().unwrap();
        assert!(claim.holds() && mine.take("run").unwrap().is_none());
        assert_eq!(numbers(&folder.path().join("run")).unwrap(), [1, 2]);
        drop(claim);
        for _ in 0..2 * KEPT {
            drop(mine.take("run").unwrap().unwrap());
        }
        assert_eq!(numbers(&folder.path().join("run")).unwrap().len() as u64, KEPT + 1);
    }

    #[test]
    fn claims_of_a_killed_process_are_free_at_once_on_its_machine_and_after_missed_beats_on_others() {
        let folder = tempfile::tempdir().unwrap();
        claim_and_die(folder.path(), "a", "run");
        let other = on(folder.path(), "b");
        for _ in 0..MISSED_BEATS {
            assert!(other.take("run").unwrap().is_none());
            other.clock.advance(BEAT);
        }
        assert!(other.take("run").unwrap().is_some());
        claim_and_die(folder.path(), "a", "run");
        assert!(on(folder.path(), "a").held().unwrap().is_empty());
        assert!(on(folder.path(), "a").take("run").unwrap().is_some());
    }

    #[test]
    fn a_live_process_keeps_its_claim() {
        let folder = tempfile::tempdir().unwrap();
        let mine = on(folder.path(), "a");
        let claim = mine.take("run").unwrap().unwrap();
        let other = on(folder.path(), "b");
        for _ in 0..2 * MISSED_BEATS {
            assert!(other.take("run").unwrap().is_none() && claim.holds());
            other.clock.advance(BEAT);
            mine.clock.advance(BEAT);
            claim.beat();
        }
    }

    #[test]
    fn a_suspended_process_detects_that_it_lost_its_claim() {
        let folder = tempfile::tempdir().unwrap();
        let mine = on(folder.path(), "a");
        let claim = mine.take("run").unwrap().unwrap();
        // Creating the next file takes the work over.
        fs_err::write(folder.path().join("run/2"), "{}\n").unwrap();
        mine.clock.advance(BEAT * 3);
        assert!(!claim.holds());
        drop(claim);
        assert!(on(folder.path(), "c").take("run").unwrap().is_none());
    }

    #[test]
    fn a_claim_whose_folder_vanished_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let claim = on(folder.path(), "a").take("run").unwrap().unwrap();
        assert!(claim.still_holds());
        fs_err::remove_dir_all(folder.path().join("run")).unwrap();
        assert!(claim.holds(), "no heartbeat was missed");
        assert!(!claim.still_holds() && !claim.holds());
    }

    #[test]
    fn a_claim_without_a_holder_times_out() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(folder.path().join("run")).unwrap();
        fs_err::write(folder.path().join("run/7"), "").unwrap();
        let claims = on(folder.path(), "a");
        assert!(claims.take("run").unwrap().is_none());
        claims.clock.advance(MISSED_BEATS * BEAT);
        assert!(claims.take("run").unwrap().is_some());
        assert_eq!(numbers(&folder.path().join("run")).unwrap(), [7, 8]);
    }

    #[test]
    fn what_killed_takers_prepared_is_removed_by_the_next_holder() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        fs_err::create_dir_all(&run).unwrap();
        fs_err::write(run.join(".1.7-0-0.partial"), "{").unwrap();
        let claim = on(folder.path(), "a").take("run").unwrap().unwrap();
        assert_eq!(fs_err::read_dir(&run).unwrap().count(), 1);
        assert!(claim.holds());
        drop(claim);
        assert_eq!(fs_err::read_to_string(run.join("1")).unwrap().lines().count(), 2);
    }

    #[test]
    fn a_link_whose_answer_was_lost_is_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let [aside, path, other] = ["aside", "path", "other"].map(|name| folder.path().join(name));
        fs_err::write(&aside, "a").unwrap();
        assert!(matches!(link(&aside, &path).unwrap(), Linked::Created));
        assert!(matches!(link(&aside, &path).unwrap(), Linked::Created), "the repeated request");
        fs_err::write(&other, "b").unwrap();
        assert!(matches!(link(&other, &path).unwrap(), Linked::Exists));
    }

    #[test]
    fn one_of_many_concurrent_takers_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, most, taken) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        // Every sixteenth holder is killed, on one of three machines.
        scope(|scope| {
            for taker in 0..6 {
                let (folder, inside, most, taken) = (folder.path(), &inside, &most, &taken);
                scope.spawn(move || {
                    let holder = Holder::on(["a", "b", "c"][taker % 3], Duration::from_millis(100));
                    let claims = Claims::with_holder(folder.to_owned(), holder, Clock::system());
                    let since = Instant::now();
                    while taken.load(Ordering::SeqCst) < 60 && since.elapsed() < Duration::from_secs(30) {
                        let Some(claim) = claims.take("run").unwrap() else { continue };
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        assert!(claim.holds());
                        inside.fetch_sub(1, Ordering::SeqCst);
                        if taken.fetch_add(1, Ordering::SeqCst).is_multiple_of(16) {
                            claim.stop_as_if_killed();
                        }
                    }
                });
            }
        });
        assert!(taken.into_inner() >= 60);
        assert_eq!(most.into_inner(), 1);
    }
}
