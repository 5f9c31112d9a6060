//! The operator's door: what may be asked of a running master, and what it tells.
//!
//! [`protocol`], [`change`], [`message`], [`push`], [`status`], [`held`], [`event`] and `chronicle` are data and pure; the master's side
//! of the control socket is `server`, the other one is [`client`]. What is asked for is done by the
//! reactor.

pub mod change;
pub(crate) mod chronicle;
pub mod client;
pub mod denied;
pub mod event;
pub mod held;
pub mod job;
pub mod message;
pub(crate) mod outcome;
pub mod place;
pub mod protocol;
pub mod push;
pub(crate) mod server;
pub mod status;
pub mod time;
