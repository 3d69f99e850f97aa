//! Group of processes on one or several machines, connected by TCP through rank 0.
//!
//! Every rank other than 0 has one connection, to rank 0: it sends its data there and receives the
//! result. The traffic is small: log-probs, and one send and one receive of the gradients per step.
//!
//! A process that ends closes its connections. A machine that fails does not, so every rank sends a
//! heartbeat each [`HEARTBEAT_INTERVAL`], and a peer that sends nothing for [`HEARTBEAT_TIMEOUT`]
//! counts as lost.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

mod peer;
mod rendezvous;

use crate::{
    Collective, CollectiveError, LaunchEnv,
    collective::{add_received, to_bytes},
};
use peer::{HEARTBEAT, Peer, RANK_LOST};

/// Heartbeat interval. A rank sends heartbeats also while it computes.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);

/// Heartbeat timeout.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_mins(2);

/// Longest time that a rank waits at its end for the others to read its last data.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// One process's handle on a group that communicates over TCP.
#[derive(Debug)]
pub struct TcpGroup {
    rank: usize,
    world_size: usize,
    /// On rank 0: all other ranks, in order. On the others: rank 0.
    peers: Mutex<Vec<Peer>>,
    /// Stops the heartbeat thread when dropped.
    _heartbeat: Sender<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TcpGroup {
    /// Joins the group. Blocks until all ranks have joined.
    ///
    /// # Errors
    /// Fails if a rank does not join within [`LaunchEnv::rendezvous_timeout`].
    pub fn join(env: &LaunchEnv) -> Result<Self, CollectiveError> {
        let LaunchEnv { rank, world_size, master_address: address, rendezvous_timeout, .. } = env;
        let timeout = rendezvous_timeout.as_secs();
        let streams = if *rank == 0 {
            rendezvous::accept_all(env).map_err(|error| {
                CollectiveError::Launch(format!(
                    "rank 0 cannot form a group of {world_size} ranks at {address} \
                     (MASTER_ADDR, MASTER_PORT): {error}"
                ))
            })?
        } else {
            let stream = rendezvous::connect(env).map_err(|error| {
                CollectiveError::Launch(format!(
                    "rank {rank} cannot reach rank 0 at {address} (MASTER_ADDR, MASTER_PORT) \
                     within {timeout} s: {error}"
                ))
            })?;
            vec![(0, stream)]
        };
        Self::from_streams(*rank, *world_size, streams)
            .map_err(|error| CollectiveError::Launch(format!("rank {rank}: {address}: {error}")))
    }

    fn from_streams(rank: usize, world_size: usize, streams: Vec<(usize, TcpStream)>) -> io::Result<Self> {
        let peers = streams.into_iter().map(|(rank, stream)| {
            stream.set_read_timeout(Some(HEARTBEAT_TIMEOUT))?;
            Peer::new(rank, stream)
        });
        let peers = peers.collect::<io::Result<Vec<_>>>()?;
        let heartbeat = send_heartbeats(peers.iter().map(|peer| Arc::clone(&peer.writer)).collect());
        Ok(Self { rank, world_size, peers: Mutex::new(peers), _heartbeat: heartbeat })
    }
}

/// Starts a thread that sends heartbeats until the returned sender is dropped.
fn send_heartbeats(writers: Vec<Arc<Mutex<TcpStream>>>) -> Sender<()> {
    let (sender, stopped) = channel();
    thread::spawn(move || {
        while stopped.recv_timeout(HEARTBEAT_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            for writer in &writers {
                // The next message reports a lost peer.
                let _ = lock(writer).write_all(&HEARTBEAT.to_le_bytes());
            }
        }
    });
    sender
}

impl Drop for TcpGroup {
    /// Closes the connections once the peers have read everything, or after `CLOSE_TIMEOUT`.
    fn drop(&mut self) {
        let peers = &mut *lock(&self.peers);
        for peer in &mut *peers {
            let _ = peer.reader.shutdown(Shutdown::Write);
        }
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        for Peer { reader, .. } in peers {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let _ = reader.set_read_timeout(Some(left));
            while Instant::now() < deadline && reader.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
            let _ = reader.shutdown(Shutdown::Both);
        }
    }
}

/// Sends this rank's data to rank 0 and receives `replies` messages.
fn exchange_with_root(root: &mut Peer, own: &[u8], replies: usize) -> Result<Vec<Vec<u8>>, CollectiveError> {
    // Receive even if the send failed: rank 0's last message may name the rank that was lost.
    let sent = root.send(own);
    let received = (0..replies).map(|_| root.receive()).collect::<Result<Vec<_>, _>>();
    match (sent, received) {
        (Ok(()), Ok(received)) => Ok(received),
        (_, Err(failure)) | (Err(failure), Ok(_)) => Err(root.lost(failure)),
    }
}

/// Receives one message from each peer, in rank order.
fn receive_all(peers: &mut [Peer]) -> impl Iterator<Item = Result<Vec<u8>, CollectiveError>> {
    peers.iter_mut().map(|peer| peer.receive().map_err(|failure| peer.lost(failure)))
}

fn send_all(peers: &[Peer], data: &[u8]) -> Result<(), CollectiveError> {
    peers.iter().try_for_each(|peer| peer.send(data).map_err(|failure| peer.lost(failure)))
}

/// On rank 0: if a rank was lost, tells the others which one. They notice in any case.
fn announce_lost<T>(peers: &[Peer], result: Result<T, CollectiveError>) -> Result<T, CollectiveError> {
    if let Err(CollectiveError::RankLost { rank, .. }) = &result {
        for peer in peers.iter().filter(|peer| peer.rank != *rank) {
            let _ = lock(&peer.writer).write_all(&[RANK_LOST, *rank as u64].map(u64::to_le_bytes).concat());
        }
    }
    result
}

#[cfg_attr(
    not(any(test, feature = "nccl")),
    expect(dead_code, reason = "only NCCL watches the connections while it waits")
)]
impl TcpGroup {
    /// Checks without blocking that no peer is lost. Leaves messages unread.
    pub(crate) fn check_peers(&self) -> Result<(), CollectiveError> {
        let peers = &mut *lock(&self.peers);
        let checked =
            peers.iter_mut().try_for_each(|peer| peer.check().map_err(|failure| peer.lost(failure)));
        announce_lost(peers, checked)
    }
}

impl Collective for TcpGroup {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.world_size
    }

    fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        let peers = &mut *lock(&self.peers);
        if let (1.., Some(root)) = (self.rank, peers.first_mut()) {
            return exchange_with_root(root, &own, self.world_size);
        }
        let all = [Ok(own)].into_iter().chain(receive_all(peers)).collect::<Result<Vec<_>, _>>();
        let all = all.and_then(|all| all.iter().try_for_each(|part| send_all(peers, part)).map(|()| all));
        announce_lost(peers, all)
    }

    fn reduce_scatter(&self, values: &[f32]) -> Result<Vec<f32>, CollectiveError> {
        let peers = &mut *lock(&self.peers);
        if let (1.., Some(root)) = (self.rank, peers.first_mut()) {
            let mut shard = vec![0.0; self.even_shard(values.len()).len()];
            let replies = exchange_with_root(root, &to_bytes(values), 1)?;
            replies.iter().try_for_each(|sum| add_received(&mut shard, sum, 0))?;
            return Ok(shard);
        }
        let mut sums = values.to_vec();
        let mut received = receive_all(peers).enumerate();
        let added = received.try_for_each(|(index, part)| add_received(&mut sums, &part?, index + 1));
        drop(received);
        let sent = added.and_then(|()| {
            peers.iter().try_for_each(|peer| {
                let shard = &sums[self.even_shard_of(peer.rank, sums.len())];
                peer.send(&to_bytes(shard)).map_err(|failure| peer.lost(failure))
            })
        });
        announce_lost(peers, sent)?;
        Ok(sums[self.even_shard(sums.len())].to_vec())
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<(), CollectiveError> {
        let peers = &mut *lock(&self.peers);
        if let (1.., Some(root)) = (self.rank, peers.first_mut()) {
            let replies = exchange_with_root(root, &to_bytes(values), 1)?;
            values.fill(0.0);
            return replies.iter().try_for_each(|sum| add_received(values, sum, 0));
        }
        let mut received = receive_all(peers).enumerate();
        let added = received.try_for_each(|(index, part)| add_received(values, &part?, index + 1));
        drop(received);
        let sum = added.and_then(|()| send_all(peers, &to_bytes(values)));
        announce_lost(peers, sum)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    pub(super) fn free_address() -> String {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
    }

    fn tcp_group(world_size: usize) -> Vec<TcpGroup> {
        let address = free_address();
        thread::scope(|scope| {
            let join = |rank| {
                let env = LaunchEnv::single_machine(rank, world_size, address.clone());
                scope.spawn(move || TcpGroup::join(&env).unwrap())
            };
            // The last rank starts first.
            let ranks: Vec<_> = (0..world_size).rev().map(join).collect();
            ranks.into_iter().rev().map(|rank| rank.join().unwrap()).collect()
        })
    }

    fn send_heartbeat_to_all(ranks: &[TcpGroup]) {
        for rank in ranks {
            for peer in &*lock(&rank.peers) {
                lock(&peer.writer).write_all(&HEARTBEAT.to_le_bytes()).unwrap();
            }
        }
    }

    #[test]
    fn processes_gather_and_reduce() {
        let ranks = tcp_group(3);
        thread::scope(|scope| {
            for group in &ranks {
                scope.spawn(move || {
                    for round in 0..20_usize {
                        let gathered = group.all_gather(vec![group.rank() as u8; round * 1000]).unwrap();
                        let expected: Vec<_> = (0..3).map(|rank| vec![rank; round * 1000]).collect();
                        assert!(gathered == expected);
                        // The sum starts from rank 0's values and adds the others in rank order.
                        let mut sum = [[1e8_f32, 1.0, -1e8][group.rank()], round as f32];
                        group.all_reduce(&mut sum).unwrap();
                        assert_eq!(sum, [1e8 + 1.0 - 1e8, 3.0 * round as f32]);
                        let own = [[1e8_f32, 1.0, -1e8][group.rank()], round as f32, 1.0, 2.0];
                        let sums = [1e8 + 1.0 - 1e8, 3.0 * round as f32, 3.0, 6.0];
                        assert_eq!(group.reduce_scatter(&own).unwrap(), sums[group.even_shard(4)]);
                    }
                });
            }
        });
    }

    #[test]
    fn a_lost_process_is_named_on_all_ranks() {
        let mut ranks = tcp_group(3);
        let last = ranks.pop();
        thread::scope(|scope| {
            scope.spawn(move || drop(last));
            for group in ranks {
                scope.spawn(move || {
                    let error = group.all_gather(vec![1]).unwrap_err().to_string();
                    assert!(error.contains("lost rank 2"), "{}: {error}", group.rank());
                });
            }
        });
    }

    #[test]
    fn a_lost_process_is_noticed_without_waiting_for_its_data() {
        let mut ranks = tcp_group(3);
        send_heartbeat_to_all(&ranks);
        // A check leaves messages unread.
        lock(&ranks[2].peers)[0].send(b"mine").map_err(|_| ()).unwrap();
        while lock(&ranks[0].peers)[1].reader.peek(&mut [0; 64]).unwrap() < 20 {
            thread::yield_now();
        }
        for group in &ranks {
            group.check_peers().unwrap();
        }
        assert_eq!(lock(&ranks[0].peers)[1].receive().map_err(|_| ()).unwrap(), b"mine");
        drop(ranks.pop());
        let failed_check = |group: &TcpGroup| loop {
            if let Err(error) = group.check_peers() {
                break error.to_string();
            }
            thread::yield_now();
        };
        // Rank 0 notices and tells rank 1, which has no connection to rank 2.
        assert!(failed_check(&ranks[0]).contains("lost rank 2"));
        assert!(failed_check(&ranks[1]).contains("lost rank 2"));
    }

    #[test]
    fn heartbeats_are_not_messages() {
        let ranks = tcp_group(2);
        send_heartbeat_to_all(&ranks);
        thread::scope(|scope| {
            for group in &ranks {
                scope.spawn(move || {
                    assert_eq!(group.all_gather(vec![group.rank() as u8]).unwrap(), [[0], [1]]);
                });
            }
        });
    }
}
