//! The control channel: its descriptor, which the program must neither see nor close.
//!
//! It stays inheritable, because a wrapper may `exec` the real server, and it has a high number,
//! because programs close or mark close-on-exec the low ones when they begin (Node does).

use std::env;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use worker_proto::codec;
use worker_proto::env::{CONTROL_FD, MASTER_PID, control_fd};
use worker_proto::frame::ToMaster;

use crate::marks::{self, Mark};
use crate::sys::{self, Errno, OnExec, Uncancelled};

/// Finds the channel and moves it out of the way. Before the program begins.
pub(crate) fn open() {
    let number = |name| env::var(name).ok()?.parse::<i32>().ok();
    let Some(fd) = env::var_os(CONTROL_FD).and_then(|value| control_fd(&value)) else {
        return;
    };
    let Some(master) = number(MASTER_PID) else {
        return;
    };
    let is_packets =
        sys::number_option(fd, libc::SOL_SOCKET, libc::SO_TYPE) == Ok(libc::SOCK_SEQPACKET);
    if !is_packets || sys::peer_pid(fd) != Ok(master) {
        return;
    }
    let fd = move_up(fd);
    MASTER.store(master, Ordering::Relaxed);
    marks::set(fd, Mark::Hidden);
    CHANNEL.store(fd, Ordering::Release);
}

fn move_up(fd: RawFd) -> RawFd {
    if fd >= LOWEST {
        return fd;
    }
    // The page's place is beside it.
    let Ok(moved) = sys::copy_from(fd, LOWEST, OnExec::Keep) else {
        return fd;
    };
    sys::set_variable(CONTROL_FD, &moved.to_string());
    sys::close(fd);
    moved
}

/// The channel, if a master started this program. One load.
pub(crate) fn get() -> Option<RawFd> {
    let fd = CHANNEL.load(Ordering::Acquire);
    (fd >= 0).then_some(fd)
}

/// The channel, unless the program has taken it for itself: it speaks to the master on its own
/// when it has taken the variable out of its environment before it listened anywhere.
pub(crate) fn usable() -> Option<RawFd> {
    let fd = get()?;
    let is_ours = IS_USED.load(Ordering::Relaxed) || env::var_os(CONTROL_FD).is_some();
    is_ours.then_some(fd)
}

/// Whether `fd` is the channel, and the program must leave it as it is.
pub(crate) fn is_protected(fd: RawFd) -> bool {
    fd >= 0 && fd == CHANNEL.load(Ordering::Relaxed) && usable().is_some()
}

/// From now on the channel is ours.
pub(crate) fn note_used() {
    IS_USED.store(true, Ordering::Relaxed);
}

pub(crate) fn master() -> i32 {
    MASTER.load(Ordering::Relaxed)
}

/// Tells the master something that it need not answer. Async-signal-safe.
pub(crate) fn tell(frame: &ToMaster) -> Result<(), Errno> {
    let _uncancelled = Uncancelled::begin();
    let mut bytes = [0; SMALL_FRAME_BYTES];
    let fd = get().ok_or(Errno(libc::ENOTCONN))?;
    let len = codec::encode_into_slice(frame, &mut bytes).map_err(|_| Errno(libc::EMSGSIZE))?;
    sys::send(fd, &bytes[..len])
}

/// Whether the master has gone and left the channel.
pub(crate) fn is_over() -> bool {
    let Some(fd) = get() else {
        return true;
    };
    match sys::glance(fd, &mut [0; 1]) {
        Ok(len) => len == 0,
        Err(errno) => errno != Errno(libc::EAGAIN),
    }
}

/// The same, soon.
pub(crate) fn is_over_within(ms: u64) -> bool {
    let deadline = sys::now_ms() + ms;
    while !is_over() {
        if sys::now_ms() >= deadline {
            return false;
        }
        sys::pause(1);
    }
    true
}

static CHANNEL: AtomicI32 = AtomicI32::new(-1);
static MASTER: AtomicI32 = AtomicI32::new(0);
static IS_USED: AtomicBool = AtomicBool::new(false);

/// What belongs to us has this number at least: above what programs take for the first ones.
pub(crate) const LOWEST: RawFd = 100;

/// Room for every frame but the question.
const SMALL_FRAME_BYTES: usize = 256;
