//! A process by its pidfd: it can be awaited, reaped and signalled, and never confused with a
//! later process of the same number.
//!
//! Only [`Pidfd::reap`] reaps; until it has, neither the pid nor the number of the group that the
//! process leads can be reused.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::wait::{Whose, Zombie, wait};
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

    /// How the process ended, or `None` while it lives. It is not reaped by that.
    pub(crate) fn exit_status(&self) -> io::Result<Option<ExitStatus>> {
        self.wait(Zombie::Keep)
    }

    /// Reaps the process if it has ended: from now on its number, and its group's, may be a
    /// stranger's. One that lives is nobody's business any more.
    pub(crate) fn reap(self) {
        // It may have been reaped by the process that an embedded master lives in.
        let _ = self.wait(Zombie::Reap);
    }

    /// Ends the process and its group, and reaps it; one that cannot die within `patience` is left
    /// to itself. Waits, so it is not for the loop.
    pub(crate) fn destroy(self, patience: Duration) {
        let _ = self.signal(Order::Kill);
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        // Readable when it has ended, see pidfd_open(2). EINTR: no handler of the master's runs here.
        let _ = poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], timeout);
        self.reap();
    }

    fn wait(&self, zombie: Zombie) -> io::Result<Option<ExitStatus>> {
        let ended = wait(Whose::Pidfd(self.as_fd()), zombie)?;
        Ok(ended.map(|(_, status)| status))
    }

    /// Signals the process or its group, as the order says. One that is stopped goes on: it could
    /// neither obey nor leave a core dump otherwise, see `signal(7)`.
    ///
    /// The pid is not reaped while this value exists, so neither number can be a stranger's.
    pub(crate) fn signal(&self, order: Order) -> io::Result<()> {
        match order {
            // The stop signal of a program that has no other.
            Order::Ask | Order::Terminate => self.ask(Signal::SIGTERM),
            Order::Abort => {
                self.signal_process(Signal::SIGABRT)?;
                self.signal_process(Signal::SIGCONT)
            }
            Order::Kill => {
                // It may have left its group to others.
                let process = self.signal_process(Signal::SIGKILL);
                self.signal_group(Signal::SIGKILL).and(process)
            }
        }
    }

    /// Asks the group to leave with this signal. One that is stopped goes on, see above.
    pub(crate) fn ask(&self, signal: Signal) -> io::Result<()> {
        self.signal_group(signal)?;
        self.signal_group(Signal::SIGCONT)
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

    /// Has the process leave, and no other; it need not be a child, nor lead a group.
    pub(crate) fn terminate_alone(&self) -> io::Result<()> {
        self.signal_process(Signal::SIGTERM)?;
        self.signal_process(Signal::SIGCONT)
    }

    fn signal_process(&self, signal: Signal) -> io::Result<()> {
        self.send(signal as i32)
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
