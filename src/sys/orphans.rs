//! Orphans: children that this process has and did not start.
//!
//! Whoever loses his parent is given to the first process of the pid namespace, or to the nearest
//! subreaper above, see `PR_SET_CHILD_SUBREAPER(2const)`; others were there before an `exec`. They
//! become children of the main *thread*, and processes belong to the thread that forked them: so the
//! main thread, which forks nobody, can reap all that it has and never one of the spawner's.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::wait::{Whose, Zombie, wait};
use crate::supervisor::ExitStatus;

/// The way to learn of orphans that have ended. Only the binary makes one: what other children a
/// process has is nobody's business that lives in it.
#[derive(Debug)]
pub(crate) struct Orphans {
    /// SIGCHLD, for whatever child.
    signals: SignalFd,
}

/// Who gets the orphans of the processes that this one starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adoption {
    /// Whom the kernel chooses: this process if it is the first of its pid namespace.
    Natural,
    /// This process.
    Subreaper,
}

impl Orphans {
    /// Blocks SIGCHLD in this thread, which must be the main one, and in every thread that it starts
    /// later, so call it first.
    pub(crate) fn take(adoption: Adoption) -> io::Result<Self> {
        if adoption == Adoption::Subreaper {
            prctl::set_child_subreaper(true)?;
        }
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // Whoever started this process may have ignored it, and then the kernel itself would reap
        // every child, and nobody learn how it ended.
        // SAFETY: the default disposition runs no code of ours.
        unsafe { sigaction(Signal::SIGCHLD, &default) }?;
        let set = SigSet::from_iter([Signal::SIGCHLD]);
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags)?;
        Ok(Orphans { signals })
    }

    /// Makes the descriptor unreadable until the next child ends.
    pub(crate) fn acknowledge(&mut self) {
        // However many ended, one signal is pending at most, see signal(7).
        while matches!(self.signals.read_signal(), Ok(Some(_)) | Err(Errno::EINTR)) {}
    }

    /// Reaps one that has ended; answers its pid and how that was. For the main thread.
    pub(crate) fn reap(&self) -> io::Result<Option<(u32, ExitStatus)>> {
        match wait(Whose::ThisThread, Zombie::Reap) {
            Err(err) if err.raw_os_error() == Some(libc::ECHILD) => Ok(None),
            ended => ended,
        }
    }
}

impl AsRawFd for Orphans {
    fn as_raw_fd(&self) -> RawFd {
        self.signals.as_raw_fd()
    }
}
