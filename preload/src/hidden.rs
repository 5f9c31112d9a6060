//! Hidden descriptors: ours, in the program's table. The program cannot close them by accident, and
//! they have high numbers, so that those that the program gets are the ones it would have.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

use crate::channel::LOWEST;
use crate::marks::{self, Mark};
use crate::sys::{self, Errno, OnExec};

/// A hidden copy of a descriptor.
pub(crate) fn copy(fd: RawFd) -> Result<RawFd, Errno> {
    // Where the limit is lower than that: anywhere.
    let copy = sys::copy_from(fd, LOWEST, OnExec::Close)
        .or_else(|_| sys::copy_from(fd, 3, OnExec::Close))?;
    marks::set(copy, Mark::Hidden);
    Ok(copy)
}

/// Hides what is ours already.
pub(crate) fn hide(fd: OwnedFd) -> RawFd {
    match copy(fd.as_raw_fd()) {
        Ok(copy) => copy,
        Err(_) => {
            let fd = fd.into_raw_fd();
            marks::set(fd, Mark::Hidden);
            fd
        }
    }
}

/// Async-signal-safe.
pub(crate) fn close(fd: RawFd) {
    marks::set(fd, Mark::Plain);
    sys::close(fd);
}
