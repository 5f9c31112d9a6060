//! Taking a connection out of an accept queue, as `accept4(2)` takes one out of a backlog.
//!
//! No lock and no allocation: signal handlers accept, too, and threads accept side by side.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use worker_proto::codec;
use worker_proto::frame::ToMaster;

use crate::complaint::Complaint;
use crate::listeners::{Listener, Record, Stage};
use crate::marks::{self, Mark};
use crate::name::SocketName;
use crate::release::{self, Closed};
use crate::shares::Share;
use crate::sys::{self, Errno, OnExec, Uncancelled};
use crate::{channel, epolls, fork, score};

/// A connection, and who is at its other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    pub(crate) fd: RawFd,
    pub(crate) peer: SocketName,
}

/// The next connection of a queue.
pub(crate) fn accept(fd: RawFd, record: Record, flags: i32) -> Result<Accepted, Errno> {
    if flags & !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) != 0 {
        return Err(Errno(libc::EINVAL));
    }
    let _waiting = Waiting::begin(record);
    receive(fd, record, flags)
}

/// A thread in `accept`, also one that `pthread_cancel(3)` ends there: it unwinds.
struct Waiting(Record);

impl Waiting {
    fn begin(record: Record) -> Self {
        record.get().begin_waiting();
        Waiting(record)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Waiting(record) = *self;
        if record.get().end_waiting() {
            release::give_up(record);
        }
    }
}

fn receive(fd: RawFd, record: Record, flags: i32) -> Result<Accepted, Errno> {
    let listener = record.get();
    loop {
        if !may_accept(listener) {
            return Err(Errno(libc::EINVAL));
        }
        if is_near_limit() {
            look(fd, listener)?;
        }
        let mut bytes = [0; HEAD_BYTES];
        let on_exec = if flags & libc::SOCK_CLOEXEC == 0 {
            0
        } else {
            libc::MSG_CMSG_CLOEXEC
        };
        let packet = match sys::receive(fd, &mut bytes, on_exec) {
            // Of what was sent before it, nothing is lost: see unix(7).
            Err(Errno(libc::ECONNRESET)) => continue,
            packet => packet?,
        };
        if packet.len == 0 {
            return Err(end(fd, record));
        }
        let Some(connection) = packet.fd else {
            Complaint::Lost.say();
            HIGHEST.store(RawFd::MAX, Ordering::Relaxed);
            return Err(Errno(libc::EMFILE));
        };
        HIGHEST.store(connection, Ordering::Relaxed);
        count(connection);
        prepare(connection, listener, flags);
        let peer = match codec::decode_one_connection(&bytes[..packet.len.min(HEAD_BYTES)]) {
            Some(frame) => SocketName::from(frame.peer),
            None => sys::peer_name(connection).unwrap_or(SocketName::new(&[])),
        };
        return Ok(Accepted {
            fd: connection,
            peer,
        });
    }
}

/// Whether the program listens; a child of its may have called `listen`, which is true for both.
fn may_accept(listener: &Listener) -> bool {
    match listener.stage() {
        Stage::Listening => true,
        Stage::Bound => {
            listener.owner.load(Ordering::Relaxed) != fork::pid()
                || listener.forks.load(Ordering::Relaxed) != fork::count()
        }
        Stage::Free | Stage::Deferred | Stage::Shut => false,
    }
}

/// What the kernel does for a connection that it accepts.
fn prepare(connection: RawFd, listener: &Listener, flags: i32) {
    let wanted = flags & libc::SOCK_NONBLOCK != 0;
    if wanted != listener.nonblocking.load(Ordering::Relaxed) {
        sys::set_nonblocking(connection, wanted);
    }
    if listener.has_timeouts.load(Ordering::Relaxed)
        && let Some(shadow) = listener.shadow()
    {
        sys::copy_timeout(shadow, connection, libc::SO_RCVTIMEO);
        sys::copy_timeout(shadow, connection, libc::SO_SNDTIMEO);
    }
}

/// A connection is this process's from now on.
pub(crate) fn count(connection: RawFd) {
    if !marks::has_room_for(connection) {
        return;
    }
    score::received();
    // What had this number was closed by a way that we do not see.
    match marks::set(connection, Mark::Connection(Share::NONE)) {
        stale @ Mark::Connection(_) => Closed::of(stale).note(),
        Mark::Plain | Mark::Socket(_) | Mark::Hidden | Mark::Epoll => {}
    }
}

/// Beyond the limit a packet arrives without its descriptor, which is lost: looks whether the next
/// one would, and leaves it where it is.
fn look(fd: RawFd, listener: &Listener) -> Result<(), Errno> {
    let mut bytes = [0; HEAD_BYTES];
    let packet = match sys::receive(fd, &mut bytes, libc::MSG_PEEK | libc::MSG_CMSG_CLOEXEC) {
        Err(Errno(libc::ECONNRESET)) => return Ok(()),
        packet => packet?,
    };
    if let Some(copy) = packet.fd {
        sys::close(copy);
        return Ok(());
    }
    if packet.len == 0 || !packet.descriptors_lost {
        return Ok(());
    }
    if let Some(frame) = codec::decode_one_connection(&bytes[..packet.len.min(HEAD_BYTES)])
        && let Some(id) = listener.id()
        && listener.refused.load(Ordering::Relaxed) != frame.sequence + 1
        && channel::tell(&ToMaster::NoRoom { listener: id }).is_ok()
    {
        listener
            .refused
            .store(frame.sequence + 1, Ordering::Relaxed);
    }
    Err(Errno(libc::EMFILE))
}

fn is_near_limit() -> bool {
    let highest = u64::try_from(HIGHEST.load(Ordering::Relaxed)).unwrap_or(0);
    if highest + NEAR < LIMIT.load(Ordering::Relaxed) && !is_time_to_ask() {
        return false;
    }
    let limit = sys::descriptor_limit();
    LIMIT.store(limit, Ordering::Relaxed);
    highest + NEAR >= limit
}

/// The program may change its limit.
fn is_time_to_ask() -> bool {
    ACCEPTED
        .fetch_add(1, Ordering::Relaxed)
        .is_multiple_of(ASK_EVERY)
}

/// The queue has ended: by `shutdown(2)`, or with the master.
fn end(fd: RawFd, record: Record) -> Errno {
    let _uncancelled = Uncancelled::begin();
    if record.get().stage() == Stage::Shut || !channel::is_over_within(DYING_MS) {
        return Errno(libc::EINVAL);
    }
    let waits = sys::is_nonblocking(fd) == Ok(false);
    if marks::of(fd) == Mark::Socket(record) {
        silence(fd);
    }
    if !IS_ORPHAN.swap(true, Ordering::Relaxed) {
        sys::terminate_self();
    }
    // The signal has come before anybody could wait again.
    Errno(if waits { libc::EINTR } else { libc::EAGAIN })
}

/// The master is gone. An ended queue is readable for ever, and the program would spin: in its place
/// comes one that nobody ever writes to.
fn silence(fd: RawFd) {
    epolls::forget(fd);
    let (Ok(on_exec), Ok(nonblocking), Ok([silent, other])) =
        (OnExec::of(fd), sys::is_nonblocking(fd), sys::socket_pair())
    else {
        return;
    };
    sys::set_nonblocking(silent, nonblocking);
    sys::copy_timeout(fd, silent, libc::SO_RCVTIMEO);
    let _ = sys::replace(fd, silent, on_exec);
    sys::close(silent);
    // Without its other end it would be readable for ever, too.
    marks::set(other, Mark::Hidden);
}

/// The number of the last connection: the kernel gives out the lowest free one, so it shows how near
/// the limit is.
static HIGHEST: AtomicI32 = AtomicI32::new(0);
static LIMIT: AtomicU64 = AtomicU64::new(0);
static ACCEPTED: AtomicU64 = AtomicU64::new(0);
static IS_ORPHAN: AtomicBool = AtomicBool::new(false);

/// How long a master that ends may take from closing a queue to closing the channel: the kernel
/// closes the last one first. Another process that has shut the queue down is so far waited for.
const DYING_MS: u64 = 500;

/// What may be opened between two connections without our seeing it.
const NEAR: u64 = 64;
const ASK_EVERY: u64 = 64;

/// The frame up to the end of the longest address; its padding is cut off.
const HEAD_BYTES: usize = 256;
