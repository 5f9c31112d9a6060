//! Termination: SIGTERM as a request to finish, for programs that want it so.
//!
//! One thread waits for the signal, which is blocked in all others: whoever has it open would die
//! of it, see `signal(7)`.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use nix::sys::signal::{SigSet, Signal, raise};

use super::alarm::Alarm;
use super::control;
use super::draining::Draining;

/// How far the program has come: it moves forward only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<AtomicU8>);

impl Progress {
    /// Says that the program serves; whether that is news.
    pub(crate) fn serves(&self) -> bool {
        self.0.fetch_max(SERVING, Ordering::AcqRel) < SERVING
    }

    /// Says that nothing is left to do but what ends in a moment.
    pub(crate) fn stops(&self) {
        self.0.fetch_max(STOPPING, Ordering::AcqRel);
    }
}

/// From now on SIGTERM ends the process only if it has nothing to finish, or was asked before.
pub(crate) fn handle(alarm: Alarm, draining: Draining, progress: Progress) -> io::Result<()> {
    let terminate = SigSet::from_iter([Signal::SIGTERM]);
    terminate.thread_block()?;
    if threads_that_would_die()? > 0 {
        terminate.thread_unblock()?;
        return Err(io::Error::other(
            "other threads are running that do not block SIGTERM: ask for this before they are started",
        ));
    }
    control::start_thread("rr-signal", move || {
        while terminate.wait().is_ok() {
            let stage = progress.0.load(Ordering::Acquire);
            if stage == STOPPING {
                log::info!("SIGTERM: leaving already");
            } else if stage == SERVING && !draining.is_draining() {
                alarm.retire("SIGTERM");
            } else {
                // What it does to any program.
                _ = terminate.thread_unblock();
                _ = raise(Signal::SIGTERM);
            }
        }
    })
}

/// How many threads of this process have SIGTERM open.
fn threads_that_would_die() -> io::Result<usize> {
    let bit = 1 << (Signal::SIGTERM as i32 - 1);
    let mut open = 0;
    for thread in fs::read_dir("/proc/self/task")? {
        // One that has ended meanwhile has no status.
        let status = fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        let blocked = blocked.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        open += usize::from(blocked.is_some_and(|mask| mask & bit == 0));
    }
    Ok(open)
}

const SERVING: u8 = 1;
const STOPPING: u8 = 2;
