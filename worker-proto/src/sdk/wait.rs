//! Waiting: for descriptors with `poll(2)`, and until a deadline.
//!
//! The one file of the SDK that reads a clock: a signal interrupts `poll`, and without the clock
//! a program that gets one every second would wait for ever.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until one of `fds` is readable, at its end or broken, at most `within`; says which are.
pub(crate) fn readable<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    within: Option<Duration>,
) -> io::Result<[bool; N]> {
    // What the clock cannot reach is for ever.
    let deadline = within.and_then(|within| now().checked_add(within));
    let mut polled = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    loop {
        let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
            round_up(deadline.saturating_duration_since(now()))
        });
        match poll(&mut polled, timeout) {
            Ok(_) => return Ok(polled.map(|fd| fd.any().unwrap_or(true))),
            Err(Errno::EINTR) => {}
            Err(err) => return Err(err.into()),
        }
    }
}

/// A moment until which to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// What the clock cannot reach is for ever.
    pub(crate) fn after(within: Duration) -> Self {
        Deadline(now().checked_add(within))
    }

    pub(crate) fn left(&self) -> Duration {
        self.0.map_or(Duration::MAX, |deadline| {
            deadline.saturating_duration_since(now())
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "the SDK's one clock")]
fn now() -> Instant {
    Instant::now()
}

/// Up, because a poll that returns a little too early would be repeated with a timeout of 0.
fn round_up(wait: Duration) -> PollTimeout {
    let millis = wait.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}
