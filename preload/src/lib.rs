//! Has an unchanged program serve the connections that rr-master accepts.
//!
//! Preloaded (`LD_PRELOAD`), this library stands in front of `bind`, `listen`, `accept` and those
//! functions that would notice the difference. What the program binds the master binds, and in the
//! place of the program's listening socket comes the receiving end of an accept queue: it polls
//! like a listening socket, and `accept` takes connections out of it.
//!
//! Without a master, and for every descriptor that is none of this, the C library's function is
//! called: it costs one load to find that out. There is no thread, and nothing here allocates or
//! waits for a lock in what signal handlers may call.

#![cfg_attr(
    test,
    allow(
        dead_code,
        reason = "tests leave the functions of their own process alone"
    )
)]

mod accept;
mod adopt;
mod binding;
mod channel;
mod complaint;
mod copies;
mod epolls;
mod fork;
mod hidden;
#[allow(unsafe_code, reason = "functions with the C library's signatures")]
mod hooks;
mod listeners;
mod lock;
mod marks;
mod name;
mod options;
mod paths;
mod question;
mod queue_name;
mod ranges;
mod release;
mod score;
mod shares;
#[allow(unsafe_code, reason = "the functions behind ours")]
mod symbols;
#[allow(unsafe_code, reason = "system calls")]
mod sys;
