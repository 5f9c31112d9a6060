//! A worker that answers every client with the same few bytes and says at its end what that took: what
//! `scripts/modes` starts under a master, in each mode of dispatch.
//!
//! Its last line on standard error: `modes: CONNECTIONS IDLE_WAKEUPS CPU_MICROSECONDS`.

#![allow(
    clippy::disallowed_methods,
    reason = "not for the library: runs in real time"
)]

use std::env::args;
use std::io::{Read, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use worker_proto::{Connection, IdleWakeups, Listener, Server, Worker};

fn main() -> Result<ExitCode> {
    let worker = Worker::connect().context("join the master, if there is one")?;
    // By itself it is one of those that a proxy has behind it.
    worker.handle_termination()?;
    let address = args().nth(1);
    let listeners = worker.listen_declared_or(address.as_deref().unwrap_or("127.0.0.1:0"))?;
    let idle: Vec<IdleWakeups> = listeners.iter().map(Listener::idle_wakeups).collect();
    worker.ready()?;
    // One thread: which of its threads a process wakes is another question.
    let served = Server::new().max_threads(1).serve(listeners, answer)?;
    let idle: u64 = idle.iter().map(IdleWakeups::count).sum();
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let cpu = usage.user_time() + usage.system_time();
    // Whole: the workers share it.
    let line = format!(
        "modes: {} {idle} {}\n",
        served.connections,
        cpu.num_microseconds()
    );
    std::io::stderr().write_all(line.as_bytes())?;
    Ok(worker.leave())
}

fn answer(mut connection: Connection) {
    let _ = connection.read(&mut [0; 1024]);
    let answer = b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";
    let _ = connection.write_all(answer);
}
