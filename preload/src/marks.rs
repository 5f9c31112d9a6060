//! The marks: what each descriptor of this process is to us, looked up with one load.
//!
//! Most descriptors are plain, and nothing is done about them. A mark may be out of date where a
//! program closes a descriptor by a way that we do not stand in: whoever acts on a mark must be
//! right if the kernel answers `EBADF`, or if it is somebody else's by now.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicU16, Ordering};

use crate::listeners::Record;
use crate::shares::Share;

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Nothing to us.
    Plain,
    /// A connection that this process received and counted.
    Connection(Share),
    /// A bound or a listening socket.
    Socket(Record),
    /// An epoll instance that this process made.
    Epoll,
    /// Ours, and not for the program to close.
    Hidden,
}

pub(crate) fn of(fd: RawFd) -> Mark {
    cell(fd).map_or(Mark::Plain, |cell| decode(cell.load(Ordering::Acquire)))
}

/// Answers what it was before.
pub(crate) fn set(fd: RawFd, mark: Mark) -> Mark {
    let Some(cell) = cell(fd) else {
        return Mark::Plain;
    };
    if mark != Mark::Plain {
        HIGHEST.fetch_max(fd, Ordering::Relaxed);
    }
    decode(cell.swap(encode(mark), Ordering::AcqRel))
}

/// Whether a descriptor of that number can be marked at all.
pub(crate) fn has_room_for(fd: RawFd) -> bool {
    cell(fd).is_some()
}

/// The marked ones within these numbers, both included.
pub(crate) fn within(first: RawFd, last: RawFd) -> impl Iterator<Item = (RawFd, Mark)> {
    let last = last.min(HIGHEST.load(Ordering::Relaxed));
    (first.max(0)..=last)
        .map(|fd| (fd, of(fd)))
        .filter(|(_, mark)| *mark != Mark::Plain)
}

fn cell(fd: RawFd) -> Option<&'static AtomicU16> {
    MARKS.get(usize::try_from(fd).ok()?)
}

fn encode(mark: Mark) -> u16 {
    match mark {
        Mark::Plain => 0,
        Mark::Epoll => 1,
        Mark::Hidden => 2,
        Mark::Connection(share) => CONNECTION | share.number(),
        Mark::Socket(record) => SOCKET | record.number(),
    }
}

fn decode(bits: u16) -> Mark {
    match (bits & !NUMBER, bits & NUMBER) {
        (CONNECTION, number) => Mark::Connection(Share::from_number(number)),
        (SOCKET, number) => Mark::Socket(Record::from_number(number)),
        (_, 1) => Mark::Epoll,
        (_, 2) => Mark::Hidden,
        _ => Mark::Plain,
    }
}

/// All zeros at first, so it takes no memory where no descriptor is marked.
static MARKS: [AtomicU16; CAPACITY] = [const { AtomicU16::new(0) }; CAPACITY];

/// No descriptor beyond it was ever marked.
static HIGHEST: AtomicI32 = AtomicI32::new(-1);

/// The most descriptors that `fs.nr_open` lets a process have where nobody has raised it.
const CAPACITY: usize = 1 << 20;

const CONNECTION: u16 = 0x4000;
const SOCKET: u16 = 0x8000;
pub(crate) const NUMBER: u16 = 0x3fff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_set() {
        for mark in [
            Mark::Plain,
            Mark::Epoll,
            Mark::Hidden,
            Mark::Connection(Share::NONE),
            Mark::Connection(Share::from_number(7)),
            Mark::Socket(Record::from_number(0)),
            Mark::Socket(Record::from_number(255)),
        ] {
            assert_eq!(decode(encode(mark)), mark);
        }
    }

    #[test]
    fn numbers_that_no_descriptor_has_are_plain() {
        assert_eq!(of(-1), Mark::Plain);
        assert_eq!(of(RawFd::MAX), Mark::Plain);
        assert_eq!(set(-1, Mark::Hidden), Mark::Plain);
        assert!(!has_room_for(1 << 20));
    }
}
