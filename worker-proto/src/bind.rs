//! Binding: from an address to a name of the kernel's, and a path that is taken over only from the
//! dead. Used by the master and by a worker that is alone.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::address::Address;

/// The address as `bind(2)` takes it.
///
/// # Errors
/// `InvalidInput` for an unnamed address, and for a path that is too long.
pub fn socket_address(address: &Address) -> io::Result<SockAddr> {
    match address {
        Address::V4 { .. } | Address::V6 { .. } => Ok(address
            .inet()
            .expect("both variants are Internet addresses")
            .into()),
        Address::Path(path) => SockAddr::unix(OsStr::from_bytes(path)),
        Address::Abstract(name) => {
            SockAddr::unix(OsStr::from_bytes(&[b"\0", name.as_slice()].concat()))
        }
        Address::Unnamed => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// What the abstract names of those begin with who connect only to see who listens, `unix(7)`: the
/// library that is preloaded to programs does so. The master does not take them for clients.
pub const PROBE_NAME: &[u8] = b"rr-probe/";

/// The file of a bound Unix socket. Dropping it removes the file, unless somebody has put another
/// in its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    /// Binds the socket to the path. What a killed process left behind there is replaced: only a
    /// socket, and only if nobody answers on it.
    ///
    /// # Errors
    /// `EADDRINUSE` if somebody answers, `EEXIST` if something that is no socket is in the way,
    /// and those of `bind(2)`.
    pub fn bind(socket: &Socket, path: &Path) -> io::Result<Self> {
        remove_stale(path)?;
        socket.bind(&SockAddr::unix(path)?)?;
        Ok(SocketFile {
            path: std::path::absolute(path)?,
            identity: identity(path)?,
        })
    }

    /// Whether clients still find it under its path.
    #[must_use]
    pub fn is_there(&self) -> bool {
        identity(&self.path).is_ok_and(|now| now == self.identity)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_there() {
            _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(err),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::from_raw_os_error(libc::EEXIST));
    }
    // A listener with a full backlog must not make us wait, see unix(7).
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(err) if err.raw_os_error() == Some(libc::ECONNREFUSED) => fs::remove_file(path),
        // Connected, or EAGAIN: somebody listens.
        Ok(()) | Err(_) => Err(io::Error::from_raw_os_error(libc::EADDRINUSE)),
    }
}
