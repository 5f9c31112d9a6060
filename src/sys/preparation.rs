//! The preparation of a process: what is done between `fork` and `exec`, worked out before `fork`.
//!
//! The order matters: what needs the master's rights comes before the change of user, and what the
//! kernel takes back at a change of user comes after it.

use std::ffi::CString;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, dup2_stderr, dup2_stdout, getppid};
use thiserror::Error;

use super::credentials::Credentials;
use super::describe;
use super::limits::NofileLimit;
use super::pin::PinnedDirectory;

/// What a new process does to itself before it becomes the program.
#[derive(Debug)]
pub(crate) struct Preparation {
    /// Where it goes, if it does not stay where the master is.
    pub(crate) directory: Option<PinnedDirectory>,
    pub(crate) nofile: Option<NofileLimit>,
    pub(crate) limits: Vec<(Resource, u64, u64)>,
    pub(crate) nice: Option<i8>,
    pub(crate) affinity: Option<CpuSet>,
    pub(crate) credentials: Credentials,
    pub(crate) umask: Option<u16>,
    pub(crate) stdout: Option<CString>,
    pub(crate) stderr: Option<CString>,
    pub(crate) no_new_privs: bool,
    /// Passed on to the program.
    pub(crate) control: RawFd,
    pub(crate) master: Pid,
}

/// What the process was about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Signals,
    Directory,
    Limits,
    Nice,
    Affinity,
    Groups,
    User,
    Stdout,
    Stderr,
    NoNewPrivs,
    Control,
    Guard,
}

/// A step that failed.
#[derive(Debug, Error)]
#[error("{}: {}", step.what(), describe(source))]
pub(crate) struct StepError {
    pub(crate) step: Step,
    pub(crate) source: io::Error,
}

impl Preparation {
    /// Async-signal-safe: it allocates nothing, takes no lock, and makes system calls only.
    pub(crate) fn perform(&self) -> Result<(), (Step, Errno)> {
        let at = |step| move |errno| (step, errno);
        reset_signals().map_err(at(Step::Signals))?;
        if let Some(directory) = &self.directory {
            directory.enter().map_err(at(Step::Directory))?;
        }
        self.set_limits().map_err(at(Step::Limits))?;
        self.set_nice().map_err(at(Step::Nice))?;
        if let Some(cpus) = &self.affinity {
            sched_setaffinity(Pid::from_raw(0), cpus).map_err(at(Step::Affinity))?;
        }
        self.credentials.set_groups().map_err(at(Step::Groups))?;
        self.credentials.set_user().map_err(at(Step::User))?;
        if let Some(mask) = self.umask {
            umask(Mode::from_bits_truncate(mask.into()));
        }
        // With the rights of the new user, who may have put a link where the file was.
        if let Some(path) = &self.stdout {
            append_to(path, |fd| dup2_stdout(fd)).map_err(at(Step::Stdout))?;
        }
        if let Some(path) = &self.stderr {
            append_to(path, |fd| dup2_stderr(fd)).map_err(at(Step::Stderr))?;
        }
        if self.no_new_privs {
            prctl::set_no_new_privs().map_err(at(Step::NoNewPrivs))?;
        }
        // SAFETY: the caller keeps it open over the spawn, and the new process has a copy of every
        // descriptor.
        let control = unsafe { BorrowedFd::borrow_raw(self.control) };
        fcntl(control, FcntlArg::F_SETFD(FdFlag::empty())).map_err(at(Step::Control))?;
        // A change of user takes it away, PR_SET_PDEATHSIG(2const).
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(at(Step::Guard))?;
        // The master may have died before the line above: then nobody would send the signal.
        if getppid() != self.master {
            return Err((Step::Guard, Errno::EPIPE));
        }
        Ok(())
    }

    fn set_limits(&self) -> nix::Result<()> {
        if let Some(NofileLimit { soft, hard }) = self.nofile {
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
        }
        for (resource, soft, hard) in &self.limits {
            setrlimit(*resource, *soft, *hard)?;
        }
        Ok(())
    }

    fn set_nice(&self) -> nix::Result<()> {
        let Some(nice) = self.nice else {
            return Ok(());
        };
        // SAFETY: takes integers and touches no memory; 0 is the caller.
        let set = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice.into()) };
        Errno::result(set).map(drop)
    }
}

/// Opens the file for appending and puts it where a standard stream was.
///
/// Without waiting, since a FIFO that nobody reads would keep the process here and with it every
/// one that comes after it, fifo(7).
fn append_to(
    path: &CString,
    put: impl FnOnce(&std::os::fd::OwnedFd) -> nix::Result<()>,
) -> nix::Result<()> {
    let how = OFlag::O_WRONLY
        | OFlag::O_APPEND
        | OFlag::O_CREAT
        | OFlag::O_CLOEXEC
        | OFlag::O_NOCTTY
        | OFlag::O_NONBLOCK;
    let file = open(path.as_c_str(), how, Mode::from_bits_truncate(FILE_MODE))?;
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
    put(&file)
}

/// A new program starts with nothing blocked and nothing ignored: both survive `exec`, see
/// `execve(2)`. Nor with anything pending: what a terminal sent to the master's group, while the
/// process was still in it, would end the process or, as SIGTTIN does, stop it before its `exec`, for
/// which the spawner waits. Async-signal-safe.
fn reset_signals() -> nix::Result<()> {
    for signal in 1..=LAST_SIGNAL {
        // To ignore a signal discards it where it is pending (POSIX, 2.4.3).
        for disposition in [libc::SIG_IGN, libc::SIG_DFL] {
            // SAFETY: neither disposition runs code of ours. It fails with EINVAL for SIGKILL,
            // SIGSTOP and the numbers that libc keeps to itself, which have nothing to reset.
            unsafe { libc::signal(signal, disposition) };
        }
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

impl Step {
    /// As one byte, for the pipe between the two processes.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        STEPS.into_iter().find(|step| step.code() == code)
    }

    fn what(self) -> &'static str {
        match self {
            Step::Signals => "reset its signals",
            Step::Directory => "go to its directory",
            Step::Limits => "set its limits (--rlimit)",
            Step::Nice => "set its nice value (--nice)",
            Step::Affinity => "set its CPUs (--cpu-affinity)",
            Step::Groups => "set its groups (--user, --group, --groups)",
            Step::User => "set its user (--user)",
            Step::Stdout => "open its standard output (--stdout)",
            Step::Stderr => "open its standard error (--stderr)",
            Step::NoNewPrivs => "keep it from new privileges (--no-new-privs)",
            Step::Control => "pass its control channel on",
            Step::Guard => "tie its life to the master's",
        }
    }
}

const STEPS: [Step; 12] = [
    Step::Signals,
    Step::Directory,
    Step::Limits,
    Step::Nice,
    Step::Affinity,
    Step::Groups,
    Step::User,
    Step::Stdout,
    Step::Stderr,
    Step::NoNewPrivs,
    Step::Control,
    Step::Guard,
];

/// What a log file may be used for by others, before the process's own umask.
const FILE_MODE: libc::mode_t = 0o640;

/// `_NSIG - 1` on Linux.
const LAST_SIGNAL: libc::c_int = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_told_by_its_code() {
        for step in STEPS {
            assert_eq!(Step::from_code(step.code()), Some(step));
        }
        assert_eq!(Step::from_code(u8::MAX), None);
    }
}
