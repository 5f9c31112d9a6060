//! Letting go: what is done when a descriptor of ours is closed, or something else takes its number.
//!
//! Async-signal-safe, and without a lock: `close` may be called anywhere.

use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

use worker_proto::frame::ToMaster;

use crate::listeners::{Listener, Record, Stage};
use crate::marks::{self, Mark};
use crate::{channel, epolls, fork, hidden, score};

/// What the program may do with a descriptor that it wants to close or replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Leave {
    /// As it likes. Afterwards [`Closed::note`] is to be called.
    Granted(Closed),
    /// It is ours, and stays.
    Refused,
}

/// What was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct Closed(Mark);

/// Before a descriptor is closed, or replaced.
pub(crate) fn before_close(fd: RawFd) -> Leave {
    let mark = marks::of(fd);
    match mark {
        Mark::Plain => return Leave::Granted(Closed(Mark::Plain)),
        Mark::Hidden if channel::get() != Some(fd) || channel::is_protected(fd) => {
            return Leave::Refused;
        }
        // A child between vfork and exec writes to its parent's memory.
        _ if !fork::is_home() => return Leave::Granted(Closed(Mark::Plain)),
        Mark::Socket(record) if record.get().is_listening() => epolls::forget(fd),
        Mark::Hidden | Mark::Connection(_) | Mark::Socket(_) | Mark::Epoll => {}
    }
    Leave::Granted(Closed(marks::set(fd, Mark::Plain)))
}

impl Closed {
    /// What was marked so is not there any more.
    pub(crate) fn of(mark: Mark) -> Self {
        Closed(mark)
    }

    /// It is closed.
    pub(crate) fn note(self) {
        match self.0 {
            Mark::Connection(share) => {
                if share.is_last() {
                    score::finished();
                }
            }
            Mark::Socket(record) => {
                if record.get().copies.fetch_sub(1, Ordering::AcqRel) == 1 {
                    give_up(record);
                }
            }
            Mark::Plain | Mark::Hidden | Mark::Epoll => {}
        }
    }
}

/// No descriptor of the listener is left in this process.
pub(crate) fn give_up(record: Record) {
    let listener = record.get();
    let id = listener.id();
    listener.set_id(None);
    let was_ours = listener.owner.load(Ordering::Relaxed) == fork::pid()
        && listener.forks.load(Ordering::Relaxed) == fork::count();
    for place in [&listener.substitute, &listener.shadow] {
        if let Some(fd) = Listener::take(place) {
            hidden::close(fd);
        }
    }
    listener.set_stage(Stage::Free);
    if let Some(listener) = id
        && was_ours
        && !Record::all().any(|other| other.get().id() == Some(listener))
    {
        // What is not told the master finds out when this process ends.
        let _ = channel::tell(&ToMaster::Unlisten { listener });
    }
}
