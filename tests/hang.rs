//! Processes that hang: found, told of, killed and replaced; and those that only seem to.

mod common;

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use common::client::{ask, connect, get};
use common::processes::{freeze, is_alive, pid_in, thaw};
use common::{Cluster, Stopwatch, test_worker};

/// Short, and long enough for a busy machine.
const HANG_TIMEOUT: [&str; 2] = ["--hang-timeout", "500ms"];

#[test]
fn a_stopped_worker_is_aborted_and_replaced_while_the_other_serves() {
    let (mut cluster, address) = Cluster::test_workers(2, &HANG_TIMEOUT);
    let (victim, other) = (cluster.worker(0), cluster.worker(1));
    freeze(victim.pid());
    let asked: Vec<_> = (0..10)
        .map(|_| ask(connect(address).unwrap(), "/").unwrap())
        .collect();

    let line = cluster.await_text(" hangs: ");
    let who = format!("w{} slot=0 gen=1 pid={}", victim.id, victim.pid);
    assert!(line.contains(&who), "{line}");
    let symptom = "no answer to a ping for 500 ms: SIGABRT, restart in 100 ms; state T (stopped)";
    assert!(line.contains(symptom), "{line}");
    // What it was handed is for the other, at once.
    for asked in asked {
        asked.answer().unwrap();
    }
    // It went on, so that SIGABRT could be delivered.
    let end = cluster.await_text(" exited after ");
    assert!(
        end.contains(&who) && end.contains(": signal SIGABRT"),
        "{end}"
    );
    cluster.await_text(" ready after ");
    let successor = cluster.worker(0);
    assert_ne!(successor.pid, victim.pid);
    assert!(is_alive(other.pid()));
    assert_eq!(cluster.stop().code(), 0);
}

/// It goes on after SIGABRT, and that is too late.
#[test]
fn a_stopped_worker_that_ignores_sigabrt_is_killed() {
    let (mut cluster, _) = Cluster::in_mode(&["ignore", "SIGABRT"], 1, &HANG_TIMEOUT);
    let victim = cluster.worker(0);
    freeze(victim.pid());
    let who = format!("w{} slot=0 gen=1 pid={}", victim.id, victim.pid);
    cluster.await_text(&format!("{who} alive 1 s after SIGABRT: SIGKILL"));
    let end = cluster.await_text(" exited after ");
    assert!(
        end.contains(&who) && end.contains(": signal SIGKILL"),
        "{end}"
    );
    cluster.signal(Signal::SIGQUIT);
    assert_eq!(cluster.wait().code(), 0);
}

/// A program that speaks the protocol and leaves pings unanswered. It is asked once: what it does
/// not read must not pile up.
#[test]
fn who_does_not_answer_is_asked_once_and_may_dump_core() {
    let worker = test_worker();
    let args = ["-w", "1", "--no-refork", HANG_TIMEOUT[0], HANG_TIMEOUT[1]];
    let program = [worker.to_str().unwrap(), "raw", "mute"];
    let mut cluster = Cluster::start(args.iter().chain(&program));
    cluster.await_text(" hangs: no answer to a ping for 500 ms: SIGABRT, slot parked; state S");
    let ended = cluster.wait();
    assert!(ended.log.contains(": signal SIGABRT"), "{}", ended.log);
    assert_eq!(
        ended.log.matches("received: Ping").count(),
        1,
        "{}",
        ended.log
    );
}

#[test]
fn an_agent_that_hangs_is_replaced() {
    let agent = format!("{} agent", test_worker().display());
    let flags = [&HANG_TIMEOUT[..], &["--agent", &agent]].concat();
    let (mut cluster, _) = Cluster::test_workers(1, &flags);
    let victim = pid_in(&cluster.find_text("] agent slot=0"));
    freeze(victim);
    let line = cluster.await_text(" hangs: ");
    assert!(
        line.contains(&format!("agent slot=0 gen=1 pid={victim}")),
        "{line}"
    );
    cluster.await_text(" exited after ");
    let successor = cluster.await_text("] agent slot=0 gen=1 pid=");
    assert_ne!(pid_in(&successor), victim);
    assert_eq!(cluster.stop().code(), 0);
}

/// Whether the program gets anywhere is its own business; that the process lives is the SDK's.
#[test]
fn a_worker_whose_only_thread_is_busy_answers_pings() {
    let worker = test_worker();
    let args = [
        "-w",
        "1",
        "-l",
        "127.0.0.1:0",
        HANG_TIMEOUT[0],
        HANG_TIMEOUT[1],
    ];
    let program = [
        worker.to_str().unwrap(),
        "steps",
        "listen:127.0.0.1:0",
        "ready",
        "answer:9",
    ];
    let mut cluster = Cluster::start(args.iter().chain(&program));
    let address = cluster.address();
    cluster.await_ready();
    get(address, "/slow/1500").unwrap();
    nobody_hangs(cluster);
}

#[test]
fn a_master_that_was_stopped_blames_nobody() {
    let (cluster, address) = Cluster::test_workers(2, &HANG_TIMEOUT);
    freeze(cluster.pid());
    let_pass(Duration::from_secs(2));
    thaw(cluster.pid());
    get(address, "/slow/1000").unwrap();
    nobody_hangs(cluster);
}

/// As when the machine sleeps; the master wakes up first.
#[test]
fn a_machine_that_was_suspended_kills_nobody() {
    let (cluster, address) = Cluster::test_workers(2, &HANG_TIMEOUT);
    let workers: Vec<_> = (0..2).map(|slot| cluster.worker(slot).pid()).collect();
    freeze(cluster.pid());
    workers.iter().copied().for_each(freeze);
    let_pass(Duration::from_secs(2));
    thaw(cluster.pid());
    workers.iter().copied().for_each(thaw);
    get(address, "/slow/1000").unwrap();
    nobody_hangs(cluster);
}

/// It may be under a debugger.
#[test]
fn a_stopped_worker_is_left_alone_unless_hangs_are_looked_for() {
    // Nor does anybody else get what waits for it.
    let (cluster, address) = Cluster::test_workers(2, &["--stall-timeout", "never"]);
    let stopped = cluster.worker(0);
    freeze(stopped.pid());
    let asked = ask(connect(address).unwrap(), "/").unwrap();
    get(address, "/slow/1000").unwrap();
    thaw(stopped.pid());
    asked.answer().unwrap();
    assert!(is_alive(stopped.pid()));
    nobody_hangs(cluster);
}

/// Nothing has been said of a hang, and everybody is still the first in its slot.
#[track_caller]
fn nobody_hangs(cluster: Cluster) {
    cluster.signal(Signal::SIGTERM);
    let ended = cluster.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    for trace in [" hangs: ", "SIGABRT", "restart in"] {
        assert!(!ended.log.contains(trace), "{trace}\n{}", ended.log);
    }
}

/// There is no event to wait for where nothing runs.
fn let_pass(time: Duration) {
    let stopwatch = Stopwatch::start();
    while let Some(rest) = time.checked_sub(stopwatch.elapsed()) {
        thread::park_timeout(rest);
    }
}
