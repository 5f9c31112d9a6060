//! System calls, as this library needs them for itself: none of them comes by our own functions.
//!
//! Descriptors are plain numbers here, since they belong to the program: a wrong one is answered
//! with an error. Everything but [`same_socket`] is async-signal-safe.

use std::ffi::{CStr, c_int, c_void};
use std::fs;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{BorrowedFd, RawFd};

use crate::name::SocketName;
use crate::symbols;

/// An error number of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) c_int);

impl Errno {
    /// That of the call before.
    pub(crate) fn last() -> Self {
        let errno = io::Error::last_os_error().raw_os_error();
        Errno(errno.unwrap_or(0))
    }
}

pub(crate) fn set_errno(errno: c_int) {
    // SAFETY: it only tells where that is.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: the location belongs to this thread and is always there.
    unsafe { *location = errno };
}

/// `-1` is an error.
fn check(result: c_int) -> Result<c_int, Errno> {
    if result < 0 {
        Err(Errno::last())
    } else {
        Ok(result)
    }
}

pub(crate) fn pid() -> i32 {
    // SAFETY: it only asks.
    unsafe { libc::getpid() }
}

pub(crate) fn parent() -> i32 {
    // SAFETY: it only asks.
    unsafe { libc::getppid() }
}

pub(crate) fn thread() -> i32 {
    // SAFETY: it only asks.
    unsafe { libc::gettid() }
}

/// Has these called after every `fork(3)`.
pub(crate) fn at_fork(in_parent: extern "C" fn(), in_child: extern "C" fn()) {
    // SAFETY: both are functions without arguments and live as long as this library.
    unsafe { libc::pthread_atfork(None, Some(in_parent), Some(in_child)) };
}

/// Whether there is a process or a thread of this number.
pub(crate) fn lives(pid: i32) -> bool {
    // SAFETY: signal 0 is sent to nobody.
    unsafe { libc::kill(pid, 0) == 0 || Errno::last() != Errno(libc::ESRCH) }
}

pub(crate) fn terminate_self() {
    // SAFETY: a signal to ourselves, as anybody may send it.
    unsafe { libc::kill(pid(), libc::SIGTERM) };
}

/// This process gets SIGTERM when its parent is gone.
pub(crate) fn terminate_with_parent() {
    // SAFETY: it changes nothing but that.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
}

/// While it is there, `pthread_cancel(3)` does not end this thread. What we do for a function that is
/// no cancellation point must not become one, and nothing but the program's own call may be unwound.
pub(crate) struct Uncancelled {
    before: c_int,
}

impl Uncancelled {
    /// Async-signal-safe.
    pub(crate) fn begin() -> Self {
        let mut before = 0;
        // SAFETY: it changes nothing but this thread's, and `before` is there to be written.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut before) };
        Uncancelled { before }
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        // SAFETY: as it was.
        unsafe { pthread_setcancelstate(self.before, std::ptr::null_mut()) };
    }
}

unsafe extern "C-unwind" {
    /// Not in the libc crate. Unwinds if the program has asked for asynchronous cancellation.
    fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
}

/// `pthread.h`, the same everywhere on Linux.
const PTHREAD_CANCEL_DISABLE: c_int = 1;

/// Milliseconds of a clock that only goes forward.
pub(crate) fn now_ms() -> u64 {
    let mut now = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: `now` is there to be written.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr()) };
    // SAFETY: it was zeroed, and all zeros are a time.
    let now = unsafe { now.assume_init() };
    u64::try_from(now.tv_sec * 1000 + now.tv_nsec / 1_000_000).unwrap_or(0)
}

/// How many descriptors this process may have.
pub(crate) fn descriptor_limit() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: u64::MAX,
        rlim_max: u64::MAX,
    };
    // SAFETY: `limit` is there to be written.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur
}

pub(crate) fn umask() -> u32 {
    let from_kernel = || {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("Umask:"))?;
        u32::from_str_radix(mask.trim(), 8).ok()
    };
    from_kernel().unwrap_or_else(|| {
        // SAFETY: another thread may make a file in between, with more rights than it wants.
        let mask = unsafe { libc::umask(0o077) };
        // SAFETY: as it was.
        unsafe { libc::umask(mask) };
        mask
    })
}

/// Before the program begins.
pub(crate) fn set_variable(name: &str, value: &str) {
    // SAFETY: no thread was started yet that could read the environment meanwhile.
    unsafe { std::env::set_var(name, value) };
}

pub(crate) fn write_error(line: &[u8]) {
    // SAFETY: `line` outlives the call.
    unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
}

// Descriptors.

pub(crate) fn close(fd: RawFd) {
    // SAFETY: the callers close what is theirs.
    unsafe { symbols::close(fd) };
}

/// A copy of `fd` with a number of at least `lowest`, close-on-exec.
pub(crate) fn copy_from(fd: RawFd, lowest: RawFd, on_exec: OnExec) -> Result<RawFd, Errno> {
    let command = match on_exec {
        OnExec::Close => libc::F_DUPFD_CLOEXEC,
        OnExec::Keep => libc::F_DUPFD,
    };
    fcntl(fd, command, lowest)
}

/// What becomes of a descriptor when another program begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnExec {
    Close,
    Keep,
}

impl OnExec {
    pub(crate) fn of(fd: RawFd) -> Result<Self, Errno> {
        let flags = fcntl(fd, libc::F_GETFD, 0)?;
        Ok(if flags & libc::FD_CLOEXEC == 0 {
            OnExec::Keep
        } else {
            OnExec::Close
        })
    }
}

/// Puts a copy of `fd` in the place of `other`.
pub(crate) fn replace(other: RawFd, fd: RawFd, on_exec: OnExec) -> Result<(), Errno> {
    let flags = match on_exec {
        OnExec::Close => libc::O_CLOEXEC,
        OnExec::Keep => 0,
    };
    // SAFETY: the callers replace what is theirs.
    check(unsafe { symbols::dup3(fd, other, flags) }).map(drop)
}

/// `O_NONBLOCK`.
pub(crate) fn is_nonblocking(fd: RawFd) -> Result<bool, Errno> {
    Ok(fcntl(fd, libc::F_GETFL, 0)? & libc::O_NONBLOCK != 0)
}

/// Sets `O_NONBLOCK`, and clears `O_ASYNC`.
pub(crate) fn set_nonblocking(fd: RawFd, nonblocking: bool) {
    let flags = if nonblocking { libc::O_NONBLOCK } else { 0 };
    let _ = fcntl(fd, libc::F_SETFL, flags);
}

/// For interfaces of descriptors with an owner.
pub(crate) fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the callers borrow what they keep open for as long as they use it.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

pub(crate) fn is_open(fd: RawFd) -> bool {
    fcntl(fd, libc::F_GETFD, 0).is_ok()
}

fn fcntl(fd: RawFd, command: c_int, argument: c_int) -> Result<c_int, Errno> {
    // SAFETY: the commands used here take a number.
    check(unsafe { symbols::fcntl(fd, command, libc::c_ulong::from(argument.cast_unsigned())) })
}

/// Every descriptor of this process that is the same socket, `fd` first.
pub(crate) fn same_socket(fd: RawFd) -> Vec<RawFd> {
    let mut same = vec![fd];
    let Some(wanted) = socket_inode(fd) else {
        return same;
    };
    let Ok(open) = fs::read_dir("/proc/self/fd") else {
        return same;
    };
    let numbers = open
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    same.extend(numbers.filter(|&other| other != fd && socket_inode(other) == Some(wanted)));
    same
}

fn socket_inode(fd: RawFd) -> Option<(u64, u64)> {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: `status` is there to be written.
    check(unsafe { libc::fstat(fd, status.as_mut_ptr()) }).ok()?;
    // SAFETY: it was written.
    let status = unsafe { status.assume_init() };
    (status.st_mode & libc::S_IFMT == libc::S_IFSOCK).then_some((status.st_dev, status.st_ino))
}

/// Whether a path, relative to a directory, is a socket's.
pub(crate) fn is_socket(directory: RawFd, path: &CStr) -> bool {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: `path` is a C string, and `status` is there to be written.
    let asked = unsafe { libc::fstatat(directory, path.as_ptr(), status.as_mut_ptr(), flags) };
    if asked != 0 {
        return false;
    }
    // SAFETY: it was written.
    let status = unsafe { status.assume_init() };
    status.st_mode & libc::S_IFMT == libc::S_IFSOCK
}

/// An epoll instance does not know `fd` any more.
pub(crate) fn forget(epoll: RawFd, fd: RawFd) {
    // SAFETY: for this operation the event is ignored, see epoll_ctl(2).
    unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
}

/// An epoll instance watches `fd`.
pub(crate) fn watch(epoll: RawFd, fd: RawFd, events: u32, token: u64) {
    let mut event = libc::epoll_event { events, u64: token };
    // SAFETY: `event` outlives the call.
    unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
}

// Sockets.

/// A new socket, close-on-exec.
pub(crate) fn socket(domain: c_int, kind: c_int) -> Result<RawFd, Errno> {
    // SAFETY: it only makes one.
    check(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, 0) })
}

/// A pair of packet sockets, close-on-exec.
pub(crate) fn socket_pair() -> Result<[RawFd; 2], Errno> {
    let mut pair = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `pair` is there to be written.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) })?;
    Ok(pair)
}

pub(crate) fn number_option(fd: RawFd, level: c_int, name: c_int) -> Result<c_int, Errno> {
    option(fd, level, name, 0)
}

/// An option of any type that all bytes are values of.
pub(crate) fn option<T: Copy>(
    fd: RawFd,
    level: c_int,
    name: c_int,
    initial: T,
) -> Result<T, Errno> {
    let mut value = initial;
    let mut len = socket_len(mem::size_of::<T>());
    // SAFETY: `value` has room for `len` bytes.
    check(unsafe { symbols::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut len) })?;
    Ok(value)
}

pub(crate) fn set_option<T: Copy>(
    fd: RawFd,
    level: c_int,
    name: c_int,
    value: T,
) -> Result<(), Errno> {
    let value: *const T = &raw const value;
    let len = socket_len(mem::size_of::<T>());
    // SAFETY: `value` has `len` bytes.
    check(unsafe { symbols::setsockopt(fd, level, name, value.cast::<c_void>(), len) }).map(drop)
}

/// `SO_RCVTIMEO` or `SO_SNDTIMEO`; answers whether there is one.
pub(crate) fn copy_timeout(from: RawFd, to: RawFd, name: c_int) -> bool {
    let none = libc::timeval {
        tv_sec: 0,
        tv_usec: 0,
    };
    let timeout = option(from, libc::SOL_SOCKET, name, none);
    let timeout = timeout.ok().filter(|it| (it.tv_sec, it.tv_usec) != (0, 0));
    if let Some(timeout) = timeout {
        let _ = set_option(to, libc::SOL_SOCKET, name, timeout);
    }
    timeout.is_some()
}

/// `SO_LINGER`.
pub(crate) fn linger(fd: RawFd) -> Result<Option<c_int>, Errno> {
    let off = libc::linger {
        l_onoff: 0,
        l_linger: 0,
    };
    let linger = option(fd, libc::SOL_SOCKET, libc::SO_LINGER, off)?;
    Ok((linger.l_onoff != 0).then_some(linger.l_linger))
}

/// The pid of whoever is, or made, the other end of a Unix socket.
pub(crate) fn peer_pid(fd: RawFd) -> Result<i32, Errno> {
    let nobody = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    Ok(option(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, nobody)?.pid)
}

/// Those of a process of this program's.
pub(crate) fn credentials_of(pid: i32) -> libc::ucred {
    libc::ucred {
        pid,
        // SAFETY: it only asks.
        uid: unsafe { libc::geteuid() },
        // SAFETY: it only asks.
        gid: unsafe { libc::getegid() },
    }
}

pub(crate) fn bind(fd: RawFd, name: &SocketName) -> Result<(), Errno> {
    let bytes = name.bytes();
    // SAFETY: `bytes` are an address of their length.
    check(unsafe { symbols::bind(fd, bytes.as_ptr().cast(), socket_len(bytes.len())) }).map(drop)
}

pub(crate) fn connect(fd: RawFd, name: &SocketName) -> Result<(), Errno> {
    let bytes = name.bytes();
    // SAFETY: `bytes` are an address of their length.
    check(unsafe { symbols::connect(fd, bytes.as_ptr().cast(), socket_len(bytes.len())) }).map(drop)
}

pub(crate) fn socket_name(fd: RawFd) -> Result<SocketName, Errno> {
    let mut bytes = NameBytes::ZERO;
    let mut len = socket_len(mem::size_of::<NameBytes>());
    // SAFETY: `bytes` has room for `len` bytes.
    check(unsafe { symbols::getsockname(fd, (&raw mut bytes).cast(), &raw mut len) })?;
    Ok(SocketName::new(&bytes.0[..bytes.0.len().min(len as usize)]))
}

pub(crate) fn peer_name(fd: RawFd) -> Result<SocketName, Errno> {
    let mut bytes = NameBytes::ZERO;
    let mut len = socket_len(mem::size_of::<NameBytes>());
    // SAFETY: `bytes` has room for `len` bytes.
    check(unsafe { symbols::getpeername(fd, (&raw mut bytes).cast(), &raw mut len) })?;
    Ok(SocketName::new(&bytes.0[..bytes.0.len().min(len as usize)]))
}

/// Aligned as an address must be.
#[repr(align(8))]
#[derive(Clone, Copy)]
struct NameBytes([u8; 128]);

impl NameBytes {
    const ZERO: Self = NameBytes([0; 128]);
}

fn socket_len(bytes: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(bytes).unwrap_or(libc::socklen_t::MAX)
}

// Packets.

/// Waits until something can be received, or the other end is gone.
pub(crate) fn wait_readable(fd: RawFd, timeout_ms: c_int) -> Result<bool, Errno> {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one `pollfd`, which outlives the call.
    Ok(check(unsafe { libc::poll(&raw mut poll, 1, timeout_ms) })? > 0)
}

/// Waits for a time, or for ever if it is negative, or for a signal.
pub(crate) fn pause(timeout_ms: c_int) -> Errno {
    // SAFETY: no `pollfd` at all.
    match check(unsafe { libc::poll(std::ptr::null_mut(), 0, timeout_ms) }) {
        Ok(_) => Errno(libc::EAGAIN),
        Err(errno) => errno,
    }
}

/// Sends a packet without waiting.
pub(crate) fn send(fd: RawFd, bytes: &[u8]) -> Result<(), Errno> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: `bytes` outlive the call.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
    if sent < 0 { Err(Errno::last()) } else { Ok(()) }
}

/// Looks at the next packet without taking it, nor the descriptors that are with it, nor waiting.
/// 0: the end.
pub(crate) fn glance(fd: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_PEEK;
    // SAFETY: `buffer` has room for its length.
    let seen = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), flags) };
    usize::try_from(seen).map_err(|_| Errno::last())
}

/// A packet with room for one descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// How much of the buffer it fills, at most. 0: the end.
    pub(crate) len: usize,
    pub(crate) fd: Option<RawFd>,
    /// It had descriptors that this process could not be given.
    pub(crate) descriptors_lost: bool,
}

unsafe extern "C-unwind" {
    /// As in the libc crate, but `pthread_cancel(3)` may unwind out of it.
    fn recvmsg(fd: c_int, message: *mut libc::msghdr, flags: c_int) -> libc::ssize_t;
}

/// Receives a packet, as the socket is set: with or without waiting.
pub(crate) fn receive(fd: RawFd, buffer: &mut [u8], flags: c_int) -> Result<Packet, Errno> {
    let mut control = [0u64; CONTROL_WORDS];
    let mut iov = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: all zeros are a `msghdr`: null pointers with lengths of zero.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_BYTES;
    // SAFETY: `header` points to `iov`, `buffer` and `control`, which all outlive the call.
    let received = unsafe { recvmsg(fd, &raw mut header, flags) };
    let len = usize::try_from(received).map_err(|_| Errno::last())?;
    Ok(Packet {
        len,
        fd: take_descriptor(&header),
        descriptors_lost: header.msg_flags & libc::MSG_CTRUNC != 0,
    })
}

/// The descriptor in the ancillary data, if there is one. There is no room for two.
fn take_descriptor(header: &libc::msghdr) -> Option<RawFd> {
    // SAFETY: `header` is as recvmsg left it, with its control buffer alive.
    let cmsg = unsafe { libc::CMSG_FIRSTHDR(header) };
    if cmsg.is_null() {
        return None;
    }
    // SAFETY: not null, so a whole, aligned header inside the control buffer.
    let found = unsafe { cmsg.read() };
    if (found.cmsg_level, found.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
        return None;
    }
    // SAFETY: CMSG_DATA only adds an offset.
    let data = unsafe { libc::CMSG_DATA(cmsg) };
    // SAFETY: a message of rights has one descriptor at least.
    Some(unsafe { data.cast::<RawFd>().read_unaligned() })
}

/// One descriptor: the kernel closes what has no room. Not `CMSG_SPACE`, whose padding is room for
/// a second one.
const CONTROL_BYTES: usize = {
    // SAFETY: CMSG_LEN only computes.
    unsafe { libc::CMSG_LEN(4) as usize }
};
const CONTROL_WORDS: usize = CONTROL_BYTES.div_ceil(mem::size_of::<u64>());
