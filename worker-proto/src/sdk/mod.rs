//! The SDK: what the author of a worker uses.
//!
//! A [`Worker`] joins the cluster, a [`Listener`] brings connections, a [`Server`] serves them.
//! The program is the same under a master and on its own. One thread, `rr-control`, reads the
//! control channel; hooks and the wait for SIGTERM have threads of their own, if a program asks for
//! them, and so have handlers of messages. Everything else happens in the caller's threads.

mod alarm;
mod config;
mod connection;
mod control;
mod draining;
mod elections;
mod event;
#[cfg(any(test, feature = "testing"))]
mod fake_master;
mod hook;
mod in_flight;
#[allow(
    unsafe_code,
    reason = "takes an inherited descriptor, clears the environment, ends the process"
)]
mod inherit;
mod job;
mod lent;
mod listener;
mod messenger;
mod on_panic;
mod proxy;
mod request_counter;
mod scorekeeper;
mod server;
pub mod shared;
mod sinks;
mod standalone;
mod teller;
mod termination;
mod uplink;
mod wait;
mod work;
mod worker;

pub use alarm::Alarm;
pub use config::{Config, ConfigError, ConfigHandler, ConfigValue, ConfigWatch};
pub use connection::{Connection, Stream};
pub use draining::Draining;
pub use event::Event;
#[cfg(any(test, feature = "testing"))]
pub use fake_master::FakeMaster;
pub use hook::HookResult;
pub use in_flight::InFlight;
pub use job::{JobRun, RegisterError};
pub use lent::IdleWakeups;
pub use listener::{Incoming, ListenError, Listener};
pub use messenger::{
    BadAction, ContentError, Handler, Message, Messenger, Payload, Peers, RequestFailure,
    SendFailure, Subscription,
};
pub use on_panic::OnPanic;
pub use proxy::{Proxy, ProxyProtocol, Refused};
pub use request_counter::RequestCounter;
pub use server::{Served, Server};
pub use work::Work;
pub use worker::{ConnectError, Identity, Worker};
