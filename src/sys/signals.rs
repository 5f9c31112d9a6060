//! Signals as a descriptor, see `signalfd(2)`: blocked for the whole process, read by the loop, and
//! told apart by what their senders want.
//!
//! Only the binary makes one. An embedded master touches no signal of the process it lives in.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, SigSet, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::unistd::{Pid, getpid, getsid};

use crate::supervisor::Stop;

/// The signals that ask the master for something.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: SignalFd,
    /// Whoever started this process from a terminal, which passes on that the terminal is gone.
    shell: Option<Pid>,
}

/// A signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) signal: Signal,
    /// `None`: nothing.
    pub(crate) asked: Option<Asked>,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// SIGTERM, SIGINT, SIGQUIT.
    Stop(Stop),
    /// SIGHUP, since the terminal is gone that the master was started from.
    Hangup,
    /// SIGHUP from anybody.
    Reload,
    /// SIGHUP from the shell that the master was started from: a person may have typed that, or it
    /// is about to end, and the terminal with it.
    ReloadUnlessHangup,
    /// SIGUSR1.
    ReopenLogs,
    /// SIGTTIN from anybody.
    OneMore,
    /// SIGTTOU from anybody.
    OneLess,
}

/// Who sent a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Kernel,
    /// The shell that this process was started from.
    Shell,
    /// Anybody else.
    Somebody,
}

/// Whether the terminal of this process is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Terminal {
    There,
    Gone,
}

impl Signals {
    /// Blocks the signals in this thread and every thread it starts later, so call it first.
    ///
    /// SIGHUP stays ignored when it was (`nohup`). While SIGTTOU is blocked, a write to a terminal
    /// with `stty tostop` succeeds in the background, too, see `TOSTOP` in `termios(3)`: the log does
    /// not stop the master.
    pub(crate) fn block() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in ALWAYS {
            set.add(signal);
        }
        if !is_ignored(Signal::SIGHUP)? {
            set.add(Signal::SIGHUP);
        }
        set.thread_block()?;
        // A write beyond RLIMIT_FSIZE fails with EFBIG, and ends nobody: see setrlimit(2).
        SigSet::from_iter([Signal::SIGXFSZ]).thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let leader = getsid(None).ok().filter(|&leader| leader != getpid());
        let shell = leader.filter(|_| terminal() == Terminal::There);
        Ok(Signals { fd, shell })
    }

    /// The next signal that arrived.
    pub(crate) fn next(&self) -> io::Result<Option<Received>> {
        loop {
            let info = match self.fd.read_signal() {
                Ok(Some(info)) => info,
                Ok(None) => return Ok(None),
                Err(Errno::EINTR) => continue,
                Err(err) => return Err(err.into()),
            };
            if let Ok(signal) = Signal::try_from(info.ssi_signo.cast_signed()) {
                let asked = asked(signal, self.sender(&info), terminal);
                return Ok(Some(Received { signal, asked }));
            }
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

    /// Whether the terminal that the master was started from is gone.
    pub(crate) fn has_lost_terminal(&self) -> bool {
        self.shell.is_some() && terminal() == Terminal::Gone
    }

    fn sender(&self, info: &siginfo) -> Sender {
        // Above 0 it is the kernel, see `si_code` in sigaction(2); SI_USER is 0, the others below.
        if info.ssi_code > libc::SI_USER {
            return Sender::Kernel;
        }
        let sender = Pid::from_raw(info.ssi_pid.cast_signed());
        if self.shell == Some(sender) {
            Sender::Shell
        } else {
            Sender::Somebody
        }
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// What the signal of this sender asks for.
///
/// When a terminal goes, the kernel sends SIGHUP to the leader of its session, and to the foreground
/// group when that leader ends (`setsid(2)`, `credentials(7)`). A shell passes it on to its jobs with
/// `kill`. As it does with a person's `kill -HUP %1`, and zsh before it exits: then the terminal is
/// still there.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "every signal of the system is in it"
)]
fn asked(signal: Signal, sender: Sender, terminal: impl FnOnce() -> Terminal) -> Option<Asked> {
    let asked = match signal {
        Signal::SIGTERM | Signal::SIGINT => Asked::Stop(Stop::Graceful),
        Signal::SIGQUIT => Asked::Stop(Stop::Fast),
        Signal::SIGHUP => match sender {
            Sender::Kernel => Asked::Hangup,
            Sender::Shell if terminal() == Terminal::Gone => Asked::Hangup,
            Sender::Shell => Asked::ReloadUnlessHangup,
            Sender::Somebody => Asked::Reload,
        },
        Signal::SIGUSR1 => Asked::ReopenLogs,
        // The kernel means that the process should stop using its terminal in the background.
        Signal::SIGTTIN | Signal::SIGTTOU if sender == Sender::Kernel => return None,
        Signal::SIGTTIN => Asked::OneMore,
        Signal::SIGTTOU => Asked::OneLess,
        _ => return None,
    };
    Some(asked)
}

/// Whether this process has a controlling terminal, see `tty(4)`. Does not wait for it.
fn terminal() -> Terminal {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open("/dev/tty");
    match opened {
        Ok(_) => Terminal::There,
        Err(err) => match err.raw_os_error() {
            // ENXIO: there is none any more; EIO: it was hung up; ENOENT: there are no terminals.
            Some(libc::ENXIO | libc::EIO | libc::ENOENT) => Terminal::Gone,
            // Anything else does not say that it is gone.
            _ => Terminal::There,
        },
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

/// Blocked, and so read here even where the process that started this one had them ignored.
const ALWAYS: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    // Nothing yet; who takes this for another server must not end it.
    Signal::SIGUSR2,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_depends_on_who_asks() {
        use Asked::{Hangup, OneLess, OneMore, Reload, ReloadUnlessHangup, ReopenLogs};
        use Sender::{Kernel, Shell, Somebody};
        for (signal, sender, terminal, expected) in [
            (
                Signal::SIGTERM,
                Somebody,
                Terminal::There,
                Some(Asked::Stop(Stop::Graceful)),
            ),
            (
                Signal::SIGINT,
                Kernel,
                Terminal::There,
                Some(Asked::Stop(Stop::Graceful)),
            ),
            (
                Signal::SIGQUIT,
                Kernel,
                Terminal::There,
                Some(Asked::Stop(Stop::Fast)),
            ),
            (Signal::SIGHUP, Kernel, Terminal::Gone, Some(Hangup)),
            (Signal::SIGHUP, Kernel, Terminal::There, Some(Hangup)),
            (Signal::SIGHUP, Shell, Terminal::Gone, Some(Hangup)),
            (
                Signal::SIGHUP,
                Shell,
                Terminal::There,
                Some(ReloadUnlessHangup),
            ),
            (Signal::SIGHUP, Somebody, Terminal::There, Some(Reload)),
            (Signal::SIGHUP, Somebody, Terminal::Gone, Some(Reload)),
            (Signal::SIGUSR1, Somebody, Terminal::There, Some(ReopenLogs)),
            (Signal::SIGUSR2, Somebody, Terminal::There, None),
            (Signal::SIGTTIN, Somebody, Terminal::There, Some(OneMore)),
            (Signal::SIGTTOU, Shell, Terminal::There, Some(OneLess)),
            (Signal::SIGTTIN, Kernel, Terminal::There, None),
            (Signal::SIGTTOU, Kernel, Terminal::There, None),
            (Signal::SIGWINCH, Kernel, Terminal::There, None),
        ] {
            let found = asked(signal, sender, || terminal);
            assert_eq!(found, expected, "{signal} from {sender:?}, {terminal:?}");
        }
    }
}
