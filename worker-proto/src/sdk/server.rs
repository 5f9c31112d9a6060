//! A thread-pool server that receives only what it can start.
//!
//! Leader and followers: each listener has one baton, and only the thread that holds it may
//! receive. It receives one connection, passes the baton on and serves. When every thread is
//! busy nobody holds a baton, so nothing more is received, and what waits in the accept queue
//! can still be given to another worker.

use std::any::Any;
use std::io;
use std::os::fd::AsFd;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::connection::Connection;
use super::listener::{Listener, is_shortage};
use super::wait;

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
    /// handler costs its own connection only.
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
                Ok(Some(connection)) => {
                    self.pass(baton, scope);
                    self.serve(connection);
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
    fn receive(&self, listener: &Listener) -> io::Result<Option<Connection>> {
        let mut short = false;
        loop {
            match listener.accept() {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                    wait::readable([listener.as_fd()], None)?;
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

    fn serve(&self, connection: Connection) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let peer = connection.peer().clone();
        // The handler cannot be seen half-way by us; its own state is shared between threads, so
        // it must bear this anyway, and a poisoned lock tells it.
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| (self.handler)(connection)));
        if let Err(payload) = outcome {
            self.panics.fetch_add(1, Ordering::Relaxed);
            log::error!("the handler of {peer} panicked: {}", message(&*payload));
        }
        _ = self.finished.0.try_send(());
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

fn message(payload: &(dyn Any + Send)) -> &str {
    if let Some(message) = payload.downcast_ref::<&str>() {
        message
    } else if let Some(message) = payload.downcast_ref::<String>() {
        message
    } else {
        "without a message"
    }
}

/// How long accepting pauses at most when descriptors or memory run out.
const RETRY: Duration = Duration::from_millis(100);
