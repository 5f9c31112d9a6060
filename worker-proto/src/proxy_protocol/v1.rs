//! Version 1: a line of text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Header, Malformed, Origin, Parsed, Tlvs, Version};

pub(super) const BEGINNING: &[u8] = b"PROXY ";

/// The longest line there can be, its end included: `UNKNOWN` with two IPv6 addresses.
pub const MAX_V1_BYTES: usize = 107;

/// Of bytes that begin as the line does.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed<'_>, Malformed> {
    let within = &bytes[..bytes.len().min(MAX_V1_BYTES)];
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return if within.len() < MAX_V1_BYTES {
            Ok(Parsed::Partial)
        } else {
            Err(Malformed::EndlessLine)
        };
    };
    let line = &bytes[BEGINNING.len()..end];
    let origin = std::str::from_utf8(line).ok().and_then(origin);
    // What follows `UNKNOWN` is to be ignored, whatever it is.
    let unknown = || line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ");
    let origin = origin.or_else(|| unknown().then_some(Origin::Unknown));
    Ok(Parsed::Whole {
        header: Header {
            version: Version::V1,
            origin: origin.ok_or(Malformed::Line)?,
            tlvs: Tlvs::NONE,
        },
        len_bytes: end + 2,
    })
}

/// `TCP4 192.0.2.7 192.0.2.1 56324 443`: a space between words, and nothing else anywhere.
fn origin(line: &str) -> Option<Origin<'static>> {
    let mut words = line.split(' ');
    let family = words.next()?;
    let [source, destination, source_port, destination_port] =
        [words.next()?, words.next()?, words.next()?, words.next()?];
    if words.next().is_some() {
        return None;
    }
    let [source, destination] = match family {
        "TCP4" => [ip::<Ipv4Addr>(source)?, ip::<Ipv4Addr>(destination)?],
        "TCP6" => [ip::<Ipv6Addr>(source)?, ip::<Ipv6Addr>(destination)?],
        _ => return None,
    };
    Some(Origin::Inet {
        source: SocketAddr::new(source, port(source_port)?),
        destination: SocketAddr::new(destination, port(destination_port)?),
    })
}

fn ip<A: FromStr + Into<IpAddr>>(word: &str) -> Option<IpAddr> {
    word.parse::<A>().ok().map(Into::into)
}

/// Decimal, without what Rust would let pass: a sign, and zeros in front.
fn port(word: &str) -> Option<u16> {
    let is_plain = word == "0" || word.starts_with(|first: char| matches!(first, '1'..='9'));
    is_plain.then(|| word.parse().ok())?
}

pub(super) fn encode(header: &Header<'_>) -> Option<Vec<u8>> {
    if !header.tlvs.is_empty() {
        return None;
    }
    let line = match header.origin {
        Origin::Unknown => "PROXY UNKNOWN\r\n".to_owned(),
        Origin::Inet {
            source,
            destination,
        } => {
            let family = match (source, destination) {
                (SocketAddr::V4(_), SocketAddr::V4(_)) => "TCP4",
                (SocketAddr::V6(_), SocketAddr::V6(_)) => "TCP6",
                (SocketAddr::V4(_), SocketAddr::V6(_)) | (SocketAddr::V6(_), SocketAddr::V4(_)) => {
                    return None;
                }
            };
            format!(
                "PROXY {family} {} {} {} {}\r\n",
                source.ip(),
                destination.ip(),
                source.port(),
                destination.port()
            )
        }
        Origin::Balancer | Origin::Unix { .. } => return None,
    };
    Some(line.into_bytes())
}
