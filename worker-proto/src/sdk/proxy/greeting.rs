//! A greeting: one connection whose header is being read. Takes the header's bytes and no more.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use super::{Proxy, ProxyProtocol, Refusal};
use crate::proxy_protocol::{MAX_HEADER_BYTES, Parsed, parse};
use crate::sdk::connection::Connection;
use crate::sdk::wait::{self, Deadline};

/// A connection that has not said yet whose it is.
#[derive(Debug)]
pub(crate) struct Greeting {
    connection: Connection,
    protocol: ProxyProtocol,
    deadline: Deadline,
    /// The beginning of the header, taken out of the socket.
    taken: Vec<u8>,
}

/// How far it is.
#[derive(Debug)]
pub(crate) enum Step {
    /// The client is known.
    Done(Connection),
    /// More has to come.
    Pending(Greeting),
    /// Closed and counted.
    Refused,
}

impl Greeting {
    /// Of a connection that just came; `None` when its peer is not believed: closed and counted.
    pub(crate) fn begin(connection: Connection, protocol: &ProxyProtocol) -> Option<Self> {
        if !protocol.trusts(connection.peer()) {
            protocol.refuse(connection.peer(), &Refusal::Untrusted);
            return None;
        }
        Some(Greeting {
            connection,
            deadline: Deadline::after(protocol.within),
            protocol: protocol.clone(),
            taken: Vec::new(),
        })
    }

    /// Reads what has come, without waiting.
    pub(crate) fn advance(mut self) -> Step {
        loop {
            match self.read() {
                Ok(Some(proxy)) => {
                    return Step::Done(self.connection.introduced(proxy.0, proxy.1));
                }
                Ok(None) => {}
                Err(Pause::Empty) if self.deadline.left().is_zero() => {
                    let late = Refusal::Late(self.protocol.within);
                    self.protocol.refuse(self.connection.peer(), &late);
                    return Step::Refused;
                }
                Err(Pause::Empty) => return Step::Pending(self),
                Err(Pause::Refused(refusal)) => {
                    self.protocol.refuse(self.connection.peer(), &refusal);
                    return Step::Refused;
                }
            }
        }
    }

    /// Waits until the header is whole; `None` when the connection was refused.
    pub(crate) fn finish(mut self) -> Option<Connection> {
        loop {
            self = match self.advance() {
                Step::Done(connection) => return Some(connection),
                Step::Refused => return None,
                Step::Pending(greeting) => greeting,
            };
            if let Err(err) = wait::readable([self.as_fd()], Some(self.deadline.left())) {
                // Nothing that waiting could make better.
                log::error!("failed to wait for a PROXY header: {err}");
                return None;
            }
        }
    }

    pub(crate) fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    /// One look at what is there: the header is whole, or its beginning has been taken.
    fn read(&mut self) -> Result<Option<Known>, Pause> {
        let mut buffer = [0; MAX_HEADER_BYTES];
        let taken = self.taken.len();
        buffer[..taken].copy_from_slice(&self.taken);
        let there = self.receive(&mut buffer[taken..], MsgFlags::MSG_PEEK)?;
        match parse(&buffer[..taken + there]).map_err(Refusal::from)? {
            Parsed::Partial => {
                self.take(&mut buffer[taken..taken + there])?;
                self.taken = buffer[..taken + there].to_vec();
                Ok(None)
            }
            Parsed::Whole { header, len_bytes } => {
                let proxy = Proxy::new(self.connection.peer().clone(), &header);
                let source = header.origin.source();
                self.take(&mut buffer[taken..len_bytes])?;
                Ok(Some((proxy, source)))
            }
        }
    }

    /// Takes exactly as many bytes, which were seen there.
    fn take(&self, seen: &mut [u8]) -> Result<(), Pause> {
        let mut done = 0;
        while done < seen.len() {
            done += self.receive(&mut seen[done..], MsgFlags::empty())?;
        }
        Ok(())
    }

    /// At least one byte.
    fn receive(&self, buffer: &mut [u8], flags: MsgFlags) -> Result<usize, Pause> {
        loop {
            let fd = self.connection.as_raw_fd();
            return match recv(fd, buffer, flags | MsgFlags::MSG_DONTWAIT) {
                Ok(0) => Err(Refusal::Ended.into()),
                Ok(len) => Ok(len),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => Err(Pause::Empty),
                // Reset, or broken on the way: whatever it is, nobody is there.
                Err(_) => Err(Refusal::Ended.into()),
            };
        }
    }
}

/// What the balancer says, and the client's address.
type Known = (Proxy, Option<crate::address::Address>);

/// Why nothing more is read now.
enum Pause {
    Empty,
    Refused(Refusal),
}

impl From<Refusal> for Pause {
    fn from(refusal: Refusal) -> Self {
        Pause::Refused(refusal)
    }
}

impl AsFd for Greeting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}
