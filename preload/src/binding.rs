//! From `bind` to `listen`: a socket of the program becomes a listener of the master's.
//!
//! The master is asked when the program binds, so that an address in use is an error of `bind`, as
//! it is without us. Only for a port of the kernel's choice it is asked later, when the program
//! listens or wants to know the port: many programs bind so and never listen.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use worker_proto::address::{Address, AddressRef};
use worker_proto::frame::{DispatchMode, ToMaster};

use crate::adopt::adopt;
use crate::complaint::Complaint;
use crate::epolls::Watches;
use crate::hidden;
use crate::listeners::{Listener, Record, Stage};
use crate::lock::{self, Held};
use crate::marks::{self, Mark};
use crate::name::SocketName;
use crate::question::{self, Wish};
use crate::release;
use crate::sys::{self, Errno, OnExec};
use crate::{channel, fork};

/// Who answers a call of the program's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The kernel, as if we were not there.
    Kernel,
    /// We do.
    Ours(Result<(), Errno>),
}

/// `bind(2)`.
pub(crate) fn bind(fd: RawFd, name: &SocketName) -> Answer {
    let Some(channel) = channel::usable() else {
        return Answer::Kernel;
    };
    match marks::of(fd) {
        Mark::Plain => {}
        Mark::Socket(_) => return Answer::Ours(Err(Errno(libc::EINVAL))),
        Mark::Connection(_) | Mark::Epoll | Mark::Hidden => return Answer::Kernel,
    }
    let Some(domain) = stream_domain(fd) else {
        return Answer::Kernel;
    };
    let Some(address) = name.address().filter(|_| name.family() == domain) else {
        return Answer::Kernel;
    };
    if is_bound(fd) {
        return Answer::Kernel;
    }
    let lock = lock::take();
    Answer::Ours(match address {
        // The kernel chooses one, see unix(7), and no other worker could know it.
        Address::Unnamed => return Answer::Kernel,
        Address::V4 { port: 0, .. } | Address::V6 { port: 0, .. } => defer(fd, domain, name, &lock),
        Address::V4 { .. } | Address::V6 { .. } | Address::Path(_) | Address::Abstract(_) => {
            bind_now(channel, fd, domain, name, address, &lock)
        }
    })
}

/// Remembers where to listen, if this host has such an address.
fn defer(fd: RawFd, domain: i32, name: &SocketName, _lock: &Held) -> Result<(), Errno> {
    let probe = sys::socket(domain, libc::SOCK_STREAM)?;
    if domain == libc::AF_INET6
        && let Ok(only) = sys::number_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)
    {
        let _ = sys::set_option(probe, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, only);
    }
    let bound = sys::bind(probe, name);
    sys::close(probe);
    bound?;
    let record = claim(Stage::Deferred, name, domain)?;
    mark(record, fd);
    Ok(())
}

fn bind_now(
    channel: RawFd,
    fd: RawFd,
    domain: i32,
    name: &SocketName,
    address: Address,
    lock: &Held,
) -> Result<(), Errno> {
    if let Some(twin) = twin(fd, name) {
        return join(twin, fd, domain, name);
    }
    let wish = Wish {
        fd,
        domain,
        address: absolute(address)?,
        backlog: None,
    };
    let record = claim(Stage::Bound, name, domain)?;
    let asked = fill(record.get(), channel, &wish, name, lock);
    match asked {
        Ok(()) => mark(record, fd),
        Err(_) => record.get().set_stage(Stage::Free),
    }
    asked
}

/// Asks the master for what belongs into the socket's place.
fn fill(
    listener: &Listener,
    channel: RawFd,
    wish: &Wish,
    name: &SocketName,
    lock: &Held,
) -> Result<(), Errno> {
    let grant = question::ask(channel, wish, lock)?;
    let is_kernels = match grant.listening.mode {
        DispatchMode::HandOff => false,
        DispatchMode::Shared | DispatchMode::ReusePort => true,
    };
    if name.port() == Some(0) {
        let bound = SocketName::from(AddressRef::from(&grant.listening.address));
        if let Some(port) = bound.port() {
            listener.rename(&name.with_port(port));
        }
    }
    listener.is_kernels.store(is_kernels, Ordering::Relaxed);
    listener
        .nonblocking
        .store(grant.nonblocking, Ordering::Relaxed);
    listener.set_id(Some(grant.listening.listener));
    listener.owner.store(fork::pid(), Ordering::Relaxed);
    listener.forks.store(fork::count(), Ordering::Relaxed);
    let substitute = hidden::hide(grant.substitute);
    listener.substitute.store(substitute, Ordering::Release);
    Ok(())
}

/// `listen(2)`.
pub(crate) fn listen(fd: RawFd, backlog: i32) -> Answer {
    let Some(channel) = channel::usable() else {
        return Answer::Kernel;
    };
    let record = match marks::of(fd) {
        Mark::Socket(record) => record,
        Mark::Plain => match begin(fd) {
            Ok(Some(record)) => record,
            Ok(None) => return Answer::Kernel,
            Err(errno) => return Answer::Ours(Err(errno)),
        },
        Mark::Connection(_) | Mark::Epoll | Mark::Hidden => return Answer::Kernel,
    };
    let lock = lock::take();
    let listener = record.get();
    if listener.is_listening() {
        return Answer::Ours(Ok(()));
    }
    if listener.stage() == Stage::Deferred {
        match choose_port(channel, record, fd, Some(backlog), &lock) {
            Ok(()) => {}
            // A second port of the kernel's choice in one program is its own.
            Err(Errno(libc::EADDRINUSE)) => {
                return match give_back(record, fd) {
                    Ok(()) => Answer::Kernel,
                    Err(errno) => Answer::Ours(Err(errno)),
                };
            }
            Err(errno) => return Answer::Ours(Err(errno)),
        }
    }
    Answer::Ours(put_in_place(record, fd))
}

/// A socket that was not bound gets a port of the kernel's choice, see `listen(2)`.
fn begin(fd: RawFd) -> Result<Option<Record>, Errno> {
    let name = match stream_domain(fd) {
        Some(libc::AF_INET) => AddressRef::V4 {
            ip: [0; 4],
            port: 0,
        },
        Some(libc::AF_INET6) => AddressRef::V6 {
            ip: [0; 16],
            port: 0,
            flowinfo: 0,
            scope_id: 0,
        },
        Some(_) => return Ok(None),
        None => return Ok(adopt(fd)),
    };
    if is_bound(fd) {
        return Ok(None);
    }
    let lock = lock::take();
    let domain = sys::number_option(fd, libc::SOL_SOCKET, libc::SO_DOMAIN)?;
    defer(fd, domain, &name.into(), &lock)?;
    Ok(match marks::of(fd) {
        Mark::Socket(record) => Some(record),
        Mark::Plain | Mark::Connection(_) | Mark::Epoll | Mark::Hidden => None,
    })
}

/// Asks the master for a port of the kernel's choice.
fn choose_port(
    channel: RawFd,
    record: Record,
    fd: RawFd,
    backlog: Option<i32>,
    lock: &Held,
) -> Result<(), Errno> {
    let listener = record.get();
    let name = listener.name();
    let wish = Wish {
        fd,
        domain: listener.domain.load(Ordering::Relaxed),
        address: name.address().ok_or(Errno(libc::EINVAL))?,
        backlog: backlog.and_then(|backlog| u32::try_from(backlog).ok()),
    };
    fill(listener, channel, &wish, &name, lock)?;
    listener.set_stage(Stage::Bound);
    Ok(())
}

/// The program listens: every descriptor of the socket becomes one of the substitute.
fn put_in_place(record: Record, fd: RawFd) -> Result<(), Errno> {
    let listener = record.get();
    let substitute = listener.substitute.load(Ordering::Acquire);
    let shadow = hidden::copy(fd)?;
    let is_kernels = listener.is_kernels.load(Ordering::Relaxed);
    sys::copy_receive_timeout(shadow, substitute);
    // The flag is the substitute's, and that of all its copies, as it is the socket's.
    sys::set_nonblocking(substitute, sys::is_nonblocking(shadow)?);
    let places = sys::same_socket(fd);
    let mut copies = 0;
    for &place in places.iter().filter(|&&place| place != shadow) {
        let watches = Watches::of(place);
        let replaced =
            OnExec::of(place).and_then(|on_exec| sys::replace(place, substitute, on_exec));
        match replaced {
            Ok(()) => {
                copies += 1;
                marks::set(place, Mark::Socket(record));
                watches.renew();
            }
            Err(errno) if place == fd => {
                hidden::close(shadow);
                return Err(errno);
            }
            Err(_) => {}
        }
    }
    listener.copies.store(copies, Ordering::Relaxed);
    listener.shadow.store(shadow, Ordering::Release);
    listener.set_stage(if is_kernels {
        Stage::Kernel
    } else {
        Stage::Queue
    });
    let _ = channel::tell(&ToMaster::Ready);
    Ok(())
}

/// `connect(2)`: what was bound, and does not listen, is bound for real before it connects.
pub(crate) fn before_connect(fd: RawFd) -> Result<(), Errno> {
    let Mark::Socket(record) = marks::of(fd) else {
        return Ok(());
    };
    if record.get().is_listening() {
        return Err(Errno(libc::EISCONN));
    }
    let _lock = lock::take();
    give_back(record, fd)
}

/// The kernel binds what we have bound so far.
fn give_back(record: Record, fd: RawFd) -> Result<(), Errno> {
    let name = record.get().name();
    for copy in sys::same_socket(fd) {
        if marks::of(copy) == Mark::Socket(record) {
            marks::set(copy, Mark::Plain);
        }
    }
    release::give_up(record);
    // The master takes a moment to close its own.
    let deadline = sys::now_ms() + GIVE_BACK_MS;
    loop {
        match sys::bind(fd, &name) {
            Err(Errno(libc::EADDRINUSE)) if sys::now_ms() < deadline => {
                sys::pause(1);
            }
            bound => return bound,
        }
    }
}

/// Where the program believes this descriptor to be bound. For a port of the kernel's choice the
/// choice is made now.
pub(crate) fn name_of(fd: RawFd) -> Result<Option<SocketName>, Errno> {
    let Mark::Socket(record) = marks::of(fd) else {
        return Ok(None);
    };
    let listener = record.get();
    if listener.stage() == Stage::Deferred
        && let Some(channel) = channel::usable()
    {
        let lock = lock::take();
        match choose_port(channel, record, fd, None, &lock) {
            Err(Errno(libc::EADDRINUSE)) => {
                give_back(record, fd)?;
                return Ok(None);
            }
            chosen => chosen?,
        }
    }
    Ok(Some(listener.name()))
}

/// Another socket of this process with the same address, where both let that be, see `SO_REUSEPORT`
/// in `socket(7)`.
fn twin(fd: RawFd, name: &SocketName) -> Option<Record> {
    let reuses = |fd| sys::number_option(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT) == Ok(1);
    if !reuses(fd) {
        return None;
    }
    Record::all().find(|record| {
        let listener = record.get();
        // Before it listens its socket is the program's.
        let knows = listener.shadow().or_else(|| {
            marks::within(0, RawFd::MAX)
                .find_map(|(fd, mark)| (mark == Mark::Socket(*record)).then_some(fd))
        });
        listener.id().is_some() && listener.name() == *name && knows.is_some_and(reuses)
    })
}

/// Both sockets have the same substitute.
fn join(twin: Record, fd: RawFd, domain: i32, name: &SocketName) -> Result<(), Errno> {
    let its = twin.get();
    let substitute = hidden::copy(its.substitute.load(Ordering::Acquire))?;
    let record = claim(Stage::Bound, name, domain).inspect_err(|_| hidden::close(substitute))?;
    let ours = record.get();
    ours.is_kernels
        .store(its.is_kernels.load(Ordering::Relaxed), Ordering::Relaxed);
    ours.nonblocking
        .store(its.nonblocking.load(Ordering::Relaxed), Ordering::Relaxed);
    ours.owner
        .store(its.owner.load(Ordering::Relaxed), Ordering::Relaxed);
    ours.forks
        .store(its.forks.load(Ordering::Relaxed), Ordering::Relaxed);
    ours.set_id(its.id());
    ours.substitute.store(substitute, Ordering::Release);
    mark(record, fd);
    Ok(())
}

fn claim(stage: Stage, name: &SocketName, domain: i32) -> Result<Record, Errno> {
    Record::claim(stage, name, domain).ok_or(Errno(libc::ENOBUFS))
}

/// Every descriptor of the socket is one of the record.
fn mark(record: Record, fd: RawFd) {
    let copies = sys::same_socket(fd);
    let count = u32::try_from(copies.len()).unwrap_or(1);
    record.get().copies.store(count, Ordering::Relaxed);
    for copy in copies {
        marks::set(copy, Mark::Socket(record));
    }
}

/// The domain of a socket that could listen for streams.
fn stream_domain(fd: RawFd) -> Option<i32> {
    let option = |name| sys::number_option(fd, libc::SOL_SOCKET, name).ok();
    if option(libc::SO_TYPE)? != libc::SOCK_STREAM {
        return None;
    }
    match (option(libc::SO_DOMAIN)?, option(libc::SO_PROTOCOL)?) {
        (domain @ (libc::AF_INET | libc::AF_INET6), libc::IPPROTO_TCP | libc::IPPROTO_MPTCP) => {
            Some(domain)
        }
        (libc::AF_UNIX, _) => Some(libc::AF_UNIX),
        _ => None,
    }
}

/// Whether the kernel has bound the socket.
fn is_bound(fd: RawFd) -> bool {
    let Ok(name) = sys::socket_name(fd) else {
        return true;
    };
    match name.address() {
        Some(Address::V4 { port, .. } | Address::V6 { port, .. }) => port != 0,
        Some(Address::Path(_) | Address::Abstract(_)) => true,
        Some(Address::Unnamed) | None => false,
    }
}

/// The master need not be where the program is.
fn absolute(address: Address) -> Result<Address, Errno> {
    let Some(path) = address.path() else {
        return Ok(address);
    };
    if path.is_absolute() {
        return Ok(address);
    }
    let here: PathBuf = std::env::current_dir().map_err(|_| Errno(libc::ENOENT))?;
    let address = Address::from(here.join(path).as_path());
    let text = address.to_string();
    if text.parse::<Address>().as_ref() != Ok(&address) {
        Complaint::LongPath.say();
        return Err(Errno(libc::ENAMETOOLONG));
    }
    Ok(address)
}

/// How long the master may take to let go of an address.
const GIVE_BACK_MS: u64 = 1000;
