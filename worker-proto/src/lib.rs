//! What a worker of rr-master speaks: frames, descriptor passing, and the SDK.

pub mod address;
pub mod codec;
pub mod env;
pub mod frame;
pub mod handshake;
pub mod ids;
#[allow(unsafe_code, reason = "sendmsg and recvmsg with ancillary data")]
pub mod scm;
pub mod sdk;
pub mod socket;

#[cfg(any(test, feature = "testing"))]
pub use sdk::FakeMaster;
pub use sdk::{
    ConnectError, Connection, Draining, Event, Identity, Incoming, ListenError, Listener, Served,
    Server, Stream, Worker,
};

pub use frame::ListenOptions;
