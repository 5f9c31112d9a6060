//! What a person should know: one line on the standard error output, each kind of it once.

use std::sync::atomic::{AtomicBool, Ordering};

/// What there is to complain of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Complaint {
    /// The channel has ended, or fails.
    Unreachable,
    /// The master does not answer.
    NoAnswer,
    /// What the master answers cannot be read: it is of another version.
    Garbled,
    /// A path too long to be named to the master.
    LongPath,
    /// A connection came without its descriptor.
    Lost,
}

impl Complaint {
    /// Async-signal-safe.
    pub(crate) fn say(self) {
        let line: &[u8] = match self {
            Complaint::Unreachable => {
                b"rr-preload: cannot listen: the master has closed the control channel\n"
            }
            Complaint::NoAnswer => b"rr-preload: cannot listen: the master does not answer\n",
            Complaint::Garbled => {
                b"rr-preload: cannot listen: the master's answer cannot be read: are rr-master and librr_preload.so of the same version?\n"
            }
            Complaint::LongPath => {
                b"rr-preload: cannot listen: the absolute path of the Unix socket is longer than 107 bytes\n"
            }
            Complaint::Lost => {
                b"rr-preload: a connection was lost: no more descriptors, raise RLIMIT_NOFILE (ulimit -n)\n"
            }
        };
        if !SAID[self as usize].swap(true, Ordering::Relaxed) {
            crate::sys::write_error(line);
        }
    }
}

static SAID: [AtomicBool; 5] = [const { AtomicBool::new(false) }; 5];
