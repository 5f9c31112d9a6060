//! The worker of the process tests: each mode is one way to live, good or bad.
//!
//! `test_worker serve [TARGET]...` answers HTTP and does what the path says, see [`answer`]. The
//! modes that break the protocol speak raw frames, below the SDK.
//!
//! With `TEST_COUNTS=DIR` in its environment a worker that has finished serving writes what it
//! served to `DIR/ID`: the counts can be read without disturbing them.

mod answer;
mod raw;

use std::fs;
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;

use nix::sys::signal::{SigSet, Signal};
use worker_proto::{Event, Listener, Served, Server, Worker};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (mode, rest) = args.split_first().expect("a mode");
    let args: Vec<&str> = rest.iter().map(String::as_str).collect();
    match mode.as_str() {
        "serve" => serve(&args),
        "late" => late(args[0], args[1]),
        "exit" => code(args[0]),
        "abort" => std::process::abort(),
        "ready-then-exit" => {
            let worker = Worker::connect().expect("connect");
            worker.ready().expect("ready");
            code(args[0])
        }
        "agent" => agent(),
        "never-ready" => {
            let _worker = Worker::connect().expect("connect");
            forever()
        }
        "silent" => forever(),
        "ignore-term" => {
            // Before any other thread, so that all of them have it blocked.
            SigSet::from_iter([Signal::SIGTERM])
                .thread_block()
                .expect("block SIGTERM");
            let worker = Worker::connect().expect("connect");
            worker.ready().expect("ready");
            forever()
        }
        "raw" => raw::misbehave(&args),
        _ => panic!("unknown mode {mode}"),
    }
}

/// Serves the targets, or every declared listener.
fn serve(targets: &[&str]) -> ExitCode {
    let worker = Worker::connect().expect("connect");
    let listeners: Vec<Listener> = if targets.is_empty() {
        worker.listen_declared_or("127.0.0.1:0").expect("listen")
    } else {
        targets
            .iter()
            .map(|target| worker.listen(target).expect("listen"))
            .collect()
    };
    worker.ready().expect("ready");
    serve_until_drained(worker, listeners)
}

/// Serves, but in this slot it listens and is not ready before the FIFO has been closed by its writer.
fn late(slot: &str, fifo: &str) -> ExitCode {
    let worker = Worker::connect().expect("connect");
    let listeners = worker.listen_declared_or("127.0.0.1:0").expect("listen");
    if worker.identity().slot.to_string() == slot {
        fs::read(fifo).expect("read the FIFO");
    }
    worker.ready().expect("ready");
    serve_until_drained(worker, listeners)
}

fn serve_until_drained(worker: Worker, listeners: Vec<Listener>) -> ExitCode {
    let requests = AtomicU64::new(0);
    let served = Server::new()
        .serve(listeners, |connection| {
            answer::answer(&worker, &requests, connection);
        })
        .expect("serve");
    if let Ok(directory) = std::env::var("TEST_COUNTS") {
        write_counts(&directory, &worker, &served, requests.into_inner());
    }
    worker.leave()
}

fn write_counts(directory: &str, worker: &Worker, served: &Served, requests: u64) {
    let (slot, id) = (worker.identity().slot, worker.identity().worker.0);
    let connections = served.connections;
    let counts = format!("slot={slot} connections={connections} requests={requests}");
    fs::write(format!("{directory}/{id}"), counts).expect("write the counts");
}

/// Ready at once; leaves when it is told to.
fn agent() -> ExitCode {
    let worker = Worker::connect().expect("connect");
    worker.ready().expect("ready");
    for event in worker.events() {
        eprintln!("agent: {event:?}");
        if matches!(event, Event::Drain { .. } | Event::MasterGone) {
            break;
        }
    }
    worker.leave()
}

fn code(text: &str) -> ExitCode {
    ExitCode::from(text.parse::<u8>().expect("an exit code"))
}

fn forever() -> ! {
    loop {
        std::thread::park();
    }
}
