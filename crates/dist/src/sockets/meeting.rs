//! How processes find each other: rank 0 listens, the others call it.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    thread,
    time::{Duration, Instant},
};

use super::number;
use crate::LaunchEnv;

/// What every connection starts with, so that a stranger is not taken for a member.
const GREETING: &[u8; 16] = b"prospect group 2";

/// Rank 0 waits for the others, who come in any order.
pub(super) fn listen(
    LaunchEnv { size, address, wait, .. }: &LaunchEnv,
) -> io::Result<Vec<(usize, TcpStream)>> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let mut members: Vec<Option<TcpStream>> = (1..*size).map(|_| None).collect();
    let until = Instant::now() + *wait;
    while members.iter().any(Option::is_none) {
        match listener.accept() {
            Ok((stream, _)) => {
                let Some((rank, theirs, stream)) = greeted(stream) else { continue };
                if theirs != *size {
                    return Err(io::Error::other(format!("rank {rank} is one of {theirs} ranks")));
                }
                match rank.checked_sub(1).and_then(|index| members.get_mut(index)) {
                    Some(place @ None) => *place = Some(stream),
                    _ => return Err(io::Error::other(format!("there are two of rank {rank}"))),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() > until {
                    let missing = (1..*size).filter(|rank| members[rank - 1].is_none());
                    let missing: Vec<_> = missing.map(|rank| rank.to_string()).collect();
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("rank {} did not come within {} s", missing.join(", "), wait.as_secs()),
                    ));
                }
                thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((1..*size).zip(members.into_iter().flatten()).collect())
}

/// The rank and the number of ranks of a caller who knows how to greet.
fn greeted(mut stream: TcpStream) -> Option<(usize, usize, TcpStream)> {
    stream.set_nonblocking(false).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut greeting = [0; GREETING.len()];
    stream.read_exact(&mut greeting).ok().filter(|()| greeting == *GREETING)?;
    let rank = number(&mut stream).ok()?;
    let size = number(&mut stream).ok()?;
    Some((rank as usize, size as usize, stream))
}

/// The others call rank 0 until it answers.
pub(super) fn call(LaunchEnv { rank, size, address, wait, .. }: &LaunchEnv) -> io::Result<TcpStream> {
    let until = Instant::now() + *wait;
    loop {
        let connected = address.to_socket_addrs().and_then(|all| {
            let mut last = io::Error::other("the name has no address");
            for address in all {
                match TcpStream::connect_timeout(&address, Duration::from_secs(5).min(*wait)) {
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
                stream.write_all(&(*rank as u64).to_le_bytes())?;
                stream.write_all(&(*size as u64).to_le_bytes())?;
                return Ok(stream);
            }
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Sockets, sockets::tests::free_address};

    #[test]
    fn who_does_not_come_or_is_not_found_is_said() {
        let wait = Duration::from_millis(300);
        let of =
            |rank, size, address: &str| LaunchEnv { wait, ..LaunchEnv::here(rank, size, address.to_owned()) };
        let fails = |launched: &LaunchEnv| Sockets::join(launched).unwrap_err().to_string();
        let address = free_address();
        let error = fails(&of(0, 2, &address));
        assert!(error.contains("rank 1 did not come"), "{error}");
        let error = fails(&of(1, 2, &address));
        assert!(error.contains(&format!("rank 1 does not reach rank 0 at {address}")), "{error}");
        // An address that is set apart for documents, and so is none of this machine.
        let error = fails(&of(0, 2, "192.0.2.1:29500"));
        assert!(error.contains("rank 0 cannot gather 2 ranks at 192.0.2.1:29500"), "{error}");
        let error = thread::scope(|scope| {
            let other = scope.spawn(|| Sockets::join(&of(1, 3, &address)));
            let error = fails(&LaunchEnv { wait: Duration::from_secs(10), ..of(0, 2, &address) });
            drop(other.join());
            error
        });
        assert!(error.contains("rank 1 is one of 3 ranks"), "{error}");
    }
}
