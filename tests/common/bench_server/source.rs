//! Where connections come from: a socket of one's own, or the master.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use anyhow::Result;
use mio::net::{TcpListener, TcpStream};
use nix::errno::Errno;
use socket2::{Domain, SockRef, Socket, Type};
use worker_proto::{Connection, Listener};

/// Connections to come.
pub(crate) enum Source {
    Own(TcpListener),
    Cluster(Listener),
}

/// One that has come.
pub(crate) enum Client {
    Own(TcpStream),
    Cluster(Connection),
}

impl Source {
    pub(crate) fn bind(address: SocketAddr, deferred: bool) -> Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM.nonblocking(),
            None,
        )?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        if deferred {
            defer_accept(&socket)?;
        }
        Ok(Source::Own(TcpListener::from_std(socket.into())))
    }

    /// The same socket, for another thread.
    pub(crate) fn share(&self) -> io::Result<Self> {
        let Source::Own(listener) = self else {
            return Err(ErrorKind::Unsupported.into());
        };
        let copy = SockRef::from(listener).try_clone()?;
        Ok(Source::Own(TcpListener::from_std(copy.into())))
    }

    /// The next one; `None` when there will be no more, `WouldBlock` when there is none now.
    pub(crate) fn accept(&self) -> io::Result<Option<Client>> {
        match self {
            Source::Own(listener) => Ok(Some(Client::Own(listener.accept()?.0))),
            Source::Cluster(listener) => Ok(listener.accept()?.map(Client::Cluster)),
        }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Source::Own(listener) => listener.as_fd(),
            Source::Cluster(listener) => listener.as_fd(),
        }
    }
}

impl Client {
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Client::Own(stream) => stream.read(buffer),
            Client::Cluster(connection) => connection.read(buffer),
        }
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Client::Own(stream) => stream.write_all(bytes),
            Client::Cluster(connection) => connection.write_all(bytes),
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Client::Own(stream) => stream.as_fd(),
            Client::Cluster(connection) => connection.as_fd(),
        }
    }
}

/// Who connects and says nothing does not wake the server, `TCP_DEFER_ACCEPT` in tcp(7).
#[expect(unsafe_code, reason = "no crate here has this option")]
fn defer_accept(socket: &Socket) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
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
