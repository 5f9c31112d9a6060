//! Processes that die: what the log says, who takes over, and where the patience ends.

mod common;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use tempfile::TempDir;

use common::client::{Server, ask, connect, get};
use common::command::{Unprivileged, after};
use common::load::Load;
use common::{Cluster, Stopwatch, await_condition, processes, run_to_end, test_worker};

/// N85, N86, E45, P17: one death, one line, one successor with the slot and an id of its own.
#[test]
fn a_worker_killed_under_load_is_replaced_while_the_others_serve() {
    const CLIENTS: usize = 8;
    let (mut cluster, address) = Cluster::test_workers(4, &[]);
    let load = Load::start(address, CLIENTS);
    load.await_more(100);
    let victim = cluster.worker(2);
    kill(victim.pid(), Signal::SIGKILL).unwrap();

    let end = cluster.await_text(" exited after ");
    assert!(end.contains(&who(&victim)), "{end}");
    assert!(
        end.ends_with(": signal SIGKILL; it was serving")
            || end.ends_with(": signal SIGKILL, restart in 100 ms; it was serving"),
        "{end}"
    );
    cluster.await_text(" ready after ");
    let successor = cluster.worker(2);
    assert_eq!((successor.slot, successor.id), (2, 5));
    assert_ne!(successor.pid, victim.pid);
    load.await_more(100);
    let tally = load.stop();
    assert!(tally.answers.contains(&successor));
    // A client has one request under way, and one worker in four died once.
    assert!(tally.failures.len() <= CLIENTS, "{:?}", tally.failures);

    let ended = cluster.stop();
    assert_eq!(ended.code(), 0);
    for id in 1..=5 {
        let exits = exits(&ended.log, id);
        assert_eq!(exits.len(), 1, "exits of w{id}: {exits:?}");
    }
}

/// N107, and more: what a worker was handed and did not receive is not lost with it.
#[test]
fn connections_that_a_dead_worker_had_not_received_are_answered_by_others() {
    let (mut cluster, address) = Cluster::test_workers(2, &[]);
    let victim = cluster.worker(0);
    processes::freeze(victim.pid());
    let asked: Vec<_> = (0..40)
        .map(|_| ask(connect(address).unwrap(), "/").unwrap())
        .collect();
    let (for_the_frozen, for_the_other): (Vec<_>, Vec<_>) = asked
        .into_iter()
        .enumerate()
        .partition(|(turn, _)| turn % 2 == 0);
    for (_, asked) in for_the_other {
        assert_eq!(asked.answer().unwrap().server(), cluster.worker(1));
    }
    kill(victim.pid(), Signal::SIGKILL).unwrap();
    cluster.await_text("20 unread connections reclaimed");
    let slots: Vec<u32> = for_the_frozen
        .into_iter()
        .map(|(_, asked)| asked.answer().unwrap().server().slot)
        .collect();
    assert_eq!(slots, [1; 20]);
}

/// The same with nobody left: the connections wait in the master for the successor.
#[test]
fn connections_wait_for_the_successor_of_the_only_worker() {
    let (cluster, address) = Cluster::test_workers(1, &[]);
    let victim = cluster.worker(0);
    processes::freeze(victim.pid());
    let asked: Vec<_> = (0..20)
        .map(|_| ask(connect(address).unwrap(), "/").unwrap())
        .collect();
    kill(victim.pid(), Signal::SIGKILL).unwrap();
    for asked in asked {
        assert_eq!(asked.answer().unwrap().server().id, 2);
    }
    // Whoever comes while nobody serves is not refused either.
    assert!(get(address, "/exit/1").is_err());
    assert_eq!(get(address, "/").unwrap().server().id, 3);
}

/// The queue of a dead worker may hold more connections than the master may have descriptors: they
/// are taken back as far as somebody has room for them.
#[test]
fn more_connections_than_descriptors_are_taken_back() {
    const CLIENTS: usize = 400;
    let worker = test_worker();
    let args = [
        "-w",
        "2",
        "-l",
        "127.0.0.1:0",
        worker.to_str().unwrap(),
        "serve",
    ];
    let mut cluster = Cluster::from_command(after("ulimit -n 100", args));
    let address = cluster.address();
    cluster.await_ready();
    let (victim, other) = (cluster.worker(0), cluster.worker(1));
    processes::freeze(victim.pid());
    processes::freeze(other.pid());
    let asked: Vec<_> = (0..CLIENTS)
        .map(|_| ask(connect(address).unwrap(), "/").unwrap())
        .collect();
    kill(victim.pid(), Signal::SIGKILL).unwrap();
    processes::thaw(other.pid());
    for asked in asked {
        asked.answer().unwrap();
    }
    assert!(!cluster.log().contains("lost"), "{}", cluster.log());
}

/// An unprivileged master may have only so many descriptors in flight (`ETOOMANYREFS`, unix(7)). When
/// stopped workers hold them all, what others are to be told waits, and is not forgotten.
#[test]
fn a_replacement_is_told_what_it_asked_for_when_descriptors_flow_again() {
    const CLIENTS: usize = 420;
    let programs = Unprivileged::new();
    let worker = programs.worker();
    let flags = "-w 3 -l 127.0.0.1:0 --window 256 --log-level debug".split(' ');
    let args = flags.chain([worker.to_str().unwrap(), "serve"]);
    let mut cluster = Cluster::from_command(programs.after("ulimit -n 128", args));
    let address = cluster.address();
    cluster.await_ready();
    let workers: Vec<_> = (0..3).map(|slot| cluster.worker(slot).pid()).collect();
    for &worker in &workers {
        processes::freeze(worker);
    }
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| ask(connect(address).unwrap(), "/").unwrap())
        .collect();
    cluster.await_text("out of resources");
    kill(workers[1], Signal::SIGKILL).unwrap();
    cluster.await_text("w4: out of resources, tells it again");
    processes::thaw(workers[0]);
    processes::thaw(workers[2]);
    cluster.await_line("its replacement", |line| {
        line.contains("w4") && line.contains("ready")
    });
    for asked in clients {
        asked.answer().unwrap();
    }
    assert_eq!(cluster.stop().code(), 0);
}

/// A process that the worker started may hold its control channel a moment longer. Its end is then
/// reported together with the worker's, and after it: nobody is left to read it.
#[test]
fn a_channel_that_ends_after_its_worker_leaves_the_master_at_rest() {
    let holder = "sleep 600 & exec \"$0\" serve";
    let worker = test_worker();
    let program = ["/bin/sh", "-c", holder, worker.to_str().unwrap()];
    let mut command = Command::new(common::rr_master());
    command.args(["-w", "1", "-l", "127.0.0.1:0"]).args(program);
    let mut cluster = Cluster::from_command(command);
    cluster.await_ready();
    let victim = cluster.worker(0).pid();
    let holders: Vec<_> = processes::of_master(cluster.pid())
        .into_iter()
        .filter(|&pid| pid != victim)
        .collect();
    assert_eq!(holders.len(), 1);
    processes::freeze(cluster.pid());
    for pid in [victim, holders[0]] {
        kill(pid, Signal::SIGKILL).unwrap();
        await_condition("its end", || !processes::is_alive(pid));
    }
    processes::thaw(cluster.pid());
    cluster.await_text("w2 slot=0 gen=1 pid=");
    processes::await_quiet(cluster.pid());
    // What the replacement has started ends with its group.
    assert_eq!(cluster.stop().code(), 0);
}

/// What cannot be served by anybody any more is counted and explained.
#[test]
fn connections_that_nobody_is_left_for_are_counted() {
    let (mut cluster, address) = Cluster::test_workers(2, &["--no-refork"]);
    let (frozen, other) = (cluster.worker(0), cluster.worker(1));
    processes::freeze(frozen.pid());
    let asked: Vec<_> = (0..14)
        .map(|_| ask(connect(address).unwrap(), "/").unwrap())
        .collect();
    let (for_the_frozen, for_the_other): (Vec<_>, Vec<_>) = asked
        .into_iter()
        .enumerate()
        .partition(|(turn, _)| turn % 2 == 0);
    for (_, asked) in for_the_other {
        assert_eq!(asked.answer().unwrap().server(), other);
    }
    kill(other.pid(), Signal::SIGKILL).unwrap();
    cluster.await_text(" exited after ");
    kill(frozen.pid(), Signal::SIGKILL).unwrap();
    cluster.await_text("7 connections refused: no worker is left");
    for (_, asked) in for_the_frozen {
        asked.answer().unwrap_err();
    }
    assert_eq!(cluster.wait().code(), 5);
}

/// N74, N79, E39: the code that the worker chose. An exit that nobody asked for is a crash even
/// if its code is 0.
#[test]
fn the_log_says_with_which_code_a_worker_exited() {
    for code in [0, 1, 42, 255] {
        let (mut cluster, address) = Cluster::test_workers(1, &[]);
        get(address, &format!("/exit/{code}")).unwrap_err();
        assert_unasked_exit(&mut cluster, &format!("code {code}"));
    }
}

/// N86, G07: the signal by its name, with or without a core file.
#[test]
fn the_log_says_which_signal_ended_a_worker() {
    // Where a core file does not stay.
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--cwd", directory.path().to_str().unwrap()];
    let (mut cluster, address) = Cluster::test_workers(1, &flags);
    get(address, "/abort").unwrap_err();
    assert_unasked_exit(&mut cluster, "signal SIGABRT");
    for signal in [Signal::SIGFPE, Signal::SIGTERM, Signal::SIGHUP] {
        let (mut cluster, _) = Cluster::test_workers(1, &flags);
        kill(cluster.worker(0).pid(), signal).unwrap();
        assert_unasked_exit(&mut cluster, &format!("signal {signal}"));
    }
    // Nor does one without a name go unnoticed.
    let (mut cluster, _) = Cluster::test_workers(1, &flags);
    let kill = format!("kill -s RTMIN+3 {}", cluster.worker(0).pid);
    assert!(
        Command::new("bash")
            .args(["-c", &kill])
            .status()
            .unwrap()
            .success()
    );
    assert_unasked_exit(&mut cluster, "signal 37");
}

/// P06. E45: as often as it dies, it is replaced.
#[test]
fn the_delay_before_a_restart_grows_to_its_limit() {
    let (mut cluster, address) = Cluster::test_workers(1, &["--backoff", "10ms..50ms"]);
    let mut delays = Vec::new();
    for _ in 0..6 {
        get(address, "/exit/1").unwrap_err();
        let line = cluster.await_text("restart in ");
        delays.push(line.rsplit_once("restart in ").unwrap().1.to_owned());
        cluster.await_text(" ready after ");
    }
    assert_eq!(
        delays,
        ["10 ms", "15 ms", "22 ms", "33 ms", "50 ms", "50 ms"]
    );
}

/// E40: without restarts the others serve on, and the last one's end is the cluster's.
#[test]
fn with_no_refork_nobody_is_replaced() {
    let (mut cluster, address) = Cluster::test_workers(2, &["--no-refork"]);
    kill(cluster.worker(0).pid(), Signal::SIGKILL).unwrap();
    let end = cluster.await_text("slot parked");
    assert!(end.contains(&who(&cluster.worker(0))), "{end}");
    for _ in 0..10 {
        assert_eq!(get(address, "/").unwrap().server(), cluster.worker(1));
    }
    kill(cluster.worker(1).pid(), Signal::SIGKILL).unwrap();
    let ended = cluster.wait();
    assert_eq!(ended.code(), 5);
    assert_eq!(spawned(&ended.log), 2);
    assert!(ended.log.contains("gave up on a crash loop"));
}

/// F08: with too many restarts the next one waits, and its clients with it.
#[test]
fn at_the_restart_limit_hold_waits_for_the_window() {
    let flags = ["--restart-limit", "1/2s", "--backoff", "1ms..1ms"];
    let (mut cluster, address) = Cluster::test_workers(1, &flags);
    let first_restart_at_most_ago = Stopwatch::start();
    get(address, "/exit/1").unwrap_err();
    cluster.await_text(" ready after ");
    get(address, "/exit/1").unwrap_err();
    cluster.await_text("restart limit reached: 1 in 2 s, restarts wait");
    assert_eq!(get(address, "/").unwrap().server().id, 3);
    assert!(first_restart_at_most_ago.elapsed() >= Duration::from_secs(2));
    assert_eq!(cluster.stop().code(), 0);
}

/// P08.
#[test]
fn at_the_restart_limit_park_leaves_the_slot_empty() {
    let (mut cluster, address) = in_crash_loop("park");
    cluster.await_text("worker slot=0 parked");
    for _ in 0..10 {
        assert_eq!(get(address, "/").unwrap().server().slot, 1);
    }
    get(address, "/exit/1").unwrap_err();
    cluster.await_text("worker slot=1 parked");
    let ended = cluster.wait();
    assert_eq!(ended.code(), 5);
    assert!(
        ended
            .log
            .contains("stopping gracefully: gave up on a crash")
    );
    assert_eq!(spawned(&ended.log), 4);
}

/// Giving up is a stop like any other: who has a request under way finishes it.
#[test]
fn at_the_restart_limit_exit_ends_the_cluster_gracefully() {
    let (mut cluster, address) = Cluster::test_workers(
        2,
        &[
            "--restart-limit",
            "0/1h",
            "--backoff",
            "1ms..1ms",
            "--on-crash-loop",
            "exit",
        ],
    );
    // The first in turn is slot 0.
    let under_way = ask(connect(address).unwrap(), "/slow/300").unwrap();
    cluster.await_text("/slow/300 begun");
    kill(cluster.worker(1).pid(), Signal::SIGKILL).unwrap();
    assert_eq!(under_way.answer().unwrap().server(), cluster.worker(0));
    let ended = cluster.wait();
    assert_eq!(ended.code(), 5);
    assert!(ended.log.contains("restart limit reached"), "{}", ended.log);
    assert_eq!(spawned(&ended.log), 2);
}

/// F02: a handler that panics costs its own client the answer, and nobody else anything.
#[test]
fn a_panic_in_a_handler_is_contained() {
    let (cluster, address) = Cluster::test_workers(1, &[]);
    let worker = cluster.worker(0);
    let under_way = ask(connect(address).unwrap(), "/slow/100").unwrap();
    for _ in 0..5 {
        get(address, "/panic").unwrap_err();
        assert_eq!(get(address, "/").unwrap().server(), worker);
    }
    assert_eq!(under_way.answer().unwrap().server(), worker);
    assert_eq!(cluster.stop().code(), 0);
}

/// E36, E46, G09: nothing is tried twice while the cluster starts.
#[test]
fn a_worker_that_dies_at_boot_ends_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let cwd = directory.path().to_str().unwrap();
    let worker = test_worker();
    let worker = worker.to_str().unwrap();
    for (program, status) in [
        (&["false"][..], "code 1"),
        (&["true"], "code 0"),
        (&[worker, "exit", "7"], "code 7"),
        (&[worker, "abort"], "signal SIGABRT"),
    ] {
        let flags = ["-w", "3", "-l", "127.0.0.1:0", "--cwd", cwd];
        let ended = run_to_end(&[&flags, program].concat());
        assert_eq!(ended.code(), 3, "{}", ended.log);
        assert!(ended.log.contains(status), "{}", ended.log);
        assert!(spawned(&ended.log) <= 3, "{}", ended.log);
        assert!(ended.log.contains("a worker failed to start"));
        assert!(!ended.log.contains("cluster ready"));
    }
}

/// E41.
#[test]
fn a_worker_that_is_not_ready_in_time_ends_the_start() {
    let worker = test_worker();
    for mode in ["never-ready", "silent"] {
        let ended = run_to_end(&[
            "-w",
            "2",
            "-l",
            "127.0.0.1:0",
            "--ready-timeout",
            "300ms",
            worker.to_str().unwrap(),
            mode,
        ]);
        assert_eq!(ended.code(), 3, "{}", ended.log);
        assert!(
            ended.log.contains("not ready after 300 ms"),
            "{}",
            ended.log
        );
        assert_eq!(spawned(&ended.log), 2);
    }
}

/// P08: good once is no licence. Every restart fails, and their number is held within the limit
/// while those who are well go on serving.
#[test]
fn a_program_that_turns_bad_is_held_within_the_limit() {
    let program = Replaceable::new();
    let path = program.path();
    let flags = ["--restart-limit", "5/1h", "--backoff", "1ms..1ms"];
    let mut cluster = Cluster::start(
        ["-w", "2", "-l", "127.0.0.1:0"]
            .iter()
            .chain(&flags)
            .chain(&[path.to_str().unwrap()]),
    );
    let address = cluster.address();
    cluster.await_ready();
    program.turn_bad();
    let healthy = cluster.worker(0);
    kill(cluster.worker(1).pid(), Signal::SIGKILL).unwrap();
    cluster.await_text("restart limit reached: 5 in 3600 s");
    for _ in 0..10 {
        assert_eq!(get(address, "/").unwrap().server(), healthy);
    }
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0);
    assert_eq!(spawned(&ended.log), 2 + 5);
    let failures = ended.log.matches(": code 9").count();
    assert_eq!(failures, 5, "{}", ended.log);
}

/// A program on disk that is good until it is replaced by one that is not.
struct Replaceable(TempDir);

impl Replaceable {
    fn new() -> Self {
        let program = Replaceable(tempfile::tempdir().unwrap());
        program.write(&format!("exec '{}' serve", test_worker().display()));
        program
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("program")
    }

    fn turn_bad(&self) {
        self.write("exit 9");
    }

    /// In one step, as a deployment does it: nobody runs half a program.
    fn write(&self, command: &str) {
        let new = self.0.path().join("new");
        fs::write(&new, format!("#!/bin/sh\n{command}\n")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, self.path()).unwrap();
    }
}

/// Two workers of which the first has died as often as it may, and once more.
fn in_crash_loop(policy: &str) -> (Cluster, SocketAddr) {
    let flags = [
        "--restart-limit",
        "2/1h",
        "--backoff",
        "1ms..1ms",
        "--on-crash-loop",
        policy,
    ];
    let (mut cluster, address) = Cluster::test_workers(2, &flags);
    for death in 0..3 {
        if death > 0 {
            cluster.await_text(" ready after ");
        }
        kill(cluster.worker(0).pid(), Signal::SIGKILL).unwrap();
        cluster.await_text(" exited after ");
    }
    (cluster, address)
}

/// The first worker died as `status` says, nobody had asked it to, and it has a successor.
fn assert_unasked_exit(cluster: &mut Cluster, status: &str) {
    let first = cluster.worker(0);
    let end = cluster.await_text(" exited after ");
    assert!(end.contains("WARN") && end.contains(&who(&first)), "{end}");
    let (_, said) = end.split_once(" ms: ").expect("how long it lived");
    let said = said.strip_suffix("; it was serving").expect("since when");
    let said = said.trim_end_matches(", restart in 100 ms");
    assert_eq!(said.trim_end_matches(" (core dumped)"), status);
    cluster.await_text(" ready after ");
    assert_eq!(cluster.worker(0).id, 2);
}

fn who(worker: &Server) -> String {
    let Server {
        slot,
        id,
        pid,
        generation,
    } = worker;
    format!("w{id} slot={slot} gen={generation} pid={pid} ")
}

/// The lines that say that the worker exited.
fn exits(log: &str, id: u64) -> Vec<&str> {
    let who = format!(" w{id} slot=");
    log.lines()
        .filter(|line| line.contains(&who) && line.contains(" exited after "))
        .collect()
}

/// How many processes were started.
fn spawned(log: &str) -> usize {
    log.lines()
        .filter(|line| line.ends_with(" spawned"))
        .count()
}

/// F08, P08: a good program that turns bad is started no more often than the limit allows, its listener
/// stays open, and when it is mended everybody who waited is answered.
#[test]
fn a_program_that_turns_bad_is_held_and_recovers_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let trouble = dir.path().join("trouble");
    let mode = ["unless", trouble.to_str().unwrap(), "serve"];
    let flags = ["--restart-limit", "4/2s", "--backoff", "10ms..20ms"];
    let (mut cluster, address) = Cluster::in_mode(&mode, 1, &flags);
    fs::write(&trouble, "").unwrap();
    kill(cluster.worker(0).pid(), Signal::SIGKILL).unwrap();
    cluster.await_text("restart limit reached: 4 in 2 s, restarts wait");
    assert_eq!(cluster.log().matches(" spawned").count(), 1 + 4);
    // The listener is open: this client waits in its backlog.
    let waiting = ask(connect(address).unwrap(), "/").unwrap();
    fs::remove_file(&trouble).unwrap();
    assert_eq!(waiting.answer().unwrap().status, 200);
    assert!(get(address, "/").is_ok());
    assert_eq!(cluster.stop().code(), 0);
}
