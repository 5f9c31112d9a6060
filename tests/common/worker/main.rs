//! The worker of the process tests: each mode is one way to live, good or bad.
//!
//! `test_worker serve [TARGET]...` answers HTTP and does what the path says, see [`answer`]. The
//! modes that break the protocol speak raw frames, below the SDK.

mod answer;
mod raw;

use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal};
use worker_proto::{Event, Listener, Server, Worker};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (mode, rest) = args.split_first().expect("a mode");
    let args: Vec<&str> = rest.iter().map(String::as_str).collect();
    match mode.as_str() {
        "serve" => serve(&args),
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
    let identity = worker.identity().clone();
    Server::new()
        .serve(listeners, move |connection| {
            answer::answer(&identity, connection);
        })
        .expect("serve");
    worker.leave()
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
