//! Many rolling reloads under load, and what its clients saw of them.
//!
//! Some clients open a connection for every request, some keep theirs and pause as long as people do.
//! Nothing is tried again: a request without a whole answer has failed. It ends by itself, with code 1
//! when one has, or when there were too few in the rotation. See `scripts/reloads`.
#![allow(clippy::disallowed_methods, reason = "measures and waits in real time")]

mod clients;
#[path = "../mod.rs"]
mod common;
mod watch;

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sys::signal::Signal;

use crate::clients::{Clients, Tally};
use crate::common::{Cluster, example, processes};
use crate::watch::{Rotation, Watch};

/// Reload a cluster again and again under load, and count the requests that failed
#[derive(Debug, Parser)]
struct Args {
    /// How many reloads
    #[arg(long, default_value_t = 200)]
    reloads: u32,

    /// How many workers
    #[arg(long, default_value_t = 4)]
    workers: usize,

    /// How many clients of each kind
    #[arg(long, default_value_t = 8)]
    clients: usize,

    /// How long a worker takes to boot at most, in milliseconds; each takes another time
    #[arg(long, default_value_t = 2000)]
    boot: u64,

    /// Flags for the master, for instance `--surge 4 --canary 0s`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    flags: Vec<String>,
}

/// What came of it.
struct Report {
    reloads: u32,
    took: Duration,
    longest: Duration,
    tally: Tally,
    rotation: Rotation,
    workers: usize,
    generations: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let report = run(&args);
    print!("{report}");
    if report.tally.failures.is_empty() && report.rotation.fewest >= args.workers {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run(args: &Args) -> Report {
    let (boot, hello) = (args.boot.to_string(), example("hello_http"));
    let mode = ["boot", &boot, hello.to_str().expect("UTF-8")];
    let directory = tempfile::tempdir().expect("a directory");
    let control = directory.path().join("control.sock");
    let mut flags = vec!["--control", control.to_str().expect("UTF-8")];
    flags.extend(args.flags.iter().map(String::as_str));
    let (mut cluster, address) = Cluster::in_mode(&mode, args.workers, &flags);
    let master = cluster.pid();
    let clients = Clients::start(address, args.clients);
    let watch = Watch::start(control.clone());
    let begin = Instant::now();
    let mut longest = Duration::ZERO;
    for reload in 1..=args.reloads {
        let since = Instant::now();
        cluster.signal(Signal::SIGHUP);
        cluster.await_within(PATIENCE, "end of the reload", |line| {
            assert!(!line.contains("given up"), "{line}");
            line.contains("reload: all at generation")
        });
        longest = longest.max(since.elapsed());
        if io::stderr().is_terminal() {
            eprint!("\r{reload} of {} reloads\r", args.reloads);
        }
    }
    let rotation = watch.stop();
    let tally = clients.stop();
    let took = begin.elapsed();
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert_eq!(processes::of_master(master), []);
    let generations: BTreeSet<u64> = tally.generations.iter().copied().collect();
    Report {
        reloads: args.reloads,
        took,
        longest,
        generations: generations.len(),
        rotation,
        workers: args.workers,
        tally,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = &self.tally;
        writeln!(f, "reloads                        {}", self.reloads)?;
        writeln!(f, "duration                       {:.0?}", self.took)?;
        writeln!(f, "longest reload                 {:.1?}", self.longest)?;
        writeln!(f, "generations that answered      {}", self.generations)?;
        let Rotation {
            looks,
            fewest,
            most,
        } = self.rotation;
        writeln!(
            f,
            "in the rotation, at the least  {fewest} of {} ({looks} looks)",
            self.workers
        )?;
        writeln!(f, "workers, at the most           {most}")?;
        writeln!(f, "requests, a connection each    {}", tally.single)?;
        writeln!(f, "requests on kept connections   {}", tally.kept)?;
        writeln!(f, "longest answer                 {:.1?}", tally.longest)?;
        writeln!(f, "failed                         {}", tally.failures.len())?;
        for failure in tally.failures.iter().take(10) {
            writeln!(f, "  {failure}")?;
        }
        Ok(())
    }
}

/// A reload in which every worker takes its time, one after the other.
const PATIENCE: Duration = Duration::from_secs(120);
