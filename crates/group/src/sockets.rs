//! Members that are processes, on one machine or several, joined through rank 0.
//!
//! They find each other by the environment variables that `torchrun` sets (`RANK`, `WORLD_SIZE`, `LOCAL_RANK`,
//! `MASTER_ADDR`, `MASTER_PORT`) or, under Slurm's `srun`, by `SLURM_PROCID`, `SLURM_NTASKS` and `SLURM_LOCALID` beside the
//! two addresses. Adapters and log-probs are small: what goes through rank 0 is a few megabytes a step.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{Collective, CollectiveError};

/// How long members wait for each other at the start.
const START: Duration = Duration::from_mins(5);

/// What every connection starts with, so that a stranger is not taken for a member.
const GREETING: &[u8; 16] = b"prospect group 1";

/// What a launcher says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launched {
    /// The process's number among all.
    pub rank: usize,
    /// Number of processes.
    pub size: usize,
    /// Its number on its machine: which GPU it takes.
    pub local_rank: usize,
    /// Where rank 0 listens.
    pub address: String,
}

impl Launched {
    /// Reads the variables of a launcher; None if there are none, or there is one process only.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, CollectiveError> {
        // A batch script itself is no step: it has Slurm's variables too.
        let step = variable("SLURM_STEP_ID").is_some();
        let number = |names: [&str; 2]| -> Result<Option<usize>, CollectiveError> {
            let known = names.iter().filter(|name| step || !name.starts_with("SLURM"));
            let Some((name, value)) = known.into_iter().find_map(|name| Some((name, variable(name)?))) else {
                return Ok(None);
            };
            let parsed = value.trim().parse();
            parsed
                .map(Some)
                .map_err(|_| CollectiveError::Launch(format!("{name} is `{value}`, not a number")))
        };
        let rank = number(["RANK", "SLURM_PROCID"])?;
        let (Some(rank), Some(size)) = (rank, number(["WORLD_SIZE", "SLURM_NTASKS"])?) else {
            return Ok(None);
        };
        if size < 2 {
            return Ok(None);
        }
        if rank >= size {
            return Err(CollectiveError::Launch(format!(
                "RANK is {rank}, and there are {size} ranks, from 0"
            )));
        }
        let (Some(host), Some(port)) = (variable("MASTER_ADDR"), variable("MASTER_PORT")) else {
            return Err(CollectiveError::Launch(format!(
                "there are {size} ranks, but MASTER_ADDR and MASTER_PORT do not say where rank 0 is; torchrun sets them, \
                 under srun set them to a host of the job and a free port"
            )));
        };
        let local_rank = number(["LOCAL_RANK", "SLURM_LOCALID"])?.unwrap_or(0);
        Ok(Some(Self { rank, size, local_rank, address: format!("{host}:{port}") }))
    }
}

/// A process's hold on its group.
#[derive(Debug)]
pub struct Sockets {
    rank: usize,
    size: usize,
    /// Of rank 0: to every other rank, in order; of the others: to rank 0.
    streams: Mutex<Vec<TcpStream>>,
}

impl Sockets {
    /// Joins the group: returns when all members are there.
    pub fn join(launched: &Launched) -> Result<Self, CollectiveError> {
        let Launched { rank, size, address, .. } = launched;
        let streams = if *rank == 0 { listen(address, *size) } else { call(address, *rank) };
        let failed = |error: io::Error| CollectiveError::Launch(format!("{address}: {error}"));
        Ok(Self { rank: *rank, size: *size, streams: Mutex::new(streams.map_err(failed)?) })
    }
}

/// Rank 0 waits for the others, who come in any order.
fn listen(address: &str, size: usize) -> io::Result<Vec<TcpStream>> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let mut members: Vec<Option<TcpStream>> = (1..size).map(|_| None).collect();
    let until = Instant::now() + START;
    while members.iter().any(Option::is_none) {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Some((rank, stream)) = greeted(stream)
                    && let Some(place) = rank.checked_sub(1).and_then(|index| members.get_mut(index))
                {
                    *place = Some(stream);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() > until {
                    let missing = (1..size).filter(|rank| members[rank - 1].is_none());
                    let missing: Vec<_> = missing.map(|rank| rank.to_string()).collect();
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("ranks {} did not come within {} s", missing.join(", "), START.as_secs()),
                    ));
                }
                thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(members.into_iter().flatten().collect())
}

/// The rank of a caller who knows how to greet.
fn greeted(mut stream: TcpStream) -> Option<(usize, TcpStream)> {
    stream.set_nonblocking(false).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let (mut greeting, mut rank) = ([0; GREETING.len()], [0; 8]);
    stream.read_exact(&mut greeting).ok().filter(|()| greeting == *GREETING)?;
    stream.read_exact(&mut rank).ok()?;
    stream.set_read_timeout(None).ok()?;
    Some((u64::from_le_bytes(rank) as usize, stream))
}

/// The others call rank 0 until it answers.
fn call(address: &str, rank: usize) -> io::Result<Vec<TcpStream>> {
    let until = Instant::now() + START;
    loop {
        let connected = address.to_socket_addrs().and_then(|mut all| {
            let address = all.next().ok_or_else(|| io::Error::other("the name has no address"))?;
            TcpStream::connect_timeout(&address, Duration::from_secs(5))
        });
        match connected {
            Ok(mut stream) => {
                stream.set_nodelay(true)?;
                stream.write_all(GREETING)?;
                stream.write_all(&(rank as u64).to_le_bytes())?;
                return Ok(vec![stream]);
            }
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn send(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(&(bytes.len() as u64).to_le_bytes())?;
    stream.write_all(bytes)
}

fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let mut bytes = Vec::new();
    // What is not there cannot make this take memory.
    if stream.take(length).read_to_end(&mut bytes)? as u64 == length {
        Ok(bytes)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
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
        let streams = &mut *self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let gone =
            |rank: usize| move |error: io::Error| CollectiveError::Gone { rank, why: format!(" ({error})") };
        if self.rank > 0 {
            let Some(root) = streams.first_mut() else { return Ok(vec![given]) };
            send(root, &given).map_err(gone(0))?;
            return (0..self.size).map(|_| receive(root).map_err(gone(0))).collect();
        }
        let mut all = vec![given];
        for (index, stream) in streams.iter_mut().enumerate() {
            all.push(receive(stream).map_err(gone(index + 1))?);
        }
        for (index, stream) in streams.iter_mut().enumerate() {
            for part in &all {
                send(stream, part).map_err(gone(index + 1))?;
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free_address() -> String {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
    }

    fn group(size: usize) -> Vec<Sockets> {
        let address = free_address();
        thread::scope(|scope| {
            let join = |rank| {
                let launched = Launched { rank, size, local_rank: rank, address: address.clone() };
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
                    }
                });
            }
        });
    }

    #[test]
    fn a_process_that_dies_is_named() {
        let mut members = group(3);
        drop(members.pop());
        thread::scope(|scope| {
            for member in members {
                scope.spawn(move || {
                    let error = member.gather(vec![1]).unwrap_err().to_string();
                    // Rank 0 sees rank 2 go, and rank 1 sees rank 0 go.
                    let expected = if member.rank() == 0 { "rank 2 is gone" } else { "rank 0 is gone" };
                    assert!(error.contains(expected), "{error}");
                });
            }
        });
    }

    #[test]
    fn launchers_say_who_is_who() {
        let read = |variables: &[(&str, &str)]| {
            Launched::read(|name| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let address = [("MASTER_ADDR", "10.0.0.1"), ("MASTER_PORT", "29500")];
        let of = |more: &[(&'static str, &'static str)]| read(&[more, &address].concat());
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(of(&[("RANK", "0"), ("WORLD_SIZE", "1")]).unwrap(), None);
        let expected = Launched { rank: 3, size: 8, local_rank: 1, address: "10.0.0.1:29500".to_owned() };
        assert_eq!(
            of(&[("RANK", "3"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")]).unwrap(),
            Some(expected.clone())
        );
        let batch = [("SLURM_PROCID", "3"), ("SLURM_NTASKS", "8"), ("SLURM_LOCALID", "1")];
        assert_eq!(of(&batch).unwrap(), None);
        let slurm = [&batch[..], &[("SLURM_STEP_ID", "0")]].concat();
        assert_eq!(of(&slurm).unwrap(), Some(expected));
        assert!(read(&slurm).unwrap_err().to_string().contains("MASTER_ADDR"));
        assert!(of(&[("RANK", "8"), ("WORLD_SIZE", "8")]).is_err());
        assert!(
            of(&[("RANK", "x"), ("WORLD_SIZE", "8")]).unwrap_err().to_string().contains("`x`, not a number")
        );
    }
}
