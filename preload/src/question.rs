//! The question to the master, and its answer, on a channel that several processes share.
//!
//! An answer is looked at before it is taken, and left to whom it is for. What a process left that
//! has gone meanwhile is thrown away.

use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

use worker_proto::address::Address;
use worker_proto::codec::{self, MAX_FRAME_BYTES};
use worker_proto::frame::{Attach, FromMaster, Listen, ListenOptions, Listening, ToMaster};
use worker_proto::handshake::PROTOCOL;
use worker_proto::ids::RequestId;
use worker_proto::scm::{self, Wait};

use crate::complaint::Complaint;
use crate::lock::Held;
use crate::sys::{self, Errno};
use crate::{channel, options, score};

/// What a program wants to listen on.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// Its socket, with the options that it has set.
    pub(crate) socket: RawFd,
    pub(crate) domain: i32,
    /// Its connections are to come with `O_NONBLOCK`.
    pub(crate) nonblocking: bool,
    pub(crate) address: Address,
    /// What `listen(2)` was given, if that was called already.
    pub(crate) backlog: Option<u32>,
}

/// What it gets.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) listening: Listening,
    /// What comes in the socket's place.
    pub(crate) substitute: OwnedFd,
}

/// Asks the master, and waits for its answer.
pub(crate) fn ask(channel: RawFd, wish: &Wish, _lock: &Held) -> Result<Grant, Errno> {
    let (answer, descriptors) = loop {
        let request = next_request();
        send(channel, &attach(request, wish))?;
        let mut late = Late::Nothing;
        let (answer, descriptors) = answer(channel, request, &mut late)?;
        let is_in_use =
            matches!(answer, FromMaster::NotListening { errno, .. } if errno == libc::EADDRINUSE);
        // What is in the way may be what has just been given back.
        if !(is_in_use && late == Late::GivenBack) {
            break (answer, descriptors);
        }
    };
    if let FromMaster::NotListening { errno, .. } = answer {
        return Err(Errno(errno));
    }
    let FromMaster::Listening(listening) = answer else {
        return Err(garbled());
    };
    let mut descriptors = descriptors.into_iter();
    // Without it the kernel had no number for it.
    let Some(substitute) = descriptors.next() else {
        let listener = listening.listener;
        let _ = channel::tell(&ToMaster::Unlisten { listener });
        return Err(Errno(libc::EMFILE));
    };
    channel::note_used();
    if let Some(page) = descriptors.next() {
        score::open(page);
    }
    // Until now the kernel kills what loses its master, see PR_SET_PDEATHSIG(2const).
    if sys::parent() == channel::master() {
        sys::terminate_with_parent();
    }
    Ok(Grant {
        listening,
        substitute,
    })
}

fn attach(request: RequestId, wish: &Wish) -> ToMaster {
    let v6only = (wish.domain == libc::AF_INET6)
        .then(|| sys::number_option(wish.socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY).ok())
        .flatten();
    ToMaster::Attach(Attach {
        protocol: PROTOCOL,
        pid: std::process::id(),
        library: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned(),
        listen: Listen {
            request,
            target: wish.address.to_string(),
            options: ListenOptions {
                nonblocking: wish.nonblocking,
                max_batch: 1,
                backlog: wish.backlog,
                v6only: v6only.map(|only| only != 0),
            },
        },
        options: options::set_on(wish.socket, wish.domain),
        file_mode: 0o777 & !sys::umask(),
    })
}

fn send(channel: RawFd, frame: &ToMaster) -> Result<(), Errno> {
    let mut bytes = Vec::new();
    codec::encode(frame, &mut bytes).map_err(|_| Errno(libc::EINVAL))?;
    let deadline = sys::now_ms() + PATIENCE_MS;
    loop {
        match sys::send(channel, &bytes) {
            Ok(()) => return Ok(()),
            Err(Errno(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM)) => {}
            Err(Errno(libc::EINTR)) => continue,
            Err(_) => return Err(unreachable()),
        }
        wait(deadline)?;
    }
}

/// What was done about answers that nobody waits for any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    Nothing,
    GivenBack,
}

/// The answer to `request`, with its descriptors.
fn answer(
    channel: RawFd,
    request: RequestId,
    late: &mut Late,
) -> Result<(FromMaster, Vec<OwnedFd>), Errno> {
    let deadline = sys::now_ms() + PATIENCE_MS;
    let mut buffer = vec![0; MAX_FRAME_BYTES];
    loop {
        match sys::glance(channel, &mut buffer) {
            Ok(0) => return Err(unreachable()),
            Ok(len) => match whose(&buffer[..len]) {
                Some(asked) if asked == request => return take(channel, &mut buffer),
                Some(asked) if is_awaited(asked) => wait(deadline)?,
                Some(_) | None => {
                    if let Ok((frame, descriptors)) = take(channel, &mut buffer)
                        && give_back(&frame, descriptors)
                    {
                        *late = Late::GivenBack;
                    }
                }
            },
            Err(Errno(libc::EAGAIN)) => {
                let left = deadline.saturating_sub(sys::now_ms());
                if left == 0 {
                    return Err(silent());
                }
                let left = i32::try_from(left).unwrap_or(i32::MAX);
                let _ = sys::wait_readable(channel, left);
            }
            Err(Errno(libc::EINTR)) => {}
            Err(_) => return Err(unreachable()),
        }
    }
}

/// Whoever has asked is gone, or has given up: clients would wait in a queue that nobody has.
fn give_back(frame: &FromMaster, descriptors: Vec<OwnedFd>) -> bool {
    let FromMaster::Listening(listening) = frame else {
        return false;
    };
    // The page comes with the first answer only, whoever takes it.
    if let Some(page) = descriptors.into_iter().nth(1) {
        score::open(page);
    }
    let listener = listening.listener;
    channel::tell(&ToMaster::Unlisten { listener }).is_ok()
}

/// Which question this is the answer to.
fn whose(bytes: &[u8]) -> Option<RequestId> {
    match codec::decode(bytes) {
        Ok(FromMaster::Listening(listening)) => Some(listening.request),
        Ok(FromMaster::NotListening { request, .. }) => Some(request),
        Ok(_) | Err(_) => None,
    }
}

fn take(channel: RawFd, buffer: &mut [u8]) -> Result<(FromMaster, Vec<OwnedFd>), Errno> {
    let mut descriptors = Vec::new();
    let packet = scm::receive(sys::borrow(channel), buffer, &mut descriptors, Wait::Never)
        .map_err(|err| Errno(err.raw_os_error().unwrap_or(libc::EIO)))?;
    let frame = codec::decode(&buffer[..packet.len]).map_err(|_| garbled())?;
    Ok((frame, descriptors))
}

/// A moment, unless that was the last.
fn wait(deadline: u64) -> Result<(), Errno> {
    if sys::now_ms() >= deadline {
        return Err(silent());
    }
    sys::pause(1);
    Ok(())
}

/// The asking thread, and the number of its question: an answer that came too late for one is not
/// that of the next.
fn next_request() -> RequestId {
    let thread = u32::try_from(sys::thread()).unwrap_or(0) & THREAD;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    RequestId(thread | number << THREAD.count_ones())
}

/// Whether there is somebody who asked that, and it is not ourselves: we have given up.
fn is_awaited(request: RequestId) -> bool {
    let thread = (request.0 & THREAD).cast_signed();
    thread != sys::thread() && sys::lives(thread)
}

fn unreachable() -> Errno {
    Complaint::Unreachable.say();
    Errno(libc::ECONNREFUSED)
}

fn silent() -> Errno {
    Complaint::NoAnswer.say();
    Errno(libc::ETIMEDOUT)
}

fn garbled() -> Errno {
    Complaint::Garbled.say();
    Errno(libc::EPROTO)
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The bits that a thread's id has: `PID_MAX_LIMIT`, see `proc_sys_kernel(5)`.
const THREAD: u32 = (1 << 22) - 1;

const PATIENCE_MS: u64 = 10_000;
