//! Several devices that train one model together.
//!
//! A [`Collective`] is a member's hold on its group: what one member gives, all of them get. [`threads`] makes a group of the
//! threads of one process, [`Sockets`] joins processes that a launcher [started](Launched), `Nccl` their GPUs too, [`SingleProcess`] is a
//! group of one. All members make the same calls in the same order; only what they keep in parts ([`ShardedStore`]) may one ask for
//! while others are elsewhere.
//!
//! ```
//! use prospect_dist::{Collective, threads};
//!
//! let sums: Vec<f32> = std::thread::scope(|scope| {
//!     let add = |member: prospect_dist::Thread| {
//!         let mut values = [member.rank() as f32 + 1.0];
//!         member.sum(&mut values).map(|()| values[0])
//!     };
//!     let members: Vec<_> = threads(3).into_iter().map(|member| scope.spawn(move || add(member))).collect();
//!     members.into_iter().map(|member| member.join().expect("it ends").expect("all are there")).collect()
//! });
//! assert_eq!(sums, [6.0, 6.0, 6.0]);
//! ```

mod devices;
mod launched;
mod member;
#[cfg(feature = "nccl")]
mod nccl;
mod sharing;
mod sockets;
mod threads;

use std::{error::Error, ops::Range};

use candle_core::{DType, Tensor};
pub use devices::Devices;
pub use launched::LaunchEnv;
pub use member::ProcessGroup;
#[cfg(feature = "nccl")]
pub use nccl::Nccl;
pub use sharing::{Part, ShardedStore, Whole};
pub use sockets::Sockets;
pub use threads::{Thread, threads};

/// A member's hold on its group.
pub trait Collective: Send + Sync + std::fmt::Debug {
    /// The member's number, from 0.
    fn rank(&self) -> usize;

    /// Number of members.
    fn size(&self) -> usize;

    /// What every member gave, by rank. Returns once all of them have given something; an error if one is gone.
    fn gather(&self, given: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError>;

    /// Replaces `values` by the sums over all members, the same bits on all of them: they are added in the order of ranks,
    /// whoever comes first.
    fn sum(&self, values: &mut [f32]) -> Result<(), CollectiveError> {
        if self.size() == 1 {
            return Ok(());
        }
        let parts = self.gather(bytes(values))?;
        values.fill(0.0);
        parts.iter().enumerate().try_for_each(|(rank, part)| add(values, part, rank))
    }

    /// The members' devices, where they reach each other without a way through the memory of their hosts.
    fn devices(&self) -> Option<&dyn Devices> {
        None
    }

    /// The sums over all members of tensors of one shape, in f32 on the same device; the same bits on all of them.
    fn sum_tensor(&self, own: &Tensor) -> Result<Tensor, CollectiveError> {
        if let Some(devices) = self.devices() {
            return devices.all_reduce(own);
        }
        let mut sum = own.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
        self.sum(&mut sum)?;
        Ok(Tensor::from_vec(sum, own.shape(), own.device())?)
    }

    /// What rank 0 gives, on all members.
    fn broadcast(&self, given: Vec<u8>) -> Result<Vec<u8>, CollectiveError> {
        self.gather(given)?.into_iter().next().ok_or(CollectiveError::OutOfStep { rank: 0 })
    }

    /// Makes sure that all members give the same.
    fn agree(&self, given: Vec<u8>) -> Result<(), CollectiveError> {
        let all = self.gather(given)?;
        match all.iter().position(|other| *other != all[0]) {
            Some(rank) => Err(CollectiveError::OutOfStep { rank }),
            None => Ok(()),
        }
    }

    /// The member's part of `count` things in order: neighbours stay together, and parts differ by one at most.
    fn part(&self, count: usize) -> Range<usize> {
        self.part_of(self.rank(), count)
    }

    /// Another member's [`part`](Self::part).
    fn part_of(&self, rank: usize, count: usize) -> Range<usize> {
        let size = self.size();
        rank * count / size..(rank + 1) * count / size
    }
}

/// Numbers as they are sent.
fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Adds the numbers that member `rank` sent.
fn add(values: &mut [f32], sent: &[u8], rank: usize) -> Result<(), CollectiveError> {
    let (numbers, rest) = sent.as_chunks::<4>();
    if numbers.len() != values.len() || !rest.is_empty() {
        return Err(CollectiveError::OutOfStep { rank });
    }
    for (sum, number) in values.iter_mut().zip(numbers) {
        *sum += f32::from_le_bytes(*number);
    }
    Ok(())
}

/// Why members cannot go on together.
#[derive(Debug, thiserror::Error)]
pub enum CollectiveError {
    /// A member has ended.
    #[error(
        "rank {rank} is gone{why}: all ranks end here; the same command goes on from the last checkpoint"
    )]
    Gone {
        /// Its number.
        rank: usize,
        /// What is known of it, in brackets, or nothing.
        why: String,
    },
    /// A member gave something that does not fit.
    #[error(
        "rank {rank} is at another place of the run: are all ranks started with the same version and command?"
    )]
    OutOfStep {
        /// Its number.
        rank: usize,
    },
    /// A member cannot give its part of what is shared.
    #[error("a part of the weights cannot be given to the other ranks: {source}")]
    Part {
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A device does not do its part.
    #[error(transparent)]
    Device(#[from] candle_core::Error),
    /// The group cannot be formed.
    #[error("{0}")]
    Launch(String),
}

/// One member alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct SingleProcess;

impl Collective for SingleProcess {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn gather(&self, given: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        Ok(vec![given])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_hear_the_first_and_whoever_differs_is_named() {
        let found: Vec<_> = std::thread::scope(|scope| {
            let members = threads(3).into_iter().map(|member| {
                scope.spawn(move || {
                    let heard = member.broadcast(vec![member.rank() as u8]).unwrap();
                    member.agree(heard).unwrap();
                    member.agree(vec![u8::from(member.rank() == 2)]).unwrap_err().to_string()
                })
            });
            let members: Vec<_> = members.collect();
            members.into_iter().map(|member| member.join().unwrap()).collect()
        });
        assert!(found.iter().all(|error| error.contains("rank 2 is at another place")), "{found:?}");
    }

    #[test]
    fn parts_cover_everything_once() {
        for size in 1..6 {
            for count in 0..20 {
                let all: Vec<usize> = threads(size).iter().flat_map(|member| member.part(count)).collect();
                assert_eq!(all, (0..count).collect::<Vec<_>>());
            }
        }
    }
}
