//! Faults at exact points of a worker's life: what is lost with it, to the connection, and that
//! nothing else is.
//!
//! Slot 0 has a fate, see `tests/common/evidence/fate.rs`; slot 1 serves whatever happens. Clients
//! connect in turn, so every other connection is slot 0's, and ask only when the test lets them:
//! how many connections the worker has in hand when its fate comes is known.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use common::client::Server;
use common::evidence::client::{Account, Caller, Ending, call};
use common::evidence::fate::CALM;
use common::evidence::verdict::{Broken, Verdict};
use common::evidence::witness::Testimony;
use common::{Cluster, await_condition, example, processes, test_worker};

/// Before it is ready a worker has no connection, so none is lost.
#[test]
fn a_replacement_that_is_killed_before_it_is_ready_costs_nobody_anything() {
    for state in ["spawned", "hello-sent", "listening"] {
        let mut trial = Trial::start("packet-unread:kill:0", &format!("{state}:kill"));
        trial.call(4);
        trial.await_line("w3 slot=0", "exited after");
        trial.call(8);
        trial.calm();
        trial.cluster.await_line("its successor", |line| {
            line.contains(" slot=0") && line.contains("ready after")
        });
        trial.call(8);
        trial.finish().expect(20, 0);
    }
}

#[test]
fn a_worker_that_is_killed_when_it_is_ready_costs_nobody_anything() {
    let mut trial = Trial::start("none", "ready:kill");
    trial.kill_first();
    trial.await_line("w3 slot=0", "exited after");
    trial.call(8);
    trial.finish().expect(8, 0);
}

/// Three are in hand; the one in the queue, and whoever comes later, is served.
#[test]
fn a_worker_that_is_killed_with_a_packet_unread_loses_only_what_it_has_in_hand() {
    dies_before_it_is_asked("packet-unread:kill:3").expect(5, 3);
}

#[test]
fn a_worker_that_is_killed_with_a_packet_read_loses_it() {
    dies_before_it_is_asked("packet-read:kill:3").expect(4, 4);
}

/// What it gave back is not lost with it, told or not.
#[test]
fn a_worker_that_is_killed_giving_its_listener_back_loses_only_what_it_has_in_hand() {
    dies_before_it_is_asked("unlistened:kill:3").expect(5, 3);
}

#[test]
fn a_worker_that_is_killed_after_its_goodbye_loses_only_what_it_has_in_hand() {
    dies_before_it_is_asked("goodbye-sent:kill:3").expect(5, 3);
}

#[test]
fn a_worker_that_is_killed_before_its_answer_loses_that_connection() {
    dies_of_being_asked("request-read:kill:3").expect(7, 1);
}

/// The client sees that the answer is not whole.
#[test]
fn a_worker_that_is_killed_in_its_answer_loses_that_connection() {
    let finished = dies_of_being_asked("half-answered:kill:3");
    let short = Ending::Short { received: 16 };
    assert_eq!(finished.accounts[6].ending, short);
    finished.expect(7, 1);
}

#[test]
fn a_worker_that_is_killed_after_its_answer_loses_nothing() {
    dies_of_being_asked("answered:kill:3").expect(8, 0);
}

/// The cluster ends all the same, and the other worker finishes what it has.
#[test]
fn a_worker_that_is_killed_while_it_drains_loses_what_it_has_in_hand() {
    let mut trial = Trial::start("draining:kill", "none");
    let callers = trial.connect(8);
    trial.await_receipts(1, 4);
    trial.await_receipts(2, 4);
    trial.cluster.signal(Signal::SIGTERM);
    trial.await_line("w1 slot=0", "signal SIGKILL");
    trial.ask(callers);
    trial.finish().expect(4, 4);
}

/// When all have been told to drain no queue is open any more: what one of them leaves unread then
/// cannot be served, and the master says how much that is.
#[test]
fn what_a_worker_leaves_unread_when_all_drain_is_counted() {
    let mut trial = Trial::with_window(32, ["packet-unread:stop:0", "none", "draining:slow"]);
    let callers = trial.connect(8);
    trial.await_stopped();
    trial.await_receipts(2, 4);
    trial.cluster.signal(Signal::SIGTERM);
    trial.await_witness(2, |said| said.fate.is_some());
    trial.kill_first();
    trial.await_line("w1", "exited after");
    let asked = ask_at_once(callers);
    trial.hear(asked);
    let finished = trial.finish();
    assert!(finished.has("", "4 connections refused: no worker is left"));
    let lost = finished
        .verdict
        .count(|broken| matches!(broken, Broken::Lost(..)));
    assert_eq!((lost, finished.verdict.broken.len()), (4, 4));
    assert_eq!(finished.answered_by(2), 4);
}

#[test]
fn a_worker_that_is_killed_after_its_farewell_costs_nobody_anything() {
    let mut trial = Trial::start("exiting:kill", "none");
    trial.call(8);
    let finished = trial.finish();
    assert!(finished.has("w1 slot=0", "signal SIGKILL"));
    finished.expect(8, 0);
}

/// Stopped is not dead: what is in its queue waits for it.
#[test]
fn a_worker_that_stops_and_goes_on_answers_all_that_waited() {
    let mut trial = Trial::start("packet-unread:stop:0", "none");
    let callers = trial.connect(8);
    let worker = trial.await_stopped();
    let asked = ask_at_once(callers);
    processes::thaw(worker);
    trial.hear(asked);
    let finished = trial.finish();
    assert_eq!(finished.answered_by(1), 4);
    finished.expect(8, 0);
}

/// Stopped and killed: what is in its queue goes to others, and it cannot have had any in hand.
#[test]
fn a_worker_that_stops_and_is_killed_loses_nothing_unread() {
    let mut trial = Trial::start("packet-unread:stop:0", "none");
    let callers = trial.connect(8);
    trial.await_stopped();
    let asked = ask_at_once(callers);
    trial.kill_first();
    trial.await_line("w1", "4 unread connections reclaimed");
    trial.hear(asked);
    trial.finish().expect(8, 0);
}

#[test]
fn a_worker_that_exits_loses_what_it_has_in_hand() {
    let finished = dies_before_it_is_asked("packet-read:exit:3");
    assert!(finished.has("w1 slot=0", "code 23"));
    finished.expect(4, 4);
}

/// It may still finish what it has in hand, within the grace that an orphan has.
#[test]
fn a_worker_that_closes_its_channel_loses_nothing_unread() {
    let finished = dies_before_it_is_asked("packet-unread:close:3");
    assert!(finished.has("w1 slot=0", "closed its control channel"));
    finished.expect_at_most_lost(4);
}

#[test]
fn a_worker_that_sends_garbage_loses_nothing_unread() {
    let finished = dies_before_it_is_asked("packet-unread:garbage:3");
    assert!(finished.has("w1 slot=0", "broke the protocol"));
    finished.expect_at_most_lost(4);
}

/// A socket that lingers over unsent data blocks whoever closes it last for ten seconds here
/// (`socket(7)`): the others do not wait for that.
#[test]
fn a_lingering_socket_sent_to_the_master_delays_nobody() {
    let finished = dies_before_it_is_asked("packet-unread:descriptors:3");
    assert!(finished.has("w1 slot=0", "broke the protocol"));
    let longest = finished.accounts.iter().map(|account| account.took).max();
    assert!(longest < Some(Duration::from_secs(9)), "{longest:?}");
    finished.expect_at_most_lost(4);
}

/// A queue that its worker has shut is at its end for the worker, and what is in it still there.
#[test]
fn a_worker_that_shuts_its_queue_costs_nobody_anything() {
    let mut trial = Trial::start("packet-unread:shut-queue:3", "none");
    let callers = trial.connect(8);
    trial.ask(callers);
    trial.call(8);
    trial.await_line("w3 slot=0", "ready after");
    trial.finish().expect(16, 0);
}

/// What it cannot take waits, or is served by others.
#[test]
fn a_worker_with_a_full_descriptor_table_costs_nobody_anything() {
    let mut trial = Trial::start("packet-unread:fill:3", "none");
    let callers = trial.connect(40);
    let asked = ask_at_once(callers);
    trial.hear(asked);
    trial.finish().expect(40, 0);
}

/// A worker that receives slowly delays what its window holds; the others serve the rest.
#[test]
fn a_slow_worker_delays_no_more_than_its_window() {
    const WINDOW: usize = 4;
    let mut trial = Trial::with_window(WINDOW, ["packet-unread:slow:0", "none", "none"]);
    let callers = trial.connect(60);
    let asked = ask_at_once(callers);
    trial.hear(asked);
    let finished = trial.finish();
    assert!(finished.answered_by(1) < finished.answered_by(2));
    finished.expect(60, 0);
}

/// Clients that say nothing have a worker's threads; the next ones are served by the other.
#[test]
fn clients_that_are_slow_to_ask_are_answered_when_they_do() {
    let mut trial = Trial::start("none", "none");
    let slow = trial.connect(6);
    trial.await_receipts(1, 3);
    trial.await_receipts(2, 3);
    trial.call(40);
    trial.ask(slow);
    trial.finish().expect(46, 0);
}

/// The whole thing under load, as `scripts/soak` does it.
#[test]
fn no_connection_is_lost_unread_when_workers_die_at_any_point() {
    let soak = Command::new(example("soak"))
        .args(["--kills", "100", "--workers", "4", "--concurrency", "8"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&soak.stdout);
    assert!(soak.status.success(), "{report}");
    for expected in ["not received by any worker", "served twice"] {
        let line = report.lines().find(|line| line.contains(expected));
        assert!(line.is_some_and(|line| line.ends_with(" 0")), "{report}");
    }
}

/// Eight connect; slot 0 dies before one of them asks.
fn dies_before_it_is_asked(fate: &str) -> Finished {
    let mut trial = Trial::start(fate, "none");
    let callers = trial.connect(8);
    trial.await_line("w1 slot=0", "exited after");
    trial.ask(callers);
    trial.finish()
}

/// Eight connect, and ask one after the other.
fn dies_of_being_asked(fate: &str) -> Finished {
    let mut trial = Trial::start(fate, "none");
    let callers = trial.connect(8);
    trial.await_receipts(1, 4);
    trial.ask(callers);
    trial.await_line("w1 slot=0", "signal SIGKILL");
    trial.finish()
}

/// Two workers, the first with a fate, and everything that their clients saw.
struct Trial {
    cluster: Cluster,
    address: SocketAddr,
    evidence: TempDir,
    accounts: Vec<Account>,
    killed: BTreeSet<u64>,
}

/// What is left of a trial.
struct Finished {
    accounts: Vec<Account>,
    verdict: Verdict,
    log: String,
}

impl Trial {
    /// The fate of the first process of slot 0, and of those that replace it.
    fn start(first: &str, next: &str) -> Self {
        Self::with_window(32, [first, next, "none"])
    }

    /// The same, and the fate of slot 1.
    fn with_window(window: usize, [first, next, other]: [&str; 3]) -> Self {
        let evidence = tempfile::tempdir().unwrap();
        let (worker, window) = (test_worker(), window.to_string());
        let directory = evidence.path().to_str().unwrap();
        let witness = ["witness", directory];
        let flags = ["-w", "2", "-l", "127.0.0.1:0", "--window", &window];
        let slot_0 = [
            &["by-life"],
            &witness[..],
            &[first, "then"],
            &witness,
            &[next],
        ]
        .concat();
        let slot_1 = [&witness[..], &[other]].concat();
        let program = [
            &[worker.to_str().unwrap(), "by-slot"],
            &slot_0[..],
            &["--"],
            &slot_1,
        ];
        let mut cluster = Cluster::start([&flags[..], &program.concat()].concat());
        let address = cluster.address();
        cluster.await_ready();
        Trial {
            cluster,
            address,
            evidence,
            accounts: Vec::new(),
            killed: BTreeSet::new(),
        }
    }

    /// So many connections, one after the other, that say nothing yet.
    fn connect(&self, count: usize) -> Vec<Caller> {
        let connect = |_| Caller::connect(self.address).expect("let in");
        (0..count).map(connect).collect()
    }

    /// One asks when the one before has its answer.
    fn ask(&mut self, callers: Vec<Caller>) {
        self.accounts.extend(callers.into_iter().map(Caller::ask));
    }

    fn hear(&mut self, asked: Vec<thread::JoinHandle<Account>>) {
        let accounts = asked
            .into_iter()
            .map(|asked| asked.join().expect("a client"));
        self.accounts.extend(accounts);
    }

    /// So many whole conversations, one after the other.
    fn call(&mut self, count: usize) {
        let address = self.address;
        self.accounts.extend((0..count).map(|_| call(address)));
    }

    /// Kills the first process of slot 0 from outside.
    fn kill_first(&mut self) {
        kill(self.first().pid(), Signal::SIGKILL).unwrap();
        self.killed.insert(1);
    }

    fn first(&self) -> Server {
        self.cluster.worker(0)
    }

    /// From now on no fate comes.
    fn calm(&self) {
        fs::write(self.evidence.path().join(CALM), "").unwrap();
    }

    fn await_line(&mut self, who: &str, what: &str) {
        self.cluster
            .find_line(what, |line| line.contains(who) && line.contains(what));
    }

    /// Waits until the worker has received so many connections.
    fn await_receipts(&self, worker: u64, count: usize) {
        self.await_witness(worker, |said| said.receipts.len() == count);
    }

    /// Waits until the worker's witness says that.
    fn await_witness(&self, worker: u64, wanted: impl Fn(&Testimony) -> bool) {
        await_condition("its witness", || {
            let said = Testimony::all(self.evidence.path()).unwrap();
            said.iter()
                .any(|said| said.worker == worker && wanted(said))
        });
    }

    /// Waits until the first process of slot 0 has stopped itself.
    fn await_stopped(&self) -> Pid {
        let worker = self.first().pid();
        await_condition("its stop", || {
            processes::status(worker, "State").starts_with('T')
        });
        worker
    }

    /// The master's end, and the verdict.
    fn finish(self) -> Finished {
        if !self.cluster.log().contains("SIGTERM received") {
            self.cluster.signal(Signal::SIGTERM);
        }
        let ended = self.cluster.wait();
        let (_, end) = ended.log.split_once(" stopping ").expect("its end");
        let code = if end.contains(": signal SIGKILL") {
            7
        } else {
            0
        };
        assert_eq!(ended.code(), code, "{}", ended.log);
        let testimonies = Testimony::all(self.evidence.path()).unwrap();
        Finished {
            verdict: Verdict::weigh(&self.accounts, &testimonies, &self.killed),
            accounts: self.accounts,
            log: ended.log,
        }
    }
}

impl Finished {
    /// So many were answered, so many were lost that a dead worker had received, nothing else
    /// happened to anybody.
    fn expect(&self, answered: u64, lost: u64) {
        let what = format!("{:?}\n{}", self.verdict, self.log);
        assert_eq!(self.verdict.broken, [], "{what}");
        assert_eq!(self.verdict.lost_when_possibly_received, 0, "{what}");
        assert_eq!(self.verdict.lost_when_received, lost, "{what}");
        let once = self.verdict.endings.get("answered once").copied();
        assert_eq!(once.unwrap_or(0), answered, "{what}");
    }

    /// The same, of eight, where it is the worker's affair how many it still answered.
    fn expect_at_most_lost(&self, most: u64) {
        let lost = self.verdict.lost_when_received;
        assert!(lost <= most, "{lost} lost\n{}", self.log);
        self.expect(8 - lost, lost);
    }

    fn has(&self, who: &str, what: &str) -> bool {
        let mut lines = self.log.lines();
        lines.any(|line| line.contains(who) && line.contains(what))
    }

    fn answered_by(&self, worker: u64) -> usize {
        let is_by = |account: &&Account| matches!(account.ending, Ending::Once(answer) if answer.worker == worker);
        self.accounts.iter().filter(is_by).count()
    }
}

/// All ask, and nobody waits for another's answer.
fn ask_at_once(callers: Vec<Caller>) -> Vec<thread::JoinHandle<Account>> {
    let ask = |caller: Caller| thread::spawn(|| caller.ask());
    callers.into_iter().map(ask).collect()
}
