//! What `ps` shows of the master.

mod common;

use std::fs;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use common::client::{ask, connect};
use common::gate::Gate;
use common::{Cluster, await_condition, processes, rr_master, test_worker};

#[test]
fn the_title_says_how_many_serve() {
    let mut gate = Gate::new();
    let fifo = gate.path().display().to_string();
    let worker = test_worker().display().to_string();
    let program = [worker.as_str(), "late", "1", &fifo];
    let flags = ["-w", "2", "-l", "127.0.0.1:0", "--backoff", "1ms..1ms"];
    let mut cluster = Cluster::start(flags.iter().chain(&program));
    let master = cluster.pid();
    await_title(master, "rr-master: 1/2 ready, gen 1");
    gate.let_one_through();
    await_title(master, "rr-master: 2/2 serving, gen 1");
    cluster.await_ready();
    kill(cluster.worker(1).pid(), Signal::SIGKILL).unwrap();
    await_title(master, "rr-master: 1/2 serving, gen 1");
    gate.let_one_through();
    await_title(master, "rr-master: 2/2 serving, gen 1");
}

#[test]
fn the_title_says_how_many_are_left() {
    let (mut cluster, address) = Cluster::test_workers(2, &[]);
    let slow = ask(connect(address).unwrap(), "/slow/60000").unwrap();
    cluster.await_text("/slow/60000 begun");
    cluster.signal(Signal::SIGTERM);
    await_title(cluster.pid(), "rr-master: 1/2 left, gen 1");
    cluster.signal(Signal::SIGTERM);
    assert_eq!(cluster.wait().code(), 0);
    drop(slow);
}

/// The room that the command line had is all there is: what lies behind is the environment.
#[test]
fn a_short_command_line_makes_a_short_title() {
    let mut command = Command::new("/bin/sh");
    let script = r#"exec "$0" -w1 -l127.0.0.1:0"#;
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(rr_master(), dir.path().join("rr-master")).unwrap();
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    command.args(["-c", script, "rr-master"]).env("PATH", &path);
    let mut cluster = Cluster::from_command(command);
    cluster.await_ready();
    let master = cluster.pid();
    await_title(master, "rr-master: 1/1 serving");
    let line = fs::read(format!("/proc/{master}/cmdline")).unwrap();
    assert_eq!(line.len(), "rr-master -w1 -l127.0.0.1:0 ".len());
    assert_eq!(processes::environ(master)["PATH"], path);
}

#[test]
fn with_no_title_the_command_line_stays() {
    let (cluster, _) = Cluster::test_workers(1, &["--no-title"]);
    let title = title(cluster.pid());
    assert!(title.ends_with("serve"), "{title:?}");
    assert!(title.contains(" --no-title "), "{title:?}");
}

/// As `ps` shows it.
fn title(process: Pid) -> String {
    let line = fs::read(format!("/proc/{process}/cmdline")).expect("a living process");
    let line = String::from_utf8(line).expect("a readable title");
    line.trim_end_matches('\0').replace('\0', " ")
}

fn await_title(process: Pid, wanted: &str) {
    await_condition(wanted, || title(process) == wanted);
}
