//! A worker that may be killed: known by its pidfd, so never confused with a later process of the
//! same number.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::unistd::Pid;

pub(crate) struct Victim(OwnedFd);

impl Victim {
    /// The process with this number, if it is a child of `master`. It may have ended; then the
    /// number may be another's, which is a child of `master` only if it is a worker, too.
    pub(crate) fn of(master: Pid, pid: Pid) -> Option<Self> {
        let victim = Victim(open(pid).ok()?);
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, after_name) = stat.rsplit_once(") ")?;
        let parent = after_name.split(' ').nth(1)?.parse().ok()?;
        (Pid::from_raw(parent) == master).then_some(victim)
    }

    /// SIGKILL; answers whether it was still there to be killed.
    pub(crate) fn kill(&self) -> bool {
        send_sigkill(self.0.as_raw_fd()).is_ok()
    }
}

#[allow(unsafe_code, reason = "pidfd_open(2) has no wrapper")]
fn open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just returned this new descriptor.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}

#[allow(unsafe_code, reason = "pidfd_send_signal(2) has no wrapper")]
fn send_sigkill(pidfd: RawFd) -> io::Result<()> {
    let no_info = ptr::null::<libc::siginfo_t>();
    // SAFETY: takes integers and a null pointer and touches no memory of ours.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd,
            libc::SIGKILL,
            no_info,
            0,
        )
    };
    if sent == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
