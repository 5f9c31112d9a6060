//! Waiting for less than a millisecond: `ppoll(2)`, since `epoll_wait(2)` counts in milliseconds.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

/// Whether something happens to what `poll` watches, within a time that may be as brief as the
/// kernel's timers are exact: 50 microseconds, see `PR_SET_TIMERSLACK` in `prctl(2)`.
pub(crate) fn happens_within(poll: &mio::Poll, timeout: Duration) -> io::Result<bool> {
    // SAFETY: the descriptor is open as long as `poll` is, which is borrowed for longer than this.
    let fd = unsafe { BorrowedFd::borrow_raw(poll.as_raw_fd()) };
    let mut watched = [PollFd::new(fd, PollFlags::POLLIN)];
    Ok(ppoll(&mut watched, Some(TimeSpec::from_duration(timeout)), None)? > 0)
}
