//! What a readiness event is about, packed into mio's token.
//!
//! Worker and listener ids are never reused, so an event that was already under way when its
//! source went away finds nobody, instead of somebody else.

use mio::Token;
use worker_proto::ids::{ListenerId, WorkerId};

use crate::control::server::ClientId;

/// A source of readiness events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Another thread has something for the loop.
    Waker,
    /// A signal arrived.
    Signals,
    /// A client is waiting.
    Listener(ListenerId),
    /// A process said something, or can be told something.
    Control(WorkerId),
    /// A process ended.
    Exit(WorkerId),
    /// A saturated accept queue has room again.
    Queue(WorkerId, ListenerId),
    /// A child ended, perhaps one that the master did not start.
    Orphans,
    /// An operator is at the door.
    Door,
    /// An operator said something, or can be told something.
    Operator(ClientId),
}

impl From<Source> for Token {
    fn from(source: Source) -> Self {
        let (kind, worker, listener) = match source {
            Source::Waker => (0, 0, 0),
            Source::Signals => (1, 0, 0),
            Source::Listener(ListenerId(listener)) => (2, 0, listener),
            Source::Control(WorkerId(worker)) => (3, worker, 0),
            Source::Exit(WorkerId(worker)) => (4, worker, 0),
            Source::Queue(WorkerId(worker), ListenerId(listener)) => (5, worker, listener),
            Source::Orphans => (6, 0, 0),
            Source::Door => (7, 0, 0),
            Source::Operator(ClientId(client)) => (8, client, 0),
        };
        debug_assert!(worker <= WORKER_MASK && u64::from(listener) <= LISTENER_MASK);
        let packed = kind << KIND_SHIFT | u64::from(listener) << LISTENER_SHIFT | worker;
        Token(usize::try_from(packed).expect("64-bit Linux"))
    }
}

impl Source {
    /// What a token was made from; `None` for one that was not made here.
    pub(crate) fn from_token(token: Token) -> Option<Self> {
        let packed = token.0 as u64;
        let worker = WorkerId(packed & WORKER_MASK);
        let listener = ListenerId(u32::try_from(packed >> LISTENER_SHIFT & LISTENER_MASK).ok()?);
        Some(match packed >> KIND_SHIFT {
            0 => Source::Waker,
            1 => Source::Signals,
            2 => Source::Listener(listener),
            3 => Source::Control(worker),
            4 => Source::Exit(worker),
            5 => Source::Queue(worker, listener),
            6 => Source::Orphans,
            7 => Source::Door,
            8 => Source::Operator(ClientId(worker.0)),
            _ => return None,
        })
    }
}

/// The last listener that a token can name.
pub(crate) const LAST_LISTENER: u32 = (1 << (KIND_SHIFT - LISTENER_SHIFT)) - 1;

/// 2^40 workers: a thousand restarts a second for thirty years.
const LISTENER_SHIFT: u32 = 40;
const KIND_SHIFT: u32 = 60;
const WORKER_MASK: u64 = (1 << LISTENER_SHIFT) - 1;
const LISTENER_MASK: u64 = LAST_LISTENER as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_survives_the_packing() {
        for source in [
            Source::Waker,
            Source::Signals,
            Source::Orphans,
            Source::Listener(ListenerId(0)),
            Source::Listener(ListenerId(1_000_000)),
            Source::Control(WorkerId(1)),
            Source::Exit(WorkerId(WORKER_MASK)),
            Source::Queue(WorkerId(7), ListenerId(3)),
            Source::Queue(WorkerId(WORKER_MASK), ListenerId(1_048_575)),
            Source::Door,
            Source::Operator(ClientId(7)),
        ] {
            assert_eq!(Source::from_token(Token::from(source)), Some(source));
        }
        assert_eq!(Source::from_token(Token(usize::MAX)), None);
    }
}
