//! Processes that cannot be started, or not for a while: the others go on, and the log says why.

mod common;

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use common::client::{Server, get};
use common::command::{Unprivileged, without_rights};
use common::lease::Lease;
use common::{Cluster, await_condition, processes, test_worker};

/// As on a file system that does not answer. `exec` of the agent hangs, and with it a thread of the
/// master's; whoever is to be started meanwhile is.
#[test]
fn a_start_that_hangs_delays_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let agent = directory.path().join("agent");
    let text = format!("exec '{}' agent", test_worker().display());
    let lease = Lease::on_script(&agent, &text);
    let flags = ["--agent", agent.to_str().unwrap()];
    let (mut cluster, address) = Cluster::test_workers(2, &flags);
    lease.take();
    let victim = processes::pid_in(&cluster.find_text("] agent slot=0"));
    kill(victim, Signal::SIGKILL).unwrap();
    await_condition("the start hangs", || lease.is_waited_for());

    let workers: Vec<Pid> = cluster.workers().values().map(Server::pid).collect();
    for worker in workers {
        kill(worker, Signal::SIGKILL).unwrap();
    }
    for _ in 0..2 {
        cluster.await_text(" ready after ");
        get(address, "/").unwrap();
    }
    assert!(lease.is_waited_for());

    lease.give_back();
    let successor = cluster.await_text("] agent slot=0");
    assert_ne!(processes::pid_in(&successor), victim);
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert_eq!(
        ended.log.matches("others go first").count(),
        1,
        "{}",
        ended.log
    );
}

/// C14: at the limit on processes and at that on descriptors nobody can be started. It is said, the
/// others serve, and there is a replacement as soon as there can be one.
#[test]
fn at_a_limit_there_is_an_error_and_a_new_attempt() {
    let programs = Unprivileged::new();
    for (limit, reason) in [
        ("nproc", "(EAGAIN); raise the limit on processes (ulimit -u"),
        ("nofile", "make its control channel: "),
    ] {
        let worker = programs.worker();
        let flags = ["-w", "2", "-l", "127.0.0.1:0", "--backoff", "50ms..50ms"];
        let program = [worker.to_str().unwrap(), "serve"];
        let mut cluster = Cluster::from_command(programs.command(flags.iter().chain(&program)));
        let address = cluster.address();
        cluster.await_ready();
        let (victim, other) = (cluster.worker(0), cluster.worker(1));
        let before = limit_of(cluster.pid(), limit, "1");
        kill(victim.pid(), Signal::SIGKILL).unwrap();
        for _ in 0..2 {
            let line = cluster.await_text(reason);
            assert!(line.contains("slot=0 gen=1"), "{line}");
            assert!(processes::is_alive(other.pid()));
        }
        limit_of(cluster.pid(), limit, &before);
        cluster.await_text(" ready after ");
        get(address, "/").unwrap();
        let ended = cluster.stop();
        assert_eq!(ended.code(), 0, "{}", ended.log);
    }
}

/// Sets a soft limit of the process; answers what it was.
fn limit_of(process: Pid, limit: &str, value: &str) -> String {
    let prlimit = |what: &str, more: &[&str]| {
        // Only who is of the same user may do this, and root if it has CAP_SYS_RESOURCE.
        let mut prlimit = without_rights(Command::new("prlimit"));
        prlimit.arg(format!("--pid={process}")).arg(what).args(more);
        let done = prlimit.output().expect("run prlimit");
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    let show = ["--raw", "--noheadings", "--output=SOFT"];
    let before = prlimit(&format!("--{limit}"), &show);
    prlimit(&format!("--{limit}={value}:"), &[]);
    before
}
