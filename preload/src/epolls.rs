//! The epoll instances that this process has made.
//!
//! The master has a copy of every accept queue, so epoll does not forget one that the program
//! closes, see "Questions and answers" in `epoll(7)`: it has to be told. Instances of a parent are
//! left alone: what is forgotten there the parent would miss.

use std::fs;
use std::os::fd::RawFd;

use crate::marks::{self, Mark};
use crate::sys;

pub(crate) fn note(epoll: RawFd) {
    if epoll >= 0 {
        marks::set(epoll, Mark::Epoll);
    }
}

/// None of them watches `fd` any more. Async-signal-safe.
pub(crate) fn forget(fd: RawFd) {
    for epoll in all() {
        sys::forget(epoll, fd);
    }
}

fn all() -> impl Iterator<Item = RawFd> {
    let epolls = marks::within(0, RawFd::MAX);
    epolls.filter_map(|(fd, mark)| (mark == Mark::Epoll).then_some(fd))
}

/// Who watches a descriptor, and for what: for a program that had it watched before it listened.
#[derive(Debug)]
pub(crate) struct Watches {
    fd: RawFd,
    found: Vec<Watch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Watch {
    epoll: RawFd,
    events: u32,
    token: u64,
}

impl Watches {
    /// Those of `fd`, which are gone after this.
    pub(crate) fn of(fd: RawFd) -> Self {
        let found: Vec<_> = all().filter_map(|epoll| Watch::find(epoll, fd)).collect();
        for watch in &found {
            sys::forget(watch.epoll, fd);
        }
        Watches { fd, found }
    }

    /// They watch what is called `fd` now.
    pub(crate) fn renew(self) {
        for watch in self.found {
            sys::watch(watch.epoll, self.fd, watch.events, watch.token);
        }
    }
}

impl Watch {
    fn find(epoll: RawFd, fd: RawFd) -> Option<Self> {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{epoll}")).ok()?;
        info.lines().find_map(|line| Self::read(epoll, fd, line))
    }

    /// `tfd:        5 events:       19 data: ffffffff00000005 pos:0 ino:61af sdev:7`, see `proc(5)`.
    fn read(epoll: RawFd, fd: RawFd, line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("tfd:")?.split_whitespace();
        if words.next()?.parse() != Ok(fd) {
            return None;
        }
        let (_, events) = (words.next()?, words.next()?);
        let (_, token) = (words.next()?, words.next()?);
        Some(Watch {
            epoll,
            events: u32::from_str_radix(events, 16).ok()?,
            token: u64::from_str_radix(token, 16).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_watched_is_read_from_the_kernels_own_words() {
        let line = "tfd:        5 events:       19 data: ffffffff00000005  pos:0 ino:61af sdev:7";
        let watch = Watch {
            epoll: 3,
            events: 0x19,
            token: 0xffff_ffff_0000_0005,
        };
        assert_eq!(Watch::read(3, 5, line), Some(watch));
        assert_eq!(Watch::read(3, 6, line), None);
        assert_eq!(Watch::read(3, 5, "pos:\t0"), None);
    }
}
