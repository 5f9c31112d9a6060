//! Signals as a descriptor, see `signalfd(2)`: blocked for the whole process, read by the loop.
//!
//! Only the binary makes one. An embedded master touches no signal of the process it lives in.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, SigSet, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals that ask the master for something.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks the signals in this thread and every thread it starts later, so call it first.
    ///
    /// SIGHUP stays ignored when it was (`nohup`).
    pub(crate) fn block() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
            set.add(signal);
        }
        if !is_ignored(Signal::SIGHUP)? {
            set.add(Signal::SIGHUP);
        }
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Signals { fd })
    }

    /// The next signal that arrived.
    pub(crate) fn next(&mut self) -> io::Result<Option<Signal>> {
        loop {
            return match self.fd.read_signal() {
                Ok(None) => Ok(None),
                Ok(Some(info)) => match Signal::try_from(info.ssi_signo.cast_signed()) {
                    Ok(signal) => Ok(Some(signal)),
                    Err(_) => continue,
                },
                Err(Errno::EINTR) => continue,
                Err(err) => Err(err.into()),
            };
        }
    }

    /// Waits until a signal arrives or `timeout` passes; answers whether one did.
    pub(crate) fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(err) => Err(err.into()),
        }
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Whether the process that started this one had the signal ignored.
fn is_ignored(signal: Signal) -> io::Result<bool> {
    let default = nix::sys::signal::SigAction::new(
        SigHandler::SigDfl,
        nix::sys::signal::SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the default and the ignoring disposition run no code of ours.
    let before = unsafe { sigaction(signal, &default) }?;
    let ignored = matches!(before.handler(), SigHandler::SigIgn);
    if ignored {
        // SAFETY: as above; this puts back what was there.
        unsafe { sigaction(signal, &before) }?;
    }
    Ok(ignored)
}
