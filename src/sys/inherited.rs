//! Sockets that the parent left open for us: `fd:N`, and systemd's `LISTEN_FDS` protocol, see
//! `sd_listen_fds(3)`.
//!
//! A descriptor is taken only if it is a listening stream socket, and only once. None is passed on
//! to the processes that the master starts.

use std::env;
use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{SockType, getsockopt, sockopt};

use crate::config::listener::ListenerSpec;

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

/// The listeners that systemd, or anything that speaks its protocol, passed to this process, named
/// as `LISTEN_FDNAMES` says. Nothing is taken yet.
pub(crate) fn from_systemd() -> Vec<ListenerSpec> {
    let number = |name: &str| env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").unwrap_or(0).min(MOST_SYSTEMD_SOCKETS);
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut listeners: Vec<ListenerSpec> = Vec::new();
    for index in 0..count {
        let listener = ListenerSpec::inherited(FIRST_SYSTEMD_SOCKET + index.cast_signed());
        // All sockets of one unit have its name: the first gets it, the others go by number.
        let name = names.next().filter(|name| {
            let is_taken = listeners.iter().any(|listener| listener.name() == *name);
            !matches!(*name, "" | "unknown") && !is_taken
        });
        listeners.push(match name {
            Some(name) => listener.named(name),
            None => listener,
        });
    }
    listeners
}

/// The variables of the protocol: for this process alone, not for those it starts.
pub(crate) const SYSTEMD_VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// `SD_LISTEN_FDS_START`.
const FIRST_SYSTEMD_SOCKET: RawFd = 3;

/// More than any unit has; keeps a nonsense count harmless.
const MOST_SYSTEMD_SOCKETS: u32 = 1024;
