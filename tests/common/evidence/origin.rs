//! Which connection it is, told by the address that its client has bound.
//!
//! Every connection of a process has an address of its own in 127.0.0.0/8, never used twice: the
//! number can be read from it, and no address waits in TIME_WAIT for another connection.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU32, Ordering};

/// The number of a connection, unique in its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(pub u32);

impl Origin {
    /// One that was never used before.
    pub fn next() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Origin(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The address to bind. Processes that run side by side have networks of their own, and a
    /// port that is taken nevertheless fails to bind.
    pub fn address(self) -> SocketAddrV4 {
        let network = 1 + u8::try_from(std::process::id() % 254).expect("below 254");
        let [high, low] = u16::try_from(self.0 / PORTS)
            .expect("fewer than two billion connections")
            .to_be_bytes();
        let port = FIRST_PORT + u16::try_from(self.0 % PORTS).expect("below PORTS");
        SocketAddrV4::new(Ipv4Addr::new(127, network, high, low), port)
    }

    /// Whose address it is, in the process that bound it.
    pub fn of(address: SocketAddrV4) -> Self {
        let [_, _, high, low] = address.ip().octets();
        let host = u32::from(u16::from_be_bytes([high, low]));
        Origin(host * PORTS + u32::from(address.port() - FIRST_PORT))
    }
}

const FIRST_PORT: u16 = 20_000;
const PORTS: u32 = 40_000;
