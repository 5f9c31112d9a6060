//! Listening without a master: a socket of our own, so that one binary serves both ways.
//!
//! It does no more than a development server needs; the master's own listeners have the options.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Socket, Type};

use crate::address::Address;
use crate::bind::{SocketFile, socket_address};
use crate::frame::ListenOptions;
use crate::scm::Wait;
use crate::sdk::connection::Connection;
use crate::sdk::draining::Draining;
use crate::sdk::in_flight::InFlight;
use crate::sdk::wait;

/// A listening socket that this process bound itself.
#[derive(Debug)]
pub(crate) struct OwnSocket {
    /// Never blocks, as draining must be noticed, too.
    socket: Socket,
    nonblocking: bool,
    draining: Draining,
    /// Removed when the socket is dropped.
    _file: Option<SocketFile>,
}

impl OwnSocket {
    pub(crate) fn bind(
        address: &Address,
        options: ListenOptions,
        draining: Draining,
    ) -> io::Result<Self> {
        let at = socket_address(address)?;
        let socket = Socket::new(at.domain(), Type::STREAM, None)?;
        if matches!(at.domain(), Domain::IPV4 | Domain::IPV6) {
            // Otherwise the port is unusable for a minute after a restart, see socket(7).
            socket.set_reuse_address(true)?;
        }
        if let (Domain::IPV6, Some(v6only)) = (at.domain(), options.v6only) {
            socket.set_only_v6(v6only)?;
        }
        let file = match address.path() {
            Some(path) => Some(SocketFile::bind(&socket, path)?),
            None => {
                socket.bind(&at)?;
                None
            }
        };
        let backlog = options.backlog.unwrap_or(BACKLOG);
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        socket.set_nonblocking(true)?;
        Ok(OwnSocket {
            socket,
            nonblocking: options.nonblocking,
            draining,
            _file: file,
        })
    }

    /// The address really bound: port 0 is replaced.
    pub(crate) fn address(&self) -> io::Result<Address> {
        Ok(Address::from(&self.socket.local_addr()?))
    }

    /// Whether accepting waits.
    pub(crate) fn waits(&self) -> Wait {
        if self.nonblocking {
            Wait::Never
        } else {
            Wait::AsSet
        }
    }

    /// The next connection; `None` when the program drains.
    pub(crate) fn accept(&self) -> io::Result<Option<Connection>> {
        loop {
            match self.accept_now() {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock && !self.nonblocking => {
                    self.wait()?;
                }
                result => return result,
            }
        }
    }

    /// The same, without waiting.
    pub(crate) fn accept_now(&self) -> io::Result<Option<Connection>> {
        while !self.draining.is_draining() {
            match self.socket.accept() {
                Ok((socket, peer)) => {
                    socket.set_nonblocking(self.nonblocking)?;
                    let peer = Address::from(&peer);
                    let connection =
                        Connection::accepted(socket.into(), peer, InFlight::uncounted());
                    return Ok(Some(connection));
                }
                Err(err) if is_the_clients_fault(&err) => {}
                Err(err) => return Err(err),
            }
        }
        Ok(None)
    }

    /// Waits until there is something to accept, or the program drains.
    pub(crate) fn wait(&self) -> io::Result<()> {
        wait::readable(self.descriptors(), None)?;
        Ok(())
    }

    /// What is readable when there is something to accept, and when the program drains.
    pub(crate) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.as_fd(), self.draining.as_fd()]
    }
}

impl AsFd for OwnSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Errors of a connection that died in the queue, which accept(2) says to treat as "try again".
pub(super) fn is_the_clients_fault(err: &io::Error) -> bool {
    matches!(
        err.raw_os_error(),
        Some(
            libc::EINTR
                | libc::ECONNABORTED
                | libc::ENETDOWN
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::EOPNOTSUPP
                | libc::ENETUNREACH
        )
    )
}

/// The kernel lowers it to `net.core.somaxconn`.
const BACKLOG: u32 = 4096;
