//! A process by its pidfd: it can be awaited, reaped and signalled, and never confused with a
//! later process of the same number.
//!
//! Only [`Pidfd::reap`] reaps; until it has, the pid cannot be reused.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::supervisor::{ExitStatus, Signal as Order};

/// A child of this process that is not reaped yet.
#[derive(Debug)]
pub(crate) struct Pidfd {
    fd: OwnedFd,
    pid: u32,
}

impl Pidfd {
    /// Opens the pidfd of a child that has not been reaped, see `pidfd_open(2)`.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        let pid_t = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: pidfd_open takes two integers and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid_t, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = RawFd::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
        // SAFETY: the kernel has just returned this new descriptor (close-on-exec by definition).
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Pidfd { fd, pid })
    }

    /// The process's number, for the log.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Collects the exit status, or `None` while the process lives. What it leaves behind in its
    /// process group gets SIGTERM.
    pub(crate) fn reap(&self) -> io::Result<Option<ExitStatus>> {
        let ended = self.wait(WaitPidFlag::WNOWAIT)?;
        if ended.is_some() {
            // Not reaped yet, so the group's number is still this process's. One that changed its
            // user may not be signalled: EPERM must not keep it from being reaped.
            let _ = self.signal_group(Signal::SIGTERM);
            self.wait(WaitPidFlag::empty())?;
        }
        Ok(ended)
    }

    fn wait(&self, how: WaitPidFlag) -> io::Result<Option<ExitStatus>> {
        loop {
            let waited = waitid(
                Id::PIDFd(self.fd.as_fd()),
                WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | how,
            );
            return match waited {
                Ok(WaitStatus::Exited(_, code)) => Ok(Some(ExitStatus::Code(code))),
                Ok(WaitStatus::Signaled(_, signal, core_dumped)) => Ok(Some(ExitStatus::Signal {
                    signal: signal as i32,
                    core_dumped,
                })),
                Ok(_) => Ok(None),
                Err(Errno::EINTR) => continue,
                Err(err) => Err(err.into()),
            };
        }
    }

    /// Signals the process or its group, as the order says.
    ///
    /// The pid is not reaped while this value exists, so neither number can be a stranger's.
    pub(crate) fn signal(&self, order: Order) -> io::Result<()> {
        match order {
            Order::Terminate => self.signal_group(Signal::SIGTERM),
            Order::Abort => self.send(Signal::SIGABRT as i32),
            Order::Kill => self.signal_group(Signal::SIGKILL),
        }
    }

    /// Signals the process group that the process leads; the process alone if it leads none yet.
    fn signal_group(&self, signal: Signal) -> io::Result<()> {
        let pid = Pid::from_raw(self.pid.cast_signed());
        match signal::killpg(pid, signal) {
            Ok(()) => Ok(()),
            Err(Errno::ESRCH) => self.send(signal as i32),
            Err(err) => Err(err.into()),
        }
    }

    /// Sends the process, and nobody else, a signal by its number.
    pub(crate) fn send(&self, signal: i32) -> io::Result<()> {
        // SAFETY: pidfd_send_signal takes a descriptor, a number and a null siginfo pointer.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match sent {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                err if err.raw_os_error() == Some(libc::ESRCH) => Ok(()),
                err => Err(err),
            },
        }
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Pidfd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
