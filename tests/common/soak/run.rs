//! One run, from the master's start to its end.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::common::client::Server;
use crate::common::evidence::client::Account;
use crate::common::evidence::fate::CALM;
use crate::common::evidence::witness::Testimony;
use crate::common::{Cluster, DEADLINE, Ended, test_worker};
use crate::curve::Curve;
use crate::load::Load;
use crate::progress::Progress;
use crate::reaper::Reaper;

/// A run under way.
struct Run<'a> {
    evidence: &'a Path,
    cluster: Cluster,
    reaper: Reaper,
    curve: Curve,
    log: Tally,
}

/// What the master's log told.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Workers that a SIGKILL has ended.
    pub(crate) kills: u64,
    /// Connections taken back from dead workers.
    pub(crate) reclaimed: u64,
    /// Ready and not ended.
    alive: BTreeSet<u64>,
}

/// A run that has come to its end.
pub(crate) struct Finished {
    pub(crate) accounts: Vec<Account>,
    pub(crate) testimonies: Vec<Testimony>,
    /// Workers that were killed from outside.
    pub(crate) killed: BTreeSet<u64>,
    pub(crate) reclaimed: u64,
    pub(crate) curve: Curve,
    pub(crate) took: Duration,
    pub(crate) ended: Ended,
}

pub(crate) fn run(args: &Args, evidence: &Path) -> Finished {
    let begun = Instant::now();
    let mut cluster = start(args, evidence);
    let address = cluster.address();
    let mut run = Run {
        evidence,
        reaper: Reaper::of(cluster.pid(), args.seed),
        curve: Curve::of(cluster.pid()),
        log: Tally::default(),
        cluster,
    };
    run.await_all(args.workers);
    run.curve.restart();
    let load = Load::start(address, args.concurrency);
    run.soak(args, &load);
    load.stop();
    while !load.is_over() {
        run.listen(Instant::now() + MOMENT);
    }
    run.await_all(args.workers);
    run.curve.look();

    let took = begun.elapsed();
    let ended = run.cluster.stop();
    fs::write(evidence.join("log"), &ended.log).expect("keep the log");
    Finished {
        accounts: load.accounts(),
        testimonies: Testimony::all(evidence).expect("what the workers say"),
        killed: run.reaper.into_killed(),
        reclaimed: run.log.reclaimed,
        curve: run.curve,
        took,
        ended,
    }
}

/// A master that never loses patience with its workers.
fn start(args: &Args, evidence: &Path) -> Cluster {
    let (workers, seed) = (args.workers.to_string(), format!("seed:{}", args.seed));
    let worker = test_worker();
    let flags = "-l 127.0.0.1:0 --restart-limit 100000/1s --backoff 1ms..1ms -w";
    let (worker, evidence) = (path(&worker), path(evidence));
    // Who dies at the start ends the start.
    let first = [worker, "by-life", "witness", evidence, "none"];
    let further = ["then", "witness", evidence, &seed];
    let flags = flags.split(' ').chain([workers.as_str()]);
    Cluster::start(flags.chain(first).chain(further))
}

impl Run<'_> {
    /// Until there were enough kills and connections.
    fn soak(&mut self, args: &Args, load: &Load) {
        let mut progress = Progress::new();
        let mut served = (load.calls(), Instant::now());
        let mut is_calm = false;
        while !is_calm || load.calls() < args.connections {
            if self.log.kills < args.kills {
                self.reaper.kill_due();
            } else if !is_calm {
                is_calm = true;
                self.calm_down();
            }
            self.listen(Instant::now() + MOMENT);
            self.curve.look_if_due();
            progress.show(self.log.kills, load.calls());
            if load.calls() > served.0 {
                served = (load.calls(), Instant::now());
            }
            assert!(served.1.elapsed() < DEADLINE, "nobody is served any more");
        }
        progress.clear();
    }

    /// From now on no fate comes. Who has met one lives on with the consequences: everybody is
    /// replaced a last time, and those again whom the log has not told of yet.
    fn calm_down(&mut self) {
        fs::write(self.evidence.join(CALM), "").expect("make the file");
        if self.reaper.killed().is_empty() && self.log.kills == 0 {
            return;
        }
        for _ in 0..2 {
            self.reaper.kill_all();
            self.listen(Instant::now() + LOG_DELAY);
        }
    }

    fn await_all(&mut self, workers: usize) {
        let deadline = Instant::now() + DEADLINE;
        while self.log.alive.len() < workers {
            self.listen(Instant::now() + MOMENT);
            assert!(Instant::now() < deadline, "not everybody is ready");
        }
    }

    /// Takes in what the log tells until then.
    fn listen(&mut self, until: Instant) {
        while let Some(line) = self.cluster.next_line(until) {
            if let Some(worker) = self.log.note(line) {
                self.reaper.note(&worker);
            }
        }
    }
}

impl Tally {
    /// Reads a line; answers who is ready by it.
    fn note(&mut self, line: &str) -> Option<Server> {
        let (_, told) = line.split_once("] w")?;
        if let Some((who, _)) = told.split_once(" ready after ") {
            let worker = Server::parse(&format!("id={who}"))?;
            self.alive.insert(worker.id);
            return Some(worker);
        }
        let (id, what) = told.split_once(' ')?;
        if what.contains(" exited after ") {
            self.alive.remove(&id.parse().ok()?);
            self.kills += u64::from(what.contains(": signal SIGKILL"));
        } else if let Some((before, _)) = what.split_once(" unread connections reclaimed") {
            let (_, count) = before.rsplit_once(' ')?;
            self.reclaimed += count.parse::<u64>().ok()?;
        }
        None
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

const MOMENT: Duration = Duration::from_millis(2);

/// Long beside the time that a line of the log takes.
const LOG_DELAY: Duration = Duration::from_millis(200);
