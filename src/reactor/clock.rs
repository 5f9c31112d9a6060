//! The clock: the one place where the master reads the time.
//!
//! `CLOCK_MONOTONIC`, so that setting the wall clock neither delays nor hastens anything.

use std::time::{Duration, Instant, SystemTime};

use nix::time::{ClockId, clock_gettime};

use crate::control::time::UnixTime;

/// The wall clock, for what people read: nothing is decided by it.
#[expect(clippy::disallowed_methods, reason = "this is the sanctioned caller")]
pub(crate) fn wall() -> UnixTime {
    SystemTime::now().into()
}

/// Now.
#[expect(clippy::disallowed_methods, reason = "this is the sanctioned caller")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The same moment as other processes know it: since the clock's own beginning.
pub(crate) fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .expect("Linux has this clock")
        .into()
}
