//! `scribe FILE`: writes numbered lines to a log, each with its own worker id, and opens the file again
//! when it is told to. At the end it says how many they were.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use worker_proto::{Event, Worker};

use crate::answer::announce;

pub(crate) fn live(path: &str) -> ExitCode {
    let worker = Worker::connect().expect("connect");
    let id = worker.identity().worker.0;
    let events = worker.events();
    let mut file = open(path);
    worker.ready().expect("ready");
    let mut written = 0;
    loop {
        // On a busy machine a pause lasts long.
        let pause = if written % BURST == 0 {
            PAUSE
        } else {
            Duration::ZERO
        };
        match events.recv_timeout(pause) {
            Ok(Event::ReopenLogs) => file = open(path),
            Ok(Event::Drain { .. } | Event::MasterGone) | Err(RecvTimeoutError::Disconnected) => {
                break;
            }
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
        }
        let line = format!("{id} {written} of a writer that has much to say about very little\n");
        // Beside the others: in one piece, or lines would be torn.
        let length = file.write(line.as_bytes()).expect("write to the log");
        assert_eq!(length, line.len());
        written += 1;
    }
    announce(&format!("scribe {id} wrote {written}"));
    worker.leave()
}

fn open(path: &str) -> File {
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).open(path);
    file.expect("open the log")
}

/// Between two bursts of lines.
const PAUSE: Duration = Duration::from_millis(1);

const BURST: u64 = 16;
