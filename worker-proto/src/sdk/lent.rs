//! A lent socket: a listening socket of the master's from which this process accepts itself.
//!
//! Others may have it, too, so there may be nobody when it was readable. What waited in a socket
//! that lost its worker comes over an accept queue beside it, and the end of that queue is the end
//! of the listener. Both are watched by one epoll instance, which is what a program polls.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::Socket;

use super::connection::Connection;
use super::draining::Draining;
use super::in_flight::InFlight;
use super::listener::AcceptQueue;
use super::scorekeeper::Scorekeeper;
use super::standalone::is_the_clients_fault;
use super::wait;
use crate::address::Address;

/// A listening socket of the master's.
pub(crate) struct LentSocket {
    /// Never blocks: others may be faster, and draining must be noticed, too.
    socket: Socket,
    queue: AcceptQueue,
    ready: Epoll,
    draining: Draining,
    scorekeeper: Scorekeeper,
    nonblocking: bool,
    /// Something is in the queue, or it has ended.
    queue_is_ready: AtomicBool,
    /// The socket is not watched any more, since this process drains.
    is_left: AtomicBool,
    idle_wakeups: IdleWakeups,
}

/// Who wakes for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waking {
    /// One of those who wait, or a few, see `EPOLLEXCLUSIVE` in `epoll_ctl(2)`.
    One,
    All,
}

/// How often a listener woke this process and had nothing for it, since another process was
/// faster; see [`Listener::idle_wakeups`](super::Listener::idle_wakeups).
#[derive(Clone, Debug, Default)]
pub struct IdleWakeups(Arc<AtomicU64>);

impl IdleWakeups {
    /// How often that was.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl LentSocket {
    pub(crate) fn new(
        socket: OwnedFd,
        queue: AcceptQueue,
        (draining, scorekeeper): (Draining, Scorekeeper),
        (nonblocking, waking): (bool, Waking),
    ) -> io::Result<Self> {
        let socket = Socket::from(socket);
        socket.set_nonblocking(true)?;
        let ready = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut how = EpollFlags::EPOLLIN;
        if waking == Waking::One {
            how |= EpollFlags::EPOLLEXCLUSIVE;
        }
        ready.add(&socket, EpollEvent::new(how, SOCKET))?;
        let readable = |what| EpollEvent::new(EpollFlags::EPOLLIN, what);
        ready.add(queue.as_fd(), readable(QUEUE))?;
        ready.add(&draining, readable(DRAINING))?;
        Ok(LentSocket {
            socket,
            queue,
            ready,
            draining,
            scorekeeper,
            nonblocking,
            queue_is_ready: AtomicBool::new(false),
            is_left: AtomicBool::new(false),
            idle_wakeups: IdleWakeups::default(),
        })
    }

    /// The next connection; `None` when there will be no more.
    pub(crate) fn accept(&self) -> io::Result<Option<Connection>> {
        let mut woken = Woken::No;
        loop {
            if self.draining.is_draining() {
                self.leave();
                self.queue_is_ready.store(true, Ordering::Relaxed);
            }
            if self.queue_is_ready.swap(false, Ordering::Relaxed) {
                match self.queue.accept() {
                    Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                    result => {
                        // There may be more.
                        self.queue_is_ready.store(true, Ordering::Relaxed);
                        return result;
                    }
                }
            }
            if !self.draining.is_draining()
                && let Some(connection) = self.accept_itself()?
            {
                return Ok(Some(connection));
            }
            if woken == Woken::BySocket {
                self.idle_wakeups.0.fetch_add(1, Ordering::Relaxed);
            }
            if self.nonblocking {
                return self.accept_queued();
            }
            woken = self.wait_at_most(EpollTimeout::NONE)?;
        }
    }

    /// Waits until [`accept`](Self::accept) has something to say, or somebody else was faster.
    pub(crate) fn wait(&self) -> io::Result<()> {
        self.wait_at_most(EpollTimeout::NONE).map(drop)
    }

    pub(crate) fn idle_wakeups(&self) -> IdleWakeups {
        self.idle_wakeups.clone()
    }

    /// Gives it back; answers what was received and never accepted.
    pub(crate) fn close(self) -> Vec<Connection> {
        self.leave();
        self.queue.close()
    }

    fn accept_itself(&self) -> io::Result<Option<Connection>> {
        loop {
            match self.socket.accept() {
                Ok((stream, peer)) => {
                    if self.nonblocking {
                        stream.set_nonblocking(true)?;
                    }
                    self.scorekeeper.received(1);
                    let in_flight = InFlight::counted(self.scorekeeper.clone());
                    let peer = Address::from(&peer);
                    return Ok(Some(Connection::accepted(stream.into(), peer, in_flight)));
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // Another process has shut it down, and the master listens again in a moment.
                Err(err) if err.raw_os_error() == Some(libc::EINVAL) => return Ok(None),
                Err(err) if is_the_clients_fault(&err) => {}
                Err(err) => return Err(err),
            }
        }
    }

    fn accept_queued(&self) -> io::Result<Option<Connection>> {
        let result = self.queue.accept();
        if result.is_ok() {
            self.queue_is_ready.store(true, Ordering::Relaxed);
        }
        result
    }

    /// The socket is for others from now on.
    fn leave(&self) {
        if !self.is_left.swap(true, Ordering::Relaxed) {
            let _ = self.ready.delete(&self.socket);
            let _ = self.ready.delete(&self.draining);
        }
    }

    fn wait_at_most(&self, timeout: EpollTimeout) -> io::Result<Woken> {
        let mut events = [EpollEvent::empty(); 3];
        let count = loop {
            match self.ready.wait(&mut events, timeout) {
                Ok(count) => break count,
                Err(Errno::EINTR) => {}
                Err(err) => return Err(err.into()),
            }
        };
        let mut woken = Woken::No;
        for event in &events[..count] {
            match event.data() {
                SOCKET if event.events() != EpollFlags::EPOLLIN => self.rest()?,
                SOCKET => woken = Woken::BySocket,
                QUEUE => self.queue_is_ready.store(true, Ordering::Relaxed),
                _ => {}
            }
        }
        Ok(woken)
    }

    /// The socket was shut down, which it says again and again.
    fn rest(&self) -> io::Result<()> {
        let others = [self.queue.as_fd(), self.draining.as_fd()];
        wait::readable(others, Some(SHUT_FOR)).map(drop)
    }
}

impl AsFd for LentSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.0.as_fd()
    }
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    No,
    BySocket,
}

const SOCKET: u64 = 0;
const QUEUE: u64 = 1;
const DRAINING: u64 = 2;

/// How long the master may take to listen again.
const SHUT_FOR: Duration = Duration::from_millis(10);
