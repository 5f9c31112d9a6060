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
use super::control::Control;
use super::draining::Draining;
use super::in_flight::InFlight;
use super::listener::AcceptQueue;
use super::scorekeeper::Scorekeeper;
use super::standalone::is_the_clients_fault;
use super::wait;
use crate::address::Address;
use crate::scm::Wait;

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
            if let Some(answer) = self.accept_ready() {
                return answer;
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

    /// The same, now or `WouldBlock`.
    pub(crate) fn accept_now(&self) -> io::Result<Option<Connection>> {
        let ready = self.accept_ready();
        ready.unwrap_or_else(|| self.accept_queued())
    }

    pub(crate) fn control(&self) -> &Arc<Control> {
        self.queue.control()
    }

    /// Whether accepting waits.
    pub(crate) fn waits(&self) -> Wait {
        match self.nonblocking {
            true => Wait::Never,
            false => Wait::AsSet,
        }
    }

    /// What there is, as far as that is known: the queue is asked when it was seen to be ready.
    fn accept_ready(&self) -> Option<io::Result<Option<Connection>>> {
        if self.draining.is_draining() {
            self.leave();
            self.queue_is_ready.store(true, Ordering::Relaxed);
        }
        if self.queue_is_ready.swap(false, Ordering::Relaxed) {
            match self.queue.accept(Wait::Never) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    // There may be more.
                    self.queue_is_ready.store(true, Ordering::Relaxed);
                    return Some(result);
                }
            }
        }
        if self.draining.is_draining() {
            return None;
        }
        match self.accept_itself() {
            Ok(None) => None,
            result => Some(result),
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
        let result = self.queue.accept(Wait::Never);
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::thread;

    use crate::frame::ListenOptions;
    use crate::sdk::{Connection, FakeMaster, Listener, Server, Worker};

    use super::*;

    /// A worker that accepts itself, and where.
    fn lent(options: ListenOptions) -> (FakeMaster, Worker, Listener, TcpListener) {
        let (master, worker) = FakeMaster::new();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        master.lend(WEB, socket.try_clone().unwrap().into());
        let listener = worker.listen_with(WEB, options).unwrap();
        (master, worker, listener, socket)
    }

    fn address(socket: &TcpListener) -> SocketAddr {
        socket.local_addr().unwrap()
    }

    #[test]
    fn it_serves_what_it_accepts_and_what_it_is_given_and_counts_both() {
        let (master, _worker, listener, socket) = lent(ListenOptions::default());
        let mut own = TcpStream::connect(address(&socket)).unwrap();
        let accepted = listener.accept().unwrap().unwrap();
        assert_eq!(accepted.peer().inet(), Some(own.local_addr().unwrap()));
        let mut given = master.connect(WEB);
        let received = listener.accept().unwrap().unwrap();
        assert_eq!(master.score().unwrap().open(), 2);
        for (mut connection, client) in [
            (accepted, &mut own as &mut dyn Read),
            (received, &mut given as &mut dyn Read),
        ] {
            connection.write_all(b"x").unwrap();
            drop(connection);
            assert_eq!(client.read(&mut [0; 2]).unwrap(), 1);
        }
        assert_eq!(master.score().unwrap().open(), 0);
    }

    #[test]
    fn it_leaves_the_socket_to_others_when_it_drains_and_takes_what_it_was_given() {
        let (master, _worker, listener, socket) = lent(ListenOptions::default());
        let _given = master.connect(WEB);
        let _late = TcpStream::connect(address(&socket)).unwrap();
        master.drain(Duration::ZERO);
        // Draining begins with the frame, the end of the queue comes with it.
        let rest: Vec<Connection> = listener.incoming().map(Result::unwrap).collect();
        let own = rest.iter().filter(|it| it.peer().inet().is_some()).count();
        assert_eq!(rest.len() - own, 1);
        assert!(listener.accept().unwrap().is_none(), "ended for good");
        socket.set_nonblocking(true).unwrap();
        assert_eq!(socket.accept().is_ok(), own == 0, "one of the two has it");
    }

    #[test]
    fn one_that_waits_ends_when_it_is_to_drain() {
        let (master, _worker, listener, _socket) = lent(ListenOptions::default());
        thread::scope(|scope| {
            let waiting = scope.spawn(|| listener.accept().unwrap().is_none());
            master.drain(Duration::ZERO);
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn a_non_blocking_one_is_polled_by_one_descriptor() {
        let options = ListenOptions {
            nonblocking: true,
            ..ListenOptions::default()
        };
        let (master, _worker, listener, socket) = lent(options);
        let nobody = |result: io::Result<Option<Connection>>| {
            result.unwrap_err().kind() == io::ErrorKind::WouldBlock
        };
        let is_readable = || wait::readable([listener.as_fd()], Some(SHUT_FOR)).unwrap() == [true];
        assert!(nobody(listener.accept()) && !is_readable());
        let _own = TcpStream::connect(address(&socket)).unwrap();
        assert!(is_readable() && listener.accept().unwrap().is_some());
        let _given = master.connect(WEB);
        assert!(is_readable() && listener.accept().unwrap().is_some());
        assert!(nobody(listener.accept()) && !is_readable());
        master.drain(Duration::ZERO);
        assert!(wait::readable([listener.as_fd()], None).unwrap() == [true]);
        assert!(matches!(listener.accept(), Ok(None)));
    }

    /// Somebody else was faster: that is counted, and no error.
    #[test]
    fn a_wake_up_for_nobody_is_counted() {
        let (master, _worker, listener, socket) = lent(ListenOptions::default());
        let idle = listener.idle_wakeups();
        thread::scope(|scope| {
            let server = scope.spawn(|| Server::new().serve([listener], drop).unwrap());
            socket.set_nonblocking(true).unwrap();
            // Sooner or later this one is faster.
            while idle.count() == 0 {
                let _client = TcpStream::connect(address(&socket)).unwrap();
                let _ = socket.accept();
            }
            master.drain(Duration::ZERO);
            server.join().unwrap();
        });
    }

    #[test]
    fn a_socket_that_was_shut_down_serves_again_when_it_listens_again() {
        let (_master, _worker, listener, socket) = lent(ListenOptions::default());
        let again = Socket::from(socket.try_clone().unwrap());
        let address = address(&socket);
        again.shutdown(std::net::Shutdown::Both).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| listener.accept().unwrap());
            // The kernel has forgotten the port, since nobody asked for it by its number.
            again.bind(&address.into()).unwrap();
            again.listen(8).unwrap();
            let client = TcpStream::connect(address).unwrap();
            let connection = waiting.join().unwrap().unwrap();
            assert_eq!(connection.peer().inet(), client.local_addr().ok());
        });
    }

    const WEB: &str = "web";
}
