//! A client, its backend, and what flows between them.

use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use socket2::SockRef;

use super::backends::{Dialled, Progress};
use super::flow::{Flow, Pause};
use super::proxy::Shared;

pub(crate) struct Session {
    number: u64,
    client: OwnedFd,
    backend: Dialled,
    /// From the client to the backend.
    up: Flow,
    down: Flow,
}

/// One of the two sockets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Backend,
}

/// What becomes of a session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    GoesOn,
    Over,
    /// No backend takes it.
    Lost,
}

impl Session {
    pub(crate) fn new(number: u64, client: OwnedFd, backend: Dialled) -> Self {
        Session {
            number,
            client,
            backend,
            up: Flow::new(),
            down: Flow::new(),
        }
    }

    /// Has both sockets watched, and passes on what is there already.
    pub(crate) fn begin(&mut self, shared: &mut Shared) -> Fate {
        let client = EpollEvent::new(READ, self.token(Side::Client));
        let begun = shared.epoll.add(&self.client, client);
        let begun = begun.and_then(|()| self.begin_backend(shared));
        begun.unwrap_or_else(|_| self.fail(Fate::Over))
    }

    /// What is ready on one side is passed on, as far as the other one takes it.
    pub(crate) fn handle(&mut self, side: Side, ready: EpollFlags, shared: &mut Shared) -> Fate {
        let handled = match (self.backend.progress, side) {
            (Progress::Connected, _) => self.pass_ready(side, ready, shared),
            (Progress::Connecting, Side::Backend) => self.finish_connecting(shared),
            // It is asked again when there is a backend.
            (Progress::Connecting, Side::Client) => Ok(Fate::GoesOn),
        };
        handled.unwrap_or_else(|_| self.fail(Fate::Over))
    }

    fn begin_backend(&mut self, shared: &mut Shared) -> Result<Fate, Errno> {
        let flags = match self.backend.progress {
            Progress::Connecting => READ | EpollFlags::EPOLLOUT,
            Progress::Connected => READ,
        };
        let event = EpollEvent::new(flags, self.token(Side::Backend));
        shared.epoll.add(&self.backend.socket, event)?;
        match self.backend.progress {
            Progress::Connecting => Ok(Fate::GoesOn),
            // It has nothing to say yet: should it speak first, it is heard of.
            Progress::Connected => self.pass(Side::Client, shared),
        }
    }

    fn finish_connecting(&mut self, shared: &mut Shared) -> Result<Fate, Errno> {
        if let Ok(None) = SockRef::from(&self.backend.socket).take_error() {
            self.backend.progress = Progress::Connected;
            self.pass(Side::Client, shared)?;
            return self.pass(Side::Backend, shared);
        }
        match shared.backends.dial_one_of(self.backend.untried) {
            Some(next) => {
                self.backend = next;
                self.begin_backend(shared)
            }
            None => Ok(self.fail(Fate::Lost)),
        }
    }

    fn pass_ready(
        &mut self,
        side: Side,
        ready: EpollFlags,
        shared: &mut Shared,
    ) -> Result<Fate, Errno> {
        if ready.contains(EpollFlags::EPOLLHUP) {
            // It takes nothing any more, either.
            *self.flow_to(side) = Flow::Over;
        } else if ready.contains(EpollFlags::EPOLLOUT) {
            self.pass(side.other(), shared)?;
        }
        self.pass(side, shared)
    }

    /// Passes on what has come from one side.
    fn pass(&mut self, from: Side, shared: &mut Shared) -> Result<Fate, Errno> {
        let (client, backend) = (self.client.as_fd(), self.backend.socket.as_fd());
        let (flow, back, source, destination) = match from {
            Side::Client => (&mut self.up, &self.down, client, backend),
            Side::Backend => (&mut self.down, &self.up, backend, client),
        };
        if !flow.is_over() {
            match flow.pass(source, destination, &mut shared.pipes)? {
                Pause::Dry => {}
                Pause::Stuck => {
                    let token = self.token(from.other());
                    let mut event = EpollEvent::new(READ | EpollFlags::EPOLLOUT, token);
                    shared.epoll.modify(destination, &mut event)?;
                }
                // When both are over, the sockets are closed, which says as much.
                Pause::Over if back.is_over() => {}
                Pause::Over => say_end(destination),
            }
        }
        Ok(match self.up.is_over() && self.down.is_over() {
            true => Fate::Over,
            false => Fate::GoesOn,
        })
    }

    fn flow_to(&mut self, side: Side) -> &mut Flow {
        match side {
            Side::Client => &mut self.down,
            Side::Backend => &mut self.up,
        }
    }

    /// Nobody must take what has come so far for everything.
    fn fail(&self, fate: Fate) -> Fate {
        for socket in [&self.client, &self.backend.socket] {
            _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
        }
        fate
    }

    fn token(&self, side: Side) -> u64 {
        self.number << 1 | u64::from(side == Side::Backend)
    }
}

impl Side {
    /// The number of the session, and which side of it.
    pub(crate) fn of_token(token: u64) -> (u64, Side) {
        let side = match token & 1 {
            0 => Side::Client,
            _ => Side::Backend,
        };
        (token >> 1, side)
    }

    fn other(self) -> Self {
        match self {
            Side::Client => Side::Backend,
            Side::Backend => Side::Client,
        }
    }
}

/// Fails only when the other end is gone, which is heard of otherwise.
fn say_end(socket: BorrowedFd<'_>) {
    _ = SockRef::from(&socket).shutdown(Shutdown::Write);
}

/// Edges: every readiness is followed until the socket has no more. Writability is asked for where
/// bytes were stuck; otherwise each new socket would wake the proxy to say that it takes some.
const READ: EpollFlags = EpollFlags::EPOLLIN
    .union(EpollFlags::EPOLLRDHUP)
    .union(EpollFlags::EPOLLET);
