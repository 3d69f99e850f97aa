//! A process's place in its group.

use std::sync::Arc;

use crate::{Collective, CollectiveError, LaunchEnv, ShardedStore, SingleProcess};

#[cfg(feature = "nccl")]
use crate::Nccl as Processes;
#[cfg(not(feature = "nccl"))]
use crate::Sockets as Processes;

/// A process's place in its group.
#[derive(Debug, Clone)]
pub struct ProcessGroup {
    /// Its hold on the group.
    pub group: Arc<dyn Collective>,
    /// Its number on its machine: which GPU it takes.
    pub local_rank: usize,
    /// If frozen weights are kept in parts, each of them by one member: the same group, which gives them.
    pub sharing: Option<Arc<ShardedStore>>,
}

impl Default for ProcessGroup {
    fn default() -> Self {
        Self { group: Arc::new(SingleProcess), local_rank: 0, sharing: None }
    }
}

impl ProcessGroup {
    /// A member of `group`; with `shard`, frozen weights are kept in parts.
    pub fn of(group: Box<dyn Collective>, local_rank: usize, shard: bool) -> Self {
        if shard {
            let sharing = Arc::new(ShardedStore::among(group));
            Self { group: Arc::<ShardedStore>::clone(&sharing), local_rank, sharing: Some(sharing) }
        } else {
            Self { group: Arc::from(group), local_rank, sharing: None }
        }
    }

    /// Joins the group that a launcher started: returns when all members are there.
    pub fn join(launched: &LaunchEnv, shard: bool) -> Result<Self, CollectiveError> {
        Ok(Self::of(Box::new(Processes::join(launched)?), launched.local_rank, shard))
    }

    /// Whether it decides and writes for all.
    pub fn is_first(&self) -> bool {
        self.group.rank() == 0
    }
}
