//! `RLIMIT_NOFILE`: raised for the master alone, given back to every process it starts.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The limits on open descriptors that a process was started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NofileLimit {
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

impl NofileLimit {
    /// The limits now.
    pub(crate) fn current() -> io::Result<Self> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        Ok(NofileLimit { soft, hard })
    }

    /// Raises this process's soft limit to the hard one; answers what it was before.
    pub(crate) fn raise() -> io::Result<Self> {
        let before = Self::current()?;
        setrlimit(Resource::RLIMIT_NOFILE, before.hard, before.hard)?;
        Ok(before)
    }
}
