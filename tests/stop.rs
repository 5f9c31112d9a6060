//! The end: what was accepted is served, nothing is left behind, and no end takes for ever.

mod common;

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use common::client::{Asked, Server, ask, connect, get, shake_hands_slowly};
use common::gate::Gate;
use common::load::Load;
use common::{Cluster, Ended, Stopwatch, await_condition, processes, rr_master, test_worker};

/// E03, E05: whoever had a request under way gets the answer, and nothing is left.
#[test]
fn requests_under_way_are_finished_whatever_signal_asks_for_the_end() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (mut cluster, address) = Cluster::test_workers(2, &[]);
        let master = cluster.pid();
        let under_way = ask_slowly(&mut cluster, address, 6, "/slow/300");
        cluster.signal(signal);
        for asked in under_way {
            assert_eq!(asked.answer().unwrap().status, 200);
        }
        let ended = cluster.wait();
        assert_eq!(ended.code(), 0, "{}", ended.log);
        assert!(ended.log.contains(&format!("{signal} received")));
        assert_eq!(count(&ended, ": code 0"), 2, "{}", ended.log);
        assert_eq!(processes::of_master(master), []);
    }
}

/// Whoever got a connection before the signal gets an answer, however many there are.
#[test]
fn a_stop_under_load_fails_no_request_that_had_begun() {
    let (cluster, address) = Cluster::test_workers(4, &[]);
    let load = Load::start(address, 4);
    load.await_more(100);
    let asked: Vec<_> = (0..200)
        .map(|_| ask(connect(address).unwrap(), "/").unwrap())
        .collect();
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    for asked in asked {
        assert_eq!(asked.answer().unwrap().status, 200);
    }
    // Those who came later were refused, and nobody was cut off in the middle.
    let tally = load.stop();
    let refused = "ConnectionRefused";
    let cut_off = tally.failures.iter().filter(|err| !err.contains(refused));
    assert_eq!(cut_off.collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(!ended.log.contains("connections refused"), "{}", ended.log);
}

/// More clients than the accept queue takes: some wait in the kernel's backlog when the stop
/// begins, and are served all the same.
#[test]
fn clients_in_the_backlog_are_served_before_the_end() {
    let (mut cluster, address) = Cluster::test_workers(1, &[]);
    let worker = cluster.worker(0);
    processes::freeze(worker.pid());
    let asked: Vec<_> = (0..500)
        .map(|_| ask(connect(address).unwrap(), "/").unwrap())
        .collect();
    cluster.signal(Signal::SIGTERM);
    cluster.await_text("stopping gracefully");
    processes::thaw(worker.pid());
    for asked in asked {
        assert_eq!(asked.answer().unwrap().server(), worker);
    }
    let ended = cluster.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log);
}

/// Its last packet comes when nobody new is let in any more.
#[test]
fn a_hand_shake_under_way_at_a_stop_is_finished_and_served() {
    let (mut cluster, address) = Cluster::test_workers(1, &[]);
    let worker = cluster.worker(0);
    // Keeps the listener open until the worker goes on.
    processes::freeze(worker.pid());
    let waiting: Vec<_> = (0..100)
        .map(|_| ask(connect(address).unwrap(), "/").unwrap())
        .collect();
    let clients: Vec<_> = (0..20)
        .map(|_| shake_hands_slowly(address).unwrap())
        .collect();
    cluster.signal(Signal::SIGTERM);
    cluster.await_text("stopping gracefully");
    let late: Vec<_> = clients
        .into_iter()
        .map(|client| ask(client, "/").unwrap())
        .collect();
    processes::thaw(worker.pid());
    for asked in waiting.into_iter().chain(late) {
        assert_eq!(asked.answer().unwrap().server(), worker);
    }
    let ended = cluster.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log);
}

#[test]
fn the_socket_file_goes_and_its_clients_are_served_first() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let mut cluster = serving_on(&path);
    let master = cluster.pid();
    let under_way = ask(UnixStream::connect(&path).unwrap(), "/slow/200").unwrap();
    cluster.await_text("/slow/200 begun");
    let worker = cluster.worker(0);
    processes::freeze(worker.pid());
    let waiting: Vec<_> = (0..20)
        .map(|_| ask(UnixStream::connect(&path).unwrap(), "/").unwrap())
        .collect();
    cluster.signal(Signal::SIGTERM);
    cluster.await_text("stopping gracefully");
    processes::thaw(worker.pid());
    assert_eq!(under_way.answer().unwrap().server(), worker);
    for asked in waiting {
        assert_eq!(asked.answer().unwrap().server(), worker);
    }
    let ended = cluster.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert!(!path.exists());
    assert_eq!(processes::of_master(master), []);
}

/// E05, SIGQUIT: nobody is waited for.
#[test]
fn sigquit_ends_the_cluster_without_waiting_for_requests() {
    let (mut cluster, address) = Cluster::test_workers(2, &[]);
    let master = cluster.pid();
    let under_way = ask_slowly(&mut cluster, address, 2, "/slow/60000");
    cluster.signal(Signal::SIGQUIT);
    let ended = cluster.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert!(ended.log.contains("stopping fast: asked to"));
    assert_eq!(count(&ended, ": signal SIGTERM"), 2, "{}", ended.log);
    for asked in under_way {
        asked.answer().unwrap_err();
    }
    assert_eq!(processes::of_master(master), []);
}

#[test]
fn a_second_signal_makes_an_end_of_a_graceful_stop() {
    let (mut cluster, address) = Cluster::test_workers(1, &[]);
    let under_way = ask_slowly(&mut cluster, address, 1, "/slow/60000");
    cluster.signal(Signal::SIGTERM);
    cluster.await_text("stopping gracefully");
    cluster.signal(Signal::SIGTERM);
    let ended = cluster.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert!(ended.log.contains("stopping fast"));
    assert_eq!(count(&ended, ": signal SIGTERM"), 1, "{}", ended.log);
    drop(under_way);
}

/// T03: SIGTERM is of no use, SIGKILL is, and the exit code tells.
#[test]
fn a_worker_that_ignores_sigterm_is_killed() {
    let worker = test_worker();
    let flags = ["-w", "2", "-l", "127.0.0.1:0", "--stop-timeout", "300ms"];
    let program = [worker.to_str().unwrap(), "ignore", "SIGTERM"];
    let mut cluster = Cluster::start(flags.iter().chain(&program));
    let master = cluster.pid();
    cluster.await_ready();
    let took = Stopwatch::start();
    let ended = cluster.stop();
    assert_eq!(ended.code(), 7, "{}", ended.log);
    assert_eq!(count(&ended, "did not leave in time: SIGTERM"), 2);
    assert_eq!(count(&ended, "alive 1 s after SIGTERM: SIGKILL"), 2);
    assert_eq!(count(&ended, ": signal SIGKILL"), 2);
    assert!(took.elapsed() >= Duration::from_millis(1300));
    assert!(took.elapsed() < Duration::from_secs(10), "far too late");
    assert_eq!(processes::of_master(master), []);
}

/// Nobody made it leave, and yet its client gets no answer: the exit code tells.
#[test]
fn a_worker_that_crashes_while_it_drains_is_no_clean_end() {
    let (mut cluster, address) = Cluster::test_workers(1, &[]);
    let _held = ask_slowly(&mut cluster, address, 1, "/slow/60000");
    let worker = processes::of_master(cluster.pid())[0];
    cluster.signal(Signal::SIGTERM);
    cluster.await_text("stopping gracefully");
    kill(worker, Signal::SIGABRT).unwrap();
    let ended = cluster.wait();
    assert_eq!(ended.code(), 7, "{}", ended.log);
    let exited = ended.log.lines().find(|line| line.contains(" exited "));
    assert!(exited.unwrap().contains("WARN"), "{}", ended.log);
}

/// A handler that does not come to an end cannot keep the cluster from it.
#[test]
fn a_request_longer_than_the_stop_timeout_is_cut_off() {
    let (mut cluster, address) = Cluster::test_workers(2, &["--stop-timeout", "300ms"]);
    let under_way = ask_slowly(&mut cluster, address, 1, "/slow/60000");
    let took = Stopwatch::start();
    let ended = cluster.stop();
    assert_eq!(ended.code(), 7, "{}", ended.log);
    assert_eq!(count(&ended, "did not leave in time: SIGTERM"), 1);
    assert_eq!(count(&ended, ": signal SIGTERM"), 1);
    assert_eq!(count(&ended, ": code 0"), 1);
    assert!(took.elapsed() >= Duration::from_millis(300));
    for asked in under_way {
        asked.answer().unwrap_err();
    }
}

/// N19, N32: before `Hello` or after it, ready or not.
#[test]
fn a_stop_while_workers_start_waits_for_none_of_them() {
    let worker = test_worker();
    for mode in ["never-ready", "silent"] {
        let flags = ["-w", "3", "-l", "127.0.0.1:0"];
        let program = [worker.to_str().unwrap(), mode];
        let mut cluster = Cluster::start(flags.iter().chain(&program));
        let master = cluster.pid();
        for _ in 0..3 {
            cluster.await_text(" spawned");
        }
        let ended = cluster.stop();
        assert_eq!(ended.code(), 0, "{}", ended.log);
        assert_eq!(count(&ended, "not ready yet: SIGTERM"), 3, "{}", ended.log);
        assert_eq!(processes::of_master(master), []);
    }
}

/// The clients wait for a worker that nobody starts any more: they are let go, and so is everybody.
#[test]
fn a_stop_while_nobody_serves_does_not_wait_for_the_restart() {
    let (mut cluster, address) = Cluster::test_workers(1, &["--backoff", "1h..1h"]);
    get(address, "/exit/1").unwrap_err();
    cluster.await_text(" exited after ");
    let waiting = ask(connect(address).unwrap(), "/").unwrap();
    let took = Stopwatch::start();
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert!(took.elapsed() < Duration::from_secs(10), "far too late");
    waiting.answer().unwrap_err();
}

/// A worker that is about to be ready is worth waiting for.
#[test]
fn a_stop_while_the_only_worker_is_replaced_serves_those_who_wait() {
    let mut gate = Gate::new();
    let mut command = Command::new(rr_master());
    command.args(["-w", "1", "-l", "127.0.0.1:0"]);
    command.arg(test_worker()).args(["late", "0"]);
    command.arg(gate.path());
    let mut cluster = Cluster::from_command(command);
    let address = cluster.address();
    gate.let_one_through();
    cluster.await_ready();
    get(address, "/exit/1").unwrap_err();
    cluster.await_text("listening and not ready");
    let waiting: Vec<_> = (0..5)
        .map(|_| ask(connect(address).unwrap(), "/").unwrap())
        .collect();
    cluster.signal(Signal::SIGTERM);
    cluster.await_text("stopping gracefully");
    gate.let_one_through();
    for asked in waiting {
        assert_eq!(asked.answer().unwrap().server().id, 2);
    }
    let ended = cluster.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log);
}

/// E08: what a worker started and left behind goes with it, whether the worker went in peace or
/// had to be told.
#[test]
fn processes_that_workers_started_are_terminated() {
    for (signal, code) in [(Signal::SIGTERM, 0), (Signal::SIGQUIT, 0)] {
        let (cluster, address) = Cluster::test_workers(2, &[]);
        let children: Vec<Pid> = (0..4)
            .map(|_| get(address, "/child").unwrap().body.parse().unwrap())
            .map(Pid::from_raw)
            .collect();
        assert!(children.iter().all(|&child| processes::is_alive(child)));
        cluster.signal(signal);
        let ended = cluster.wait();
        assert_eq!(ended.code(), code, "{}", ended.log);
        await_condition("the workers' children gone", || {
            !children.iter().any(|&child| processes::is_alive(child))
        });
    }
}

/// E10.
#[test]
fn the_pid_file_is_there_while_the_master_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pid");
    let flags = ["--pidfile", path.to_str().unwrap()];
    let (cluster, _) = Cluster::test_workers(1, &flags);
    let written = fs::read_to_string(&path).unwrap();
    assert_eq!(written, format!("{}\n", cluster.pid()));
    assert_eq!(cluster.stop().code(), 0);
    assert!(!path.exists());

    // Somebody else removed it already: that is no failure.
    let (cluster, _) = Cluster::test_workers(1, &flags);
    fs::remove_file(&path).unwrap();
    assert_eq!(cluster.stop().code(), 0);
}

/// E03: the agent is there as long as a worker is, and goes in peace.
#[test]
fn agents_leave_after_the_last_worker() {
    let agent = format!("'{}' agent", test_worker().display());
    let (mut cluster, address) = Cluster::test_workers(2, &["--agent", &agent]);
    let under_way = ask_slowly(&mut cluster, address, 1, "/slow/200");
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    for asked in under_way {
        assert_eq!(asked.answer().unwrap().status, 200);
    }
    let mut exits = ended.log.lines().filter(|line| line.contains(" exited "));
    let last = exits.next_back().unwrap();
    assert!(last.contains("agent slot=0") && last.ends_with(": code 0"));
    assert!(ended.log.contains("agent: Drain"), "{}", ended.log);
}

/// E04, E30, F14, F17, N50, N51: nothing outlives a killed master, and each says in its exit code that it
/// knew what happened.
#[test]
fn nothing_outlives_a_killed_master() {
    adopt_orphans();
    let agent = format!("'{}' agent", test_worker().display());
    let (mut cluster, _) = Cluster::test_workers(4, &["--agent", &agent]);
    let (master, agent) = (cluster.pid(), agent_of(&cluster));
    let workers: Vec<Pid> = cluster.workers().values().map(Server::pid).collect();
    assert_eq!(processes::of_master(master).len(), 5);
    let since = kill_master(&mut cluster);
    assert_gone_within_a_second(master, &since);
    for worker in workers {
        assert_eq!(end_of(worker), WaitStatus::Exited(worker, 0));
    }
    assert_eq!(end_of(agent), WaitStatus::Exited(agent, 110));
}

/// A request under way has the orphan grace to be finished in.
#[test]
fn a_killed_master_does_not_cost_requests_under_way() {
    let (mut cluster, address) = Cluster::test_workers(2, &["--orphan-grace", "10s"]);
    let master = cluster.pid();
    let under_way = ask_slowly(&mut cluster, address, 4, "/slow/300");
    kill_master(&mut cluster);
    for asked in under_way {
        assert_eq!(asked.answer().unwrap().status, 200);
    }
    // And then there is nothing to wait for.
    let since = Stopwatch::start();
    assert_gone_within_a_second(master, &since);
}

/// Nor has it longer than that.
#[test]
fn a_request_without_end_is_cut_off_after_the_orphan_grace() {
    let (mut cluster, address) = Cluster::test_workers(2, &[]);
    let master = cluster.pid();
    let under_way = ask_slowly(&mut cluster, address, 2, "/slow/60000");
    let since = kill_master(&mut cluster);
    assert_gone_within_a_second(master, &since);
    for asked in under_way {
        asked.answer().unwrap_err();
    }
}

/// A worker that is stopped cannot notice anything before it goes on. The kernel makes it go on
/// (and sends SIGHUP) when nobody of its session is left above it.
#[test]
fn not_even_stopped_workers_outlive_a_killed_master() {
    let (mut cluster, _) = Cluster::test_workers(2, &[]);
    let master = cluster.pid();
    for worker in cluster.workers().values() {
        processes::freeze(worker.pid());
    }
    let since = kill_master(&mut cluster);
    assert_gone_within_a_second(master, &since);
}

/// When somebody of its session adopts it, as the first process of a container does, the kernel
/// does nothing of the kind.
#[test]
fn not_even_stopped_workers_that_are_adopted_outlive_a_killed_master() {
    adopt_orphans();
    let (mut cluster, _) = Cluster::test_workers(2, &[]);
    let master = cluster.pid();
    let workers: Vec<Pid> = cluster.workers().values().map(Server::pid).collect();
    workers.iter().copied().for_each(processes::freeze);
    let since = kill_master(&mut cluster);
    assert_gone_within_a_second(master, &since);
    for worker in workers {
        assert_eq!(end_of(worker), WaitStatus::Exited(worker, 0));
    }
}

/// Nor does a program that knows nothing of its master.
#[test]
fn a_program_without_the_sdk_does_not_outlive_a_killed_master_either() {
    let worker = test_worker();
    let mut cluster = Cluster::start([
        "-w",
        "2",
        "-l",
        "127.0.0.1:0",
        worker.to_str().unwrap(),
        "silent",
    ]);
    let master = cluster.pid();
    for _ in 0..2 {
        cluster.await_text(" spawned");
    }
    let since = kill_master(&mut cluster);
    assert_gone_within_a_second(master, &since);
}

/// The listener died with the master, so a new one takes its place at once.
#[test]
fn a_killed_master_leaves_nothing_in_the_way_of_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let mut cluster = serving_on(&path);
    let master = cluster.pid();
    let since = kill_master(&mut cluster);
    assert_gone_within_a_second(master, &since);
    assert!(path.exists());

    let cluster = serving_on(&path);
    let asked = ask(UnixStream::connect(&path).unwrap(), "/").unwrap();
    assert_eq!(asked.answer().unwrap().status, 200);
    assert_eq!(cluster.stop().code(), 0);
    assert!(!path.exists());
}

/// A ready worker on a Unix socket, with a pid file next to it.
fn serving_on(path: &Path) -> Cluster {
    let mut command = Command::new(rr_master());
    command.args(["-w", "1", "-l"]);
    command.arg(format!("unix:{}", path.display()));
    command.arg("--pidfile").arg(path.with_extension("pid"));
    command.arg(test_worker()).arg("serve");
    let mut cluster = Cluster::from_command(command);
    cluster.await_ready();
    cluster
}

/// So many requests, each with a worker by now.
fn ask_slowly(
    cluster: &mut Cluster,
    address: SocketAddr,
    count: usize,
    path: &str,
) -> Vec<Asked<TcpStream>> {
    let asked: io::Result<Vec<_>> = (0..count).map(|_| ask(connect(address)?, path)).collect();
    for _ in 0..count {
        cluster.await_text(&format!("{path} begun"));
    }
    asked.unwrap()
}

/// How many lines of the log end like this.
fn count(ended: &Ended, end: &str) -> usize {
    ended.log.lines().filter(|line| line.ends_with(end)).count()
}

fn kill_master(cluster: &mut Cluster) -> Stopwatch {
    let since = Stopwatch::start();
    cluster.signal(Signal::SIGKILL);
    since
}

/// A second is promised; the rest is for a machine that has other things to do.
fn assert_gone_within_a_second(master: Pid, since: &Stopwatch) {
    await_condition("nobody left", || processes::of_master(master).is_empty());
    let took = since.elapsed();
    assert!(took < Duration::from_secs(1) + TOLERANCE, "took {took:?}");
}

const TOLERANCE: Duration = Duration::from_secs(2);

/// From now on this process is the parent of whoever loses his own: it learns how they end.
fn adopt_orphans() {
    prctl::set_child_subreaper(true).unwrap();
}

/// How a process that was adopted ended.
fn end_of(orphan: Pid) -> WaitStatus {
    let mut end = WaitStatus::StillAlive;
    await_condition("the orphan's end", || {
        end = waitpid(orphan, Some(WaitPidFlag::WNOHANG)).expect("an adopted process");
        end != WaitStatus::StillAlive
    });
    end
}

/// The pid of the agent, as the log tells it.
fn agent_of(cluster: &Cluster) -> Pid {
    let log = cluster.log();
    let line = log.lines().find(|line| line.contains("agent slot=0"));
    let pid = line.and_then(|line| line.split("pid=").nth(1)?.split(' ').next());
    Pid::from_raw(pid.expect("an agent").parse().unwrap())
}
