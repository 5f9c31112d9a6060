//! Does jobs: one that the configuration has, and one that the workers themselves want.
//!
//! ```text
//! cargo build --example jobs
//! rr-master -w 4 --job 'name="count", interval="2s", timeout="1s"' target/debug/examples/jobs
//! rr-ctl job list
//! rr-ctl job run sweep --wait
//! rr-ctl events --follow
//! ```
//!
//! Every two seconds one of the four counts the files in its directory; every night at half past four,
//! Berlin time, one of them sweeps. Kill whoever is at it: `sweep` is run again by another.

use std::error::Error;
use std::fs;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use worker_proto::job::{JobSpec, OnLost, Schedule};
use worker_proto::{Event, JobRun, Worker};

fn main() -> ExitCode {
    live().unwrap_or_else(|err| {
        eprintln!("jobs: {err}");
        ExitCode::FAILURE
    })
}

fn live() -> Result<ExitCode, Box<dyn Error>> {
    let worker = Worker::connect()?;
    worker.on_job("count", |_| count());
    worker.on_job("sweep", |run| sweep(&run));
    // All of them want the same, so it is one job.
    worker.register_job(nightly("sweep"))?;
    worker.ready()?;
    let events = worker.events();
    let is_end = |event: &Event| matches!(event, Event::Drain { .. } | Event::MasterGone);
    let _ = events.iter().find(is_end);
    // Waits for what runs.
    Ok(worker.leave())
}

fn count() -> io::Result<String> {
    let files = fs::read_dir(".")?.count();
    Ok(format!("{files} files"))
}

/// Something that takes its time, and stops when nobody waits for it any more.
fn sweep(run: &JobRun) -> Result<String, String> {
    for corner in 1..=4 {
        if run.wait_cancelled(Duration::from_secs(1)) {
            return Err(format!("had no time for corner {corner}"));
        }
    }
    Ok(format!("4 corners, attempt {}", run.attempt()))
}

fn nightly(name: &str) -> JobSpec {
    let schedule = Schedule::Cron {
        expression: "30 4 * * *".to_owned(),
        time_zone: Some("Europe/Berlin".to_owned()),
    };
    JobSpec {
        timeout: Some(Duration::from_secs(600)),
        on_lost: OnLost::Retry,
        ..JobSpec::new(name, schedule)
    }
}
