//! Where connections come from: a socket of one's own, or the master.

use std::ffi::OsStr;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use nix::errno::Errno;
use socket2::{SockRef, Socket, Type};
use worker_proto::address::Address;
use worker_proto::bind::{SocketFile, socket_address};
use worker_proto::{Connection, Listener};

/// Connections to come.
#[expect(clippy::large_enum_variant, reason = "a thread has one")]
pub(crate) enum Source {
    Tcp(TcpListener),
    Unix(UnixListener),
    Cluster {
        listener: Listener,
        /// Kept for its memory.
        batch: Vec<Connection>,
    },
}

/// One that has come.
pub(crate) enum Client {
    Tcp(TcpStream),
    Unix(UnixStream),
    Cluster(Connection),
}

impl Source {
    pub(crate) fn bind(address: &Address, deferred: bool) -> Result<Self> {
        let name = socket_address(address)?;
        let socket = Socket::new(name.domain(), Type::STREAM.nonblocking(), None)?;
        if let Address::Path(path) = address {
            let file = SocketFile::bind(&socket, Path::new(OsStr::from_bytes(path)));
            // It stays: a signal ends this program. The next one takes it over.
            mem::forget(file.with_context(|| format!("bind {address}"))?);
        } else {
            socket.set_reuse_address(true)?;
            let bound = socket.bind(&name);
            bound.with_context(|| format!("bind {address}"))?;
        }
        socket.listen(BACKLOG)?;
        if name.is_unix() {
            ensure!(!deferred, "--defer-accept is for TCP, not for {address}");
            return Ok(Source::Unix(UnixListener::from_std(socket.into())));
        }
        if deferred {
            defer_accept(&socket)?;
        }
        Ok(Source::Tcp(TcpListener::from_std(socket.into())))
    }

    /// Where it listens, really.
    pub(crate) fn address(&self) -> io::Result<Address> {
        match self {
            Source::Cluster { listener, .. } => Ok(listener.address().clone()),
            Source::Tcp(_) | Source::Unix(_) => {
                Ok(Address::from(&SockRef::from(self).local_addr()?))
            }
        }
    }

    /// The same socket, for another thread.
    pub(crate) fn share(&self) -> io::Result<Self> {
        match self {
            Source::Tcp(listener) => {
                let copy = SockRef::from(listener).try_clone()?;
                Ok(Source::Tcp(TcpListener::from_std(copy.into())))
            }
            Source::Unix(listener) => {
                let copy = SockRef::from(listener).try_clone()?;
                Ok(Source::Unix(UnixListener::from_std(copy.into())))
            }
            Source::Cluster { .. } => Err(ErrorKind::Unsupported.into()),
        }
    }

    /// One of those who wait, or a packet of them; none when there will be no more, `WouldBlock` when there is
    /// none now.
    pub(crate) fn accept(&mut self, clients: &mut Vec<Client>) -> io::Result<()> {
        match self {
            Source::Tcp(listener) => clients.push(Client::Tcp(listener.accept()?.0)),
            Source::Unix(listener) => clients.push(Client::Unix(listener.accept()?.0)),
            Source::Cluster { listener, batch } => {
                listener.accept_batch(batch)?;
                clients.extend(batch.drain(..).map(Client::Cluster));
            }
        }
        Ok(())
    }

    /// Whether it is to be asked again until nobody waits: a queue gives all that are in a packet, and
    /// says again that it has more.
    pub(crate) fn gives_one_at_a_time(&self) -> bool {
        match self {
            Source::Tcp(_) | Source::Unix(_) => true,
            Source::Cluster { .. } => false,
        }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Source::Tcp(listener) => listener.as_fd(),
            Source::Unix(listener) => listener.as_fd(),
            Source::Cluster { listener, .. } => listener.as_fd(),
        }
    }
}

impl Client {
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Client::Tcp(stream) => stream.read(buffer),
            Client::Unix(stream) => stream.read(buffer),
            Client::Cluster(connection) => connection.read(buffer),
        }
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Client::Tcp(stream) => stream.write_all(bytes),
            Client::Unix(stream) => stream.write_all(bytes),
            Client::Cluster(connection) => connection.write_all(bytes),
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Client::Tcp(stream) => stream.as_fd(),
            Client::Unix(stream) => stream.as_fd(),
            Client::Cluster(connection) => connection.as_fd(),
        }
    }
}

/// Who connects and says nothing does not wake the server, `TCP_DEFER_ACCEPT` in tcp(7).
#[expect(unsafe_code, reason = "no crate here has this option")]
fn defer_accept(socket: &Socket) -> io::Result<()> {
    let size = size_of::<libc::c_int>().try_into().expect("a few bytes");
    // SAFETY: the option's value is an int, which outlives the call, on an open socket.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const DEFER_SECONDS).cast(),
            size,
        )
    };
    Errno::result(set).map(drop).map_err(io::Error::from)
}

const BACKLOG: i32 = 4096;

static DEFER_SECONDS: libc::c_int = 1;
