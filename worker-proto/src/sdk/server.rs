//! A thread-pool server that receives only what it can start.
//!
//! Leader and followers: each listener has one baton, and only the thread that holds it may
//! receive. It receives one connection, passes the baton on and serves. When every thread is
//! busy nobody holds a baton, so nothing more is received, and what waits in the accept queue
//! can still be given to another worker.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::connection::Connection;
use super::hook::message;
use super::listener::{Arrival, Listener, is_shortage};

/// Serves connections, each in a thread of a bounded pool.
#[derive(Clone, Debug)]
pub struct Server {
    max_threads: usize,
}

/// What a server did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// How many connections were given to the handler.
    pub connections: u64,
    /// How many of them ended with a panic of the handler.
    pub panics: u64,
}

impl Server {
    /// A server with at most 64 threads.
    #[must_use]
    pub fn new() -> Self {
        Server { max_threads: 64 }
    }

    /// How many threads there may be, and so how many connections are served at once. A listener
    /// that waits for its next connection occupies one of them, so there are never fewer than
    /// listeners. Threads start when they are needed and stay.
    #[must_use]
    pub fn max_threads(mut self, max_threads: usize) -> Self {
        self.max_threads = max_threads;
        self
    }

    /// Serves until every listener has ended and the last connection is served. A panic of the
    /// handler costs its own connection only; with
    /// [`catch_panics`](super::Worker::catch_panics) it also ends the listeners, and the others are
    /// served.
    ///
    /// Ask for the listeners with a `max_batch` of 1, the default: what comes in the same packet
    /// as another connection is received before it can be started.
    ///
    /// # Errors
    /// The first error that ended a listener, after the others have ended, too. A lack of
    /// descriptors or memory ends none: accepting pauses until a connection is closed.
    pub fn serve<H>(
        &self,
        listeners: impl IntoIterator<Item = Listener>,
        handler: H,
    ) -> io::Result<Served>
    where
        H: Fn(Connection) + Send + Sync,
    {
        let listeners: Vec<Listener> = listeners.into_iter().collect();
        let (back, batons) = bounded(listeners.len());
        let crew = Crew {
            handler,
            max_threads: self.max_threads.max(listeners.len()),
            batons,
            finished: bounded(1),
            roster: Mutex::new(Roster {
                threads: 1,
                idle: 1,
                batons: 0,
            }),
            connections: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            failure: Mutex::new(None),
        };
        thread::scope(|scope| {
            for listener in listeners {
                let back = back.clone();
                crew.pass(Baton { listener, back }, scope);
            }
            // From here on only batons hold senders: the last one to be dropped ends the threads.
            drop(back);
            crew.work(scope);
        });
        let failure = crew.failure.into_inner();
        match failure.unwrap_or_else(PoisonError::into_inner) {
            Some(err) => Err(err),
            None => Ok(Served {
                connections: crew.connections.into_inner(),
                panics: crew.panics.into_inner(),
            }),
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

/// The right to receive from a listener.
struct Baton {
    listener: Listener,
    /// The way to the next thread.
    back: Sender<Baton>,
}

struct Crew<H> {
    handler: H,
    max_threads: usize,
    batons: Receiver<Baton>,
    /// A connection was closed: there may be room for another descriptor. Holds one, as one is
    /// enough to try again.
    finished: (Sender<()>, Receiver<()>),
    roster: Mutex<Roster>,
    connections: AtomicU64,
    panics: AtomicU64,
    failure: Mutex<Option<io::Error>>,
}

/// Who is there. A thread counts as idle from the decision to start it.
struct Roster {
    threads: usize,
    idle: usize,
    /// Batons that no thread has taken yet.
    batons: usize,
}

impl<H: Fn(Connection) + Send + Sync> Crew<H> {
    /// The life of a thread.
    fn work<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        while let Ok(baton) = self.batons.recv() {
            {
                let mut roster = self.roster();
                roster.batons -= 1;
                roster.idle -= 1;
            }
            match self.receive(&baton.listener) {
                Ok(Some(arrival)) => {
                    self.pass(baton, scope);
                    self.serve(arrival);
                }
                Ok(None) => drop(baton),
                Err(err) => self.fail(&baton, err),
            }
            self.roster().idle += 1;
        }
    }

    /// Puts a baton where the next idle thread finds it; starts one if none is idle.
    fn pass<'scope>(&'scope self, baton: Baton, scope: &'scope Scope<'scope, '_>) {
        let number = {
            let mut roster = self.roster();
            roster.batons += 1;
            let needed = roster.batons > roster.idle && roster.threads < self.max_threads;
            if needed {
                roster.threads += 1;
                roster.idle += 1;
            }
            needed.then_some(roster.threads)
        };
        let back = baton.back.clone();
        back.send(baton).expect("the crew holds the receiver");
        if let Some(number) = number {
            let spawned = thread::Builder::new()
                .name(format!("rr-serve-{number}"))
                .spawn_scoped(scope, move || self.work(scope));
            if let Err(err) = spawned {
                log::warn!("serving with {} threads only: {err}", number - 1);
                let mut roster = self.roster();
                roster.threads -= 1;
                roster.idle -= 1;
            }
        }
    }

    /// Waits for the next connection.
    fn receive(&self, listener: &Listener) -> io::Result<Option<Arrival>> {
        let mut short = false;
        loop {
            match listener.receive() {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                    listener.wait()?;
                }
                Err(err) if is_shortage(&err) => {
                    if !short {
                        log::warn!("{}: accepting pauses: {err}", listener.name());
                    }
                    short = true;
                    _ = self.finished.1.recv_timeout(RETRY);
                }
                result => return result,
            }
        }
    }

    fn serve(&self, arrival: Arrival) {
        if let Some(connection) = arrival.greet() {
            self.handle(connection);
        }
        _ = self.finished.0.try_send(());
    }

    fn handle(&self, connection: Connection) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let peer = connection.peer().clone();
        // The handler cannot be seen half-way by us; its own state is shared between threads, so
        // it must bear this anyway, and a poisoned lock tells it.
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| (self.handler)(connection)));
        if let Err(payload) = outcome {
            self.panics.fetch_add(1, Ordering::Relaxed);
            log::error!("the handler of {peer} panicked: {}", message(&*payload));
        }
    }

    fn fail(&self, baton: &Baton, err: io::Error) {
        log::error!("{}: failed to accept: {err}", baton.listener.name());
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(err);
    }

    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long accepting pauses at most when descriptors or memory run out.
const RETRY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::AtomicUsize;

    use socket2::SockRef;

    use super::*;
    use crate::frame::{ListenOptions, Welcome};
    use crate::sdk::{FakeMaster, Worker};

    #[test]
    fn what_is_queued_when_draining_begins_is_served() {
        let (master, worker) = FakeMaster::new();
        let listener = worker.listen(WEB).unwrap();
        let mut clients: Vec<_> = (0..20).map(|_| master.connect(WEB)).collect();
        master.drain(PATIENCE);
        let served = Server::new().max_threads(4).serve([listener], greet);
        assert_eq!(
            served.unwrap(),
            Served {
                connections: 20,
                panics: 0
            }
        );
        for client in &mut clients {
            assert_eq!(read(client), "hello");
        }
    }

    /// C09, F11.
    #[test]
    fn a_panic_costs_its_own_connection_only() {
        let (master, worker) = FakeMaster::new();
        let listener = worker.listen(WEB).unwrap();
        let mut clients: Vec<_> = (0..4).map(|_| master.connect(WEB)).collect();
        master.drain(PATIENCE);
        let turn = AtomicUsize::new(0);
        let served = Server::new()
            .max_threads(1)
            .serve([listener], |connection| {
                assert_ne!(turn.fetch_add(1, Ordering::SeqCst), 1, "the second one");
                greet(connection);
            });
        assert_eq!(
            served.unwrap(),
            Served {
                connections: 4,
                panics: 1
            }
        );
        let answers: Vec<String> = clients.iter_mut().map(read).collect();
        assert_eq!(answers, ["hello", "", "hello", "hello"]);
    }

    #[test]
    fn only_what_can_be_started_is_received() {
        let (master, worker) = FakeMaster::new();
        let listener = worker.listen(WEB).unwrap();
        let clients: Vec<_> = (0..3).map(|_| master.connect(WEB)).collect();
        let (started, starts) = bounded(3);
        thread::scope(|scope| {
            let server = scope.spawn(|| {
                Server::new()
                    .max_threads(2)
                    .serve([listener], |mut connection| {
                        started.send(()).unwrap();
                        // Until the client closes.
                        connection.read_to_end(&mut Vec::new()).unwrap();
                    })
            });
            for _ in 0..2 {
                starts.recv_timeout(PATIENCE).unwrap();
            }
            // Both threads are busy, so the third can still be served elsewhere.
            let reclaimed = master.reclaim(WEB);
            assert_eq!(reclaimed.len(), 1);
            master.hand_off(WEB, reclaimed).unwrap();
            assert!(starts.is_empty());
            // A thread that is free again receives it.
            drop(clients);
            starts.recv_timeout(PATIENCE).unwrap();
            master.drain(PATIENCE);
            assert_eq!(server.join().unwrap().unwrap().connections, 3);
        });
    }

    #[test]
    fn as_many_are_served_at_once_as_there_may_be_threads() {
        const THREADS: usize = 16;
        let (master, worker) = FakeMaster::new();
        let listener = worker.listen(WEB).unwrap();
        let (started, starts) = bounded(THREADS);
        thread::scope(|scope| {
            let server = scope.spawn(|| {
                Server::new()
                    .max_threads(THREADS)
                    .serve([listener], |mut connection| {
                        started.send(()).unwrap();
                        connection.read_to_end(&mut Vec::new()).unwrap();
                    })
            });
            let clients: Vec<_> = (0..THREADS).map(|_| master.connect(WEB)).collect();
            for _ in 0..THREADS {
                starts.recv_timeout(PATIENCE).unwrap();
            }
            drop(clients);
            master.drain(PATIENCE);
            server.join().unwrap().unwrap();
        });
    }

    #[test]
    fn every_listener_is_served_even_with_fewer_threads_asked_for() {
        let targets = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"];
        let (master, worker) = FakeMaster::with(Welcome {
            ..FakeMaster::welcome()
        });
        let listeners = targets.map(|target| worker.listen(target).unwrap());
        thread::scope(|scope| {
            let server = scope.spawn(|| Server::new().max_threads(1).serve(listeners, greet));
            for _ in 0..5 {
                for target in targets {
                    assert_eq!(read(&mut master.connect(target)), "hello");
                }
            }
            master.drain(PATIENCE);
            assert_eq!(server.join().unwrap().unwrap().connections, 15);
        });
    }

    #[test]
    fn a_non_blocking_listener_is_served_without_spinning() {
        let (master, worker) = FakeMaster::new();
        let options = ListenOptions {
            nonblocking: true,
            ..ListenOptions::default()
        };
        let listener = worker.listen_with(WEB, options).unwrap();
        thread::scope(|scope| {
            let server = scope.spawn(|| Server::new().serve([listener], greet));
            assert_eq!(read(&mut master.connect(WEB)), "hello");
            master.drain(PATIENCE);
            assert_eq!(server.join().unwrap().unwrap().connections, 1);
        });
    }

    #[test]
    fn a_listener_that_fails_is_reported() {
        let worker = Worker::connect().unwrap();
        let listener = worker.listen("127.0.0.1:0").unwrap();
        let socket = listener.as_fd().try_clone_to_owned().unwrap();
        thread::scope(|scope| {
            let server = scope.spawn(|| Server::new().serve([listener], greet));
            SockRef::from(&socket)
                .shutdown(std::net::Shutdown::Both)
                .unwrap();
            let err = server.join().unwrap().unwrap_err();
            assert_eq!(err.raw_os_error(), Some(libc::EINVAL));
        });
    }

    #[test]
    fn without_listeners_there_is_nothing_to_do() {
        let served = Server::default().serve([], greet).unwrap();
        assert_eq!(served.connections, 0);
    }

    fn greet(mut connection: Connection) {
        connection.write_all(b"hello").unwrap();
    }

    fn read(client: &mut UnixStream) -> String {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    }

    const WEB: &str = "127.0.0.1:8000";
    const PATIENCE: Duration = Duration::from_secs(5);
}
