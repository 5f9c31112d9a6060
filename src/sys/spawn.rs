//! Starting a process: everything between `fork` and `exec`.
//!
//! Whoever calls this must be a thread that lives as long as the master: `PR_SET_PDEATHSIG` fires
//! when the *thread* that forked ends, see `PR_SET_PDEATHSIG(2const)`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{Pid, getppid};
use worker_proto::env;

use super::cgroup::Cell;
use super::limits::NofileLimit;
use super::pidfd::Pidfd;
use crate::config::systemd;

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) cwd: Option<PathBuf>,
    /// Added to the master's own environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Given back to the process, if the master raised its own.
    pub(crate) nofile: Option<NofileLimit>,
    /// The control group that is made for it.
    pub(crate) cell: Option<Cell>,
}

/// Starts the process as the leader of its own group, with `control` as its control channel.
///
/// Blocks until `exec` succeeded or failed.
pub(crate) fn spawn(launch: &Launch, control: &OwnedFd) -> io::Result<Pidfd> {
    let door = launch.cell.as_ref().map(Cell::open).transpose()?;
    let process = spawn_in(door, launch, control);
    if let (Err(_), Some(cell)) = (&process, &launch.cell) {
        cell.close();
    }
    process
}

fn spawn_in(door: Option<OwnedFd>, launch: &Launch, control: &OwnedFd) -> io::Result<Pidfd> {
    let mut command = Command::new(&launch.program);
    command
        .args(&launch.args)
        .stdin(Stdio::null())
        .process_group(0);
    if let Some(cwd) = &launch.cwd {
        command.current_dir(cwd);
    }
    for name in env::ALL.iter().chain(&systemd::VARIABLES) {
        command.env_remove(name);
    }
    command.envs(launch.env.iter().map(|(name, value)| (name, value)));
    command.env(env::CONTROL_FD, control.as_raw_fd().to_string());
    command.env(env::MASTER_PID, std::process::id().to_string());

    let control_fd = control.as_raw_fd();
    let nofile = launch.nofile;
    let master = Pid::this();
    let prepare = move || {
        reset_signals()?;
        if let Some(door) = &door {
            Cell::enter(door)?;
        }
        if let Some(limit) = nofile {
            limit.apply()?;
        }
        // SAFETY: `control` outlives the spawn, and the new process has a copy of every descriptor.
        let control = unsafe { BorrowedFd::borrow_raw(control_fd) };
        fcntl(control, FcntlArg::F_SETFD(FdFlag::empty()))?;
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The master may have died before the line above: then nobody would send the signal.
        if getppid() != master {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    };
    // SAFETY: `prepare` allocates nothing and takes no lock; it makes system calls only.
    let mut process = unsafe { command.pre_exec(prepare) }.spawn()?;
    Pidfd::open(process.id()).inspect_err(|_| {
        // Nobody could watch it.
        let _ = process.kill();
        let _ = process.wait();
    })
}

/// A new program starts with nothing blocked and nothing ignored: both survive `exec`, see
/// `execve(2)`. Async-signal-safe.
fn reset_signals() -> io::Result<()> {
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: `signal` with SIG_DFL runs no code of ours. It fails with EINVAL for SIGKILL,
        // SIGSTOP and the numbers that libc keeps to itself, which have nothing to reset.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// `_NSIG - 1` on Linux.
const LAST_SIGNAL: libc::c_int = 64;

impl Launch {
    /// The same launch with more environment.
    pub(crate) fn with_env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }
}
