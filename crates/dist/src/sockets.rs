//! Members that are processes, on one machine or several, joined through rank 0.
//!
//! Log-probs are small, and of gradients only sums come back: each member sends its own once and hears the sum once. A
//! process that ends closes its connections; of a machine that is lost nothing is heard, so all send a sign of life every [`BEAT`], and who is silent
//! for [`SILENCE`] is taken for gone.

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

mod meeting;

use crate::{Collective, CollectiveError, LaunchEnv, add, bytes};
use meeting::{call, listen};

/// How often a member shows that it lives, however long it works without a word.
const BEAT: Duration = Duration::from_secs(10);

/// After how long without a sign of life a member is taken for gone.
const SILENCE: Duration = Duration::from_mins(2);

/// In place of a message's length: a sign of life.
const ALIVE: u64 = u64::MAX;

/// In place of a message's length: the member whose number follows is gone.
const GONE: u64 = u64::MAX - 1;

/// A process's hold on its group.
#[derive(Debug)]
pub struct Sockets {
    rank: usize,
    size: usize,
    /// Of rank 0: to every other rank, in order; of the others: to rank 0.
    peers: Mutex<Vec<Peer>>,
    /// Ends the signs of life when it is dropped.
    _heart: Sender<()>,
}

#[derive(Debug)]
struct Peer {
    rank: usize,
    from: TcpStream,
    to: Arc<Mutex<TcpStream>>,
}

/// Why nothing came of a peer.
enum Lost {
    /// The connection failed.
    Itself(io::Error),
    /// It says that another one is gone.
    Other(usize),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sockets {
    /// Joins the group: returns when all members are there.
    pub fn join(launched: &LaunchEnv) -> Result<Self, CollectiveError> {
        let LaunchEnv { rank, size, address, wait, .. } = launched;
        let waited = wait.as_secs();
        let streams = if *rank == 0 {
            listen(launched).map_err(|error| {
                CollectiveError::Launch(format!(
                    "rank 0 cannot gather {size} ranks at {address} (MASTER_ADDR, MASTER_PORT): {error}"
                ))
            })?
        } else {
            let stream = call(launched).map_err(|error| {
                CollectiveError::Launch(format!(
                    "rank {rank} does not reach rank 0 at {address} (MASTER_ADDR, MASTER_PORT) within {waited} s: {error}"
                ))
            })?;
            vec![(0, stream)]
        };
        Self::over(*rank, *size, streams)
            .map_err(|error| CollectiveError::Launch(format!("rank {rank}: {address}: {error}")))
    }

    fn over(rank: usize, size: usize, streams: Vec<(usize, TcpStream)>) -> io::Result<Self> {
        let mut peers = Vec::new();
        for (rank, stream) in streams {
            stream.set_read_timeout(Some(SILENCE))?;
            peers.push(Peer { rank, to: Arc::new(Mutex::new(stream.try_clone()?)), from: stream });
        }
        let (heart, ended) = channel();
        let all: Vec<_> = peers.iter().map(|peer| Arc::clone(&peer.to)).collect();
        thread::spawn(move || {
            while ended.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                for to in &all {
                    // Whoever is gone is found so by the next message.
                    let _ = lock(to).write_all(&ALIVE.to_le_bytes());
                }
            }
        });
        Ok(Self { rank, size, peers: Mutex::new(peers), _heart: heart })
    }
}

impl Drop for Sockets {
    /// Closes when the others have heard all, or after a moment.
    fn drop(&mut self) {
        let peers = &mut *lock(&self.peers);
        for peer in &mut *peers {
            let _ = peer.from.shutdown(Shutdown::Write);
        }
        let until = Instant::now() + Duration::from_secs(2);
        for Peer { from, .. } in peers {
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let _ = from.set_read_timeout(Some(left));
            while Instant::now() < until && from.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
            let _ = from.shutdown(Shutdown::Both);
        }
    }
}

fn number(stream: &mut TcpStream) -> io::Result<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

impl Peer {
    fn send(&self, bytes: &[u8]) -> Result<(), Lost> {
        let mut to = lock(&self.to);
        let length = (bytes.len() as u64).to_le_bytes();
        to.write_all(&length).and_then(|()| to.write_all(bytes)).map_err(Lost::Itself)
    }

    fn receive(&mut self) -> Result<Vec<u8>, Lost> {
        let length = loop {
            match number(&mut self.from).map_err(Lost::Itself)? {
                ALIVE => {}
                GONE => return Err(Lost::Other(number(&mut self.from).map_err(Lost::Itself)? as usize)),
                length => break length,
            }
        };
        let mut bytes = Vec::new();
        // What is not there cannot make this take memory.
        if (&mut self.from).take(length).read_to_end(&mut bytes).map_err(Lost::Itself)? as u64 == length {
            Ok(bytes)
        } else {
            Err(Lost::Itself(io::ErrorKind::UnexpectedEof.into()))
        }
    }

    /// Takes the signs of life that have come, and nothing else.
    fn look(&mut self) -> Result<(), Lost> {
        // Both directions stop waiting together, so nobody may write meanwhile.
        let to = Arc::clone(&self.to);
        let _quiet = lock(&to);
        loop {
            self.from.set_nonblocking(true).map_err(Lost::Itself)?;
            let mut head = [0; 8];
            let seen = self.from.peek(&mut head);
            self.from.set_nonblocking(false).map_err(Lost::Itself)?;
            match seen {
                Ok(0) => return Err(Lost::Itself(io::ErrorKind::UnexpectedEof.into())),
                Ok(8) if u64::from_le_bytes(head) == ALIVE => {
                    number(&mut self.from).map_err(Lost::Itself)?;
                }
                Ok(8) if u64::from_le_bytes(head) == GONE => {
                    return Err(self.receive().err().unwrap_or(Lost::Other(self.rank)));
                }
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Lost::Itself(error)),
            }
        }
    }

    fn gone(&self, lost: Lost) -> CollectiveError {
        let (rank, why) = match lost {
            Lost::Other(rank) => (rank, String::new()),
            Lost::Itself(error) => (
                self.rank,
                match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        format!(" (no sign of life for {} s)", SILENCE.as_secs())
                    }
                    io::ErrorKind::UnexpectedEof => String::new(),
                    _ => format!(" ({error})"),
                },
            ),
        };
        CollectiveError::Gone { rank, why }
    }
}

/// Gives rank 0 something and hears so many answers.
fn ask(root: &mut Peer, given: &[u8], answers: usize) -> Result<Vec<Vec<u8>>, CollectiveError> {
    // What rank 0 said last tells more than that it no longer listens, so it is heard in any case.
    let sent = root.send(given);
    let heard = (0..answers).map(|_| root.receive()).collect::<Result<Vec<_>, _>>();
    match (sent, heard) {
        (Ok(()), Ok(heard)) => Ok(heard),
        (_, Err(lost)) | (Err(lost), Ok(_)) => Err(root.gone(lost)),
    }
}

/// What each of the others gives, in the order of ranks.
fn hear(peers: &mut [Peer]) -> impl Iterator<Item = Result<Vec<u8>, CollectiveError>> {
    peers.iter_mut().map(|peer| peer.receive().map_err(|lost| peer.gone(lost)))
}

fn tell(peers: &[Peer], said: &[u8]) -> Result<(), CollectiveError> {
    peers.iter().try_for_each(|peer| peer.send(said).map_err(|lost| peer.gone(lost)))
}

/// Of rank 0: if one is gone, tells the others whom they miss. They notice in any case.
fn told_of_gone<T>(peers: &[Peer], result: Result<T, CollectiveError>) -> Result<T, CollectiveError> {
    if let Err(CollectiveError::Gone { rank, .. }) = &result {
        for peer in peers.iter().filter(|peer| peer.rank != *rank) {
            let _ = lock(&peer.to).write_all(&[GONE, *rank as u64].map(u64::to_le_bytes).concat());
        }
    }
    result
}

#[cfg_attr(
    not(any(test, feature = "nccl")),
    expect(dead_code, reason = "only GPUs are waited for beside the connections")
)]
impl Sockets {
    /// Whether all that this process hears of are there, without waiting. Takes nothing that one has given.
    pub(crate) fn look(&self) -> Result<(), CollectiveError> {
        let peers = &mut *lock(&self.peers);
        let looked = peers.iter_mut().try_for_each(|peer| peer.look().map_err(|lost| peer.gone(lost)));
        told_of_gone(peers, looked)
    }
}

impl Collective for Sockets {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn gather(&self, given: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        let peers = &mut *lock(&self.peers);
        if let (1.., Some(root)) = (self.rank, peers.first_mut()) {
            return ask(root, &given, self.size);
        }
        let all = [Ok(given)].into_iter().chain(hear(peers)).collect::<Result<Vec<_>, _>>();
        let all = all.and_then(|all| all.iter().try_for_each(|part| tell(peers, part)).map(|()| all));
        told_of_gone(peers, all)
    }

    fn sum(&self, values: &mut [f32]) -> Result<(), CollectiveError> {
        let peers = &mut *lock(&self.peers);
        if let (1.., Some(root)) = (self.rank, peers.first_mut()) {
            let answers = ask(root, &bytes(values), 1)?;
            values.fill(0.0);
            return answers.iter().try_for_each(|sum| add(values, sum, 0));
        }
        let heard = hear(peers).enumerate().try_for_each(|(index, part)| add(values, &part?, index + 1));
        let sum = heard.and_then(|()| tell(peers, &bytes(values)));
        told_of_gone(peers, sum)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    pub(super) fn free_address() -> String {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
    }

    fn group(size: usize) -> Vec<Sockets> {
        let address = free_address();
        thread::scope(|scope| {
            let join = |rank| {
                let launched = LaunchEnv::here(rank, size, address.clone());
                scope.spawn(move || Sockets::join(&launched).unwrap())
            };
            // The last come first.
            let members: Vec<_> = (0..size).rev().map(join).collect();
            members.into_iter().rev().map(|member| member.join().unwrap()).collect()
        })
    }

    #[test]
    fn processes_hear_each_other() {
        let members = group(3);
        thread::scope(|scope| {
            for member in &members {
                scope.spawn(move || {
                    for round in 0..20_usize {
                        let heard = member.gather(vec![member.rank() as u8; round * 1000]).unwrap();
                        let expected: Vec<_> = (0..3).map(|rank| vec![rank; round * 1000]).collect();
                        assert!(heard == expected);
                        // The others add to what rank 0 has, in the order of ranks.
                        let mut sum = [[1e8_f32, 1.0, -1e8][member.rank()], round as f32];
                        member.sum(&mut sum).unwrap();
                        assert_eq!(sum, [1e8 + 1.0 - 1e8, 3.0 * round as f32]);
                    }
                });
            }
        });
    }

    #[test]
    fn a_process_that_dies_is_named_to_all() {
        let mut members = group(3);
        let last = members.pop();
        thread::scope(|scope| {
            scope.spawn(move || drop(last));
            for member in members {
                scope.spawn(move || {
                    let error = member.gather(vec![1]).unwrap_err().to_string();
                    assert!(error.contains("rank 2 is gone"), "{}: {error}", member.rank());
                });
            }
        });
    }

    #[test]
    fn one_that_dies_is_seen_without_waiting_for_it() {
        let mut members = group(3);
        for member in &members {
            for peer in &*lock(&member.peers) {
                lock(&peer.to).write_all(&ALIVE.to_le_bytes()).unwrap();
            }
        }
        // Who looks takes no message.
        lock(&members[2].peers)[0].send(b"mine").map_err(|_| ()).unwrap();
        while lock(&members[0].peers)[1].from.peek(&mut [0; 64]).unwrap() < 20 {
            thread::yield_now();
        }
        for member in &members {
            member.look().unwrap();
        }
        assert_eq!(lock(&members[0].peers)[1].receive().map_err(|_| ()).unwrap(), b"mine");
        drop(members.pop());
        let gone = |member: &Sockets| loop {
            if let Err(error) = member.look() {
                break error.to_string();
            }
            thread::yield_now();
        };
        // Rank 0 sees it, and says so to rank 1, which has no connection to it.
        assert!(gone(&members[0]).contains("rank 2 is gone"));
        assert!(gone(&members[1]).contains("rank 2 is gone"));
    }

    #[test]
    fn signs_of_life_are_no_messages() {
        let members = group(2);
        for member in &members {
            for peer in &*lock(&member.peers) {
                lock(&peer.to).write_all(&ALIVE.to_le_bytes()).unwrap();
            }
        }
        thread::scope(|scope| {
            for member in &members {
                scope.spawn(move || {
                    assert_eq!(member.gather(vec![member.rank() as u8]).unwrap(), [[0], [1]]);
                });
            }
        });
    }
}
