//! Behind a balancer: whom to believe when a connection says that it is somebody else's.
//!
//! A connection is nobody's before its header is whole: it is not given to the program, and it is
//! closed when its peer is not trusted, says something else, or takes too long.

mod greeting;
mod porch;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) use greeting::Greeting;
pub(crate) use porch::{Porch, Ways};

use crate::address::Address;
use crate::network::Network;
use crate::proxy_protocol::{Header, Malformed, Origin, Tlvs, Version};

/// What a listener behind a load balancer expects of its connections: a PROXY header, version 1 or
/// 2, within a time, from those who are trusted. See
/// [`Listener::behind_proxy`](super::Listener::behind_proxy).
#[derive(Clone, Debug)]
pub struct ProxyProtocol {
    trusted: Arc<[Network]>,
    within: Duration,
    counts: Arc<Counts>,
}

impl ProxyProtocol {
    /// Believes whoever connects from these networks, and closes every other connection: who may
    /// write a header may be anybody. Clients of a Unix listener are always believed, as the
    /// permissions of its file say who may connect.
    #[must_use]
    pub fn trusting(networks: impl IntoIterator<Item = Network>) -> Self {
        ProxyProtocol {
            trusted: networks.into_iter().collect(),
            within: WITHIN,
            counts: Arc::default(),
        }
    }

    /// How long a header may take, from when the connection is received to its last byte. Five
    /// seconds unless told otherwise: a lost packet is sent again after one, then after three.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// How many connections were refused so far, by every listener with this or a clone of it.
    #[must_use]
    pub fn refused(&self) -> Refused {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Refused {
            untrusted: count(&self.counts.untrusted),
            malformed: count(&self.counts.malformed),
            late: count(&self.counts.late),
            ended: count(&self.counts.ended),
        }
    }

    fn trusts(&self, peer: &Address) -> bool {
        match peer.inet() {
            Some(inet) => self
                .trusted
                .iter()
                .any(|network| network.contains(inet.ip())),
            None => true,
        }
    }

    /// Counts a refusal, and says so: the first one, the second, the fourth …, since whoever
    /// connects can bring it about.
    fn refuse(&self, peer: &Address, refusal: &Refusal) {
        let count = match refusal {
            Refusal::Untrusted => &self.counts.untrusted,
            Refusal::Malformed(_) => &self.counts.malformed,
            Refusal::Late(_) => &self.counts.late,
            Refusal::Ended => &self.counts.ended,
        };
        let count = count.fetch_add(1, Ordering::Relaxed) + 1;
        // Balancers look whether a port is open, and say nothing.
        if count.is_power_of_two() && !matches!(refusal, Refusal::Ended) {
            log::warn!("refused a connection from {peer}: {refusal} ({count} so far)");
        } else {
            log::debug!("refused a connection from {peer}: {refusal}");
        }
    }
}

/// How many connections a listener behind a balancer refused, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// Their peer is of no trusted network.
    pub untrusted: u64,
    /// They began with something else than a header.
    pub malformed: u64,
    /// Their header was not whole in time.
    pub late: u64,
    /// They ended before their header did, as those of a balancer that only looks whether the
    /// port is open.
    pub ended: u64,
}

impl Refused {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.untrusted + self.malformed + self.late + self.ended
    }
}

#[derive(Debug, Default)]
struct Counts {
    untrusted: AtomicU64,
    malformed: AtomicU64,
    late: AtomicU64,
    ended: AtomicU64,
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Refusal {
    #[error("its address is of no trusted network")]
    Untrusted,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("no PROXY header within {0:?}")]
    Late(Duration),
    #[error("it ended before its PROXY header did")]
    Ended,
}

/// The balancer that a connection came through, and what it says; see
/// [`Connection::proxy`](super::Connection::proxy).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    balancer: Address,
    destination: Option<Address>,
    version: Version,
    is_own: bool,
    tlvs: Box<[u8]>,
}

impl Proxy {
    fn new(balancer: Address, header: &Header<'_>) -> Self {
        Proxy {
            balancer,
            destination: header.origin.destination(),
            version: header.version,
            is_own: header.origin == Origin::Balancer,
            tlvs: header.tlvs.as_bytes().into(),
        }
    }

    /// The balancer's address: the other end of the connection.
    #[must_use]
    pub fn balancer(&self) -> &Address {
        &self.balancer
    }

    /// Where the client connected to, if the balancer says so.
    #[must_use]
    pub fn destination(&self) -> Option<&Address> {
        self.destination.as_ref()
    }

    /// The version of the protocol that it speaks.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether the connection is the balancer's own (`LOCAL`), for instance to see whether
    /// somebody serves: there is no client.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.is_own
    }

    /// What else the balancer says of the client, such as what it asked for and how it is
    /// encrypted.
    #[must_use]
    pub fn tlvs(&self) -> Tlvs<'_> {
        Tlvs::whole(&self.tlvs).unwrap_or(Tlvs::NONE)
    }
}

/// `192.0.2.1:443`: the balancer.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.balancer.fmt(f)
    }
}

const WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
