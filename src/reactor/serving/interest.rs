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
        let gathered_before = self.coalescing.gathers();
        self.coalescing.note(now, accepted);
        match (gathered_before, self.coalescing.gathers()) {
            (false, true) => log::debug!("{}: many clients come: they are gathered", self.name),
            (true, false) => log::debug!("{}: clients are not gathered any more", self.name),
            (false, false) | (true, true) => {}
        }
        if self.interest.is_readable() {
            return;
        }
        // Who closes wants to know at once that nobody is left.
        let is_open = self.admission == Admission::Open;
        let at = self.coalescing.look_again_at(now).filter(|_| is_open);
        match (self.interest, at) {
            // It was empty in this turn: nothing says when.
            (Interested::Yes { .. }, Some(at)) => {
                self.deregister(turn.registry);
                let empty = turn.now;
                self.interest = Interested::Later { empty, at };
            }
            // What was handed off since took a while: somebody may have come in it.
            (Interested::Later { empty, .. }, Some(at)) => {
                self.interest = Interested::Later { empty, at };
            }
            (Interested::Later { empty, .. }, None) => {
                self.interest = Interested::No;
                self.delays.note_readable(empty);
            }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::Poll;
    use worker_proto::frame::DispatchMode;
    use worker_proto::ids::ListenerId;
    use worker_proto::socket::Inbox;

    use super::*;
    use crate::config::listener::ListenerSpec;
    use crate::config::{ConnectionLimits, Overflow};
    use crate::reactor::load::Loads;
    use crate::reactor::serving::{Rules, Tenure};
    use crate::sys::closing::Closing;
    use crate::sys::listening::{Keeping, ListeningSocket};

    /// A listener that has found nobody at `empty`, and then handed off those before.
    fn found_empty(empty: Instant, gathers: bool) -> Serving {
        let spec = ListenerSpec::bind("127.0.0.1:0".parse().unwrap());
        let socket = ListeningSocket::open(&spec, Keeping::Own).unwrap();
        let rules = Rules {
            overflow: Overflow::Wait,
            stall_timeout: None,
            hang_timeout: None,
            coalesce: LONGEST,
        };
        let (id, tenure) = (ListenerId(0), Tenure::Declared);
        let name = spec.name();
        let mut serving = Serving::new(id, name, DispatchMode::HandOff, rules, tenure, socket);
        if gathers {
            serving.coalescing.note(empty - LONGEST, 100);
            serving.coalescing.note(empty, 100);
        }
        assert_eq!(serving.coalescing.gathers(), gathers);
        serving.interest = Interested::Later { empty, at: empty };
        let poll = Poll::new().unwrap();
        let turn = Turn {
            now: empty,
            registry: poll.registry(),
            scratch: &mut Vec::new(),
            closing: &mut Closing::default(),
            inbox: &mut Inbox::new(),
            loads: &mut Loads::new(ConnectionLimits::default()),
            findings: &mut Vec::new(),
        };
        serving.await_next(1, &turn);
        serving
    }

    #[test]
    fn who_comes_while_others_are_handed_off_has_waited_since_then() {
        let empty = clock::now();
        let gathering = found_empty(empty, true);
        assert!(
            matches!(gathering.interest, Interested::Later { empty: since, .. } if since == empty),
            "{:?}",
            gathering.interest
        );
        let mut prompt = found_empty(empty, false);
        assert_eq!(prompt.interest, Interested::No);
        let next_turn = empty + LONGEST;
        prompt.delays.note_sent(1, next_turn, next_turn);
        assert!(prompt.handoff_delay(next_turn).max >= LONGEST);
    }

    const LONGEST: Duration = Duration::from_millis(10);
}
