//! A worker that does jobs, and writes down what it does, a line at a time, into one file for all.
//!
//! `test_worker jobs DIR`, with more words: `register NAME=SCHEDULE` has the master run a job, too,
//! and logs what it answers; `flip` registers and unregisters one all the time for a while. While a run of `tick` goes on it holds a lock on `DIR/lock`, which the
//! kernel takes away at the end of the process: two at a time cannot be missed.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use worker_proto::job::{JobSpec, Schedule};
use worker_proto::{Event, JobRun, Worker};

pub(crate) fn live(args: &[&str]) -> ExitCode {
    let (dir, args) = args.split_first().expect("a directory");
    let dir = PathBuf::from(dir);
    let worker = Worker::connect().expect("connect");
    worker.catch_panics();
    let book = dir.clone();
    worker.on_job("tick", move |run| tick(&book, &run));
    worker.on_job("hello", |run| {
        Ok::<_, String>(format!(
            "hello from {} attempt {}",
            process::id(),
            run.attempt()
        ))
    });
    worker.on_job("odd", |_| {
        Ok::<_, String>("one\n\u{1b}[31mtwo\rthree".to_owned())
    });
    worker.on_job("fail", |_| Err::<String, _>("no such luck"));
    worker.on_job("panic", |_| -> Result<String, String> { panic!("oh no") });
    worker.on_job("die", |_| -> Result<String, String> { process::abort() });
    let book = dir.clone();
    worker.on_job("gate", move |run| gate(&book, &run));
    worker.on_job("cancel", |run| {
        while !run.wait_cancelled(Duration::from_secs(60)) {}
        Err::<String, _>("cancelled")
    });
    for word in args.iter().skip_while(|word| **word != "register").skip(1) {
        let (name, schedule) = word.split_once('=').expect("NAME=SCHEDULE");
        let registered = worker.register_job(spec(name, schedule));
        eprintln!("register {name}: {registered:?}");
    }
    if args.contains(&"flip") {
        for _ in 0..300 {
            let registered = worker.register_job(spec("flip", "1000ms"));
            registered.expect("register");
            worker.unregister_job("flip").expect("unregister");
        }
        eprintln!("flipped");
    }
    worker.ready().expect("ready");
    let events = worker.events();
    let is_end = |event: &Event| matches!(event, Event::Drain { .. } | Event::MasterGone);
    let _ = events.iter().find(is_end);
    worker.leave()
}

/// A little work, between two lines.
fn tick(dir: &Path, run: &JobRun) -> Result<String, String> {
    let lock = File::create(dir.join("lock")).map_err(text)?;
    let Ok(lock) = Flock::lock(lock, FlockArg::LockExclusiveNonblock) else {
        note(dir, "beside", run)?;
        return Err("another run goes on".to_owned());
    };
    note(dir, "start", run)?;
    let _ = run.wait_cancelled(Duration::from_millis(8));
    note(dir, "end", run)?;
    drop(lock);
    Ok("tock".to_owned())
}

/// Goes on until there is a file of that name, cancelled or not.
fn gate(dir: &Path, run: &JobRun) -> Result<String, String> {
    note(dir, "start", run)?;
    while !dir.join("gate").exists() {
        // What was cancelled is so from then on, and waits for nothing.
        crossbeam_channel::after(Duration::from_millis(5))
            .recv()
            .map_err(text)?;
    }
    note(dir, "end", run)?;
    Ok(format!(
        "through the gate, cancelled: {}",
        run.is_cancelled()
    ))
}

/// A line is written whole, or not at all.
fn note(dir: &Path, what: &str, run: &JobRun) -> Result<(), String> {
    let mut book = OpenOptions::new()
        .append(true)
        .create(true)
        .open(dir.join("book"))
        .map_err(text)?;
    let (number, attempt, pid) = (run.number(), run.attempt(), process::id());
    book.write_all(format!("{what} {number} {attempt} {pid}\n").as_bytes())
        .map_err(text)
}

fn spec(name: &str, schedule: &str) -> JobSpec {
    let schedule = match schedule.strip_suffix("ms") {
        Some(millis) => {
            let millis = millis.parse().expect("milliseconds");
            Schedule::Interval(Duration::from_millis(millis))
        }
        None => Schedule::Cron {
            expression: schedule.to_owned(),
            time_zone: None,
        },
    };
    JobSpec::new(name, schedule)
}

fn text(err: impl Display) -> String {
    err.to_string()
}
