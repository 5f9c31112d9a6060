//! The kernel as the master needs it: processes, signals, listening sockets, limits.
//!
//! The only place of the master with `unsafe`. Everything here is mechanism: it decides nothing
//! and keeps no state of the cluster. EINTR never leaves this module.
#![allow(
    unsafe_code,
    reason = "the fence: system calls that nix and socket2 do not wrap"
)]

pub(crate) mod channel;
pub(crate) mod cpu;
pub(crate) mod inherited;
pub(crate) mod limits;
pub(crate) mod listening;
pub(crate) mod pidfd;
pub(crate) mod pidfile;
pub(crate) mod program;
pub(crate) mod signals;
pub(crate) mod spawn;
