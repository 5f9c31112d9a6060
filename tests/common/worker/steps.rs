//! `steps STEP...`: a worker's life written down step by step; each outcome is a line on standard
//! error, so it is in the master's log.
//!
//! | step | what it does |
//! |---|---|
//! | `listen:TARGET[,OPTION]...` | asks the master; says the address, or the error |
//! | `close:TARGET` | gives it back, and waits until the master has taken it |
//! | `ready` | says that it can serve |
//! | `answer:N` | answers N connections of the listener it got last |
//! | `reopen:N` | wants everybody to open their log files again, so many times |
//! | `gate:FIFO` | waits until it has read a byte from the FIFO |
//! | `park` | receives nothing, and answers the master all the same, until it has to leave |
//!
//! The options are `backlog=N`, `batch=N` and `nonblocking`.
//!
//! After the last step it serves what it still holds, or waits until it has to leave.

use std::fs;
use std::io::Read;
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;

use nix::errno::Errno;
use worker_proto::frame::ListenOptions;
use worker_proto::{Event, ListenError, Listener, Server, Worker};

use crate::answer::{announce, answer};

pub(crate) fn perform(steps: &[&str]) -> ExitCode {
    let worker = Worker::connect().expect("connect");
    let slot = worker.identity().slot;
    let requests = AtomicU64::new(0);
    let mut listeners: Vec<(&str, Listener)> = Vec::new();
    for step in steps {
        match step.split_once(':').unwrap_or((step, "")) {
            ("listen", what) => {
                let (target, options) = options(what);
                match worker.listen_with(target, options) {
                    Ok(listener) => {
                        announce(&format!(
                            "slot={slot} listen {target}: {}",
                            listener.address()
                        ));
                        listeners.push((target, listener));
                    }
                    Err(err) => announce(&format!("slot={slot} listen {target}: {}", name(&err))),
                }
            }
            ("close", target) => {
                let place = listeners.iter().rposition(|(name, _)| *name == target);
                let (_, listener) = listeners.remove(place.expect("listened before"));
                let received = listener.close();
                announce(&format!("slot={slot} close {target}: {}", received.len()));
            }
            ("ready", _) => worker.ready().expect("ready"),
            ("answer", count) => {
                let (_, listener) = listeners.last().expect("a listener");
                for connection in listener.incoming().take(count.parse().expect("a number")) {
                    answer(&worker, &requests, connection.expect("accept"));
                }
            }
            ("reopen", times) => {
                for _ in 0..times.parse().expect("a number") {
                    worker.reopen_logs().expect("tell the master");
                }
            }
            ("gate", fifo) => {
                let mut fifo = fs::File::open(fifo).expect("open the FIFO");
                fifo.read_exact(&mut [0]).expect("read the FIFO");
            }
            ("park", _) => await_end(&worker),
            (unknown, _) => panic!("unknown step {unknown}"),
        }
    }
    if listeners.is_empty() {
        await_end(&worker);
    } else {
        let listeners = listeners.into_iter().map(|(_, listener)| listener);
        Server::new()
            .serve(listeners, |connection| {
                answer(&worker, &requests, connection);
            })
            .expect("serve");
    }
    worker.leave()
}

/// `relisten TARGET`: listens anew for every connection, until the master stops.
pub(crate) fn relisten(target: &str) -> ExitCode {
    let worker = Worker::connect().expect("connect");
    let requests = AtomicU64::new(0);
    while let Ok(listener) = worker.listen(target) {
        worker.ready().expect("ready");
        match listener.accept().expect("accept") {
            Some(connection) => answer(&worker, &requests, connection),
            None => break,
        }
        listener.close();
    }
    worker.leave()
}

fn await_end(worker: &Worker) {
    let leaving = |event: &Event| matches!(event, Event::Drain { .. } | Event::MasterGone);
    worker.events().iter().find(leaving);
}

fn options(what: &str) -> (&str, ListenOptions) {
    let (target, named) = what.split_once(',').unwrap_or((what, ""));
    let mut options = ListenOptions::default();
    for option in named.split_terminator(',') {
        match option.split_once('=').unwrap_or((option, "")) {
            ("backlog", length) => options.backlog = Some(length.parse().expect("a number")),
            ("batch", size) => options.max_batch = size.parse().expect("a number"),
            ("nonblocking", _) => options.nonblocking = true,
            (unknown, _) => panic!("unknown option {unknown}"),
        }
    }
    (target, options)
}

/// `EADDRINUSE (bind 127.0.0.1:8000: ...)`.
fn name(err: &ListenError) -> String {
    if let ListenError::Refused { errno, reason } = err {
        format!("{:?} ({reason})", Errno::from_raw(*errno))
    } else {
        err.to_string()
    }
}
