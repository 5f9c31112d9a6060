//! The credit: how much of what has arrived the program has taken.
//!
//! The master sends while what is not taken fits the window, or while that is at most a quarter of
//! the window. So a quarter is what has to be taken before it is worth a frame: whatever is not
//! reported yet keeps no message back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::frame::ToMaster;
use crate::message::{MESSAGE_OVERHEAD_BYTES, RECEIVE_WINDOW_BYTES};
use crate::sdk::uplink::Uplink;

/// The account of one process.
#[derive(Debug)]
pub(crate) enum Credit {
    /// With its master.
    Reported {
        uplink: Uplink,
        /// Taken, and not reported yet.
        owed: AtomicU64,
    },
    /// With itself.
    Alone {
        /// Arrived, and not taken yet.
        untaken: AtomicU64,
    },
}

/// What one message takes of the window until this is dropped. The copies of a message share it.
#[derive(Debug)]
pub(crate) struct Ticket {
    credit: Arc<Credit>,
    bytes: u64,
}

impl Credit {
    pub(crate) fn with_master(uplink: Uplink) -> Arc<Self> {
        let owed = AtomicU64::new(0);
        Arc::new(Credit::Reported { uplink, owed })
    }

    pub(crate) fn alone() -> Arc<Self> {
        let untaken = AtomicU64::new(0);
        Arc::new(Credit::Alone { untaken })
    }

    /// The ticket of a message that the master sent, who has seen to it that it fits.
    pub(crate) fn ticket(self: &Arc<Self>, len: usize) -> Arc<Ticket> {
        let bytes = charge(len);
        match &**self {
            Credit::Reported { .. } => {}
            Credit::Alone { untaken } => {
                untaken.fetch_add(bytes, Ordering::Relaxed);
            }
        }
        Arc::new(Ticket {
            credit: Arc::clone(self),
            bytes,
        })
    }

    /// Whether a program on its own may send itself one more. A single one may be larger.
    pub(crate) fn has_room_for(&self, len: usize) -> bool {
        match self {
            Credit::Reported { .. } => true,
            Credit::Alone { untaken } => {
                let untaken = untaken.load(Ordering::Relaxed);
                untaken == 0 || untaken + charge(len) <= ALONE_BYTES
            }
        }
    }

    /// Reports what is worth a frame. Waits for a master that is busy, as the answer to a ping does:
    /// it reads, whatever else it waits for.
    pub(crate) fn settle(&self) {
        let Credit::Reported { uplink, owed } = self else {
            return;
        };
        if owed.load(Ordering::Relaxed) < REPORT_BYTES {
            return;
        }
        let bytes = owed.swap(0, Ordering::AcqRel);
        // Another thread may have been faster.
        if bytes == 0 {
            return;
        }
        if uplink.send(&ToMaster::Taken { bytes }).is_err() {
            // The next message, whichever way it goes, tries again.
            owed.fetch_add(bytes, Ordering::AcqRel);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        match &*self.credit {
            Credit::Reported { owed, .. } => {
                owed.fetch_add(self.bytes, Ordering::AcqRel);
                self.credit.settle();
            }
            Credit::Alone { untaken } => {
                untaken.fetch_sub(self.bytes, Ordering::Relaxed);
            }
        }
    }
}

/// What a message counts.
pub(crate) fn charge(len: usize) -> u64 {
    len as u64 + MESSAGE_OVERHEAD_BYTES
}

/// What has to be taken before the master is told.
const REPORT_BYTES: u64 = RECEIVE_WINDOW_BYTES / 4;

/// How much a program on its own may send itself without taking it.
const ALONE_BYTES: u64 = 64 << 20;
