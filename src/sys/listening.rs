//! Listening sockets: bound once, accepted from, and closed without resetting anybody.
//!
//! Errors of `accept4(2)` are classified here by what the caller has to do about them.

use std::fs::{self, OpenOptions};
use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use thiserror::Error;
use worker_proto::address::Address;
use worker_proto::bind::{SocketFile, socket_address};
use worker_proto::frame::{DispatchMode, InheritedOption};

use super::gate::Gate;
use super::{describe, inherited};
use crate::config::Refusal;
use crate::config::listener::{ListenerSpec, Owner, Source};

/// A listening socket that this process owns.
#[derive(Debug)]
pub(crate) struct ListeningSocket {
    socket: Socket,
    address: Address,
    origin: Origin,
    backlog: Option<u32>,
    gate: Gate,
    keeping: Keeping,
}

/// Who accepts from a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// This process alone.
    Own,
    /// Others have copies of it, and do as they like with them.
    Lent,
    /// So it is, and there may be more sockets at its address: `SO_REUSEPORT`, see socket(7).
    Grouped,
}

impl Keeping {
    /// How a listener is kept whose connections come to the workers in this way.
    pub(crate) fn of(mode: DispatchMode) -> Self {
        match mode {
            DispatchMode::HandOff => Keeping::Own,
            DispatchMode::Shared => Keeping::Lent,
            DispatchMode::ReusePort => Keeping::Grouped,
        }
    }
}

/// Where a socket comes from decides how it goes.
#[derive(Debug)]
enum Origin {
    /// Bound here, to an Internet address or an abstract name.
    Bound,
    /// Bound here, to a path: the file is removed at the end, if it is still ours.
    Path { file: SocketFile },
    /// The parent's: others may go on using it.
    Inherited,
}

/// Who may come yet after [`ListeningSocket::stop_admitting`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Stragglers {
    /// Nobody who will be missed.
    None,
    /// Clients in the middle of their hand-shake.
    HandShakes,
}

/// A listener that could not be bound.
#[derive(Debug, Error)]
#[error("bind {what}: {reason}")]
pub struct BindError {
    what: String,
    reason: String,
    source: io::Error,
}

impl BindError {
    pub(crate) fn new(spec: &ListenerSpec, source: io::Error) -> Self {
        BindError {
            what: spec.source.to_string(),
            reason: explain(&spec.source, &source),
            source,
        }
    }

    /// The error number, for a worker that asked.
    #[must_use]
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(libc::EINVAL)
    }

    /// Whether somebody else has the address now, so that trying again may help.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

/// A connection as the kernel gave it.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: OwnedFd,
    pub(crate) peer: Address,
    /// Whether `O_NONBLOCK` is set: the flag travels with the descriptor.
    pub(crate) nonblocking: bool,
}

impl Accepted {
    /// Sets `O_NONBLOCK` or takes it away, if it is not as wanted.
    pub(crate) fn set_nonblocking(&mut self, nonblocking: bool) -> io::Result<()> {
        if self.nonblocking != nonblocking {
            let mut flags = OFlag::from_bits_retain(fcntl(&self.stream, FcntlArg::F_GETFL)?);
            flags.set(OFlag::O_NONBLOCK, nonblocking);
            fcntl(&self.stream, FcntlArg::F_SETFL(flags))?;
            self.nonblocking = nonblocking;
        }
        Ok(())
    }

    /// Ends the connection without an answer.
    pub(crate) fn refuse(self, how: Refusal) {
        let socket = Socket::from(self.stream);
        match how {
            Refusal::Reset => {
                let _ = socket.set_linger(Some(Duration::ZERO));
            }
            Refusal::Close => {
                let _ = socket.shutdown(Shutdown::Write);
                // Closing a socket with something unread in it resets the connection, tcp(7).
                let mut unwanted = [MaybeUninit::uninit(); UNWANTED_BYTES];
                let _ = socket.recv_with_flags(&mut unwanted, libc::MSG_DONTWAIT);
                close(socket);
            }
        }
    }

    /// Closes the connection, whatever a worker may have done to it that had it for a moment.
    pub(crate) fn close(self) {
        close(Socket::from(self.stream));
    }
}

/// Closes without waiting: `SO_LINGER` could make it wait for a client that reads nothing,
/// socket(7).
fn close(socket: Socket) {
    // Fails only for a socket that cannot linger.
    let _ = socket.set_linger(None);
}

/// No connection, and what follows from it.
#[derive(Debug, Error)]
pub(crate) enum AcceptError {
    /// Nobody is waiting.
    #[error("nobody is waiting")]
    Empty,
    /// This one connection failed before it was accepted: go on with the next.
    #[error("a connection failed before it was accepted: {0}")]
    Aborted(io::Error),
    /// Out of descriptors or memory: accepting again at once would spin.
    #[error("out of resources: {0}")]
    Exhausted(io::Error),
    /// The socket does not accept any more.
    #[error("the listening socket fails: {0}")]
    Broken(io::Error),
}

impl ListeningSocket {
    /// Binds what the specification says and listens.
    pub(crate) fn open(spec: &ListenerSpec, keeping: Keeping) -> Result<Self, BindError> {
        let opened = match &spec.source {
            Source::Bind(Address::Path(path)) => {
                let path = Path::new(std::ffi::OsStr::from_bytes(path));
                Self::bind_path(path, spec)
            }
            Source::Bind(address) => Self::bind_address(address, spec, keeping),
            Source::Inherited(fd) => Self::inherit(*fd),
        };
        match opened {
            Ok(socket) => Ok(ListeningSocket { keeping, ..socket }),
            Err(err) => Err(BindError::new(spec, err)),
        }
    }

    fn bind_address(address: &Address, spec: &ListenerSpec, keeping: Keeping) -> io::Result<Self> {
        let mut name = socket_address(address)?;
        // A group is open to every process of the same user, another master's too: a socket that
        // belongs to none finds out whether somebody listens there. And of a socket that was shut
        // down the kernel keeps the port only if that was asked for by its number.
        let holds_place = match keeping {
            Keeping::Lent | Keeping::Grouped if name.domain() != Domain::UNIX => {
                let socket = Self::bound(&name, spec.v6only, Keeping::Own)?;
                name = socket.local_addr()?;
                Some(socket)
            }
            Keeping::Own | Keeping::Lent | Keeping::Grouped => None,
        };
        let socket = Self::bound(&name, spec.v6only, keeping)?;
        drop(holds_place);
        Self::listen(socket, spec, Origin::Bound)
    }

    fn bound(name: &SockAddr, v6only: Option<bool>, keeping: Keeping) -> io::Result<Socket> {
        let socket = Socket::new(name.domain(), Type::STREAM.nonblocking(), None)?;
        if name.domain() != Domain::UNIX {
            socket.set_reuse_address(true)?;
        }
        if keeping == Keeping::Grouped {
            socket.set_reuse_port(true)?;
        }
        if let (Domain::IPV6, Some(only)) = (name.domain(), v6only) {
            socket.set_only_v6(only)?;
        }
        socket.bind(name)?;
        Ok(socket)
    }

    /// One more socket of the same group.
    pub(crate) fn join(&self) -> io::Result<Self> {
        let name = socket_address(&self.address)?;
        let v6only = match name.domain() {
            Domain::IPV6 => Some(self.socket.only_v6()?),
            _ => None,
        };
        let socket = Self::bound(&name, v6only, Keeping::Grouped)?;
        let backlog = self.backlog.unwrap_or(DEFAULT_BACKLOG);
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(ListeningSocket {
            socket,
            address: self.address.clone(),
            origin: Origin::Bound,
            backlog: Some(backlog),
            gate: Gate::Open,
            keeping: self.keeping,
        })
    }

    /// A copy for another process. What that does to it, it does to all copies.
    pub(crate) fn lend(&self) -> io::Result<OwnedFd> {
        Ok(self.socket.try_clone()?.into())
    }

    /// Whether `accept(2)` waits, in all processes that have a copy.
    pub(crate) fn set_blocking(&self, blocking: bool) -> io::Result<()> {
        self.socket.set_nonblocking(!blocking)
    }

    /// Whether somebody has shut it down who has a copy.
    pub(crate) fn is_shut(&self) -> bool {
        let asked = PollFlags::POLLPRI;
        let mut polled = [PollFd::new(self.socket.as_fd(), asked)];
        let found = poll(&mut polled, PollTimeout::ZERO);
        found.is_ok() && polled[0].revents().is_some_and(|it| !it.is_empty())
    }

    /// Listens again after somebody has shut it down. Who was in its backlog is lost.
    ///
    /// # Errors
    /// Those of `listen(2)`. A Unix socket remains shut for ever.
    pub(crate) fn listen_again(&self) -> io::Result<()> {
        if self.address.inet().is_none() {
            return Err(io::Error::other("a Unix socket remains shut for ever"));
        }
        let backlog = self.backlog.unwrap_or(DEFAULT_BACKLOG);
        self.socket
            .listen(i32::try_from(backlog).unwrap_or(i32::MAX))
    }

    /// Whether somebody waits to be accepted.
    pub(crate) fn has_waiting(&self) -> bool {
        let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let found = poll(&mut polled, PollTimeout::ZERO);
        let waiting = |it: PollFlags| it == PollFlags::POLLIN;
        found.is_ok() && polled[0].revents().is_some_and(waiting)
    }

    /// Ends it in every process that has a copy: one that outlives its master would go on getting
    /// its share of a group. An inherited one is left alone.
    pub(crate) fn shut(&self) {
        match self.origin {
            Origin::Bound | Origin::Path { .. } => {
                let _ = self.socket.shutdown(Shutdown::Both);
            }
            Origin::Inherited => {}
        }
    }

    fn bind_path(path: &Path, spec: &ListenerSpec) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        let file = SocketFile::bind(&socket, path)?;
        // Nobody can connect before listen(2), so nobody sees the file with other permissions.
        if spec.owner.is_some() || spec.mode.is_some() {
            give(path, spec.owner, spec.mode)?;
        }
        Self::listen(socket, spec, Origin::Path { file })
    }

    fn listen(socket: Socket, spec: &ListenerSpec, origin: Origin) -> io::Result<Self> {
        let backlog = spec
            .backlog
            .unwrap_or_else(|| DEFAULT_BACKLOG.min(somaxconn()));
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        let address = Address::from(&socket.local_addr()?);
        Ok(ListeningSocket {
            socket,
            address,
            origin,
            backlog: Some(backlog),
            gate: Gate::Open,
            keeping: Keeping::Own,
        })
    }

    fn inherit(fd: RawFd) -> io::Result<Self> {
        let socket = Socket::from(inherited::take(fd)?);
        socket.set_nonblocking(true)?;
        let address = Address::from(&socket.local_addr()?);
        Ok(ListeningSocket {
            socket,
            address,
            origin: Origin::Inherited,
            backlog: None,
            gate: Gate::Open,
            keeping: Keeping::Own,
        })
    }

    /// The address really bound.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Whether its file was removed or replaced: no client comes any more.
    pub(crate) fn has_lost_its_file(&self) -> bool {
        match &self.origin {
            Origin::Path { file } => !file.is_there(),
            Origin::Bound | Origin::Inherited => false,
        }
    }

    /// The backlog asked for and the kernel's limit, if the limit is lower.
    pub(crate) fn clamped_backlog(&self) -> Option<(u32, u32)> {
        let limit = somaxconn();
        self.backlog
            .filter(|&asked| asked > limit)
            .map(|asked| (asked, limit))
    }

    /// The connections that are accepted from now on have these options, as far as they can.
    pub(crate) fn pass_on(&self, options: &[InheritedOption]) {
        for option in options {
            if let Err(err) = self.set(*option) {
                log::debug!("{}: {option:?}: {}", self.address, describe(&err));
            }
        }
    }

    /// What is set on a listening socket its connections inherit, see `socket(7)` and `tcp(7)`.
    fn set(&self, option: InheritedOption) -> io::Result<()> {
        let socket = &self.socket;
        let seconds = |count: u32| Duration::from_secs(count.into());
        match option {
            InheritedOption::NoDelay(on) => socket.set_tcp_nodelay(on),
            InheritedOption::KeepAlive(on) => socket.set_keepalive(on),
            InheritedOption::KeepIdle(idle) => {
                self.set_number(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, idle)
            }
            InheritedOption::KeepInterval(every) => {
                self.set_number(libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, every)
            }
            InheritedOption::KeepCount(count) => {
                self.set_number(libc::IPPROTO_TCP, libc::TCP_KEEPCNT, count)
            }
            InheritedOption::UserTimeout(ms) => {
                self.set_number(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, ms)
            }
            InheritedOption::ReceiveBuffer(bytes) => socket.set_recv_buffer_size(size(bytes)),
            InheritedOption::SendBuffer(bytes) => socket.set_send_buffer_size(size(bytes)),
            // Its connections are closed here, too, perhaps as the last: that must not wait.
            InheritedOption::Linger(Some(1..)) if self.keeping == Keeping::Own => {
                socket.set_linger(None)
            }
            InheritedOption::Linger(time) => socket.set_linger(time.map(seconds)),
            InheritedOption::DeferAccept(time) => {
                self.set_number(libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, time)
            }
            InheritedOption::FastOpen(queue) => {
                self.set_number(libc::IPPROTO_TCP, libc::TCP_FASTOPEN, queue)
            }
            InheritedOption::MaxSegment(bytes) => {
                self.set_number(libc::IPPROTO_TCP, libc::TCP_MAXSEG, bytes)
            }
            InheritedOption::TypeOfService(tos) => {
                self.set_number(libc::IPPROTO_IP, libc::IP_TOS, tos)
            }
            InheritedOption::TrafficClass(class) => {
                self.set_number(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, class)
            }
        }
    }

    fn set_number(&self, level: libc::c_int, name: libc::c_int, value: u32) -> io::Result<()> {
        let value = libc::c_int::try_from(value).map_err(io::Error::other)?;
        // SAFETY: the socket is open, and the option's value is an int, which outlives the call.
        let set = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                level,
                name,
                (&raw const value).cast(),
                INT_BYTES,
            )
        };
        match set {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Takes the next connection from the backlog.
    pub(crate) fn accept(&self, nonblocking: bool) -> Result<Accepted, AcceptError> {
        let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
        let flags = libc::SOCK_CLOEXEC | if nonblocking { libc::SOCK_NONBLOCK } else { 0 };
        loop {
            let mut len = STORAGE_BYTES;
            // SAFETY: `storage` has room for `len` bytes, and both outlive the call.
            let fd = unsafe {
                libc::accept4(
                    self.socket.as_raw_fd(),
                    storage.as_mut_ptr().cast(),
                    &raw mut len,
                    flags,
                )
            };
            if fd >= 0 {
                // SAFETY: the kernel has just returned this new descriptor.
                let stream = unsafe { OwnedFd::from_raw_fd(fd) };
                // Fails only for a socket that is none.
                let _ = self.gate.let_through(stream.as_fd());
                if self.keeping != Keeping::Own {
                    // Who has a copy may have set that it lingers, and it is closed here, too.
                    let _ = SockRef::from(&stream).set_linger(None);
                }
                // SAFETY: the storage was zeroed, which is a valid value, and the kernel wrote
                // an address into it.
                let storage = unsafe { storage.assume_init() };
                return Ok(Accepted {
                    stream,
                    peer: peer_address(&storage, len),
                    nonblocking,
                });
            }
            let err = io::Error::last_os_error();
            match AcceptError::classify(err) {
                None => {}
                Some(err) => return Err(err),
            }
        }
    }

    /// Lets no new client in, while those in the backlog can still be accepted; answers who may
    /// come yet.
    ///
    /// Closing a listener resets every connection that was not accepted, its hand-shake finished or
    /// not. An inherited socket is left alone: its other owners go on with it.
    pub(crate) fn stop_admitting(&mut self) -> io::Result<Stragglers> {
        match (&self.origin, self.address.inet()) {
            (Origin::Inherited, _) => Ok(Stragglers::None),
            // Nobody takes the other gate off a connection that somebody else accepts.
            (_, Some(_)) if self.keeping != Keeping::Own => {
                self.gate = Gate::shut_for_all(&self.socket)?;
                Ok(Stragglers::HandShakes)
            }
            // Who waits for it would find it readable for ever if it was shut.
            (Origin::Path { .. }, None) if self.keeping != Keeping::Own => {
                self.origin = Origin::Bound;
                Ok(Stragglers::None)
            }
            (Origin::Bound | Origin::Path { .. }, Some(address)) => {
                self.gate = Gate::shut(&self.socket, address)?;
                Ok(Stragglers::HandShakes)
            }
            // unix(7) has no handshake: SHUT_RD refuses new clients and keeps those in line.
            (Origin::Bound | Origin::Path { .. }, None) => {
                self.socket.shutdown(Shutdown::Read)?;
                Ok(Stragglers::None)
            }
        }
    }
}

impl AcceptError {
    /// What the caller has to do about an error of `accept4(2)`; `None` is "call it again".
    fn classify(err: io::Error) -> Option<Self> {
        match err.raw_os_error() {
            Some(libc::EINTR) => None,
            Some(libc::EAGAIN) => Some(AcceptError::Empty),
            // accept(2): pending network errors of the new socket, to be treated like EAGAIN.
            Some(
                libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::EPROTO
                | libc::EPERM
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::EOPNOTSUPP
                | libc::ENETUNREACH
                | libc::ETIMEDOUT,
            ) => Some(AcceptError::Aborted(err)),
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                Some(AcceptError::Exhausted(err))
            }
            // A Unix listener that was shut down for reading answers EINVAL when it is empty.
            Some(libc::EINVAL) => Some(AcceptError::Empty),
            _ => Some(AcceptError::Broken(err)),
        }
    }
}

impl AsFd for ListeningSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for ListeningSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn peer_address(storage: &libc::sockaddr_storage, len: libc::socklen_t) -> Address {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the kernel wrote a `sockaddr_in`, which is smaller than the storage.
            let v4: libc::sockaddr_in = unsafe { mem::transmute_copy(storage) };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            SocketAddr::from((ip, u16::from_be(v4.sin_port))).into()
        }
        libc::AF_INET6 => {
            // SAFETY: the kernel wrote a `sockaddr_in6`, which is smaller than the storage.
            let v6: libc::sockaddr_in6 = unsafe { mem::transmute_copy(storage) };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            SocketAddr::V6(SocketAddrV6::new(
                ip,
                port,
                v6.sin6_flowinfo,
                v6.sin6_scope_id,
            ))
            .into()
        }
        libc::AF_UNIX => {
            // SAFETY: the kernel wrote a `sockaddr_un`, which is smaller than the storage.
            let un: libc::sockaddr_un = unsafe { mem::transmute_copy(storage) };
            let used = (len as usize).saturating_sub(mem::offset_of!(libc::sockaddr_un, sun_path));
            unix_name(&un.sun_path.map(byte)[..used.min(un.sun_path.len())])
        }
        _ => Address::Unnamed,
    }
}

/// `c_char` is signed on some architectures and unsigned on others.
#[allow(clippy::cast_sign_loss, clippy::unnecessary_cast, reason = "as above")]
fn byte(c: libc::c_char) -> u8 {
    c as u8
}

fn unix_name(bytes: &[u8]) -> Address {
    match bytes {
        [] => Address::Unnamed,
        [0, name @ ..] => Address::Abstract(name.to_vec()),
        path => {
            let end = path
                .iter()
                .position(|&byte| byte == 0)
                .unwrap_or(path.len());
            Address::Path(path[..end].to_vec())
        }
    }
}

/// What a person should do about a failed bind.
fn explain(source: &Source, err: &io::Error) -> String {
    let remedy = match (err.raw_os_error(), source) {
        (Some(libc::EADDRINUSE), Source::Bind(address)) => match address.inet() {
            Some(inet) => format!(
                "; `ss -ltnp 'sport = :{}'` shows who has it, --bind-retry 10s waits for it",
                inet.port()
            ),
            None => "; another process answers on it".to_owned(),
        },
        (Some(libc::EACCES), Source::Bind(address)) => match address.inet() {
            Some(inet) => format!(
                "; ports below 1024 need root or CAP_NET_BIND_SERVICE: use a port above, or `setcap cap_net_bind_service+ep` on this binary (port {})",
                inet.port()
            ),
            None => "; the directory is not writable for this user".to_owned(),
        },
        (Some(libc::EADDRNOTAVAIL), _) => "; no interface of this machine has it".to_owned(),
        (Some(libc::EEXIST), _) => "; a file that is no socket is in the way".to_owned(),
        (Some(libc::ENOENT), _) => "; its directory does not exist".to_owned(),
        (Some(libc::EBADF), _) => "; the parent process passed no such descriptor".to_owned(),
        _ => String::new(),
    };
    format!("{}{remedy}", describe(err))
}

/// The kernel's upper limit on every backlog.
/// Gives the file of a socket this owner and these permissions. In a directory of somebody else's
/// there may be another file by now, or a link to one: that is left alone.
fn give(path: &Path, owner: Option<Owner>, mode: Option<u32>) -> io::Result<()> {
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    if !file.metadata()?.file_type().is_socket() {
        return Err(io::Error::from_raw_os_error(libc::EEXIST));
    }
    // The file itself, whatever its path leads to meanwhile.
    let file_itself = format!("/proc/self/fd/{}", file.as_raw_fd());
    if let Some(owner) = owner {
        chown(&file_itself, owner.uid, owner.gid)?;
    }
    if let Some(mode) = mode {
        fs::set_permissions(&file_itself, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn somaxconn() -> u32 {
    fs::read_to_string("/proc/sys/net/core/somaxconn")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(DEFAULT_BACKLOG)
}

fn size(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "4 bytes")]
const INT_BYTES: libc::socklen_t = size_of::<libc::c_int>() as libc::socklen_t;

#[expect(clippy::cast_possible_truncation, reason = "128 bytes")]
const STORAGE_BYTES: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

/// The backlog of a listener that does not say: no less than the kernel's own default.
const DEFAULT_BACKLOG: u32 = 4096;

/// How much of what a refused client has sent is thrown away: more than a request.
const UNWANTED_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    /// What is handed off the loop closes, and would wait for a client that reads nothing.
    #[test]
    fn no_connection_that_is_accepted_here_lingers() {
        let lingers = |keeping, time| {
            let spec = ListenerSpec::bind("127.0.0.1:0".parse().unwrap());
            let listening = ListeningSocket::open(&spec, keeping).unwrap();
            listening.pass_on(&[InheritedOption::Linger(Some(time))]);
            let address = listening.address().inet().unwrap();
            let _client = TcpStream::connect(address).unwrap();
            let accepted = listening.accept(true).unwrap();
            SockRef::from(&accepted.stream).linger().unwrap()
        };
        assert_eq!(lingers(Keeping::Own, 3), None);
        assert_eq!(lingers(Keeping::Lent, 3), None);
        // Resets, and waits for nobody.
        assert_eq!(lingers(Keeping::Own, 0), Some(Duration::ZERO));
    }

    #[test]
    fn accept_errors_are_told_apart_by_what_to_do() {
        let class = |errno| AcceptError::classify(io::Error::from_raw_os_error(errno));
        assert!(class(libc::EINTR).is_none());
        assert!(matches!(class(libc::EAGAIN), Some(AcceptError::Empty)));
        for errno in [
            libc::ECONNABORTED,
            libc::EPROTO,
            libc::ECONNRESET,
            libc::EPERM,
        ] {
            assert!(
                matches!(class(errno), Some(AcceptError::Aborted(_))),
                "{errno}"
            );
        }
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert!(
                matches!(class(errno), Some(AcceptError::Exhausted(_))),
                "{errno}"
            );
        }
        assert!(matches!(class(libc::EBADF), Some(AcceptError::Broken(_))));
    }
}
