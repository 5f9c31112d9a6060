//! Agents: they start before the workers, stop after them, and get no connection.

mod common;

use std::net::SocketAddr;

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use common::client::{ask, connect, get};
use common::load::Load;
use common::processes::{is_alive, pid_in};
use common::{Cluster, Ended, await_condition, run_to_end, test_worker};

/// (E01, E28)
#[test]
fn no_worker_is_started_before_every_agent_is_ready() {
    let (mut cluster, _) = start(2, &["agent", "agent"], &[]);
    cluster.await_ready();
    let log = cluster.log();
    let agents_ready =
        (0..2).map(|slot| place(&log, &format!("] agent slot={slot}"), "ready after"));
    let first_worker = place(&log, "] w3 slot=0", "spawned");
    assert!(agents_ready.max() < Some(first_worker), "{log}");
    assert!(log.contains("cluster ready: 2 workers, 2 agents"), "{log}");
}

/// (E28)
#[test]
fn an_agent_that_fails_at_the_start_ends_the_master_before_any_worker() {
    for (agent, reason) in [
        ("exit 1", "code 1"),
        ("exit 0", "code 0"),
        ("abort", "signal SIGABRT"),
        ("raw garbage-first", "broke the protocol"),
        ("never-ready", "not ready after 200 ms"),
        ("silent", "not ready after 200 ms"),
    ] {
        let (cluster, _) = start(2, &["agent", agent], &["--ready-timeout", "200ms"]);
        let ended = cluster.wait();
        assert_eq!(ended.code(), 4, "{agent}\n{}", ended.log);
        let line = ended
            .log
            .lines()
            .find(|line| line.contains("] agent slot=1") && line.contains(reason));
        assert!(line.is_some(), "{agent}\n{}", ended.log);
        assert!(
            ended.log.contains("an agent failed to start"),
            "{}",
            ended.log
        );
        assert!(
            !ended.log.contains("] w3"),
            "no worker was started\n{}",
            ended.log
        );
    }
}

/// (E31)
#[test]
fn an_agent_that_dies_while_the_workers_start_ends_the_master() {
    let agent = format!("{} agent", test_worker().display());
    let args = ["-w", "1", "--stop-timeout", "1s", "--agent", &agent];
    let worker = test_worker();
    let mut cluster = Cluster::start(
        args.iter()
            .chain(&[worker.to_str().unwrap(), "never-ready"]),
    );
    let agent = pid_in(&cluster.await_text("] agent slot=0"));
    cluster.await_text("] w2 slot=0");
    kill(agent, Signal::SIGKILL).unwrap();
    let ended = cluster.wait();
    assert_eq!(ended.code(), 4, "{}", ended.log);
    assert!(
        !ended.log.contains("] w3"),
        "nobody was replaced\n{}",
        ended.log
    );
}

/// (E29)
#[test]
fn an_agent_that_dies_is_replaced_while_the_workers_serve_on() {
    let (mut cluster, address) = start(2, &["agent", "agent"], &[]);
    cluster.await_ready();
    let agent = pid_in(&cluster.find_text("] agent slot=1"));
    let load = Load::start(address, 2);
    load.await_more(20);

    kill(agent, Signal::SIGKILL).unwrap();
    let exited = cluster.await_line("its end", |line| {
        line.contains("] agent slot=1") && line.contains("exited after")
    });
    assert_eq!(pid_in(&exited), agent);
    assert!(exited.contains("signal SIGKILL"), "{exited}");
    let ready = cluster.await_line("its successor", |line| {
        line.contains("] agent slot=1") && line.contains("ready after")
    });
    assert_ne!(pid_in(&ready), agent);
    load.await_more(20);
    let tally = load.stop();
    assert_eq!(tally.failures, [""; 0]);
    let ids: std::collections::BTreeSet<_> = tally.answers.iter().map(|server| server.id).collect();
    assert_eq!(ids, [3, 4].into(), "the first two workers, all along");

    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert_eq!(ended.log.matches(" spawned").count(), 5, "{}", ended.log);
    let told = ended.log.matches("agent: ClusterReady").count();
    assert_eq!(told, 3, "each agent once, the new one too\n{}", ended.log);
}

/// The agent is there as long as a worker is: for what requests in flight may need of it. (E03)
#[test]
fn agents_stop_after_the_last_worker() {
    let (mut cluster, address) = start(2, &["agent", "agent"], &[]);
    cluster.await_ready();
    let agents = [0, 1].map(|slot| pid_in(&cluster.find_text(&format!("] agent slot={slot}"))));
    let slow = ask(connect(address).unwrap(), "/slow/300").unwrap();
    cluster.await_text("/slow/300 begun");
    cluster.signal(Signal::SIGTERM);
    cluster.await_text("SIGTERM received");
    // The other worker has left; the slow one and the agents are there.
    cluster.await_text("exited after");
    assert!(agents.iter().all(|&agent| is_alive(agent)));
    assert_eq!(slow.answer().unwrap().status, 200);

    let Ended { status, log } = cluster.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    let workers = ["] w3 slot=0", "] w4 slot=1"].map(|who| place(&log, who, "exited after"));
    let agents = [0, 1].map(|slot| place(&log, &format!("] agent slot={slot}"), "exited after"));
    assert!(workers.iter().max() < agents.iter().min(), "{log}");
    assert_eq!(log.matches(": code 0").count(), 4, "{log}");
}

#[test]
fn agents_get_no_connection() {
    let (mut cluster, address) = start(2, &["agent"], &[]);
    cluster.await_ready();
    let served: Vec<_> = (0..10)
        .map(|_| get(address, "/").unwrap().server())
        .collect();
    let workers = [cluster.worker(0), cluster.worker(1)];
    assert!(
        served.iter().all(|server| workers.contains(server)),
        "{served:?}"
    );
}

/// (N24)
#[test]
fn a_cluster_may_consist_of_an_agent_alone() {
    let agent = format!("{} agent", test_worker().display());
    let mut cluster = Cluster::start(["--workers", "0", "--agent", &agent, "/bin/true"]);
    cluster.await_text("cluster ready: 0 workers, 1 agent ");
    cluster.find_text("agent: ClusterReady");
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert!(!ended.log.contains("] w"), "{}", ended.log);
}

/// As a shell would split them, without a shell.
#[test]
fn an_agents_command_is_split_into_words() {
    let worker = test_worker();
    let agent = format!("'{}' steps 'listen:a \"b\"' ready", worker.display());
    let mut cluster = Cluster::start(["--workers", "0", "--agent", &agent, "/bin/true"]);
    cluster.find_text("slot=0 listen a \"b\": EACCES");
    cluster.await_ready();

    for (agent, says) in [
        ("./agent 'unterminated", "unterminated"),
        ("./agent \"unterminated", "unterminated"),
        ("", "the command is empty"),
        ("   ", "the command is empty"),
        ("./no-such-agent --daily", "no-such-agent"),
    ] {
        let ended = run_to_end(&["--agent", agent, "/bin/true"]);
        assert_eq!(ended.code(), 2, "{agent:?}\n{}", ended.log);
        assert_eq!(ended.log.lines().count(), 1, "{}", ended.log);
        assert!(ended.log.contains(says), "{}", ended.log);
    }
}

/// Its exit code says that nobody asked it to leave; a worker's does not. (E04, E30)
#[test]
fn an_agent_whose_master_was_killed_exits_with_110() {
    // Orphans come to this process, so that their exit codes can be seen.
    set_child_subreaper(true).unwrap();
    let (mut cluster, _) = start(1, &["agent"], &[]);
    cluster.await_ready();
    let agent = pid_in(&cluster.find_text("] agent slot=0"));
    let worker = pid_in(&cluster.find_text("] w2 slot=0"));
    cluster.signal(Signal::SIGKILL);
    let log = cluster.wait().log;
    for (process, code) in [(agent, 110), (worker, 0)] {
        let mut ended = None;
        await_condition("an orphan's end", || {
            match waitpid(process, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => false,
                other => {
                    ended = Some(other);
                    true
                }
            }
        });
        assert_eq!(ended, Some(Ok(WaitStatus::Exited(process, code))), "{log}");
    }
}

/// A cluster that is on its way, with agents in these modes and workers that serve.
fn start(workers: usize, agents: &[&str], flags: &[&str]) -> (Cluster, SocketAddr) {
    let worker = test_worker();
    let program = worker.to_str().unwrap();
    let workers = workers.to_string();
    let mut args = vec!["-w", &workers, "-l", "127.0.0.1:0"];
    let agents: Vec<_> = agents
        .iter()
        .map(|agent| format!("{program} {agent}"))
        .collect();
    args.extend(agents.iter().flat_map(|agent| ["--agent", agent]));
    args.extend(flags);
    args.extend([program, "serve"]);
    let mut cluster = Cluster::start(args);
    let address = cluster.address();
    (cluster, address)
}

/// Which line of the log is about this process and says this.
fn place(log: &str, who: &str, what: &str) -> usize {
    let mut lines = log.lines();
    lines
        .position(|line| line.contains(who) && line.contains(what))
        .unwrap_or_else(|| panic!("{who} never {what}\n{log}"))
}
