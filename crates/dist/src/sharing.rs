//! Things of which every member keeps a part.

use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use candle_core::Tensor;

use crate::{Collective, CollectiveError, Devices};

/// A member's part of a thing: some rows of a matrix.
pub trait Part: Send + Sync {
    /// The part's bytes, as they are kept.
    fn bytes(&self) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>>;

    /// The part's numbers, and how many rows there are of all members.
    fn rows(&self) -> Result<(Tensor, usize), Box<dyn Error + Send + Sync>>;
}

/// A thing of which every member gave its part.
#[derive(Debug)]
pub enum Whole {
    /// The bytes of all parts, by rank, as they are kept.
    Bytes(Vec<Vec<u8>>),
    /// The numbers of all parts, one under the other, on this member's device.
    Rows(Tensor),
}

/// A group whose members keep parts of things, any of which a member may need whole at any time.
///
/// They need not be at the same place for that. Whenever a member needs a thing or has come to where all meet, it says so, and
/// all hear it: as long as anyone needs something, all give their parts of it; when all have come, they meet. So one
/// member may do what the others do not, such as evaluate, and members need not have the same number of batches.
pub struct ShardedStore {
    group: Box<dyn Collective>,
    /// By number of the thing. Those that nobody needs any more are gone.
    parts: Mutex<Vec<Weak<dyn Part>>>,
}

impl fmt::Debug for ShardedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharing").field("group", &self.group).finish_non_exhaustive()
    }
}

type Parts<'a> = MutexGuard<'a, Vec<Weak<dyn Part>>>;

impl ShardedStore {
    /// Sharing among the members of `group`. All of it goes through this from now on.
    pub fn among(group: Box<dyn Collective>) -> Self {
        Self { group, parts: Mutex::default() }
    }

    /// Keeps this member's part of a new thing for as long as it is held elsewhere; the thing's number. All members make the
    /// same things in the same order.
    pub fn keep(&self, part: &Arc<dyn Part>) -> usize {
        let mut parts = self.lock();
        parts.push(Arc::downgrade(part));
        parts.len() - 1
    }

    /// A thing, of all its parts.
    pub fn whole(&self, thing: usize) -> Result<Whole, CollectiveError> {
        let parts = self.lock();
        let mut found = None;
        for wanted in self.wanted(Some(thing))? {
            let whole = self.give(&parts, wanted)?;
            if wanted == thing {
                found = Some(whole);
            }
        }
        found.ok_or(CollectiveError::OutOfStep { rank: self.group.rank() })
    }

    fn reach(&self) -> Result<&dyn Devices, CollectiveError> {
        self.group.devices().ok_or(CollectiveError::OutOfStep { rank: self.group.rank() })
    }

    fn lock(&self) -> Parts<'_> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What members need, each thing once; None says that one has come to where all meet.
    fn wanted(&self, own: Option<usize>) -> Result<Vec<usize>, CollectiveError> {
        let told = own.map_or(u64::MAX, |thing| thing as u64);
        let mut wanted = Vec::new();
        for (rank, told) in self.group.gather(told.to_le_bytes().to_vec())?.into_iter().enumerate() {
            let told = <[u8; 8]>::try_from(told).map_err(|_| CollectiveError::OutOfStep { rank })?;
            let thing = u64::from_le_bytes(told);
            if thing != u64::MAX && !wanted.contains(&(thing as usize)) {
                wanted.push(thing as usize);
            }
        }
        Ok(wanted)
    }

    /// Gives others what they need until all have come to where they meet.
    fn meet(&self, parts: &Parts<'_>) -> Result<(), CollectiveError> {
        loop {
            let wanted = self.wanted(None)?;
            if wanted.is_empty() {
                return Ok(());
            }
            for thing in wanted {
                self.give(parts, thing)?;
            }
        }
    }

    /// Gives this member's part of a thing, and gets the whole.
    fn give(&self, parts: &Parts<'_>, thing: usize) -> Result<Whole, CollectiveError> {
        let rank = self.group.rank();
        let part = parts.get(thing).and_then(Weak::upgrade).ok_or(CollectiveError::OutOfStep { rank })?;
        let failed = |source| CollectiveError::Part { source };
        Ok(match self.group.devices() {
            Some(devices) => {
                let (own, rows) = part.rows().map_err(failed)?;
                Whole::Rows(devices.all_gather(&own, rows)?)
            }
            None => Whole::Bytes(self.group.gather(part.bytes().map_err(failed)?)?),
        })
    }
}

impl Collective for ShardedStore {
    fn rank(&self) -> usize {
        self.group.rank()
    }

    fn size(&self) -> usize {
        self.group.size()
    }

    fn gather(&self, given: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        let parts = self.lock();
        self.meet(&parts)?;
        self.group.gather(given)
    }

    fn sum(&self, values: &mut [f32]) -> Result<(), CollectiveError> {
        let parts = self.lock();
        self.meet(&parts)?;
        self.group.sum(values)
    }

    fn devices(&self) -> Option<&dyn Devices> {
        self.group.devices().map(|_| self as &dyn Devices)
    }
}

/// Once all have come to where they meet.
impl Devices for ShardedStore {
    fn all_reduce(&self, own: &Tensor) -> Result<Tensor, CollectiveError> {
        let parts = self.lock();
        self.meet(&parts)?;
        self.reach()?.all_reduce(own)
    }

    fn all_gather(&self, own: &Tensor, rows: usize) -> Result<Tensor, CollectiveError> {
        let parts = self.lock();
        self.meet(&parts)?;
        self.reach()?.all_gather(own, rows)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::threads;

    struct Byte(u8);

    impl Part for Byte {
        fn bytes(&self) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
            Ok(vec![self.0])
        }

        fn rows(&self) -> Result<(Tensor, usize), Box<dyn Error + Send + Sync>> {
            Err("threads have no devices".into())
        }
    }

    fn bytes(whole: Whole) -> Vec<Vec<u8>> {
        let Whole::Bytes(parts) = whole else { panic!("{whole:?}") };
        parts
    }

    /// Does `work` with three things on each of three threads, and then drops its hold on the group.
    fn each(
        work: impl Fn(&ShardedStore) -> Result<(), CollectiveError> + Sync,
    ) -> Vec<Result<(), CollectiveError>> {
        thread::scope(|scope| {
            let work = &work;
            let members = threads(3).into_iter().map(|member| {
                scope.spawn(move || {
                    let sharing = ShardedStore::among(Box::new(member));
                    let rank = sharing.rank() as u8;
                    let parts = [10, 20, 30].map(|thing| Arc::new(Byte(thing + rank)) as Arc<dyn Part>);
                    assert_eq!(parts.each_ref().map(|part| sharing.keep(part)), [0, 1, 2]);
                    work(&sharing)
                })
            });
            let members: Vec<_> = members.collect();
            members.into_iter().map(|member| member.join().unwrap()).collect()
        })
    }

    #[test]
    fn members_need_not_be_at_the_same_place() {
        let results = each(|sharing| {
            let rank = sharing.rank();
            // Each needs other things, in another order, another number of times, and one of them nothing.
            let needs: [&[usize]; 3] = [&[0, 1, 2, 1, 1], &[2, 0], &[]];
            for thing in needs[rank] {
                let first = 10 * (*thing as u8 + 1);
                assert_eq!(bytes(sharing.whole(*thing)?), [[first], [first + 1], [first + 2]]);
            }
            assert_eq!(sharing.gather(vec![rank as u8])?, [[0], [1], [2]]);
            // And again, after they have met.
            if rank == 2 {
                assert_eq!(bytes(sharing.whole(0)?), [[10], [11], [12]]);
            }
            let mut sum = [rank as f32];
            sharing.sum(&mut sum)?;
            assert_eq!(sum, [3.0]);
            Ok(())
        });
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }

    #[test]
    fn a_thing_that_is_not_there_ends_all() {
        let results = each(|sharing| {
            if sharing.rank() == 1 {
                sharing.whole(7).map(|_| ())
            } else {
                sharing.gather(Vec::new()).map(|_| ())
            }
        });
        assert!(results.iter().all(Result::is_err), "{results:?}");
    }
}
