//! The kernel as the master needs it: processes, signals, listening sockets, limits.
//!
//! The only place of the master with `unsafe`. Everything here is mechanism: it decides nothing
//! and keeps no state of the cluster. EINTR never leaves this module.
#![allow(
    unsafe_code,
    reason = "the fence: system calls that nix and socket2 do not wrap"
)]

pub(crate) mod accounts;
pub(crate) mod activation;
pub(crate) mod activity;
pub(crate) mod applicant;
pub(crate) mod brief;
pub(crate) mod census;
pub(crate) mod cgroup;
pub(crate) mod channel;
pub(crate) mod closing;
pub(crate) mod cpu;
pub(crate) mod credentials;
pub(crate) mod daemon;
pub(crate) mod door;
mod gate;
pub(crate) mod headroom;
pub(crate) mod inherited;
#[cfg(test)]
pub(crate) mod lease;
pub(crate) mod limits;
pub(crate) mod listening;
pub(crate) mod loading;
pub(crate) mod memory;
pub(crate) mod notify;
pub(crate) mod oom;
pub(crate) mod orphans;
pub(crate) mod pidfd;
pub(crate) mod pidfile;
pub(crate) mod pin;
pub(crate) mod pipe;
pub(crate) mod preparation;
pub(crate) mod priority;
pub(crate) mod program;
pub(crate) mod rights;
pub(crate) mod signals;
pub(crate) mod spawn;
pub(crate) mod steering;
pub(crate) mod title;
mod wait;
pub(crate) mod window;

/// `address already in use (EADDRINUSE)`: the text for people, the name for searching.
pub(crate) fn describe(err: &std::io::Error) -> String {
    match err.raw_os_error().map(nix::errno::Errno::from_raw) {
        Some(errno) => format!("{} ({errno:?})", errno.desc().to_lowercase()),
        None => err.to_string(),
    }
}
