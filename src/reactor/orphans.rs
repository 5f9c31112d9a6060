//! Orphans that have ended, reaped on the loop: a system call each that never waits, and so many in
//! a turn at most.

use super::Reactor;
use crate::sys::describe;
use crate::sys::orphans;

/// What the binary gives, and whether all of it is done.
#[derive(Debug)]
pub(super) struct Orphans {
    orphans: orphans::Orphans,
    /// More may have ended than a turn has time for.
    is_unfinished: bool,
}

impl From<orphans::Orphans> for Orphans {
    fn from(orphans: orphans::Orphans) -> Self {
        Orphans {
            orphans,
            // Some may have ended before anybody listened.
            is_unfinished: true,
        }
    }
}

impl Orphans {
    /// A child has ended, whosoever.
    pub(super) fn note(&mut self) {
        self.orphans.acknowledge();
        self.is_unfinished = true;
    }

    pub(super) fn is_unfinished(&self) -> bool {
        self.is_unfinished
    }

    fn turn(&mut self) {
        let mut budget = BUDGET;
        while self.is_unfinished && budget > 0 {
            budget -= 1;
            match self.orphans.reap() {
                Ok(Some((pid, status))) => log::debug!("orphan pid={pid} exited: {status}"),
                Ok(None) => self.is_unfinished = false,
                Err(err) => {
                    log::error!("reap an orphan: {}", describe(&err));
                    self.is_unfinished = false;
                }
            }
        }
    }
}

impl Reactor {
    pub(super) fn reap_orphans(&mut self) {
        if let Some(orphans) = &mut self.orphans {
            orphans.turn();
        }
    }

    pub(super) fn has_orphans(&self) -> bool {
        self.orphans.as_ref().is_some_and(Orphans::is_unfinished)
    }
}

/// Orphans per turn.
const BUDGET: usize = 64;
