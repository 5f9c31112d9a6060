//! Forks: which process this is, and what a child must not believe of itself.
//!
//! A child has its parent's memory, marks included. Connections are the parent's, who counted them,
//! and so are the epoll instances, which both would change. A child between `vfork(2)` and `exec`
//! comes by no handler: it is told by its pid.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use crate::marks::{self, Mark};
use crate::{lock, sys};

/// Before the program begins.
pub(crate) fn watch() {
    PID.store(sys::pid(), Ordering::Relaxed);
    sys::at_fork(in_parent, in_child);
}

/// The process whose memory this is.
pub(crate) fn pid() -> i32 {
    PID.load(Ordering::Relaxed)
}

/// How many children it has had.
pub(crate) fn count() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Whether this memory is this process's own.
pub(crate) fn is_home() -> bool {
    sys::pid() == pid()
}

extern "C" fn in_parent() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn in_child() {
    PID.store(sys::pid(), Ordering::Relaxed);
    lock::free_in_child();
    for (fd, mark) in marks::within(0, RawFd::MAX) {
        match mark {
            Mark::Connection(_) | Mark::Epoll => {
                marks::set(fd, Mark::Plain);
            }
            Mark::Plain | Mark::Socket(_) | Mark::Hidden => {}
        }
    }
}

static PID: AtomicI32 = AtomicI32::new(0);
static FORKS: AtomicU32 = AtomicU32::new(0);
