//! Where clients are sent on to: each backend in turn, and the next one instead of one that refuses.

use std::io;
use std::net::ToSocketAddrs;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use socket2::{Domain, SockAddr, Socket, Type};
use worker_proto::address::Address;
use worker_proto::bind::socket_address;

/// All of them, and whose turn it is.
pub(crate) struct Backends {
    names: Vec<SockAddr>,
    next: usize,
}

/// A connection to a backend.
pub(crate) struct Dialled {
    pub(crate) socket: OwnedFd,
    pub(crate) progress: Progress,
    /// How many backends have not been tried.
    pub(crate) untried: usize,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It becomes writable when it is known.
    Connecting,
    Connected,
}

impl Backends {
    pub(crate) fn new(names: &[String]) -> Result<Self> {
        if names.is_empty() {
            bail!("name a backend: unix:PATH or HOST:PORT");
        }
        let names = names
            .iter()
            .map(|name| resolve(name))
            .collect::<Result<_>>()?;
        Ok(Backends { names, next: 0 })
    }

    /// A connection for a new client.
    pub(crate) fn dial(&mut self) -> Option<Dialled> {
        self.dial_one_of(self.names.len())
    }

    /// A connection to the first of the next so many that does not refuse at once.
    pub(crate) fn dial_one_of(&mut self, count: usize) -> Option<Dialled> {
        (0..count).rev().find_map(|untried| {
            let name = &self.names[self.next];
            self.next = (self.next + 1) % self.names.len();
            let (socket, progress) = connect(name).ok()?;
            Some(Dialled {
                socket,
                progress,
                untried,
            })
        })
    }
}

/// The address behind a name: of several, the first.
pub(crate) fn resolve(name: &str) -> Result<SockAddr> {
    if name.starts_with("unix:") {
        let address: Address = name.parse()?;
        return socket_address(&address).with_context(|| name.to_owned());
    }
    let mut found = name.to_socket_addrs().with_context(|| name.to_owned())?;
    let first = found
        .next()
        .with_context(|| format!("{name} has no address"))?;
    Ok(first.into())
}

/// A Unix socket connects at once or, when nobody has accepted for long, not at all: `EAGAIN`.
fn connect(name: &SockAddr) -> io::Result<(OwnedFd, Progress)> {
    let domain = Domain::from(i32::from(name.family()));
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), None)?;
    if !name.is_unix() {
        socket.set_tcp_nodelay(true)?;
    }
    let progress = match socket.connect(name) {
        Ok(()) => Progress::Connected,
        Err(err) if err.raw_os_error() == Some(Errno::EINPROGRESS as i32) => Progress::Connecting,
        Err(err) => return Err(err),
    };
    Ok((socket.into(), progress))
}
