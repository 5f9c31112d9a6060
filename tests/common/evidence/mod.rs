//! Evidence of what became of each connection, from both ends.
//!
//! The client knows how a connection ended for it ([`client`]). The worker leaves a note in a
//! shared page before it receives a packet and a record right after ([`witness`]), and both
//! survive its SIGKILL. A connection is known by its client's address ([`origin`]), which the
//! worker has before it has read a byte. [`verdict`] puts the two together.
//!
//! Shared by the process tests, the test worker and the soak.
#![allow(dead_code, reason = "each program uses its own part")]
#![allow(unreachable_pub, reason = "each program is a crate of its own")]
#![allow(clippy::disallowed_methods, reason = "measures and waits in real time")]

pub mod client;
pub mod fate;
pub mod origin;
pub mod verdict;
pub mod wire;
pub mod witness;

#[path = "../../simulation/rng.rs"]
mod rng;
