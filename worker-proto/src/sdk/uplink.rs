//! The uplink: this process's own voice on its control channel.
//!
//! A child that was forked shares the channel and must not speak on it: to it, the master is gone.

use std::net::Shutdown;
use std::process;
use std::sync::Arc;

use crate::frame::ToMaster;
use crate::scm::Wait;
use crate::socket::{SendError, WorkerChannel};

/// Sends frames to the master. Cheap to clone; does not keep the channel open.
#[derive(Clone, Debug)]
pub(crate) struct Uplink {
    /// Whose channel it is.
    owner: u32,
    channel: Arc<WorkerChannel>,
}

impl Uplink {
    /// Of this process.
    pub(crate) fn over(channel: Arc<WorkerChannel>) -> Self {
        Uplink {
            owner: process::id(),
            channel,
        }
    }

    /// Sends a frame; waits for a master that is busy, for a limited time.
    pub(crate) fn send(&self, frame: &ToMaster) -> Result<(), SendError> {
        self.send_waiting(frame, Wait::AsSet, &mut Vec::new())
    }

    /// As [`send`](Self::send), encoding into `scratch`, which is reused.
    pub(crate) fn send_with(
        &self,
        frame: &ToMaster,
        scratch: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        self.send_waiting(frame, Wait::AsSet, scratch)
    }

    /// Sends a frame if that is possible at once.
    pub(crate) fn try_send(&self, frame: &ToMaster) -> Result<(), SendError> {
        self.send_waiting(frame, Wait::Never, &mut Vec::new())
    }

    fn send_waiting(
        &self,
        frame: &ToMaster,
        wait: Wait,
        scratch: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        if !self.is_owner() {
            return Err(SendError::Gone);
        }
        self.channel.send_with(frame, &[], wait, scratch)
    }

    /// Whether this is the process that joined the cluster, and not a child forked from it.
    pub(crate) fn is_owner(&self) -> bool {
        process::id() == self.owner
    }

    /// Ends the channel for every copy of it, a forked child's and the reading thread's included.
    pub(crate) fn end(&self) {
        _ = self.channel.shutdown(Shutdown::Both);
    }
}
