//! A network: the addresses that begin alike, as `10.0.0.0/8` writes them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network of IPv4 or IPv6, or a single address.
///
/// ```
/// use worker_proto::network::Network;
///
/// let inside: Network = "10.0.0.0/8".parse()?;
/// assert!(inside.contains("10.20.30.40".parse().unwrap()));
/// assert!(!inside.contains("11.0.0.1".parse().unwrap()));
/// # Ok::<(), worker_proto::network::NetworkError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    /// Zero behind the prefix.
    first: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether an address is of this network. An IPv4 address counts as such in its IPv6 form
    /// (`::ffff:10.0.0.1`), too: so it comes from a socket of both families.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        masked(address.to_canonical(), self.prefix) == Some(self.first)
            || masked(address, self.prefix) == Some(self.first)
    }
}

/// Only this address.
impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Network {
            first: address,
            prefix: bits(address),
        }
    }
}

/// Reads `10.0.0.0/8`, `fd00::/8`, and a single address.
impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let refused = |problem| NetworkError {
            text: text.to_owned(),
            problem,
        };
        let (address, prefix) = match text.split_once('/') {
            None => (text, None),
            Some((address, prefix)) => (address, Some(prefix)),
        };
        let address: IpAddr = address.parse().map_err(|_| refused(Problem::Address))?;
        let Some(prefix) = prefix else {
            return Ok(address.into());
        };
        let bits = bits(address);
        let prefix = prefix
            .parse()
            .ok()
            .filter(|prefix| *prefix <= bits)
            .ok_or_else(|| refused(Problem::Prefix { bits }))?;
        let first = masked(address, prefix).expect("no longer than the address");
        if first != address {
            return Err(refused(Problem::Behind { first, prefix }));
        }
        Ok(Network { first, prefix })
    }
}

/// `10.0.0.0/8`, and a single address by itself.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        if self.prefix < bits(self.first) {
            write!(f, "/{}", self.prefix)?;
        }
        Ok(())
    }
}

/// A text that is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("network {text:?}: {problem}")]
pub struct NetworkError {
    text: String,
    problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("write an IP address, or a network such as 10.0.0.0/8 or fd00::/8")]
    Address,
    #[error("the length of the prefix is not a number from 0 to {bits}")]
    Prefix { bits: u8 },
    #[error("the address has bits behind its prefix: write {first}/{prefix}")]
    Behind { first: IpAddr, prefix: u8 },
}

/// The address with zeros behind the prefix, or `None` when it is shorter than that.
fn masked(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    let behind = u32::from(bits(address).checked_sub(prefix)?);
    Some(match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(behind).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(behind).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    })
}

fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_begin_as_it_does() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("192.0.2.128/25", "192.0.2.128", "192.0.2.127"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("10.0.0.0/8", "::ffff:10.1.1.1", "::10.1.1.1"),
            ("::ffff:10.0.0.0/104", "::ffff:10.1.1.1", "::ffff:11.1.1.1"),
            ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("fd00::/8", "fdff::1", "fe00::"),
            ("::/0", "fe80::1", "1.2.3.4"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(
                network.contains(inside.parse().unwrap()),
                "{network} {inside}"
            );
            assert!(
                !network.contains(outside.parse().unwrap()),
                "{network} {outside}"
            );
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.7", "fd00::/8", "::1"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_bad_network_says_what_is_wrong_with_it() {
        for (text, problem) in [
            ("", Problem::Address),
            ("localhost", Problem::Address),
            ("10.0.0/8", Problem::Address),
            ("10.0.0.0/", Problem::Prefix { bits: 32 }),
            ("10.0.0.0/33", Problem::Prefix { bits: 32 }),
            ("::/129", Problem::Prefix { bits: 128 }),
            (
                "10.1.0.0/8",
                Problem::Behind {
                    first: Ipv4Addr::new(10, 0, 0, 0).into(),
                    prefix: 8,
                },
            ),
        ] {
            let err = text.parse::<Network>().unwrap_err();
            assert_eq!(err.problem, problem, "{text:?} gives {err}");
        }
    }
}
