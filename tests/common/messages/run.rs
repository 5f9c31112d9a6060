//! One run, from the master's start to its end.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::args::Args;
use crate::common::client::Server;
use crate::common::{Cluster, DEADLINE, Ended, processes, test_worker};
use crate::ledger;
use crate::reaper::Reaper;

/// A run that has come to its end.
pub(crate) struct Finished {
    pub(crate) account: Account,
    pub(crate) kills: usize,
    /// While messages were sent.
    pub(crate) took: Duration,
    pub(crate) most_resident: u64,
    pub(crate) ended: Ended,
}

struct Run<'a> {
    ledgers: &'a Path,
    cluster: Cluster,
    reaper: Reaper,
    /// Ready and not ended.
    alive: BTreeSet<u64>,
    most_resident: u64,
}

pub(crate) fn run(args: &Args, ledgers: &Path) -> Finished {
    let cluster = start(args, ledgers);
    let mut run = Run {
        ledgers,
        reaper: Reaper::of(cluster.pid(), args.kill_every, args.seed),
        cluster,
        alive: BTreeSet::new(),
        most_resident: 0,
    };
    run.await_all(args.workers);
    let begun = Instant::now();
    run.soak(args);
    let took = begun.elapsed();
    run.settle(args.workers);
    let ended = run.cluster.stop();
    fs::write(ledgers.join("log"), &ended.log).expect("keep the log");
    let killed = run.reaper.into_killed();
    Finished {
        account: Account::of(ledgers, &killed).expect("the ledgers"),
        kills: killed.len(),
        took,
        most_resident: run.most_resident,
        ended,
    }
}

fn start(args: &Args, ledgers: &Path) -> Cluster {
    let (workers, threads) = (args.workers.to_string(), args.threads.to_string());
    let worker = test_worker();
    let flags = "--restart-limit 100000/1s --backoff 1ms..1ms -w";
    let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    let program = [
        path(&worker),
        "correspond".to_owned(),
        path(ledgers),
        threads,
    ];
    let flags = flags.split(' ').map(str::to_owned).chain([workers]);
    Cluster::start(flags.chain(program))
}

impl Run<'_> {
    fn soak(&mut self, args: &Args) {
        let mut moved = (0, Instant::now());
        let mut look = Instant::now();
        while moved.0 < args.messages {
            self.reaper.kill_due();
            self.listen(Instant::now() + MOMENT);
            if look.elapsed() < LOOK_EVERY {
                continue;
            }
            look = Instant::now();
            self.most_resident = self.most_resident.max(self.resident());
            let received = ledger::received(self.ledgers).expect("the ledgers");
            if received > moved.0 {
                moved = (received, Instant::now());
            }
            assert!(moved.1.elapsed() < DEADLINE, "nothing is received any more");
        }
    }

    /// Until everybody has all its receipts.
    fn settle(&mut self, workers: usize) {
        fs::write(self.ledgers.join(ledger::OVER), "").expect("make the file");
        self.await_all(workers);
        let deadline = Instant::now() + DEADLINE;
        let is_done = |worker: &u64| ledger::done(self.ledgers, *worker).exists();
        while !self.alive.iter().all(is_done) {
            std::thread::park_timeout(MOMENT);
            assert!(Instant::now() < deadline, "not everybody is done");
        }
    }

    fn await_all(&mut self, workers: usize) {
        let deadline = Instant::now() + DEADLINE;
        // Whoever was killed last may not have been told of yet.
        self.listen(Instant::now() + LOG_DELAY);
        while self.alive.len() < workers {
            self.listen(Instant::now() + MOMENT);
            assert!(Instant::now() < deadline, "not everybody is ready");
        }
    }

    /// Takes in what the log tells until then.
    fn listen(&mut self, until: Instant) {
        while let Some(line) = self.cluster.next_line(until) {
            let Some((_, told)) = line.split_once("] w") else {
                continue;
            };
            if let Some((who, _)) = told.split_once(" ready after ") {
                let worker = Server::parse(&format!("id={who}")).expect("a worker");
                self.alive.insert(worker.id);
                self.reaper.note(&worker);
            } else if let Some((id, what)) = told.split_once(' ')
                && what.contains(" exited after ")
            {
                self.alive.remove(&id.parse().expect("an id"));
            }
        }
    }

    fn resident(&self) -> u64 {
        let kib = processes::status(self.cluster.pid(), "VmRSS");
        kib.trim_end_matches(" kB").parse().expect("KiB")
    }
}

const MOMENT: Duration = Duration::from_millis(2);

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Long beside the time that a line of the log takes.
const LOG_DELAY: Duration = Duration::from_millis(200);
