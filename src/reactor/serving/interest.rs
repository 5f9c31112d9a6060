//! The interest in a listener's socket: how the master learns that a client waits.
//!
//! The socket is watched exactly while something would be done about a client, or looked at from
//! time to time while many come: see [`Coalescing`](crate::dispatch::Coalescing).

use std::os::fd::AsRawFd;
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::{Admission, Serving, Turn};
use crate::reactor::clock;
use crate::reactor::token::Source;
use crate::sys::listening::AcceptError;

/// What the poll was asked to report about the socket, and what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interested {
    /// Not registered: every new client would wake the master for nothing.
    No,
    Yes {
        /// There may be more to accept: readiness is reported once per change (`epoll(7)`).
        readable: bool,
    },
    /// Not registered: so many come that it is looked at from time to time.
    Later {
        /// It was empty then.
        empty: Instant,
        /// When to look.
        at: Instant,
    },
    /// The time to look has come.
    Due,
}

impl Interested {
    /// Whether somebody may wait.
    pub(super) fn is_readable(self) -> bool {
        match self {
            Interested::Yes { readable } => readable,
            Interested::Due => true,
            Interested::No | Interested::Later { .. } => false,
        }
    }
}

impl Serving {
    /// Begins a turn: perhaps the time to look has come.
    pub(super) fn look_if_due(&mut self, now: Instant) {
        if let Interested::Later { empty, at } = self.interest
            && at <= now
        {
            self.interest = Interested::Due;
            self.delays.note_readable(empty);
        }
    }

    /// When to look, although nothing will say that somebody has come.
    pub(super) fn look_deadline(&self) -> Option<Instant> {
        match self.interest {
            Interested::Later { at, .. } => Some(at),
            Interested::No | Interested::Yes { .. } | Interested::Due => None,
        }
    }

    /// Nobody waits any more.
    pub(super) fn note_nobody_waits(&mut self) {
        self.interest = match self.interest {
            Interested::Yes { .. } => Interested::Yes { readable: false },
            Interested::Due => {
                let now = clock::now();
                Interested::Later {
                    empty: now,
                    at: now,
                }
            }
            Interested::No | Interested::Later { .. } => self.interest,
        };
    }

    /// Ends a turn in which somebody may have waited, and so many did: how it learns of the next.
    pub(super) fn await_next(&mut self, accepted: u64, turn: &Turn<'_>) {
        let now = clock::now();
        self.coalescing.note(now, accepted);
        if self.interest.is_readable() {
            return;
        }
        // Who closes wants to know at once that nobody is left.
        let is_open = self.admission == Admission::Open;
        let at = self.coalescing.look_again_at(now).filter(|_| is_open);
        match (self.interest, at) {
            (Interested::Yes { .. } | Interested::Later { .. }, Some(at)) => {
                self.deregister(turn.registry);
                self.interest = Interested::Later { empty: now, at };
            }
            (Interested::Later { .. }, None) => self.interest = Interested::No,
            (Interested::Yes { .. }, None) | (Interested::No | Interested::Due, _) => {}
        }
    }

    /// The socket is watched exactly while something would be done about a client.
    pub(super) fn update_interest(&mut self, turn: &Turn<'_>) {
        match (self.interest, self.can_accept() && self.held.is_empty()) {
            (Interested::No, true) => self.register(turn),
            (Interested::Later { .. } | Interested::Due, true)
                if self.admission != Admission::Open =>
            {
                self.register(turn);
            }
            (Interested::Yes { .. } | Interested::Later { .. } | Interested::Due, false) => {
                self.deregister(turn.registry);
            }
            (Interested::No, false)
            | (Interested::Yes { .. } | Interested::Later { .. } | Interested::Due, true) => {}
        }
    }

    fn register(&mut self, turn: &Turn<'_>) {
        let socket = self.socket.as_ref().expect("can accept");
        let token = Source::Listener(self.id).into();
        let registered = turn.registry.register(
            &mut SourceFd(&socket.as_raw_fd()),
            token,
            Interest::READABLE,
        );
        match registered {
            // Somebody may have come while nobody looked.
            Ok(()) => self.interest = Interested::Yes { readable: true },
            // Nothing will say that somebody comes: try again.
            Err(err) => self.pause(turn.now, &AcceptError::Exhausted(err)),
        }
    }

    pub(super) fn deregister(&mut self, registry: &Registry) {
        if let (Interested::Yes { .. }, Some(socket)) = (self.interest, &self.socket) {
            let _ = registry.deregister(&mut SourceFd(&socket.as_raw_fd()));
        }
        self.interest = Interested::No;
    }
}
