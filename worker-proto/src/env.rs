//! The environment variables through which a master introduces itself: names and meaning.
//!
//! This page is their documentation. The SDK reads them once, in `Worker::connect`, and takes
//! them out of the environment, so that no grandchild takes them for its own.
//!
//! | variable | meaning |
//! |---|---|
//! | `RR_CONTROL_FD` | number of the inherited descriptor that is the control channel |
//! | `RR_ROLE` | `worker` or `agent` |
//! | `RR_SLOT` | the slot, `0..RR_COUNT` |
//! | `RR_COUNT` | how many slots the role has |
//! | `RR_WORKER_ID` | this incarnation's id |
//! | `RR_GENERATION` | the generation it belongs to |
//! | `RR_MASTER_PID` | the master's pid |
//! | `RR_WAKING` | `all` if every worker is to wake for a connection of a shared listener |
//!
//! All but the first and the last repeat what `Welcome` says, for programs and wrappers that do not use the SDK.

use std::ffi::OsStr;
use std::os::fd::RawFd;

/// Number of the inherited descriptor that is the control channel.
pub const CONTROL_FD: &str = "RR_CONTROL_FD";
/// `worker` or `agent`.
pub const ROLE: &str = "RR_ROLE";
/// The slot, `0..RR_COUNT`.
pub const SLOT: &str = "RR_SLOT";
/// How many slots the role has.
pub const COUNT: &str = "RR_COUNT";
/// This incarnation's id.
pub const WORKER_ID: &str = "RR_WORKER_ID";
/// The generation it belongs to.
pub const GENERATION: &str = "RR_GENERATION";
/// The master's pid.
pub const MASTER_PID: &str = "RR_MASTER_PID";

/// `all` if every worker is to wake for a connection of a shared listener.
pub const WAKING: &str = "RR_WAKING";

/// All of them: what a worker removes and what a master does not pass on from its own parent.
pub const ALL: [&str; 8] = [
    CONTROL_FD, ROLE, SLOT, COUNT, WORKER_ID, GENERATION, MASTER_PID, WAKING,
];

/// Reads the value of [`CONTROL_FD`]; whether such a descriptor is open is another question.
#[must_use]
pub fn control_fd(value: &OsStr) -> Option<RawFd> {
    let number: RawFd = value.to_str()?.parse().ok()?;
    (number >= 0).then_some(number)
}
