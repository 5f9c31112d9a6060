//! An agent that sends every worker a large message, one after the other without a pause, and workers
//! that serve meanwhile: what `scripts/handoff-delay` starts under a master.
//!
//! `broadcast BYTES`: with 0 the agent says nothing, for the comparison.

#![allow(
    clippy::disallowed_methods,
    reason = "not for the library: runs in real time"
)]

use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use worker_proto::ids::Role;
use worker_proto::message::{Receipt, Recipient};
use worker_proto::{Connection, Event, Payload, Server, Worker};

fn main() -> Result<ExitCode> {
    let bytes = std::env::args().nth(1).context("broadcast BYTES")?;
    let bytes: usize = bytes.parse().context("BYTES is a number")?;
    let worker = Worker::connect().context("run it under rr-master")?;
    match worker.identity().role {
        Role::Agent => speak(&worker, bytes)?,
        Role::Worker => serve(&worker)?,
    }
    Ok(worker.leave())
}

/// Sends the next one when the last is with all of them.
fn speak(worker: &Worker, bytes: usize) -> Result<()> {
    let events = worker.events();
    worker.ready()?;
    events.iter().find(|event| *event == Event::ClusterReady);
    let draining = worker.draining();
    let messenger = worker.messenger();
    let payload = Payload::from(vec![7; bytes]);
    let mut sent = 0;
    while bytes > 0 && !draining.is_draining() {
        let workers = Recipient::Workers;
        let within = Duration::from_secs(20);
        let receipt = messenger.deliver(workers, "blob", payload.clone(), within)?;
        if matches!(receipt, Receipt::Delivered { missed: 0, .. }) {
            sent += 1;
        }
    }
    let _ = draining.wait(Duration::MAX);
    eprintln!("broadcast: {sent} times {bytes} bytes to every worker");
    Ok(())
}

/// Takes every message, and answers every client.
fn serve(worker: &Worker) -> Result<()> {
    let _keep = worker.messenger().on("blob", drop)?;
    let listeners = worker.listen_declared_or("127.0.0.1:0")?;
    worker.ready()?;
    Server::new().serve(listeners, |mut connection: Connection| {
        let _ = connection.read(&mut [0; 1024]);
        let answer = b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";
        let _ = connection.write_all(answer);
    })?;
    Ok(())
}
