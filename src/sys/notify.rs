//! The socket on which a service manager hears about its service, see `sd_notify(3)`: one datagram
//! per message, sent without ever waiting for whoever should read it.
//!
//! Written here and not taken from a crate: those that there are send on a blocking socket.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use thiserror::Error;

/// The way to the service manager.
#[derive(Debug)]
pub(crate) struct NotifySocket {
    socket: UnixDatagram,
    address: SocketAddr,
}

/// Why a message was not sent.
#[derive(Debug, Error)]
pub(crate) enum Unsent {
    /// Nobody reads: later there may be room.
    #[error("the service manager does not read")]
    Full,
    /// Nobody is there, or nobody will have it.
    #[error(transparent)]
    Refused(io::Error),
}

impl NotifySocket {
    /// The socket that the value of `NOTIFY_SOCKET` names: a path, or a name in the abstract
    /// namespace after `@`.
    ///
    /// # Errors
    /// When it names no Unix socket: a virtual machine's (`vsock:`) is for its service manager.
    pub(crate) fn named(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(ErrorKind::InvalidInput.into()),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(NotifySocket { socket, address })
    }

    /// Sends one message: lines of `NAME=VALUE`.
    pub(crate) fn send(&self, message: &str) -> Result<(), Unsent> {
        loop {
            return match self.socket.send_to_addr(message.as_bytes(), &self.address) {
                Ok(_) => Ok(()),
                Err(err) if err.kind() == ErrorKind::Interrupted => continue,
                Err(err) if err.kind() == ErrorKind::WouldBlock => Err(Unsent::Full),
                Err(err) => Err(Unsent::Refused(err)),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_unix_socket_is_refused() {
        for name in [
            "",
            "relative",
            "vsock:2:1234",
            &format!("/{}", "x".repeat(200)),
        ] {
            assert!(NotifySocket::named(OsStr::new(name)).is_err(), "{name:?}");
        }
    }

    #[test]
    fn nobody_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let socket = NotifySocket::named(path.as_os_str()).unwrap();
        let sent = (0..100_000).take_while(|_| socket.send("STATUS=x").is_ok());
        let sent = sent.count();
        assert!(matches!(socket.send("STATUS=x"), Err(Unsent::Full)));
        let mut message = [0; 64];
        for _ in 0..sent {
            let len = manager.recv(&mut message).unwrap();
            assert_eq!(message[..len], *b"STATUS=x");
        }
        drop(manager);
        assert!(matches!(socket.send("STATUS=x"), Err(Unsent::Refused(_))));
    }
}
