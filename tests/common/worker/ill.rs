//! `ill WISH...`: a worker or an agent in which something goes wrong, and which leaves as it should.
//!
//! | wish | what it does |
//! |---|---|
//! | `aborts`, `exits=CODE` | what a panic does after the master was told: SIGABRT, or the end with this code |
//! | `catches` | tells the master of panics; not of those that are called `harmless` |
//! | `terminates` | takes SIGTERM for a request to finish |
//! | `listens=TARGET` | listens there instead; if it may not, says so and leaves with code 1 |
//! | `fails` | panics before it is ready |
//! | `begins=FIFO` | has work under way until it reads a byte from the FIFO |
//! | `stops=HOW` | has a last hook: `well`, `badly`, `panicking` or `never` |
//! | `retires` | retires as soon as the cluster is ready |
//! | `code=CODE` | chooses its exit code |
//!
//! After that it serves with one thread for each listener and one more, or, as an agent, waits until it has to
//! leave.

use std::fs;
use std::io::Read;
use std::panic;
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

use worker_proto::ids::Role;
use worker_proto::{Event, HookResult, OnPanic, Server, Worker};

use crate::answer::{announce, answer};
use crate::code;

pub(crate) fn live(wishes: &[&str]) -> ExitCode {
    let worker = Worker::connect().expect("connect");
    let mut chosen = None;
    let mut target = None;
    for wish in wishes {
        let (wish, how) = wish.split_once('=').unwrap_or((wish, ""));
        match wish {
            "aborts" => panic::set_hook(Box::new(|_| std::process::abort())),
            "exits" => exit_at_a_panic(how.parse().expect("an exit code")),
            "catches" => catch(&worker),
            "terminates" => worker.handle_termination().expect("wait for SIGTERM"),
            "listens" => target = Some(how),
            "fails" => panic!("asked to fail"),
            "begins" => begin(&worker, how.to_owned()),
            "stops" => stop(&worker, how),
            "retires" => retire_when_ready(&worker),
            "code" => chosen = Some(code(how)),
            unknown => panic!("unknown wish {unknown}"),
        }
    }
    match worker.identity().role {
        Role::Agent => {
            worker.ready().expect("ready");
            attend(&worker);
        }
        Role::Worker => {
            if let Err(err) = serve(&worker, target) {
                worker.report(&err);
                _ = worker.leave();
                return ExitCode::FAILURE;
            }
        }
    }
    let usual = worker.leave();
    chosen.unwrap_or(usual)
}

fn serve(worker: &Worker, target: Option<&str>) -> Result<(), String> {
    let listeners = match target {
        Some(target) => worker.listen(target).map(|listener| vec![listener]),
        None => worker.listen_declared_or("127.0.0.1:0"),
    };
    let listeners = listeners.map_err(|err| format!("listen: {err}"))?;
    worker.ready().expect("ready");
    let requests = AtomicU64::new(0);
    let served = Server::new()
        .max_threads(listeners.len() + 1)
        .serve(listeners, |connection| {
            answer(worker, &requests, connection);
        });
    served.map(drop).map_err(|err| format!("serve: {err}"))
}

/// Panics when everybody is ready, and again; leaves when it is told to.
fn attend(worker: &Worker) {
    for event in worker.events() {
        announce(&format!("agent: {event:?}"));
        if event != Event::ClusterReady {
            break;
        }
        for message in ["the first time", "harmless", "the second time"] {
            let outcome = thread::spawn(move || panic::panic_any(message)).join();
            assert!(outcome.is_err());
        }
    }
}

fn catch(worker: &Worker) {
    let usual = OnPanic::usual_for(worker.identity().role);
    worker.catch_panics_with(move |panic| {
        let payload = panic.payload();
        let is_harmless = payload.downcast_ref::<&str>() == Some(&"harmless")
            || payload.downcast_ref::<String>().map(String::as_str) == Some("harmless");
        if is_harmless { OnPanic::Ignore } else { usual }
    });
}

#[allow(clippy::disallowed_methods, reason = "it is what is tried")]
fn exit_at_a_panic(code: i32) {
    panic::set_hook(Box::new(move |_| std::process::exit(code)));
}

fn begin(worker: &Worker, fifo: String) {
    let (work, draining) = (worker.begin_work(), worker.draining());
    thread::spawn(move || {
        while !draining.wait(Duration::from_secs(60)) {}
        announce("drains, with work under way");
        let mut fifo = fs::File::open(fifo).expect("open the FIFO");
        fifo.read_exact(&mut [0]).expect("read the FIFO");
        announce("work finished");
        drop(work);
    });
}

fn stop(worker: &Worker, how: &str) {
    let hook: fn() -> HookResult = match how {
        "well" => || Ok(()),
        "badly" => || Err("no such file".into()),
        "panicking" => || panic!("asked to"),
        "never" => || loop {
            thread::park();
        },
        unknown => panic!("unknown way {unknown}"),
    };
    let act = move || {
        announce("the last hook");
        hook()
    };
    match how {
        // To write a backtrace may take long.
        "panicking" => worker.on_stop_within(Duration::from_secs(10), act),
        _ => worker.on_stop(act),
    }
}

fn retire_when_ready(worker: &Worker) {
    let (alarm, events) = (worker.alarm(), worker.events());
    thread::spawn(move || {
        if events.iter().any(|event| event == Event::ClusterReady) {
            alarm.retire("again");
        }
    });
}
