//! What a worker of rr-master speaks: frames, descriptor passing, and the SDK.
//!
//! rr-master runs a program several times and hands every accepted connection to the next of
//! these workers. A worker written with this crate joins the cluster of the master that started
//! it; started by hand, the same binary binds for itself:
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::TcpStream;
//! use std::thread;
//! use worker_proto::{Server, Worker};
//!
//! let worker = Worker::connect()?;
//! let listener = worker.listen("127.0.0.1:0")?;
//! let address = listener.address().to_string();
//! worker.ready()?;
//!
//! thread::spawn(move || {
//!     Server::new().serve([listener], |mut connection| {
//!         _ = connection.write_all(b"hello\n");
//!     })
//! });
//!
//! let mut answer = String::new();
//! TcpStream::connect(address)?.read_to_string(&mut answer)?;
//! assert_eq!(answer, "hello\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! * [`Worker`], [`Listener`], [`Connection`], [`Server`] are what a program uses; see [`sdk`].
//! * [`Worker::messenger`] talks to the other processes of the cluster: see [`Messenger`].
//! * [`Worker::retire`], [`Worker::catch_panics`], [`Worker::on_drain`], [`Worker::on_stop`] and
//!   [`Worker::begin_work`] are for leaving well when something went wrong or the cluster stops;
//!   [`http`] has the header that goes with it.
//! * [`env`](mod@env) documents the `RR_*` variables.
//! * [`frame`], [`codec`], [`scm`] and [`socket`] are the protocol: for the master, and for those
//!   who speak it without the SDK; [`scoreboard`] and [`tally`] are the two sides of the shared page.
//! * `FakeMaster`, behind the feature `testing`, is a master for tests of worker programs.

pub mod address;
pub mod bind;
pub mod codec;
pub mod env;
pub mod frame;
pub mod handshake;
pub mod http;
pub mod ids;
pub mod job;
pub mod message;
pub mod name;
pub mod network;
#[allow(unsafe_code, reason = "mmap, and a reference into what it maps")]
mod origin;
#[allow(unsafe_code, reason = "mmap, and references into what it maps")]
pub mod page;
pub mod proxy_protocol;
#[allow(unsafe_code, reason = "sendmsg and recvmsg with ancillary data")]
pub mod scm;
pub mod scoreboard;
pub mod sdk;
pub mod socket;
pub mod tally;
pub mod text;

#[cfg(any(test, feature = "testing"))]
pub use sdk::FakeMaster;
pub use sdk::{
    Alarm, BadAction, Config, ConfigError, ConfigHandler, ConfigValue, ConfigWatch, ConnectError,
    Connection, ContentError, Draining, Event, Handler, HookResult, Identity, IdleWakeups,
    InFlight, Incoming, JobRun, ListenError, Listener, Message, Messenger, OnPanic, Payload, Peers,
    Proxy, ProxyProtocol, Refused, RegisterError, RequestCounter, RequestFailure, SendFailure,
    Served, Server, Stream, Subscription, Work, Worker, shared,
};

pub use frame::ListenOptions;

/// The code of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
