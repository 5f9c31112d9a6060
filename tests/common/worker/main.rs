//! The worker of the process tests: each mode is one way to live, good or bad.
//!
//! `test_worker serve [TARGET]...` answers HTTP and does what the path says, see [`answer`];
//! [`steps`] does one thing after the other; [`witnessed`] says what it received, and dies when it is
//! told; [`puppet`] does what a test tells it while it runs; [`correspondent`] writes to others; [`ill`] is one in which something goes wrong;
//! [`odd`] does what few programs do, and may; [`shared`] leads and follows, and shows
//! the values it is given; [`scribe`] keeps a log; [`jobs`] does jobs. The modes that break the protocol speak raw
//! frames, below the SDK, and so does [`plain`], which breaks nothing. Several modes can share a command line:
//!
//! * `by-slot MODE... -- MODE...`: the slot's own mode, the last one for all further slots;
//! * `by-life MODE... then MODE...`: another mode for those that replace the first ones (in a
//!   cluster without agents);
//! * `unless FILE MODE...`: fails at once while there is such a file;
//! * `by-generation MODE... then MODE...`: another mode for each generation, the last one for all further.
//!
//! With `TEST_COUNTS=DIR` in its environment a worker that has finished serving writes what it
//! served to `DIR/ID`: the counts can be read without disturbing them.

mod answer;
mod correspondent;
#[path = "../evidence/mod.rs"]
mod evidence;
mod ill;
mod jobs;
#[path = "../messages/ledger.rs"]
mod ledger;
mod odd;
#[path = "../puppet/order.rs"]
mod order;
mod plain;
mod puppet;
mod raw;
mod raw_letters;
mod scribe;
mod shared;
mod steps;
mod stubborn;
mod witnessed;

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use worker_proto::{Event, Listener, Served, Server, Worker, env};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    live(&args)
}

fn live(args: &[&str]) -> ExitCode {
    let (mode, args) = args.split_first().expect("a mode");
    match *mode {
        "by-slot" => live(choose(args, "--", number(env::SLOT))),
        "by-life" => {
            let is_replacement = number(env::WORKER_ID) > number(env::COUNT);
            live(choose(args, "then", usize::from(is_replacement)))
        }
        "by-generation" => live(choose(args, "then", number(env::GENERATION) - 1)),
        "unless" if fs::exists(args[0]).expect("look for it") => ExitCode::FAILURE,
        "unless" => live(&args[1..]),
        "serve" => serve(args),
        "boot" => boot(args[0].parse().expect("milliseconds"), &args[1..]),
        "pool" => pool(args[0].parse().expect("a number of threads")),
        "ill" => ill::live(args),
        "odd" => odd::live(args[0]),
        "plain" => plain::serve(args[0]),
        "puppet" => puppet::perform(args[0]),
        "jobs" => jobs::live(args),
        "late" => late(args[0], args[1]),
        "steps" => steps::perform(args),
        "stubborn" => stubborn::live(args),
        "relisten" => steps::relisten(args[0]),
        "correspond" => correspondent::correspond(args[0], args[1]),
        "exit" => code(args[0]),
        "abort" => std::process::abort(),
        "talk" => talk(args[0].parse().expect("a number")),
        "ready-then-exit" => {
            let worker = Worker::connect().expect("connect");
            worker.ready().expect("ready");
            code(args[0])
        }
        "agent" => agent(),
        "greedy" => greedy(),
        "hoard" => hoard(args[0].parse().expect("MiB")),
        "gated" => gated(args[0]),
        "never-ready" => {
            let _worker = Worker::connect().expect("connect");
            forever()
        }
        "silent" => forever(),
        "ignore" => {
            let signal: Signal = args[0].parse().expect("a signal");
            // Before any other thread, so that all of them have it blocked.
            SigSet::from_iter([signal])
                .thread_block()
                .expect("block the signal");
            let worker = Worker::connect().expect("connect");
            worker.ready().expect("ready");
            forever()
        }
        "raw" => raw::misbehave(args),
        "shared" => shared::live(args),
        "shared-alone" => shared::live_alone(),
        "scribe" => scribe::live(args[0]),
        "witness" => witnessed::live(args[0], args[1]),
        mode => panic!("unknown mode {mode}"),
    }
}

/// The section with this index, or the last one.
fn choose<'a, 'b>(args: &'a [&'b str], separator: &str, index: usize) -> &'a [&'b str] {
    let sections = args.split(|arg| *arg == separator);
    sections.take(index + 1).last().expect("at least one")
}

/// The number in one of the master's variables.
fn number(name: &str) -> usize {
    let value = std::env::var(name).expect("set by the master");
    value.parse().expect("a number")
}

/// Serves, and has so much memory more than it needs.
fn hoard(mebibytes: usize) -> ExitCode {
    let hoard = std::hint::black_box(vec![1_u8; mebibytes << 20]);
    let code = serve(&[]);
    drop(hoard);
    code
}

/// Ready, and exits when the whole cluster is.
fn gated(exit_code: &str) -> ExitCode {
    let worker = Worker::connect().expect("connect");
    worker.ready().expect("ready");
    let ready = worker
        .events()
        .iter()
        .find(|event| *event == Event::ClusterReady);
    ready.expect("the cluster to be ready");
    code(exit_code)
}

/// Ready, and then takes all the memory there is.
fn greedy() -> ExitCode {
    let worker = Worker::connect().expect("connect");
    worker.ready().expect("ready");
    let mut taken = Vec::new();
    loop {
        taken.push(vec![1_u8; 1 << 20]);
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

/// Becomes another program after a time that differs from worker to worker, at most so many
/// milliseconds.
#[allow(
    clippy::disallowed_methods,
    reason = "a program that takes its time to start"
)]
fn boot(longest: u64, program: &[&str]) -> ExitCode {
    let share = (number(env::WORKER_ID) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    std::thread::sleep(Duration::from_millis((longest * share) >> 32));
    let (path, args) = program.split_first().expect("a program");
    panic!("exec {path}: {}", Command::new(path).args(args).exec())
}

/// Serves every declared listener with so many threads.
fn pool(threads: usize) -> ExitCode {
    let worker = Worker::connect().expect("connect");
    let listeners = worker.listen_declared_or("127.0.0.1:0").expect("listen");
    worker.ready().expect("ready");
    let requests = AtomicU64::new(0);
    Server::new()
        .max_threads(threads)
        .serve(listeners, |connection| {
            answer::answer(&worker, &requests, connection);
        })
        .expect("serve");
    worker.leave()
}

/// Serves, but in this slot it listens, says so on standard error, and is not ready before it
/// has read a byte from the FIFO.
fn late(slot: &str, fifo: &str) -> ExitCode {
    let worker = Worker::connect().expect("connect");
    let listeners = worker.listen_declared_or("127.0.0.1:0").expect("listen");
    if worker.identity().slot.to_string() == slot {
        answer::announce("listening and not ready");
        let mut fifo = fs::File::open(fifo).expect("open the FIFO");
        fifo.read_exact(&mut [0]).expect("read the FIFO");
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
        answer::announce(&format!("agent: {event:?}"));
        if matches!(event, Event::Drain { .. } | Event::MasterGone) {
            break;
        }
    }
    worker.leave()
}

/// Says this many numbered lines on standard output and standard error, and exits.
fn talk(lines: usize) -> ExitCode {
    for number in 0..lines {
        println!("out {number}");
        answer::announce(&format!("err {number}"));
    }
    ExitCode::SUCCESS
}

fn code(text: &str) -> ExitCode {
    ExitCode::from(text.parse::<u8>().expect("an exit code"))
}

fn forever() -> ! {
    loop {
        std::thread::park();
    }
}
