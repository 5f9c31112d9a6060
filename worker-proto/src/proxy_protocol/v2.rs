//! Version 2: sixteen bytes, the addresses, and type-length-values.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Header, Malformed, Origin, Parsed, Tlvs, UNIX_NAME_BYTES, UnixName, Version};

/// No line of text of any protocol begins so.
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest header that is taken, type-length-values included. The protocol would allow 65,551
/// bytes; what balancers send, a certificate's names included, is some hundreds.
pub const MAX_V2_BYTES: usize = 4096;

/// Of bytes that begin as the signature does.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed<'_>, Malformed> {
    let said = &bytes[SIGNATURE.len().min(bytes.len())..];
    let command = match said.first() {
        None => return Ok(Parsed::Partial),
        Some(byte) if byte >> 4 != VERSION => return Err(Malformed::Version(byte >> 4)),
        Some(byte) => byte & 0xf,
    };
    if command > PROXY {
        return Err(Malformed::Command(command));
    }
    let [_, family, high, low, ..] = *said else {
        return Ok(Parsed::Partial);
    };
    let len_bytes = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if len_bytes > MAX_V2_BYTES {
        return Err(Malformed::TooLong(len_bytes));
    }
    if command == PROXY && (family >> 4 > UNIX || family & 0xf > DATAGRAM) {
        return Err(Malformed::Family(family));
    }
    let Some(header) = bytes.get(..len_bytes) else {
        return Ok(Parsed::Partial);
    };
    let (origin, tlvs) = if command == LOCAL {
        (Origin::Balancer, Tlvs::NONE)
    } else if family >> 4 == UNSPECIFIED || family & 0xf == UNSPECIFIED {
        (Origin::Unknown, Tlvs::NONE)
    } else {
        let (origin, rest) = origin(family >> 4, &header[FIXED_BYTES..])?;
        let tlvs = Tlvs::whole(rest).ok_or(Malformed::Tlv)?;
        if !tlvs.is_unharmed(header) {
            return Err(Malformed::Checksum);
        }
        (origin, tlvs)
    };
    Ok(Parsed::Whole {
        header: Header {
            version: Version::V2,
            origin,
            tlvs,
        },
        len_bytes,
    })
}

/// The addresses, and what follows them.
fn origin(family: u8, block: &[u8]) -> Result<(Origin<'_>, &[u8]), Malformed> {
    let short = Malformed::ShortAddresses;
    if family == UNIX {
        let (source, rest) = block.split_first_chunk().ok_or(short)?;
        let (destination, rest) = rest.split_first_chunk().ok_or(short)?;
        let origin = Origin::Unix {
            source: UnixName::new(source),
            destination: UnixName::new(destination),
        };
        return Ok((origin, rest));
    }
    let (source, destination, rest) = if family == INET {
        let (source, rest) = block.split_first_chunk::<4>().ok_or(short)?;
        let (destination, rest) = rest.split_first_chunk::<4>().ok_or(short)?;
        let addresses = [*source, *destination].map(|ip| Ipv4Addr::from(ip).into());
        (addresses[0], addresses[1], rest)
    } else {
        let (source, rest) = block.split_first_chunk::<16>().ok_or(short)?;
        let (destination, rest) = rest.split_first_chunk::<16>().ok_or(short)?;
        let addresses = [*source, *destination].map(|ip| Ipv6Addr::from(ip).into());
        (addresses[0], addresses[1], rest)
    };
    let (source_port, rest) = rest.split_first_chunk().ok_or(short)?;
    let (destination_port, rest) = rest.split_first_chunk().ok_or(short)?;
    let origin = Origin::Inet {
        source: SocketAddr::new(source, u16::from_be_bytes(*source_port)),
        destination: SocketAddr::new(destination, u16::from_be_bytes(*destination_port)),
    };
    Ok((origin, rest))
}

pub(super) fn encode(header: &Header<'_>) -> Option<Vec<u8>> {
    let mut block = Vec::new();
    let (command, family) = match header.origin {
        Origin::Balancer => (LOCAL, UNSPECIFIED),
        Origin::Unknown => (PROXY, UNSPECIFIED),
        Origin::Inet {
            source,
            destination,
        } => {
            let family = match (source, destination) {
                (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
                    block.extend(source.ip().octets());
                    block.extend(destination.ip().octets());
                    INET
                }
                (SocketAddr::V6(source), SocketAddr::V6(destination)) => {
                    block.extend(source.ip().octets());
                    block.extend(destination.ip().octets());
                    INET6
                }
                (SocketAddr::V4(_), SocketAddr::V6(_)) | (SocketAddr::V6(_), SocketAddr::V4(_)) => {
                    return None;
                }
            };
            block.extend(source.port().to_be_bytes());
            block.extend(destination.port().to_be_bytes());
            (PROXY, (family << 4) | STREAM)
        }
        Origin::Unix {
            source,
            destination,
        } => {
            block.extend(source.0);
            block.extend(destination.0);
            (PROXY, (UNIX << 4) | STREAM)
        }
    };
    block.extend(header.tlvs.as_bytes());
    if FIXED_BYTES + block.len() > MAX_V2_BYTES {
        return None;
    }
    let len = u16::try_from(block.len()).ok()?;
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([(VERSION << 4) | command, family]);
    bytes.extend(len.to_be_bytes());
    bytes.extend(block);
    Some(bytes)
}

const VERSION: u8 = 2;

const LOCAL: u8 = 0;
const PROXY: u8 = 1;

const UNSPECIFIED: u8 = 0;
const INET: u8 = 1;
const INET6: u8 = 2;
const UNIX: u8 = 3;

const STREAM: u8 = 1;
const DATAGRAM: u8 = 2;

/// Up to the addresses.
const FIXED_BYTES: usize = 16;

const _: () = assert!(FIXED_BYTES + 2 * UNIX_NAME_BYTES <= MAX_V2_BYTES);
