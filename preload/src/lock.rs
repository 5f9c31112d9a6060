//! The lock: one thread at a time binds, listens, or asks the master.
//!
//! Held for as long as the master takes to answer, so nothing that a signal handler may call waits
//! for it. A forked child begins with it free, since whoever held it is not there.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::sys;

/// It is free again when this is dropped.
pub(crate) struct Held(());

pub(crate) fn take() -> Held {
    while LOCK
        .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        // Seldom waited for: programs bind one after the other.
        sys::pause(1);
    }
    Held(())
}

impl Drop for Held {
    fn drop(&mut self) {
        LOCK.store(FREE, Ordering::Release);
    }
}

pub(crate) fn free_in_child() {
    LOCK.store(FREE, Ordering::Release);
}

static LOCK: AtomicU32 = AtomicU32::new(FREE);
const FREE: u32 = 0;
const HELD: u32 = 1;
