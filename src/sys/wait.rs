//! How a child ended, see `waitid(2)`.
//!
//! Not nix's `waitid`, which takes a real-time signal for an invalid argument, so that nobody would
//! learn of a process that one has ended. Never waits.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::supervisor::ExitStatus;

/// Among which children to look.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose<'a> {
    /// The one with this pidfd.
    Pidfd(BorrowedFd<'a>),
    /// Those of the calling thread: the ones that it forked, and those that it was given.
    ThisThread,
}

/// What becomes of the one that is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zombie {
    /// It stays, and its number stays its own.
    Keep,
    /// It is gone, and its number may be anybody's.
    Reap,
}

/// A child that has ended, and how; `None` if there is none that has.
pub(crate) fn wait(whose: Whose, zombie: Zombie) -> io::Result<Option<(u32, ExitStatus)>> {
    let (kind, id, among) = match whose {
        Whose::Pidfd(pidfd) => (libc::P_PIDFD, pidfd.as_raw_fd().cast_unsigned(), 0),
        Whose::ThisThread => (libc::P_ALL, 0, libc::__WNOTHREAD),
    };
    let flags = libc::WEXITED
        | libc::WNOHANG
        | among
        | match zombie {
            Zombie::Keep => libc::WNOWAIT,
            Zombie::Reap => 0,
        };
    loop {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: `info` is writable memory of the type that waitid writes.
        let found = unsafe { libc::waitid(kind, id, info.as_mut_ptr(), flags) };
        if found == 0 {
            // SAFETY: a siginfo_t is integers, for which zeroes are a value, too.
            return Ok(ended(&unsafe { info.assume_init() }));
        }
        let err = io::Error::last_os_error();
        if err.kind() != io::ErrorKind::Interrupted {
            return Err(err);
        }
    }
}

/// Without a pid nobody has ended, see `WNOHANG` in `waitid(2)`.
fn ended(info: &libc::siginfo_t) -> Option<(u32, ExitStatus)> {
    // SAFETY: waitid fills these fields, or leaves the zeroes that were there.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    let status = match info.si_code {
        libc::CLD_EXITED => ExitStatus::Code(status),
        code => ExitStatus::Signal {
            signal: status,
            core_dumped: code == libc::CLD_DUMPED,
        },
    };
    (pid != 0).then_some((pid.cast_unsigned(), status))
}
