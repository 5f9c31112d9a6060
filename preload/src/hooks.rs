//! The functions that the program calls, with the signatures of their manual pages.
//!
//! Each asks for the mark of its descriptor, and goes on to the real one if that is plain. The
//! pointers of the program are touched here and nowhere else.

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::panic;
use std::slice;
use std::sync::atomic::Ordering;

use libc::{FILE, sockaddr, socklen_t};

use crate::adopt::adopt;
use crate::binding::{self, Answer};
use crate::listeners::{Record, Source, Stage};
use crate::marks::{self, Mark};
use crate::name::SocketName;
use crate::release::{self, Closed, Leave};
use crate::symbols as real;
use crate::sys::{self, Errno, Uncancelled};
use crate::{accept, channel, copies, epolls, fork, options, paths, ranges, score};
use worker_proto::frame::ToMaster;

/// Runs before the program's `main`.
#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

extern "C" fn begin() {
    real::find_all();
    careful((), || {
        channel::open();
        if channel::get().is_some() {
            fork::watch();
            score::find();
        }
    });
}

// Addresses.

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn bind(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int {
    // Longer ones the kernel refuses.
    let is_sound = len as usize <= crate::name::NAME_BYTES && !address.is_null();
    if channel::get().is_some() && is_sound {
        // SAFETY: the program says that so many bytes are there.
        let bytes = unsafe { slice::from_raw_parts(address.cast::<u8>(), room(len)) };
        let name = SocketName::new(bytes);
        if let Answer::Ours(bound) = careful(Answer::Kernel, || binding::bind(fd, &name)) {
            return answer(bound);
        }
    }
    // SAFETY: the arguments are the program's.
    unsafe { real::bind(fd, address, len) }
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn listen(fd: c_int, backlog: c_int) -> c_int {
    if channel::get().is_some()
        && let Answer::Ours(listening) = careful(Answer::Kernel, || binding::listen(fd, backlog))
    {
        return answer(listening);
    }
    // SAFETY: the arguments are the program's.
    unsafe { real::listen(fd, backlog) }
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int {
    if let Mark::Socket(_) = marks::of(fd)
        && let Err(errno) = careful(Ok(()), || binding::before_connect(fd))
    {
        return answer(Err(errno));
    }
    // SAFETY: the arguments are the program's.
    unsafe { real::connect(fd, address, len) }
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn getsockname(
    fd: c_int,
    address: *mut sockaddr,
    len: *mut socklen_t,
) -> c_int {
    if let Mark::Socket(_) = marks::of(fd) {
        match careful(Ok(None), || binding::name_of(fd)) {
            // SAFETY: the program's own pointers.
            Ok(Some(name)) => return answer(unsafe { tell_name(&name, address, len) }),
            Ok(None) => {}
            Err(errno) => return answer(Err(errno)),
        }
    }
    // SAFETY: the program's own pointer, or null.
    let given = unsafe { len.as_ref() }.copied();
    // SAFETY: the arguments are the program's.
    let result = unsafe { real::getsockname(fd, address, len) };
    if result == 0
        // SAFETY: the real function has found both pointers good.
        && Some(libc::AF_UNIX) == unsafe { family(address, len) }
        && let Some(record) = found(fd)
        && let Some(given) = given
    {
        // SAFETY: as above.
        unsafe { *len = given };
        // SAFETY: as above.
        return answer(unsafe { tell_name(&record.get().name(), address, len) });
    }
    result
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn getpeername(
    fd: c_int,
    address: *mut sockaddr,
    len: *mut socklen_t,
) -> c_int {
    if let Mark::Socket(_) = marks::of(fd) {
        return answer(Err(Errno(libc::ENOTCONN)));
    }
    // SAFETY: the arguments are the program's.
    let result = unsafe { real::getpeername(fd, address, len) };
    // SAFETY: the real function has found both pointers good.
    if result == 0 && unsafe { family(address, len) } == Some(libc::AF_UNIX) && found(fd).is_some()
    {
        return answer(Err(Errno(libc::ENOTCONN)));
    }
    result
}

// Connections.

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn accept(
    fd: c_int,
    address: *mut sockaddr,
    len: *mut socklen_t,
) -> c_int {
    // SAFETY: the arguments are the program's.
    let kernel = || unsafe { real::accept(fd, address, len) };
    // SAFETY: as above.
    unsafe { accept_any(fd, address, len, 0, kernel) }
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn accept4(
    fd: c_int,
    address: *mut sockaddr,
    len: *mut socklen_t,
    flags: c_int,
) -> c_int {
    // SAFETY: the arguments are the program's.
    let kernel = || unsafe { real::accept4(fd, address, len, flags) };
    // SAFETY: as above.
    unsafe { accept_any(fd, address, len, flags, kernel) }
}

unsafe fn accept_any(
    fd: c_int,
    address: *mut sockaddr,
    len: *mut socklen_t,
    flags: c_int,
    kernel: impl FnOnce() -> c_int,
) -> c_int {
    let record = match marks::of(fd) {
        Mark::Socket(record) => match (record.get().stage(), record.get().source()) {
            (Stage::Bound | Stage::Listening | Stage::Shut, Source::Master) => record,
            (Stage::Listening | Stage::Shut, Source::Kernel) => {
                let connection = kernel();
                if connection >= 0 {
                    accept::count(connection);
                }
                return connection;
            }
            (Stage::Bound, Source::Kernel) => return answer(Err(Errno(libc::EINVAL))),
            (Stage::Free | Stage::Deferred, _) => return kernel(),
        },
        Mark::Plain | Mark::Connection(_) | Mark::Epoll | Mark::Hidden => {
            let connection = kernel();
            if connection >= 0 || Errno::last() != Errno(libc::EINVAL) {
                return connection;
            }
            match found(fd) {
                Some(record) => record,
                None => {
                    sys::set_errno(libc::EINVAL);
                    return connection;
                }
            }
        }
    };
    match accept::accept(fd, record, flags) {
        Ok(accepted) => {
            if !address.is_null() {
                // SAFETY: the program's own pointers.
                if let Err(errno) = unsafe { tell_name(&accepted.peer, address, len) } {
                    // SAFETY: nobody else has it yet.
                    unsafe { close(accepted.fd) };
                    return answer(Err(errno));
                }
            }
            accepted.fd
        }
        Err(Errno(errno)) => {
            sys::set_errno(errno);
            -1
        }
    }
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn shutdown(fd: c_int, how: c_int) -> c_int {
    let Mark::Socket(record) = marks::of(fd) else {
        // SAFETY: the arguments are the program's.
        return unsafe { real::shutdown(fd, how) };
    };
    let is_listening = record.get().stage() == Stage::Listening;
    match (how, record.get().source()) {
        (libc::SHUT_RD | libc::SHUT_RDWR, _) if !is_listening => answer(Err(Errno(libc::ENOTCONN))),
        (libc::SHUT_WR, _) if !is_listening => answer(Err(Errno(libc::ENOTCONN))),
        // Of a listening socket there is nothing to shut for writing.
        (libc::SHUT_WR, _) => 0,
        (libc::SHUT_RD | libc::SHUT_RDWR, Source::Master) => {
            // Who is woken sees that it was shut.
            record.get().set_stage(Stage::Shut);
            // SAFETY: the arguments are the program's.
            let result = unsafe { real::shutdown(fd, how) };
            keeping_errno(|| binding::note_shutdown(record));
            result
        }
        // The socket is other workers', too.
        (libc::SHUT_RD | libc::SHUT_RDWR, Source::Kernel) => 0,
        // SAFETY: the arguments are the program's.
        _ => unsafe { real::shutdown(fd, how) },
    }
}

// Options.

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    if let Mark::Socket(record) = marks::of(fd) {
        // SAFETY: the program's own pointers.
        return unsafe { get_option(fd, record, level, name, value, len) };
    }
    // SAFETY: the arguments are the program's.
    let result = unsafe { real::getsockopt(fd, level, name, value, len) };
    let is_telling = match (level, name) {
        (libc::SOL_SOCKET, libc::SO_TYPE) => Some(libc::SOCK_SEQPACKET),
        (libc::SOL_SOCKET, libc::SO_DOMAIN) => Some(libc::AF_UNIX),
        (libc::SOL_SOCKET, libc::SO_ACCEPTCONN) => Some(0),
        _ => None,
    };
    let is_suspicious = match (result, is_telling) {
        // SAFETY: the real function has found both pointers good.
        (0, Some(telling)) => Some(telling) == unsafe { number(value, len) },
        (0, None) => false,
        _ => matches!(Errno::last(), Errno(libc::EOPNOTSUPP | libc::ENOPROTOOPT)),
    };
    if is_suspicious
        && channel::get().is_some()
        && let Some(record) = found(fd)
    {
        // SAFETY: the program's own pointers.
        return unsafe { get_option(fd, record, level, name, value, len) };
    }
    result
}

unsafe fn get_option(
    fd: c_int,
    record: Record,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    let listener = record.get();
    let is_listening = listener.stage() == Stage::Listening;
    let known = match (level, name) {
        _ if !is_listening => None,
        (libc::SOL_SOCKET, libc::SO_ACCEPTCONN) => Some(1),
        (libc::SOL_SOCKET, libc::SO_ERROR) => Some(0),
        _ => None,
    };
    if let Some(known) = known {
        // SAFETY: the program's own pointers.
        return answer(unsafe { tell(&known, value, len) });
    }
    if (level, name) == (libc::SOL_SOCKET, libc::SO_PEERCRED)
        && is_listening
        && listener.domain.load(Ordering::Relaxed) == libc::AF_UNIX
    {
        let creator = listener.owner.load(Ordering::Relaxed);
        // SAFETY: the program's own pointers.
        return answer(unsafe { tell(&sys::credentials_of(creator), value, len) });
    }
    let fd = listener.shadow().unwrap_or(fd);
    // SAFETY: the arguments are the program's.
    let result = unsafe { real::getsockopt(fd, level, name, value, len) };
    let is_state = (level, name) == (libc::IPPROTO_TCP, libc::TCP_INFO) && is_listening;
    // SAFETY: the real function has found both pointers good.
    if result == 0 && is_state && unsafe { *len } > 0 {
        // `tcpi_state`, the first byte.
        // SAFETY: it was written.
        unsafe { value.cast::<u8>().write(TCP_LISTEN) };
    }
    result
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    let record = match marks::of(fd) {
        Mark::Socket(record) => record,
        Mark::Plain | Mark::Connection(_) | Mark::Epoll | Mark::Hidden => {
            // SAFETY: the arguments are the program's.
            let result = unsafe { real::setsockopt(fd, level, name, value, len) };
            if result == 0 || !matches!(Errno::last(), Errno(libc::EOPNOTSUPP | libc::ENOPROTOOPT))
            {
                return result;
            }
            let errno = Errno::last();
            match found(fd) {
                Some(record) => record,
                None => return answer(Err(errno)),
            }
        }
    };
    let listener = record.get();
    let shadow = listener.shadow().unwrap_or(fd);
    if (level, name) == (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) {
        // What is bound is so for good.
        return answer(Err(Errno(libc::EINVAL)));
    }
    // SAFETY: the arguments are the program's.
    let result = unsafe { real::setsockopt(shadow, level, name, value, len) };
    if result != 0 {
        return result;
    }
    if level == libc::SOL_SOCKET
        && matches!(name, libc::SO_RCVTIMEO | libc::SO_SNDTIMEO)
        && shadow != fd
    {
        // SAFETY: as above.
        unsafe { real::setsockopt(fd, level, name, value, len) };
        listener.has_timeouts.store(true, Ordering::Relaxed);
    }
    if let Some(id) = listener.id()
        && let Some(option) = options::read(shadow, level, name)
    {
        careful((), || {
            let _ = channel::tell(&ToMaster::Inherit {
                listener: id,
                options: vec![option],
            });
        });
    }
    result
}

// Copies.

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn dup(fd: c_int) -> c_int {
    // SAFETY: the argument is the program's.
    let copy = unsafe { real::dup(fd) };
    copies::note(fd, copy);
    copy
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn dup2(fd: c_int, other: c_int) -> c_int {
    // SAFETY: the arguments are the program's.
    replace(fd, other, || unsafe { real::dup2(fd, other) })
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn dup3(fd: c_int, other: c_int, flags: c_int) -> c_int {
    // SAFETY: the arguments are the program's.
    replace(fd, other, || unsafe { real::dup3(fd, other, flags) })
}

fn replace(fd: c_int, other: c_int, real: impl FnOnce() -> c_int) -> c_int {
    if marks::of(other) == Mark::Plain || fd == other || !sys::is_open(fd) {
        let copy = real();
        copies::note(fd, copy);
        return copy;
    }
    let Leave::Granted(closed) = release::before_close(other) else {
        return other;
    };
    let copy = real();
    copies::note(fd, copy);
    keeping_errno(|| closed.note());
    copy
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn fcntl(fd: c_int, command: c_int, argument: c_ulong) -> c_int {
    // SAFETY: the arguments are the program's.
    control(fd, command, argument, || unsafe {
        real::fcntl(fd, command, argument)
    })
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn fcntl64(fd: c_int, command: c_int, argument: c_ulong) -> c_int {
    // SAFETY: the arguments are the program's.
    control(fd, command, argument, || unsafe {
        real::fcntl64(fd, command, argument)
    })
}

fn control(fd: c_int, command: c_int, argument: c_ulong, real: impl FnOnce() -> c_int) -> c_int {
    let closes_on_exec = command == libc::F_SETFD && argument & libc::FD_CLOEXEC as c_ulong != 0;
    if closes_on_exec && channel::is_protected(fd) {
        return 0;
    }
    let result = real();
    if matches!(command, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC) {
        copies::note(fd, result);
    }
    result
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn ioctl(fd: c_int, request: c_ulong, argument: c_ulong) -> c_int {
    if request == libc::FIOCLEX && channel::is_protected(fd) {
        return 0;
    }
    if request == FIONREAD
        && let Mark::Socket(record) = marks::of(fd)
        && record.get().stage() == Stage::Listening
    {
        return answer(Err(Errno(libc::EINVAL)));
    }
    // SAFETY: the arguments are the program's.
    unsafe { real::ioctl(fd, request, argument) }
}

// Closing.

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn close(fd: c_int) -> c_int {
    if marks::of(fd) == Mark::Plain {
        // SAFETY: the argument is the program's.
        return unsafe { real::close(fd) };
    }
    let Leave::Granted(closed) = release::before_close(fd) else {
        return 0;
    };
    // SAFETY: as above.
    let result = unsafe { real::close(fd) };
    keeping_errno(|| closed.note());
    result
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn fclose(file: *mut FILE) -> c_int {
    if file.is_null() || channel::get().is_none() {
        // SAFETY: the argument is the program's.
        return unsafe { real::fclose(file) };
    }
    // SAFETY: the program closes it now, so it is open.
    let fd = unsafe { libc::fileno(file) };
    // The C library closes the descriptor in a way that we do not see.
    let closed = match release::before_close(fd) {
        Leave::Granted(closed) => closed,
        Leave::Refused => Closed::of(Mark::Plain),
    };
    // SAFETY: as above.
    let result = unsafe { real::fclose(file) };
    keeping_errno(|| closed.note());
    result
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    if channel::get().is_none() || first > last {
        // SAFETY: the arguments are the program's.
        return unsafe { real::close_range(first, last, flags) };
    }
    let is_closing = flags & CLOSE_RANGE_CLOEXEC == 0;
    let ours = |fd| channel::get() != Some(fd) || channel::is_protected(fd);
    let from = c_int::try_from(first).unwrap_or(c_int::MAX);
    let to = c_int::try_from(last).unwrap_or(c_int::MAX);
    let kept = marks::within(from, to)
        .filter(|&(fd, mark)| mark == Mark::Hidden && ours(fd))
        .filter_map(|(fd, _)| c_uint::try_from(fd).ok());
    for (first, last) in ranges::without(first, last, kept) {
        if is_closing {
            let from = c_int::try_from(first).unwrap_or(c_int::MAX);
            let to = c_int::try_from(last).unwrap_or(c_int::MAX);
            for (fd, _) in marks::within(from, to) {
                // SAFETY: the program wants it closed.
                unsafe { close(fd) };
            }
        }
        // SAFETY: the arguments are the program's.
        let result = unsafe { real::close_range(first, last, flags) };
        if result != 0 {
            return result;
        }
    }
    0
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn closefrom(first: c_int) {
    let first = c_uint::try_from(first).unwrap_or(0);
    // SAFETY: the argument is the program's.
    if unsafe { close_range(first, c_uint::MAX, 0) } == 0 {
        return;
    }
    // Before Linux 5.9.
    let limit = sys::descriptor_limit().min(1 << 20);
    for fd in u64::from(first)..limit {
        // SAFETY: as above.
        unsafe { close(c_int::try_from(fd).unwrap_or(-1)) };
    }
}

/// Programs that call the kernel by number: libuv closes so.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    match number {
        // SAFETY: the argument is the program's.
        libc::SYS_close => unsafe { close(int(a)) }.into(),
        // SAFETY: as above.
        libc::SYS_close_range => unsafe { close_range(uint(a), uint(b), int(c)) }.into(),
        // SAFETY: as above.
        _ => unsafe { real::syscall(number, a, b, c, d, e, f) },
    }
}

// Epoll instances.

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn epoll_create(size: c_int) -> c_int {
    // SAFETY: the argument is the program's.
    let epoll = unsafe { real::epoll_create(size) };
    if channel::get().is_some() {
        epolls::note(epoll);
    }
    epoll
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn epoll_create1(flags: c_int) -> c_int {
    // SAFETY: the argument is the program's.
    let epoll = unsafe { real::epoll_create1(flags) };
    if channel::get().is_some() {
        epolls::note(epoll);
    }
    epoll
}

// Paths.

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: the argument is the program's.
    let kernel = || unsafe { real::unlink(path) };
    // SAFETY: as above.
    unsafe { take_away(libc::AT_FDCWD, path, kernel) }
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn unlinkat(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    if flags & libc::AT_REMOVEDIR != 0 {
        // SAFETY: the arguments are the program's.
        return unsafe { real::unlinkat(directory, path, flags) };
    }
    // SAFETY: as above.
    let kernel = || unsafe { real::unlinkat(directory, path, flags) };
    // SAFETY: as above.
    unsafe { take_away(directory, path, kernel) }
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C-unwind" fn remove(path: *const c_char) -> c_int {
    // SAFETY: the argument is the program's.
    let kernel = || unsafe { real::remove(path) };
    // SAFETY: as above.
    unsafe { take_away(libc::AT_FDCWD, path, kernel) }
}

/// Removes a path, unless it is our master's.
unsafe fn take_away(directory: c_int, path: *const c_char, real: impl FnOnce() -> c_int) -> c_int {
    if channel::get().is_none() || path.is_null() {
        return real();
    }
    // SAFETY: the program says that it is a path.
    let text = unsafe { CStr::from_ptr(path) };
    if keeping_errno(|| careful(false, || paths::is_masters(directory, text))) {
        return 0;
    }
    let result = real();
    let is_gone = result != 0 && Errno::last() == Errno(libc::ENOENT);
    if is_gone && keeping_errno(|| careful(false, || paths::was_bound(text))) {
        return 0;
    }
    result
}

// What all of them share.

/// The record of a queue that nobody has recognised yet.
fn found(fd: c_int) -> Option<Record> {
    channel::get()?;
    if marks::of(fd) != Mark::Plain {
        return None;
    }
    keeping_errno(|| careful(None, || adopt(fd)))
}

/// What goes wrong in here is not the program's fault.
fn careful<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    let _uncancelled = Uncancelled::begin();
    panic::catch_unwind(panic::AssertUnwindSafe(work)).unwrap_or(otherwise)
}

fn keeping_errno<T>(work: impl FnOnce() -> T) -> T {
    let _uncancelled = Uncancelled::begin();
    let Errno(errno) = Errno::last();
    let done = work();
    sys::set_errno(errno);
    done
}

fn answer(result: Result<(), Errno>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(Errno(errno)) => {
            sys::set_errno(errno);
            -1
        }
    }
}

/// Writes a name as `accept(2)` and `getsockname(2)` do.
unsafe fn tell_name(
    name: &SocketName,
    address: *mut sockaddr,
    len: *mut socklen_t,
) -> Result<(), Errno> {
    if address.is_null() || len.is_null() {
        return Err(Errno(libc::EFAULT));
    }
    // SAFETY: the program says that its length is there.
    let given = unsafe { *len };
    if given.cast_signed() < 0 {
        return Err(Errno(libc::EINVAL));
    }
    // SAFETY: the program says that so much room is there.
    let room = unsafe { slice::from_raw_parts_mut(address.cast::<u8>(), room(given)) };
    let whole = socklen_t::try_from(name.write_to(room)).unwrap_or(given);
    // SAFETY: as above.
    unsafe { *len = whole };
    Ok(())
}

/// Writes the value of an option as `getsockopt(2)` does.
unsafe fn tell<T: Copy>(option: &T, value: *mut c_void, len: *mut socklen_t) -> Result<(), Errno> {
    if value.is_null() || len.is_null() {
        return Err(Errno(libc::EFAULT));
    }
    // SAFETY: the program says that its length is there.
    let given = unsafe { *len };
    if given.cast_signed() < 0 {
        return Err(Errno(libc::EINVAL));
    }
    let written = room(given).min(size_of::<T>());
    let option: *const T = option;
    // SAFETY: the program says that so much room is there, and the option has as many bytes.
    unsafe { option.cast::<u8>().copy_to(value.cast(), written) };
    // SAFETY: as above.
    unsafe { *len = socklen_t::try_from(written).unwrap_or(given) };
    Ok(())
}

/// What `getsockopt(2)` has written, if that is a number.
unsafe fn number(value: *const c_void, len: *const socklen_t) -> Option<c_int> {
    // SAFETY: the caller has found both pointers good.
    let given = unsafe { *len };
    // SAFETY: so many bytes were written.
    (given >= 4).then(|| unsafe { value.cast::<c_int>().read_unaligned() })
}

/// The family of what `getsockname(2)` has written.
unsafe fn family(address: *const sockaddr, len: *const socklen_t) -> Option<c_int> {
    // SAFETY: the caller has found both pointers good.
    let given = unsafe { *len };
    // SAFETY: so many bytes were written.
    let family = (given >= 2).then(|| unsafe { address.cast::<u16>().read_unaligned() })?;
    Some(family.into())
}

/// No address is longer, whatever the program says.
fn room(len: socklen_t) -> usize {
    usize::try_from(len).map_or(0, |len| len.min(crate::name::NAME_BYTES))
}

#[allow(clippy::cast_possible_truncation, reason = "as the kernel takes it")]
fn int(argument: c_long) -> c_int {
    argument as c_int
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "as the kernel takes it"
)]
fn uint(argument: c_long) -> c_uint {
    argument as c_uint
}

/// `netinet/tcp.h`.
const TCP_LISTEN: u8 = 10;

const FIONREAD: c_ulong = libc::FIONREAD;

/// `linux/close_range.h`.
const CLOSE_RANGE_CLOEXEC: c_int = 4;
