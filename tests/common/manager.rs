//! A service manager that a master notifies, as systemd would be.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::{Cluster, DEADLINE};

/// The socket that `NOTIFY_SOCKET` names, and what came there.
pub struct Manager {
    socket: UnixDatagram,
    name: PathBuf,
    heard: Vec<String>,
    _directory: TempDir,
}

impl Manager {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let address = SocketAddr::from_pathname(&path).expect("a short path");
        Self::at(&address, path, directory)
    }

    pub fn in_abstract_namespace() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        // Nobody else has this name: the directory is ours.
        let name = directory.path().display().to_string();
        let address = SocketAddr::from_abstract_name(&name).expect("a short name");
        Self::at(&address, format!("@{name}").into(), directory)
    }

    fn at(address: &SocketAddr, name: PathBuf, directory: TempDir) -> Self {
        let socket = UnixDatagram::bind_addr(address).expect("bind the manager's socket");
        Manager {
            socket,
            name,
            heard: Vec::new(),
            _directory: directory,
        }
    }

    /// Starts the command as a service.
    pub fn start(&self, mut command: Command) -> Cluster {
        command.env("NOTIFY_SOCKET", &self.name);
        Cluster::from_command(command)
    }

    /// Fills the socket, so that the manager has no room for anybody. Answers how many messages
    /// that took.
    pub fn fill(&self) -> usize {
        let own = UnixDatagram::unbound().expect("a socket");
        own.set_nonblocking(true).expect("set it non-blocking");
        let address = self.socket.local_addr().expect("the manager's address");
        let sent = (0..).take_while(|_| own.send_to_addr(b"FILLER=1", &address).is_ok());
        sent.count()
    }

    /// The next message, if one comes within that time.
    pub fn next_within(&mut self, timeout: Duration) -> Option<String> {
        self.socket
            .set_read_timeout(Some(timeout))
            .expect("set a timeout");
        let mut message = [0; 4096];
        match self.socket.recv(&mut message) {
            Ok(len) => {
                let message = String::from_utf8_lossy(&message[..len]).into_owned();
                self.heard.push(message.clone());
                Some(message)
            }
            Err(err) if err.kind() == ErrorKind::WouldBlock => None,
            Err(err) => panic!("receive: {err}"),
        }
    }

    /// Waits for this message; answers what came until then, itself included, without requests
    /// for patience.
    pub fn await_message(&mut self, wanted: &str) -> Vec<String> {
        let mut until = Vec::new();
        while until.last().is_none_or(|last| last != wanted) {
            match self.next_within(DEADLINE) {
                Some(message) if message.starts_with("EXTEND_TIMEOUT_USEC=") => {}
                Some(message) => until.push(message),
                None => panic!("no {wanted:?} within {DEADLINE:?}: {:#?}", self.heard),
            }
        }
        until
    }

    /// Everything that came so far.
    pub fn heard(&self) -> &[String] {
        &self.heard
    }
}
