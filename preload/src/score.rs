//! The score: how many connections this program has received and has open, on the page that it
//! shares with its master.
//!
//! The page's descriptor is kept beside that of the control channel, one number above it, so that
//! a program that is started by `exec` finds it there.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use worker_proto::frame::ToMaster;
use worker_proto::tally::Tally;

use crate::channel;
use crate::marks::{self, Mark};
use crate::sys::{self, OnExec};

/// Takes the page that comes with an answer, unless it has it already.
pub(crate) fn open(page: OwnedFd) {
    if TALLY.get().is_some() {
        return;
    }
    attach(page.as_raw_fd());
    let Some(place) = place() else { return };
    if !sys::is_open(place) && sys::copy_from(page.as_raw_fd(), place, OnExec::Keep) == Ok(place) {
        marks::set(place, Mark::Hidden);
    }
}

/// Takes the page that an earlier program in this process has left.
pub(crate) fn find() {
    let Some(place) = place() else { return };
    if sys::is_open(place) && attach(place) {
        marks::set(place, Mark::Hidden);
        channel::note_used();
    }
}

fn place() -> Option<RawFd> {
    channel::get().map(|fd| fd + 1)
}

fn attach(fd: RawFd) -> bool {
    match Tally::attach(sys::borrow(fd)) {
        Ok(tally) => TALLY.set(tally).is_ok(),
        Err(_) => false,
    }
}

/// A connection is this process's from now on.
pub(crate) fn received() {
    if let Some(tally) = TALLY.get() {
        tally.received(1);
    }
}

/// It is closed.
pub(crate) fn finished() {
    if let Some(tally) = TALLY.get()
        && tally.finished(1)
        && channel::tell(&ToMaster::Relieved).is_err()
    {
        tally.remain_asked();
    }
}

/// Never given back: a thread may be counting.
static TALLY: OnceLock<Tally> = OnceLock::new();
