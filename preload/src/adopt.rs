//! Recognising an accept queue that came to this process by a way we did not see: over `exec`, over
//! a socket, or duplicated by a bare system call.
//!
//! There is nothing to go by but the queue itself, so the master has given its sending end a name.

use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

use worker_proto::ids::ListenerId;

use crate::hidden;
use crate::listeners::{Record, Stage};
use crate::marks::{self, Mark};
use crate::queue_name::QueueName;
use crate::{channel, lock, sys};

/// The record of a queue, made now; `None` if `fd` is something else. For a descriptor without a
/// mark.
pub(crate) fn adopt(fd: RawFd) -> Option<Record> {
    channel::get()?;
    let is = |name, value| sys::number_option(fd, libc::SOL_SOCKET, name) == Ok(value);
    if !is(libc::SO_TYPE, libc::SOCK_SEQPACKET) || !is(libc::SO_DOMAIN, libc::AF_UNIX) {
        return None;
    }
    let queue = QueueName::parse(&sys::peer_name(fd).ok()?)?;
    let master = channel::master();
    if queue.master != master || sys::peer_pid(fd) != Ok(master) {
        return None;
    }
    let _lock = lock::take();
    if let Mark::Socket(record) = marks::of(fd) {
        return Some(record);
    }
    let record = Record::claim(Stage::Queue, &queue.bound, queue.domain)?;
    let listener = record.get();
    listener
        .nonblocking
        .store(queue.nonblocking, Ordering::Relaxed);
    listener.set_id(Some(ListenerId(queue.listener)));
    // The options of a socket of that kind, none of them set.
    if let Ok(scratch) = sys::socket(queue.domain, libc::SOCK_STREAM) {
        let shadow = hidden::copy(scratch);
        sys::close(scratch);
        listener
            .shadow
            .store(shadow.unwrap_or(-1), Ordering::Release);
    }
    let copies = sys::same_socket(fd);
    let count = u32::try_from(copies.len()).unwrap_or(1);
    listener.copies.store(count, Ordering::Relaxed);
    for copy in copies {
        marks::set(copy, Mark::Socket(record));
    }
    Some(record)
}
