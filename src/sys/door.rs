//! The control socket: a Unix socket that its owner alone can open, and who is at the other end.
//!
//! There is no moment at which others could: the file has its mode from its first moment on.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};
use worker_proto::bind::SocketFile;

use super::channel::refuse_descriptors;

/// A bound control socket. Its file is removed when this is dropped, if it is still the same.
#[derive(Debug)]
pub(crate) struct Door {
    socket: Socket,
    _file: SocketFile,
}

/// Who is at the other end of a connection, as the kernel saw it connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
    pub(crate) pid: i32,
}

impl Door {
    /// Binds the path, which is taken over only from the dead, and listens.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        // bind(2) gives the file the mode of the socket, without what the umask takes away
        // (unix_bind_bsd in net/unix/af_unix.c): it need not be changed afterwards.
        fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let file = SocketFile::bind(&socket, path)?;
        refuse_descriptors(socket.as_fd());
        socket.listen(BACKLOG)?;
        Ok(Door {
            socket,
            _file: file,
        })
    }

    /// For the poll.
    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The next operator; `None` if nobody waits.
    pub(crate) fn accept(&self) -> io::Result<Option<Socket>> {
        loop {
            return match self
                .socket
                .accept4(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
            {
                Ok((socket, _)) => {
                    refuse_descriptors(socket.as_fd());
                    Ok(Some(socket))
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) if err.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(err) => Err(err),
            };
        }
    }
}

impl Peer {
    /// See `SO_PEERCRED`, `unix(7)`.
    pub(crate) fn of(socket: &Socket) -> io::Result<Self> {
        let credentials = getsockopt(socket, sockopt::PeerCredentials)?;
        Ok(Peer {
            uid: credentials.uid(),
            pid: credentials.pid(),
        })
    }

    /// Whether it may command this master: its own user, and root.
    pub(crate) fn may_command(self) -> bool {
        self.uid == 0 || self.uid == geteuid().as_raw()
    }
}

/// Removes the socket if nobody answers on it, and the process that it was named after is no more.
pub(crate) fn remove_if_dead(path: &Path, pid: u32) {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if !is_socket || Path::new("/proc").join(pid.to_string()).exists() {
        return;
    }
    let refuses = || {
        let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        probe.connect(&SockAddr::unix(path)?)
    };
    if refuses().is_err_and(|err| err.raw_os_error() == Some(libc::ECONNREFUSED)) {
        let _ = fs::remove_file(path);
    }
}

/// More operators than there ever are at a time.
const BACKLOG: i32 = 16;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_owner_may_connect_and_a_dead_masters_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("door.sock");
        let door = Door::open(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let err = Door::open(&path).unwrap_err();
        assert_eq!(err.raw_os_error(), Some(libc::EADDRINUSE));
        // As a killed master leaves it.
        std::mem::forget(door._file);
        drop(door.socket);
        assert!(path.exists());
        let door = Door::open(&path).unwrap();
        drop(door);
        assert!(!path.exists());
    }
}
