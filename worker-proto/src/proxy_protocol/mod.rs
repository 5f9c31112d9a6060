//! The PROXY protocol, versions 1 and 2: what a load balancer says first on a connection that it
//! makes in a client's name. Pure: bytes in, [`Header`] out; reading them is the SDK's.
//!
//! After HAProxy's `proxy-protocol.txt`. While [`parse`] answers `Partial`, every byte it was given
//! belongs to the header, so a reader may take them out of the socket without taking the client's.

mod crc32c;
mod tlv;
mod v1;
mod v2;

use std::net::SocketAddr;

pub use tlv::{Tlv, Tlvs, kind};
pub use v1::MAX_V1_BYTES;
pub use v2::MAX_V2_BYTES;

use crate::address::Address;

/// What a balancer says of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// How it says it.
    pub version: Version,
    /// In whose name it is.
    pub origin: Origin<'a>,
    /// What else it says; empty in version 1, and where the origin is the balancer or unknown.
    pub tlvs: Tlvs<'a>,
}

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary, and the only one with more than addresses.
    V2,
}

/// Who is at the other side of the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin<'a> {
    /// `LOCAL`: the balancer itself, for instance to see whether somebody serves.
    Balancer,
    /// `UNKNOWN` and `UNSPEC`: the balancer does not know, or its client's protocol has no words
    /// here.
    Unknown,
    /// A client of the Internet.
    Inet {
        /// The client.
        source: SocketAddr,
        /// Where the client connected to.
        destination: SocketAddr,
    },
    /// A client on the balancer's own host, over a Unix socket.
    Unix {
        /// The client.
        source: UnixName<'a>,
        /// Where the client connected to.
        destination: UnixName<'a>,
    },
}

/// The name of a Unix socket as version 2 writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixName<'a>(&'a [u8; UNIX_NAME_BYTES]);

/// The first bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// The beginning of a header, and nothing behind it.
    Partial,
    /// A header.
    Whole {
        /// What it says.
        header: Header<'a>,
        /// How long it is; what follows is the client's.
        len_bytes: usize,
    },
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Neither version begins like this.
    #[error("it does not begin with a PROXY header")]
    NoHeader,
    /// Version 1 without an end of line where there must be one.
    #[error("the PROXY line does not end within {MAX_V1_BYTES} bytes")]
    EndlessLine,
    /// Version 1 that is not `PROXY TCP4 SOURCE DESTINATION PORT PORT`.
    #[error("the PROXY line is not as version 1 says")]
    Line,
    /// A version 2 of another number.
    #[error("PROXY protocol version {0} is not known")]
    Version(u8),
    /// Neither `LOCAL` nor `PROXY`.
    #[error("PROXY command {0} is not known")]
    Command(u8),
    /// No family or transport that the protocol has.
    #[error("PROXY family and transport {0:#04x} are not known")]
    Family(u8),
    /// The addresses do not fit into the length it states.
    #[error("the PROXY header is too short for its addresses")]
    ShortAddresses,
    /// Longer than anybody has reason to.
    #[error("the PROXY header has {0} bytes, more than {MAX_V2_BYTES}")]
    TooLong(usize),
    /// A type-length-value that goes beyond the end.
    #[error("a type-length-value of the PROXY header goes beyond its end")]
    Tlv,
    /// The CRC32C in it is not that of the header.
    #[error("the PROXY header's checksum is wrong")]
    Checksum,
}

/// Reads the header at the beginning of `bytes`.
///
/// # Errors
/// As soon as no bytes that may follow could make it a header.
///
/// ```
/// use worker_proto::proxy_protocol::{Origin, Parsed, parse};
///
/// let bytes = b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\nGET / HTTP/1.1\r\n";
/// let Ok(Parsed::Whole { header, len_bytes }) = parse(bytes) else {
///     panic!("it is whole");
/// };
/// assert!(matches!(header.origin, Origin::Inet { source, .. } if source.port() == 56324));
/// assert!(bytes[len_bytes..].starts_with(b"GET /"));
/// ```
pub fn parse(bytes: &[u8]) -> Result<Parsed<'_>, Malformed> {
    if begins(bytes, v1::BEGINNING) {
        v1::parse(bytes)
    } else if begins(bytes, v2::SIGNATURE) {
        v2::parse(bytes)
    } else {
        Err(Malformed::NoHeader)
    }
}

/// Whether `bytes` begin so, as far as they go.
fn begins(bytes: &[u8], with: &[u8]) -> bool {
    bytes.iter().zip(with).all(|(byte, with)| byte == with)
}

impl Header<'_> {
    /// The header as a balancer writes it, for tests and for those who are balancers; `None` where
    /// its version has no words for it.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        match self.version {
            Version::V1 => v1::encode(self),
            Version::V2 => v2::encode(self),
        }
    }
}

impl Origin<'_> {
    /// The client's address, if the balancer says who it is.
    #[must_use]
    pub fn source(&self) -> Option<Address> {
        match self {
            Origin::Balancer | Origin::Unknown => None,
            Origin::Inet { source, .. } => Some((*source).into()),
            Origin::Unix { source, .. } => Some(source.address()),
        }
    }

    /// Where the client connected to, if the balancer says who it is.
    #[must_use]
    pub fn destination(&self) -> Option<Address> {
        match self {
            Origin::Balancer | Origin::Unknown => None,
            Origin::Inet { destination, .. } => Some((*destination).into()),
            Origin::Unix { destination, .. } => Some(destination.address()),
        }
    }
}

impl<'a> UnixName<'a> {
    /// The name as the bytes of `sun_path`, see `unix(7)`.
    #[must_use]
    pub fn new(sun_path: &'a [u8; UNIX_NAME_BYTES]) -> Self {
        UnixName(sun_path)
    }

    /// The same as an address. Where an abstract name ends is not said: its last byte that is not
    /// zero is taken for its end.
    #[must_use]
    pub fn address(&self) -> Address {
        let is_zero = |byte: &u8| *byte == 0;
        let end = self.0.iter().rposition(|byte| *byte != 0);
        match (end, self.0[0]) {
            (None, _) => Address::Unnamed,
            (Some(end), 0) => Address::Abstract(self.0[1..=end].to_vec()),
            (Some(_), _) => {
                let end = self.0.iter().position(is_zero);
                Address::Path(self.0[..end.unwrap_or(UNIX_NAME_BYTES)].to_vec())
            }
        }
    }
}

/// The size of `sun_path`.
pub const UNIX_NAME_BYTES: usize = 108;

/// No header is longer.
pub const MAX_HEADER_BYTES: usize = if MAX_V1_BYTES > MAX_V2_BYTES {
    MAX_V1_BYTES
} else {
    MAX_V2_BYTES
};

#[cfg(test)]
mod tests;
