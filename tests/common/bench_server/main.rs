//! The program that is measured: a poll loop that answers every request with the same bytes. Alone
//! it is the floor, a bare server in one process; under a master it is a worker.
//!
//! ```text
//! bench_server 127.0.0.1:8000      the floor
//! bench_server unix:PATH           one of those behind a proxy
//! bench_server ADDRESS --threads 4 one process, and its threads accept from one socket
//! bench_server ADDRESS --burn 50   about so many microseconds of a CPU for each request
//! bench_server ADDRESS --pad 40    answers that are longer by a header of so many bytes
//! rr-master -l ADDRESS bench_server
//! rr-master -l ADDRESS bench_server --pool    a thread for each connection
//! ```
//!
//! A connection is read at once, and given to epoll only when there was nothing to read yet.

#![allow(
    clippy::disallowed_methods,
    reason = "not for the library: runs in real time"
)]

mod answer;
mod burn;
mod options;
mod poll_loop;
mod pool;
mod source;

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result};
use worker_proto::Worker;
use worker_proto::frame::ListenOptions;

use self::answer::Answer;
use self::options::Options;
use self::poll_loop::PollLoop;
use self::source::Source;

fn main() -> Result<ExitCode> {
    let options = Options::read()?;
    let answer = Answer::padded(options.pad);
    match options.address {
        Some(address) => {
            let source = Source::bind(&address, options.defer_accept)?;
            // Nobody need read it.
            _ = writeln!(stdout(), "listening on {}", source.address()?);
            thread::scope(|scope| {
                for _ in 1..options.threads {
                    let source = source.share()?;
                    scope.spawn(|| PollLoop::new(source, &answer, options.burn)?.run());
                }
                PollLoop::new(source, &answer, options.burn)?.run()
            })?;
            Ok(ExitCode::SUCCESS)
        }
        None => {
            let worker = Worker::connect().context("join the master")?;
            let declared = worker.declared();
            let name = &declared.first().context("no listener is declared")?.name;
            if options.pool {
                let listener = worker.listen(name)?;
                worker.ready()?;
                pool::serve(listener, &answer, options.burn)?;
            } else {
                let how = ListenOptions {
                    nonblocking: true,
                    max_batch: options.batch,
                    ..ListenOptions::default()
                };
                let listener = worker.listen_with(name, how)?;
                worker.ready()?;
                let source = Source::Cluster {
                    listener,
                    batch: Vec::new(),
                };
                PollLoop::new(source, &answer, options.burn)?.run()?;
            }
            Ok(worker.leave())
        }
    }
}
