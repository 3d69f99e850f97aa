//! Connection to another rank and its wire format.
//!
//! A message is its length as a little-endian u64 and its bytes. Two values that cannot be lengths
//! are control messages: [`HEARTBEAT`], and [`RANK_LOST`], which is followed by the lost rank.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::{Arc, Mutex},
};

use super::{HEARTBEAT_TIMEOUT, lock};
use crate::CollectiveError;

/// Heartbeat, in place of a message's length.
pub(super) const HEARTBEAT: u64 = u64::MAX;

/// Announcement of a lost rank, in place of a message's length.
pub(super) const RANK_LOST: u64 = u64::MAX - 1;

/// Connection to another rank.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) rank: usize,
    pub(super) reader: TcpStream,
    /// Shared with the heartbeat thread.
    pub(super) writer: Arc<Mutex<TcpStream>>,
}

/// Failure to exchange a message with a peer.
pub(super) enum PeerFailure {
    /// The connection failed.
    Connection(io::Error),
    /// The peer reports that another rank was lost.
    OtherRankLost(usize),
}

/// Reads a little-endian u64.
pub(super) fn read_u64(stream: &mut TcpStream) -> io::Result<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

impl From<io::Error> for PeerFailure {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

impl Peer {
    pub(super) fn new(rank: usize, stream: TcpStream) -> io::Result<Self> {
        Ok(Self { rank, writer: Arc::new(Mutex::new(stream.try_clone()?)), reader: stream })
    }

    pub(super) fn send(&self, data: &[u8]) -> Result<(), PeerFailure> {
        let mut writer = lock(&self.writer);
        writer.write_all(&(data.len() as u64).to_le_bytes())?;
        writer.write_all(data)?;
        Ok(())
    }

    pub(super) fn receive(&mut self) -> Result<Vec<u8>, PeerFailure> {
        let length = loop {
            match read_u64(&mut self.reader)? {
                HEARTBEAT => {}
                RANK_LOST => {
                    return Err(PeerFailure::OtherRankLost(read_u64(&mut self.reader)? as usize));
                }
                length => break length,
            }
        };
        // Not `with_capacity(length)`: a wrong length must not allocate memory.
        let mut data = Vec::new();
        if (&mut self.reader).take(length).read_to_end(&mut data)? as u64 == length {
            Ok(data)
        } else {
            Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
        }
    }

    /// Reads the heartbeats and loss announcements that have arrived, without blocking. Leaves
    /// messages unread.
    pub(super) fn check(&mut self) -> Result<(), PeerFailure> {
        // Reader and writer share one socket, so the writer must not be used while it is
        // non-blocking.
        let writer = Arc::clone(&self.writer);
        let _writer = lock(&writer);
        loop {
            self.reader.set_nonblocking(true)?;
            let mut head = [0; 8];
            let peeked = self.reader.peek(&mut head);
            self.reader.set_nonblocking(false)?;
            match peeked {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(8) if u64::from_le_bytes(head) == HEARTBEAT => {
                    read_u64(&mut self.reader)?;
                }
                Ok(8) if u64::from_le_bytes(head) == RANK_LOST => {
                    return Err(self.receive().err().unwrap_or(PeerFailure::OtherRankLost(self.rank)));
                }
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the error for a failure of this peer.
    pub(super) fn lost(&self, failure: PeerFailure) -> CollectiveError {
        let (rank, detail) = match failure {
            PeerFailure::OtherRankLost(rank) => (rank, String::new()),
            PeerFailure::Connection(error) => (
                self.rank,
                match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        format!(" (no heartbeat for {} s)", HEARTBEAT_TIMEOUT.as_secs())
                    }
                    io::ErrorKind::UnexpectedEof => String::new(),
                    _ => format!(" ({error})"),
                },
            ),
        };
        CollectiveError::RankLost { rank, detail }
    }
}
