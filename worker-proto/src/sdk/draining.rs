//! Draining: the one-way switch from "serve" to "finish and exit".
//!
//! It is never switched back, so what was read once as draining stays true.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::scorekeeper::Scorekeeper;
use super::wait;

/// Tells whether the process has been asked to finish. Cheap to clone, one truth for all clones.
///
/// For a poll loop of your own: the descriptor becomes readable when draining begins, and stays
/// so. Do not read it.
#[derive(Clone, Debug)]
pub struct Draining(Arc<Switch>);

#[derive(Debug)]
struct Switch {
    begun: AtomicBool,
    event: EventFd,
    scorekeeper: Scorekeeper,
}

impl Draining {
    /// Says on the scoreboard, too, when it begins.
    pub(crate) fn new(scorekeeper: Scorekeeper) -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Draining(Arc::new(Switch {
            begun: AtomicBool::new(false),
            event: EventFd::from_flags(flags)?,
            scorekeeper,
        })))
    }

    /// Whether draining has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.begun.load(Ordering::Acquire)
    }

    /// Waits until draining begins, at most `within`; says whether it has.
    #[must_use]
    pub fn wait(&self, within: Duration) -> bool {
        self.wait_at_most(Some(within))
    }

    /// Waits, for ever if need be.
    pub(crate) fn wait_at_most(&self, within: Option<Duration>) -> bool {
        if !self.is_draining() && wait::readable([self.as_fd()], within).is_err() {
            log::warn!("failed to wait for draining: poll(2) has no memory");
        }
        self.is_draining()
    }

    pub(crate) fn begin(&self) {
        if !self.0.begun.swap(true, Ordering::AcqRel) {
            self.0.scorekeeper.draining();
            // Cannot fail: the counter is 0, and 1 fits.
            _ = self.0.event.write(1);
        }
    }
}

impl AsFd for Draining {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}
