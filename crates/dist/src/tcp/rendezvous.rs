//! Rendezvous: rank 0 listens and the other ranks connect to it.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    thread,
    time::{Duration, Instant},
};

use super::peer::read_u64;
use crate::LaunchEnv;

/// First bytes of every connection, which keep unrelated programs out of the group.
const GREETING: &[u8; 16] = b"prospect group 2";

/// Connection of a rank that has introduced itself.
struct Introduction {
    rank: usize,
    world_size: usize,
    stream: TcpStream,
}

/// On rank 0: waits for all other ranks, in any order, and returns their connections in rank order.
pub(super) fn accept_all(env: &LaunchEnv) -> io::Result<Vec<(usize, TcpStream)>> {
    let LaunchEnv { world_size, rendezvous_timeout, .. } = *env;
    let listener = TcpListener::bind(&env.master_address)?;
    listener.set_nonblocking(true)?;
    let mut streams: Vec<Option<TcpStream>> = (1..world_size).map(|_| None).collect();
    let deadline = Instant::now() + rendezvous_timeout;
    while streams.iter().any(Option::is_none) {
        match listener.accept() {
            Ok((stream, _)) => {
                let Some(peer) = read_greeting(stream) else { continue };
                let rank = peer.rank;
                if peer.world_size != world_size {
                    let theirs = peer.world_size;
                    return Err(io::Error::other(format!("rank {rank} has a world size of {theirs}")));
                }
                match rank.checked_sub(1).and_then(|index| streams.get_mut(index)) {
                    Some(slot @ None) => *slot = Some(peer.stream),
                    _ => return Err(io::Error::other(format!("two processes have rank {rank}"))),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() > deadline {
                    let missing = (1..world_size).filter(|rank| streams[rank - 1].is_none());
                    let missing: Vec<_> = missing.map(|rank| rank.to_string()).collect();
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!(
                            "rank {} did not join within {} s",
                            missing.join(", "),
                            rendezvous_timeout.as_secs()
                        ),
                    ));
                }
                thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((1..world_size).zip(streams.into_iter().flatten()).collect())
}

/// Reads a rank's greeting. Returns `None` for a connection of another program.
fn read_greeting(mut stream: TcpStream) -> Option<Introduction> {
    stream.set_nonblocking(false).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut greeting = [0; GREETING.len()];
    stream.read_exact(&mut greeting).ok().filter(|()| greeting == *GREETING)?;
    let rank = read_u64(&mut stream).ok()? as usize;
    let world_size = read_u64(&mut stream).ok()? as usize;
    Some(Introduction { rank, world_size, stream })
}

/// On other ranks: connects to rank 0, retrying until it listens.
pub(super) fn connect(env: &LaunchEnv) -> io::Result<TcpStream> {
    let LaunchEnv { rank, world_size, rendezvous_timeout, .. } = *env;
    let deadline = Instant::now() + rendezvous_timeout;
    loop {
        let connected = env.master_address.to_socket_addrs().and_then(|all| {
            let mut last = io::Error::other("the host name has no address");
            for address in all {
                match TcpStream::connect_timeout(&address, Duration::from_secs(5).min(rendezvous_timeout)) {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = error,
                }
            }
            Err(last)
        });
        match connected {
            Ok(mut stream) => {
                stream.set_nodelay(true)?;
                stream.write_all(GREETING)?;
                stream.write_all(&(rank as u64).to_le_bytes())?;
                stream.write_all(&(world_size as u64).to_le_bytes())?;
                return Ok(stream);
            }
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TcpGroup, tcp::tests::free_address};

    #[test]
    fn missing_ranks_and_bad_addresses_are_named() {
        let env = |rank, world_size, address: &str| LaunchEnv {
            rendezvous_timeout: Duration::from_millis(300),
            ..LaunchEnv::single_machine(rank, world_size, address.to_owned())
        };
        let join_error = |env: &LaunchEnv| TcpGroup::join(env).unwrap_err().to_string();
        let address = free_address();
        let error = join_error(&env(0, 2, &address));
        assert!(error.contains("rank 1 did not join"), "{error}");
        let error = join_error(&env(1, 2, &address));
        assert!(error.contains(&format!("rank 1 cannot reach rank 0 at {address}")), "{error}");
        // Reserved for documentation (RFC 5737), so no address of this machine.
        let error = join_error(&env(0, 2, "192.0.2.1:29500"));
        assert!(error.contains("rank 0 cannot form a group of 2 ranks at 192.0.2.1:29500"), "{error}");
        let error = thread::scope(|scope| {
            let other = scope.spawn(|| TcpGroup::join(&env(1, 3, &address)));
            let patient = LaunchEnv { rendezvous_timeout: Duration::from_secs(10), ..env(0, 2, &address) };
            let error = join_error(&patient);
            drop(other.join());
            error
        });
        assert!(error.contains("rank 1 has a world size of 3"), "{error}");
    }
}
