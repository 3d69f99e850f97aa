//! Who works on what: claims that processes of several machines on one file system keep to.
//!
//! The claim on a piece of work is the file of the highest number in `claims/<name>/`. It names its holder, and its time is
//! set anew with every beat of the holder's. Whoever wants the work makes the file of the next number, once the last one
//! has been given up or its holder is gone. A file is made only if there is none, on network file systems too, so of
//! all who try one succeeds; and numbers never go down, so that nobody takes what another one has just taken.
//!
//! A holder is gone when several beats have not come. Only the times of one file are compared with each other, by the clock
//! of the one who watches: clocks of machines need not agree. On the holder's own machine its lock on the file tells at once.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use fs_err::{File, OpenOptions};

mod claim;
mod holder;

pub use claim::Claim;
pub use holder::Holder;

/// Beats that may stay away before a holder counts as gone.
const MISSED: u32 = 6;

/// The last line of a claim that was given up.
const GIVEN_UP: &str = "given up\n";

/// The claims of a sweep.
#[derive(Debug)]
pub struct Claims {
    folder: PathBuf,
    me: Holder,
    /// The last beat that was seen of other machines' claims, and since when.
    seen: Mutex<BTreeMap<PathBuf, (SystemTime, Instant)>>,
}

/// What a look at the last claim on a piece of work tells.
enum Look {
    /// Given up, or its holder is gone.
    Free,
    /// Its holder is at work, on the same machine.
    Held(Holder),
    /// Its holder, if it is known yet, is on another machine, and this was its last beat.
    Away(Option<Holder>, SystemTime),
}

impl Claims {
    /// The claims below `folder`, which need not exist yet.
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self::of(folder, Holder::this_process())
    }

    fn of(folder: PathBuf, me: Holder) -> Self {
        Self { folder, me, seen: Mutex::default() }
    }

    /// Claims the work called `name`, unless another one, also of this process, is at it.
    pub fn take(&self, name: &str) -> std::io::Result<Option<Claim>> {
        let folder = self.folder.join(name);
        fs_err::create_dir_all(&folder)?;
        let numbers = numbers(&folder)?;
        let last = numbers.last().copied().unwrap_or(0);
        if last > 0 && !self.is_free(&folder.join(last.to_string()))? {
            return Ok(None);
        }
        let path = folder.join((last + 1).to_string());
        let mut file = match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(error),
        };
        // Not every file system has locks.
        let me = match file.file().lock() {
            Ok(()) => self.me.clone(),
            Err(_) => Holder { system: None, ..self.me.clone() },
        };
        serde_json::to_writer(&mut file, &me)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        // Who was slow made a file that had been there and was removed.
        if is_taken_over(&folder, last + 1)? {
            return Ok(None);
        }
        for earlier in numbers {
            // What stays is in nobody's way.
            let _ = fs_err::remove_file(folder.join(earlier.to_string()));
        }
        Ok(Some(Claim::new(folder, last + 1, file, self.me.beat())?))
    }

    /// After so long of waiting, a claim that could not be taken is held by a living process.
    pub fn patience(&self) -> Duration {
        self.me.beat() * (MISSED + 1)
    }

    /// How long to wait before claims are looked at again.
    pub fn pause(&self) -> Duration {
        self.me.beat() / 2
    }

    /// Who works on what at this moment, by name. Of other machines' processes a single look knows only what their clocks say.
    pub fn held(&self) -> std::io::Result<BTreeMap<String, Holder>> {
        let mut held = BTreeMap::new();
        if !self.folder.exists() {
            return Ok(held);
        }
        for entry in fs_err::read_dir(&self.folder)? {
            let entry = entry?;
            let Some(last) = numbers(&entry.path())?.last().copied() else { continue };
            let holder = match self.look(&entry.path().join(last.to_string()))? {
                Look::Held(holder) => holder,
                Look::Away(Some(holder), beat)
                    if beat.elapsed().unwrap_or_default() < MISSED * holder.beat() =>
                {
                    holder
                }
                Look::Free | Look::Away(..) => continue,
            };
            held.insert(entry.file_name().to_string_lossy().into_owned(), holder);
        }
        Ok(held)
    }

    fn is_free(&self, path: &Path) -> std::io::Result<bool> {
        let (holder, beat) = match self.look(path)? {
            Look::Free => return Ok(true),
            Look::Held(_) => return Ok(false),
            Look::Away(holder, beat) => (holder, beat),
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, since) = seen.entry(path.to_owned()).or_insert((beat, Instant::now()));
        if *last != beat {
            (*last, *since) = (beat, Instant::now());
        }
        Ok(since.elapsed() >= MISSED * holder.as_ref().unwrap_or(&self.me).beat())
    }

    fn look(&self, path: &Path) -> std::io::Result<Look> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            // Another one has just taken the work over: it is at its first beat.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Look::Away(None, SystemTime::now()));
            }
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        if text.ends_with(GIVEN_UP) {
            return Ok(Look::Free);
        }
        let holder: Option<Holder> = text.lines().next().and_then(|line| serde_json::from_str(line).ok());
        if let Some(holder) = holder.as_ref().filter(|holder| holder.is_on_the_system_of(&self.me)) {
            match file.file().try_lock_shared() {
                Ok(()) => return Ok(Look::Free),
                Err(std::fs::TryLockError::WouldBlock) => return Ok(Look::Held(holder.clone())),
                Err(std::fs::TryLockError::Error(_)) => {}
            }
        }
        Ok(Look::Away(holder, file.metadata()?.modified()?))
    }
}

/// Whether there is a claim after this one.
fn is_taken_over(folder: &Path, number: u64) -> std::io::Result<bool> {
    Ok(numbers(folder)?.last().is_some_and(|last| *last > number))
}

/// The claims of a folder, in order.
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
        thread::{scope, sleep},
    };

    use super::*;

    /// Long enough for a machine that is busy with other tests.
    const BEAT: Duration = Duration::from_millis(100);

    /// A process of the machine `host`.
    fn on(folder: &Path, host: &str) -> Claims {
        Claims::of(folder.to_owned(), Holder::on(host, BEAT))
    }

    /// Holds `name` on the machine `host`, as a process does that is killed without notice.
    fn killed(folder: &Path, host: &str, name: &str) {
        let claim = on(folder, host).take(name).unwrap().unwrap();
        claim.stop_as_if_killed();
    }

    #[test]
    fn work_is_claimed_once_and_again_when_it_is_given_up() {
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
        assert_eq!(numbers(&folder.path().join("run")).unwrap(), [2]);
    }

    #[test]
    fn what_a_killed_process_held_is_free_at_once_on_its_machine_and_after_some_beats_on_others() {
        let folder = tempfile::tempdir().unwrap();
        killed(folder.path(), "a", "run");
        let other = on(folder.path(), "b");
        let since = Instant::now();
        while other.take("run").unwrap().is_none() {
            sleep(BEAT / 10);
        }
        let waited = since.elapsed();
        assert!(waited >= MISSED * BEAT && waited < other.patience() * 4, "{waited:?}");
        killed(folder.path(), "a", "run");
        assert!(on(folder.path(), "a").held().unwrap().is_empty());
        assert!(on(folder.path(), "a").take("run").unwrap().is_some());
    }

    #[test]
    fn a_living_process_keeps_its_claim() {
        let folder = tempfile::tempdir().unwrap();
        let claim = on(folder.path(), "a").take("run").unwrap().unwrap();
        let other = on(folder.path(), "b");
        let since = Instant::now();
        while since.elapsed() < other.patience() * 2 {
            assert!(other.take("run").unwrap().is_none() && claim.holds());
            sleep(BEAT / 2);
        }
    }

    #[test]
    fn a_process_that_was_suspended_learns_that_another_one_has_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let claim = on(folder.path(), "a").take("run").unwrap().unwrap();
        // What makes the next file is what takes over, whoever it is.
        fs_err::write(folder.path().join("run/2"), "{}\n").unwrap();
        sleep(BEAT * 3);
        assert!(!claim.holds());
        drop(claim);
        assert!(on(folder.path(), "c").take("run").unwrap().is_none());
    }

    #[test]
    fn a_claim_without_its_holder_is_waited_for_and_then_taken() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(folder.path().join("run")).unwrap();
        fs_err::write(folder.path().join("run/7"), "").unwrap();
        let claims = on(folder.path(), "a");
        assert!(claims.take("run").unwrap().is_none());
        sleep(MISSED * BEAT);
        assert!(claims.take("run").unwrap().is_some());
        assert_eq!(numbers(&folder.path().join("run")).unwrap(), [8]);
    }

    #[test]
    fn of_many_who_try_at_once_one_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, most, taken) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        // Every sixteenth holder is killed, on one of three machines.
        scope(|scope| {
            for taker in 0..6 {
                let (folder, inside, most, taken) = (folder.path(), &inside, &most, &taken);
                scope.spawn(move || {
                    let claims = on(folder, ["a", "b", "c"][taker % 3]);
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
