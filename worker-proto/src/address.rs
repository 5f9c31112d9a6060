//! Socket addresses as they travel in frames: of a listener, of a connection's peer.
//!
//! Nothing is lost on the way: an IPv6 address keeps its flow label and scope, a Unix path its
//! bytes.

use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The address of a socket, of either end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Address {
    /// An IPv4 address and port.
    V4 {
        /// In network order.
        ip: [u8; 4],
        /// 0 only where the kernel has not chosen one yet.
        port: u16,
    },
    /// An IPv6 address and port.
    V6 {
        /// In network order.
        ip: [u8; 16],
        /// 0 only where the kernel has not chosen one yet.
        port: u16,
        /// `sin6_flowinfo`, see `ipv6(7)`.
        flowinfo: u32,
        /// `sin6_scope_id`: the interface of a link-local address.
        scope_id: u32,
    },
    /// A Unix socket with a path.
    Path(Vec<u8>),
    /// A Unix socket with a name in the abstract namespace, see `unix(7)`.
    Abstract(Vec<u8>),
    /// A Unix socket without a name: every ordinary Unix client.
    Unnamed,
}

impl Address {
    /// The Internet address, or `None` for a Unix socket.
    #[must_use]
    pub fn inet(&self) -> Option<SocketAddr> {
        match *self {
            Address::V4 { ip, port } => Some(SocketAddrV4::new(Ipv4Addr::from(ip), port).into()),
            Address::V6 {
                ip,
                port,
                flowinfo,
                scope_id,
            } => Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, flowinfo, scope_id).into()),
            Address::Path(_) | Address::Abstract(_) | Address::Unnamed => None,
        }
    }

    /// The path of a Unix socket that has one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Address::Path(bytes) => Some(Path::new(OsStr::from_bytes(bytes))),
            Address::V4 { .. } | Address::V6 { .. } | Address::Abstract(_) | Address::Unnamed => {
                None
            }
        }
    }
}

/// An [`Address`] whose names are borrowed: the same bytes in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressRef<'a> {
    /// An IPv4 address and port.
    V4 {
        /// In network order.
        ip: [u8; 4],
        /// In host order.
        port: u16,
    },
    /// An IPv6 address and port.
    V6 {
        /// In network order.
        ip: [u8; 16],
        /// In host order.
        port: u16,
        /// `sin6_flowinfo`, see `ipv6(7)`.
        flowinfo: u32,
        /// `sin6_scope_id`.
        scope_id: u32,
    },
    /// A Unix socket with a path.
    Path(&'a [u8]),
    /// A Unix socket with a name in the abstract namespace.
    Abstract(&'a [u8]),
    /// A Unix socket without a name.
    Unnamed,
}

impl<'a> From<&'a Address> for AddressRef<'a> {
    fn from(address: &'a Address) -> Self {
        match address {
            &Address::V4 { ip, port } => AddressRef::V4 { ip, port },
            &Address::V6 {
                ip,
                port,
                flowinfo,
                scope_id,
            } => AddressRef::V6 {
                ip,
                port,
                flowinfo,
                scope_id,
            },
            Address::Path(path) => AddressRef::Path(path),
            Address::Abstract(name) => AddressRef::Abstract(name),
            Address::Unnamed => AddressRef::Unnamed,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => Address::V4 {
                ip: v4.ip().octets(),
                port: v4.port(),
            },
            SocketAddr::V6(v6) => Address::V6 {
                ip: v6.ip().octets(),
                port: v6.port(),
                flowinfo: v6.flowinfo(),
                scope_id: v6.scope_id(),
            },
        }
    }
}

impl From<&net::SocketAddr> for Address {
    fn from(address: &net::SocketAddr) -> Self {
        if let Some(path) = address.as_pathname() {
            Address::Path(path.as_os_str().as_bytes().to_vec())
        } else if let Some(name) = address.as_abstract_name() {
            Address::Abstract(name.to_vec())
        } else {
            Address::Unnamed
        }
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Address::Path(path.as_os_str().as_bytes().to_vec())
    }
}

impl From<&socket2::SockAddr> for Address {
    fn from(address: &socket2::SockAddr) -> Self {
        if let Some(inet) = address.as_socket() {
            inet.into()
        } else if let Some(name) = address.as_abstract_namespace() {
            Address::Abstract(name.to_vec())
        } else if let Some(path) = address.as_pathname() {
            // Not `as_unix`: it panics at a path of 108 bytes, which the kernel allows a client.
            path.into()
        } else {
            Address::Unnamed
        }
    }
}

/// Reads `127.0.0.1:8000`, `[::1]:8000`, `unix:/run/app.sock`, `unix:@name`: what
/// [`Display`](fmt::Display) writes. Names are not looked up.
impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let refused = |problem| AddressError {
            text: text.to_owned(),
            problem,
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.strip_prefix('@') {
                Some("") => Err(refused(Problem::NoPath)),
                Some(name) if name.len() > UNIX_PATH_MAX => Err(refused(Problem::LongPath)),
                Some(name) => Ok(Address::Abstract(name.into())),
                None if path.is_empty() => Err(refused(Problem::NoPath)),
                None if path.contains('\0') => Err(refused(Problem::Zero)),
                None if path.len() > UNIX_PATH_MAX => Err(refused(Problem::LongPath)),
                None => Ok(Address::Path(path.into())),
            };
        }
        if let Ok(inet) = text.parse::<SocketAddr>() {
            return Ok(inet.into());
        }
        Err(refused(
            if text.starts_with('/') || text.starts_with("./") {
                Problem::BarePath
            } else if text.parse::<IpAddr>().is_ok() || text.ends_with(']') {
                // Before the next question: "::1" begins with a colon, too.
                Problem::NoPort
            } else if text.parse::<u16>().is_ok() || text.starts_with(':') {
                Problem::NoHost
            } else if !text.contains(':') {
                Problem::NoPort
            } else {
                match text.rsplit_once(':') {
                    Some((_, port)) if port.parse::<u16>().is_err() => Problem::BadPort,
                    Some((host, _)) if host.parse::<Ipv6Addr>().is_ok() => Problem::NoBrackets,
                    Some(_) | None => Problem::BadHost,
                }
            },
        ))
    }
}

/// A text that is not an address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address {text:?}: {problem}")]
pub struct AddressError {
    text: String,
    problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("the port is missing: write HOST:PORT, for instance 127.0.0.1:8000 or [::1]:8000")]
    NoPort,
    #[error(
        "the host is missing: write 127.0.0.1:PORT for this machine only, 0.0.0.0:PORT for every IPv4 interface, [::]:PORT for all"
    )]
    NoHost,
    #[error("the port is not a number from 0 to 65535")]
    BadPort,
    #[error("the host is not an IP address: names are not looked up")]
    BadHost,
    #[error("an IPv6 address needs brackets before its port: [::1]:8000")]
    NoBrackets,
    #[error("a Unix socket is written unix:PATH")]
    BarePath,
    #[error("the path is missing: write unix:PATH, or unix:@NAME for an abstract one")]
    NoPath,
    #[error("a Unix path cannot contain a zero byte: write unix:@NAME for an abstract one")]
    Zero,
    #[error(
        "the Unix path is longer than {UNIX_PATH_MAX} bytes, the most that unix(7) takes: use a shorter or a relative path"
    )]
    LongPath,
}

/// The longest path of a Unix socket: `sun_path` less its final zero, see `unix(7)`.
const UNIX_PATH_MAX: usize = 107;

/// `127.0.0.1:8000`, `[::1]:8000`, `unix:/run/app.sock`, `unix:@name`, `unix:`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::V4 { .. } | Address::V6 { .. } => self
                .inet()
                .expect("both variants are Internet addresses")
                .fmt(f),
            Address::Path(bytes) => write!(f, "unix:{}", String::from_utf8_lossy(bytes)),
            Address::Abstract(name) => write!(f, "unix:@{}", String::from_utf8_lossy(name)),
            Address::Unnamed => f.write_str("unix:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_internet_address_survives_the_round_trip_whole() {
        for text in ["127.0.0.1:8000", "[::1]:8000", "[fe80::1]:443"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Address::from(address).inet(), Some(address));
            assert_eq!(Address::from(address).to_string(), text);
        }
        let scoped = SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, 7, 3));
        assert_eq!(Address::from(scoped).inet(), Some(scoped));
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in [
            "127.0.0.1:8000",
            "[::1]:0",
            "unix:/run/app.sock",
            "unix:app",
            "unix:@app",
            "unix:@app\0",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_bad_address_says_what_is_wrong_with_it() {
        let long = format!("unix:/{}", "x".repeat(107));
        for (text, problem) in [
            ("127.0.0.1", Problem::NoPort),
            ("::1", Problem::NoPort),
            ("[::1]", Problem::NoPort),
            ("localhost", Problem::NoPort),
            ("", Problem::NoPort),
            ("8000", Problem::NoHost),
            (":8000", Problem::NoHost),
            ("127.0.0.1:http", Problem::BadPort),
            ("127.0.0.1:65536", Problem::BadPort),
            ("127.0.0.1:", Problem::BadPort),
            ("localhost:8000", Problem::BadHost),
            ("1.2.3:80", Problem::BadHost),
            ("/run/app.sock", Problem::BarePath),
            ("unix:", Problem::NoPath),
            ("unix:@", Problem::NoPath),
            (long.as_str(), Problem::LongPath),
            // bind(2) would end the first at its zero and take the second for an abstract name.
            ("unix:/run/app\0.sock", Problem::Zero),
            ("unix:\0app", Problem::Zero),
        ] {
            let err = text.parse::<Address>().unwrap_err();
            assert_eq!(err.problem, problem, "{text:?} gives {err}");
        }
    }

    #[test]
    fn unix_names_are_told_apart() {
        let path = net::SocketAddr::from_pathname("/run/app.sock").unwrap();
        let name = net::SocketAddr::from_abstract_name(b"app").unwrap();
        assert_eq!(Address::from(&path).to_string(), "unix:/run/app.sock");
        assert_eq!(Address::from(&name).to_string(), "unix:@app");
        assert_eq!(Address::Unnamed.to_string(), "unix:");
        for (path, text) in [
            ("/run/app.sock", "unix:/run/app.sock"),
            ("\0app", "unix:@app"),
        ] {
            let address = socket2::SockAddr::unix(path).unwrap();
            assert_eq!(Address::from(&address).to_string(), text);
        }
        assert_eq!(
            Address::from(&path).path(),
            Some(Path::new("/run/app.sock"))
        );
    }

    #[test]
    fn a_path_without_a_final_zero_is_taken_whole() {
        // Against the manual, but the kernel takes it, see "BUGS" in unix(7).
        let bytes = [b'x'; UNIX_PATH_MAX + 1];
        let mut storage = socket2::SockAddrStorage::zeroed();
        // SAFETY: sockaddr_un is a socket address and smaller than the storage.
        #[expect(unsafe_code, reason = "no safe interface makes such an address")]
        let unix = unsafe { storage.view_as::<libc::sockaddr_un>() };
        unix.sun_family = 1; // AF_UNIX
        for (to, from) in unix.sun_path.iter_mut().zip(bytes) {
            *to = libc::c_char::try_from(from).unwrap();
        }
        // As accept(2) reports it: one more than the structure holds.
        let len = u32::try_from(size_of::<libc::sockaddr_un>() + 1).unwrap();
        // SAFETY: `storage` is an initialised sockaddr_un, followed by the storage's zeros.
        #[expect(unsafe_code, reason = "no safe interface makes such an address")]
        let address = unsafe { socket2::SockAddr::new(storage, len) };
        assert_eq!(Address::from(&address), Address::Path(bytes.to_vec()));
    }
}
