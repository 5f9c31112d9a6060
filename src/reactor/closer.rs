//! The closer: a thread for descriptors that nobody asked for.
//!
//! A socket with `SO_LINGER` and unsent data can block `close(2)` for as long as its sender chose,
//! so the loop never closes what a process sent it.

use std::io;
use std::os::fd::OwnedFd;
use std::thread;

use crossbeam_channel::{Sender, bounded};

/// The way to the thread.
#[derive(Debug)]
pub(crate) struct Closer {
    unwanted: Sender<Vec<OwnedFd>>,
}

impl Closer {
    pub(crate) fn start() -> io::Result<Self> {
        let (unwanted, inbox) = bounded::<Vec<OwnedFd>>(CLOSER_PACKETS);
        // Not joined: it may be waiting for a lingering socket, which must not delay the end.
        thread::Builder::new()
            .name("rr-closer".to_owned())
            .spawn(move || inbox.iter().for_each(drop))?;
        Ok(Closer { unwanted })
    }

    /// Closes them elsewhere.
    pub(crate) fn close(&self, descriptors: Vec<OwnedFd>) {
        if descriptors.is_empty() {
            return;
        }
        if let Err(full) = self.unwanted.try_send(descriptors) {
            // Every packet cost its sender its link, so this takes thousands of broken workers
            // within one linger time. Leaking them is better than a loop that waits.
            std::mem::forget(full);
        }
    }
}

/// More than there can be workers.
const CLOSER_PACKETS: usize = 8192;
