//! The clock: the one place where the master reads the time.
//!
//! `CLOCK_MONOTONIC`, so that setting the wall clock neither delays nor hastens anything.

use std::time::{Instant, SystemTime};

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
