//! Listening without a master: a socket of our own, so that one binary serves both ways.
//!
//! A Unix path is taken over only from the dead: when it is a socket and nobody answers on it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::address::Address;
use crate::frame::ListenOptions;
use crate::sdk::connection::Connection;

/// A listening socket that this process bound itself.
#[derive(Debug)]
pub(crate) struct OwnSocket {
    socket: Socket,
    nonblocking: bool,
    /// Removed when the socket is dropped.
    _file: Option<SocketFile>,
}

impl OwnSocket {
    pub(crate) fn bind(address: &Address, options: ListenOptions) -> io::Result<Self> {
        let at = sock_addr(address)?;
        let socket = Socket::new(at.domain(), Type::STREAM, None)?;
        if matches!(at.domain(), Domain::IPV4 | Domain::IPV6) {
            // Otherwise the port is unusable for a minute after a restart, see socket(7).
            socket.set_reuse_address(true)?;
        }
        if let (Domain::IPV6, Some(v6only)) = (at.domain(), options.v6only) {
            socket.set_only_v6(v6only)?;
        }
        let file = match address.path() {
            Some(path) => Some(bind_path(&socket, &at, path)?),
            None => {
                socket.bind(&at)?;
                None
            }
        };
        let backlog = options.backlog.unwrap_or(BACKLOG);
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        socket.set_nonblocking(options.nonblocking)?;
        Ok(OwnSocket {
            socket,
            nonblocking: options.nonblocking,
            _file: file,
        })
    }

    /// The address really bound: port 0 is replaced.
    pub(crate) fn address(&self) -> io::Result<Address> {
        Ok(Address::from(&self.socket.local_addr()?))
    }

    pub(crate) fn accept(&self) -> io::Result<Connection> {
        loop {
            match self.socket.accept() {
                Ok((socket, peer)) => {
                    socket.set_nonblocking(self.nonblocking)?;
                    return Ok(Connection::from_parts(socket.into(), Address::from(&peer)));
                }
                Err(err) if is_the_clients_fault(&err) => {}
                Err(err) => return Err(err),
            }
        }
    }
}

impl AsFd for OwnSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The file of a bound Unix socket.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(SocketFile {
            path: path.to_owned(),
            identity: identity(path)?,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else's by now? Then it is theirs to remove.
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

fn bind_path(socket: &Socket, at: &SockAddr, path: &Path) -> io::Result<SocketFile> {
    if let Err(err) = socket.bind(at) {
        if err.kind() != io::ErrorKind::AddrInUse || !is_stale(at, path) {
            return Err(err);
        }
        fs::remove_file(path)?;
        socket.bind(at)?;
    }
    SocketFile::new(path)
}

/// Whether `path` is a socket on which nobody answers.
fn is_stale(at: &SockAddr, path: &Path) -> bool {
    let is_socket =
        fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    is_socket && refuses(at).unwrap_or(false)
}

fn refuses(at: &SockAddr) -> io::Result<bool> {
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A listener with a full backlog must not make us wait, see unix(7).
    probe.set_nonblocking(true)?;
    Ok(probe
        .connect(at)
        .is_err_and(|err| err.kind() == io::ErrorKind::ConnectionRefused))
}

fn sock_addr(address: &Address) -> io::Result<SockAddr> {
    match address {
        Address::V4 { .. } | Address::V6 { .. } => Ok(address
            .inet()
            .expect("both variants are Internet addresses")
            .into()),
        Address::Path(path) => SockAddr::unix(as_path(path)),
        Address::Abstract(name) => SockAddr::unix(as_path(&[b"\0", name.as_slice()].concat())),
        Address::Unnamed => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// Errors of a connection that died in the queue, which accept(2) says to treat as "try again".
fn is_the_clients_fault(err: &io::Error) -> bool {
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
