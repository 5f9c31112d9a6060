//! Copies: a duplicate of a descriptor is to us what the descriptor is. Async-signal-safe.

use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

use crate::fork;
use crate::marks::{self, Mark};
use crate::shares::Share;

/// `copy` has just become one of `fd`.
pub(crate) fn note(fd: RawFd, copy: RawFd) {
    if copy < 0 || copy == fd || !fork::is_home() {
        return;
    }
    let mark = match marks::of(fd) {
        mark @ (Mark::Plain | Mark::Hidden | Mark::Epoll) => mark,
        mark @ Mark::Socket(record) => {
            record.get().copies.fetch_add(1, Ordering::AcqRel);
            mark
        }
        Mark::Connection(share) => match share.another() {
            Some(shared) => {
                if share == Share::NONE {
                    marks::set(fd, Mark::Connection(shared));
                }
                Mark::Connection(shared)
            }
            // Finished when the first one is closed.
            None => Mark::Plain,
        },
    };
    // A copy of what is ours is the program's own.
    if mark != Mark::Hidden {
        marks::set(copy, mark);
    }
}
