//! Sockets that the parent left open for us: `fd:N`, named by a flag or by systemd.
//!
//! A descriptor is taken only if it is a listening stream socket, and only once. None is passed on
//! to the processes that the master starts.

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{SockType, getsockopt, sockopt};

/// Makes every descriptor but the standard streams close-on-exec: what the parent process left
/// open, knowingly or not, is not for the processes that this one starts.
///
/// # Errors
/// When `/proc/self/fd` cannot be read.
pub(crate) fn keep_from_children() -> io::Result<()> {
    // SAFETY: close_range with CLOSE_RANGE_CLOEXEC takes numbers only, and closes nothing.
    let marked = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if marked == 0 {
        return Ok(());
    }
    // Before Linux 5.11.
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        let Some(fd) = number.filter(|&fd: &RawFd| fd > 2) else {
            continue;
        };
        // SAFETY: used only for the call below, which fails with EBADF on a closed descriptor.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    Ok(())
}

/// Checks that the parent process left a listening socket open under this number. Before this
/// process opens anything itself: the number could be taken then.
///
/// # Errors
/// When it is not open, or not a listening stream socket.
pub(crate) fn check(fd: RawFd) -> io::Result<()> {
    if fd <= 2 {
        return Err(io::Error::other(
            "descriptors 0, 1 and 2 are the standard streams",
        ));
    }
    // SAFETY: used only for the checks below, which fail with EBADF on a closed descriptor.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    if getsockopt(&borrowed, sockopt::SockType) != Ok(SockType::Stream)
        || getsockopt(&borrowed, sockopt::AcceptConn) != Ok(true)
    {
        return Err(io::Error::other(
            "not a listening stream socket: the parent process has to call listen on it",
        ));
    }
    Ok(())
}

/// Takes the listening socket with this number.
///
/// # Errors
/// As [`check`].
pub(crate) fn take(fd: RawFd) -> io::Result<OwnedFd> {
    check(fd)?;
    // SAFETY: the descriptor is open and came from the parent process: nothing in this process
    // opened it, and the caller takes each number once.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
