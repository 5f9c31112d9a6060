//! The loop: new clients, and sessions of which a socket is ready.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use anyhow::{Result, bail};
use mio::net::TcpListener;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use slab::Slab;

use super::backends::Backends;
use super::pipes::Pipes;
use super::session::{Fate, Session, Side};

pub(crate) struct Proxy {
    listener: TcpListener,
    accepting: Accepting,
    shared: Shared,
    sessions: Slab<Session>,
    /// How many clients found no backend.
    lost: u64,
    _sigterm: SignalFd,
}

/// What every session uses.
pub(crate) struct Shared {
    pub(crate) epoll: Epoll,
    pub(crate) pipes: Pipes,
    pub(crate) backends: Backends,
}

#[derive(PartialEq, Eq)]
enum Accepting {
    Now,
    /// No more descriptors: until a session is over.
    Later,
}

impl Proxy {
    pub(crate) fn new(listener: TcpListener, backends: Backends) -> Result<Self> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGTERM);
        signals.thread_block()?;
        let sigterm = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&sigterm, EpollEvent::new(EpollFlags::EPOLLIN, SIGTERM))?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        Ok(Proxy {
            listener,
            accepting: Accepting::Now,
            shared: Shared {
                epoll,
                pipes: Pipes::default(),
                backends,
            },
            sessions: Slab::new(),
            lost: 0,
            _sigterm: sigterm,
        })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Until SIGTERM; answers how many clients found no backend.
    pub(crate) fn run(mut self) -> Result<u64> {
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            let count = match self.shared.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(err) => bail!("epoll_wait: {err}"),
            };
            let mut has_clients = false;
            for event in &events[..count] {
                match event.data() {
                    SIGTERM => return Ok(self.lost),
                    LISTENER => has_clients = true,
                    token => self.handle(token, event.events())?,
                }
            }
            // Last: what an event says of a session that is over must not meet a new one.
            if has_clients {
                self.accept()?;
            }
        }
    }

    fn handle(&mut self, token: u64, ready: EpollFlags) -> Result<()> {
        let (number, side) = Side::of_token(token);
        let number = usize::try_from(number)?;
        // Over since an earlier event of the same turn.
        let Some(session) = self.sessions.get_mut(number) else {
            return Ok(());
        };
        let fate = session.handle(side, ready, &mut self.shared);
        self.settle(number, fate)
    }

    fn accept(&mut self) -> Result<()> {
        for _ in 0..ACCEPTS {
            match self.listener.accept() {
                Ok((client, _)) => self.begin(client.into())?,
                Err(err) if err.kind() == ErrorKind::WouldBlock => break,
                Err(err) if is_full(&err) && !self.sessions.is_empty() => {
                    self.shared.epoll.delete(&self.listener)?;
                    self.accepting = Accepting::Later;
                    break;
                }
                // It has gone again, see accept(2).
                Err(err) if err.kind() == ErrorKind::ConnectionAborted => {}
                Err(err) => bail!("accept: {err}"),
            }
        }
        Ok(())
    }

    fn begin(&mut self, client: OwnedFd) -> Result<()> {
        let Some(backend) = self.shared.backends.dial() else {
            self.lost += 1;
            return Ok(());
        };
        let entry = self.sessions.vacant_entry();
        let number = entry.key();
        let session = entry.insert(Session::new(number as u64, client, backend));
        let fate = session.begin(&mut self.shared);
        self.settle(number, fate)
    }

    fn settle(&mut self, number: usize, fate: Fate) -> Result<()> {
        match fate {
            Fate::GoesOn => return Ok(()),
            Fate::Over => {}
            Fate::Lost => self.lost += 1,
        }
        // To close its sockets takes them out of the epoll set.
        self.sessions.remove(number);
        if self.accepting == Accepting::Later {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, LISTENER);
            self.shared.epoll.add(&self.listener, event)?;
            self.accepting = Accepting::Now;
        }
        Ok(())
    }
}

/// Whether it is descriptors that are wanting.
fn is_full(err: &io::Error) -> bool {
    let code = err.raw_os_error();
    [Errno::EMFILE, Errno::ENFILE]
        .map(|it| Some(it as i32))
        .contains(&code)
}

/// No session has these numbers.
const LISTENER: u64 = u64::MAX;
const SIGTERM: u64 = u64::MAX - 1;

const EVENTS: usize = 256;

/// How many clients are accepted before sessions are looked at again.
const ACCEPTS: usize = 64;
