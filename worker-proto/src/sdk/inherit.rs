//! What a process inherits from its master: the control channel and the `RR_*` variables; and the
//! way out when the master is gone.
//!
//! A descriptor is taken at most once, and only after it has proved to be a packet socket: a
//! wrong number must not close somebody else's file.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use socket2::{Domain, SockRef, Type};

use super::lent::Waking;
use crate::env::{ALL, CONTROL_FD, WAKING, control_fd};
use crate::socket::WorkerChannel;

/// Takes the control channel, or `None` when no master started this process.
pub(crate) fn control_channel() -> Result<Option<WorkerChannel>, InheritError> {
    if TAKEN.load(Ordering::Acquire) {
        return Err(InheritError::Taken);
    }
    let Some(value) = env::var_os(CONTROL_FD) else {
        return Ok(None);
    };
    let refused = |problem| InheritError::Descriptor {
        value: value.clone(),
        problem,
    };
    let number = control_fd(&value).ok_or(Problem::Number).map_err(refused)?;
    prove(number).map_err(refused)?;
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Err(InheritError::Taken);
    }
    // SAFETY: `number` is open, and the master passed it to this process for this use alone;
    // `TAKEN` lets only one caller in a process's life come here.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    // Inherited, so it cannot have been close-on-exec; grandchildren must not hold the channel
    // open after this process has gone.
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(io::Error::from)?;
    SockRef::from(&fd).set_nonblocking(false)?;
    let wakes_all = env::var_os(WAKING).is_some_and(|value| value == "all");
    WAKES_ALL.store(wakes_all, Ordering::Release);
    keep_sockets_from_children();
    remove_variables();
    Ok(Some(fd.into()))
}

/// Who wakes for a connection of a shared listener, as the master wants it.
pub(crate) fn waking() -> Waking {
    match WAKES_ALL.load(Ordering::Acquire) {
        true => Waking::All,
        false => Waking::One,
    }
}

/// Ends the process at once: no destructors, no exit handlers, nothing that could wait.
pub(crate) fn exit_now(code: u8) -> ! {
    // SAFETY: _exit(2) only ends the process.
    unsafe { libc::_exit(code.into()) }
}

/// What a process inherited is not usable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InheritError {
    #[error("this process is connected to its master already: connect once and share the worker")]
    Taken,
    #[error("{CONTROL_FD}={value:?} {problem}; unset {CONTROL_FD} to run without a master")]
    Descriptor { value: OsString, problem: Problem },
    #[error("set up the control channel")]
    Io(#[from] io::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("is not the number of a descriptor")]
    Number,
    #[error(
        "names a descriptor that is not open: something between the master and this program closed it, as sudo does"
    )]
    Closed,
    #[error("names a descriptor that is not a master's control channel")]
    Foreign,
}

/// Checks that `number` is an open Unix packet socket, without owning it.
fn prove(number: RawFd) -> Result<(), Problem> {
    // SAFETY: the borrow lasts for this function, and it only asks: fcntl(2) and getsockopt(2)
    // answer EBADF when the number is not open.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    if fcntl(fd, FcntlArg::F_GETFD) == Err(Errno::EBADF) {
        return Err(Problem::Closed);
    }
    let socket = SockRef::from(&fd);
    match (socket.domain(), socket.r#type()) {
        (Ok(Domain::UNIX), Ok(Type::SEQPACKET)) => Ok(()),
        _ => Err(Problem::Foreign),
    }
}

/// The listening sockets that this process was started with stay in it, see `sd_listen_fds(3)`:
/// what it starts must not go on listening when it is gone.
fn keep_sockets_from_children() {
    let number = |name| env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(process::id()) {
        return;
    }
    let count = number("LISTEN_FDS").unwrap_or(0).min(MOST_SOCKETS);
    for fd in FIRST_SOCKET..FIRST_SOCKET + count.cast_signed() {
        // SAFETY: used only for the call below, which fails with EBADF on a closed descriptor.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        _ = fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    }
}

fn remove_variables() {
    if !is_single_threaded() {
        log::warn!(
            "connecting with other threads running: the {CONTROL_FD} family of variables stays in the environment and is inherited by what this process starts"
        );
        return;
    }
    for name in ALL {
        // SAFETY: there is no other thread that could read the environment meanwhile.
        unsafe { env::remove_var(name) };
    }
}

fn is_single_threaded() -> bool {
    fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

/// `SD_LISTEN_FDS_START`.
const FIRST_SOCKET: RawFd = 3;

/// More than any master has; keeps a nonsense count harmless.
const MOST_SOCKETS: u32 = 1024;

static TAKEN: AtomicBool = AtomicBool::new(false);

static WAKES_ALL: AtomicBool = AtomicBool::new(false);
