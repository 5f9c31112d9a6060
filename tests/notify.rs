//! The master as a service: what its manager hears, on a socket as `sd_notify(3)` describes it.

mod common;

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use common::client::{ask, connect, get};
use common::command::after;
use common::manager::Manager;
use common::{Cluster, processes, rr_master, test_worker};

#[test]
fn the_manager_hears_of_the_start_and_of_the_end() {
    let mut manager = Manager::new();
    let mut cluster = manager.start(service(2));
    let ready = ready(&cluster);
    let told = manager.await_message("STATUS=2 of 2 workers serving");
    assert_eq!(told[0], "STATUS=starting: 0 of 2 workers ready");
    assert_eq!(told[told.len() - 2], ready);
    assert_eq!(count(&told, "READY=1"), 1, "{told:?}");
    cluster.await_ready();
    cluster.signal(Signal::SIGTERM);
    let told = manager.await_message("STATUS=stopping: 0 of 2 workers left");
    assert_eq!(
        told[..2],
        ["STOPPING=1", "STATUS=stopping: 2 of 2 workers left"]
    );
    assert_eq!(cluster.wait().code(), 0);
    assert_eq!(count(manager.heard(), "STOPPING=1"), 1);
}

#[test]
fn a_socket_in_the_abstract_namespace_is_as_good() {
    let mut manager = Manager::in_abstract_namespace();
    let cluster = manager.start(service(1));
    let ready = ready(&cluster);
    manager.await_message(&ready);
}

#[test]
fn the_numbers_follow_the_workers() {
    let mut manager = Manager::new();
    let mut cluster = manager.start(service(2));
    manager.await_message("STATUS=2 of 2 workers serving");
    cluster.await_ready();
    kill(cluster.worker(0).pid(), Signal::SIGKILL).unwrap();
    let told = manager.await_message("STATUS=2 of 2 workers serving");
    let expected = [
        "STATUS=1 of 2 workers serving",
        "STATUS=2 of 2 workers serving",
    ];
    assert_eq!(told, expected);
}

/// The numbers are those of whoever there is.
#[test]
fn a_cluster_of_agents_counts_agents() {
    let mut manager = Manager::new();
    let agent = format!("{} agent", test_worker().display());
    let mut command = Command::new(rr_master());
    command.args(["-w", "0", "--agent", &agent, "/bin/true"]);
    let _cluster = manager.start(command);
    manager.await_message("STATUS=1 of 1 agents serving");
}

#[test]
fn a_start_that_fails_is_never_called_ready() {
    let mut manager = Manager::new();
    let mut command = Command::new(rr_master());
    command.args(["-w", "1", "-l", "127.0.0.1:0", "/bin/false"]);
    let cluster = manager.start(command);
    manager.await_message("STOPPING=1");
    assert_eq!(cluster.wait().code(), 3);
    assert_eq!(count(manager.heard(), "READY=1"), 0);
}

/// They are the master's own: a worker that notified, too, would confuse the manager.
#[test]
fn a_worker_inherits_nothing_of_it() {
    let manager = Manager::new();
    let mut command = after("export WATCHDOG_PID=$$", args(1));
    command.env("WATCHDOG_USEC", "10000000");
    let mut cluster = manager.start(command);
    cluster.await_ready();
    let environ = processes::environ(cluster.worker(0).pid());
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        assert!(!environ.contains_key(name), "{name}");
    }
}

/// Nobody reads, and the socket is full before the master has said a word.
#[test]
fn a_manager_that_does_not_read_holds_nobody_up() {
    let mut manager = Manager::new();
    let filler = manager.fill();
    let mut cluster = manager.start(service(1));
    let address = cluster.address();
    cluster.await_ready();
    let ready = ready(&cluster);
    for _ in 0..20 {
        assert_eq!(get(address, "/").unwrap().status, 200);
    }
    processes::await_quiet(cluster.pid());
    // When it reads at last, it hears what matters.
    let told = manager.await_message(&ready);
    assert!(told.len() > filler);
    manager.await_message("STATUS=1 of 1 workers serving");
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn a_manager_that_is_not_there_is_a_warning() {
    let mut command = service(1);
    command.env("NOTIFY_SOCKET", "/nonexistent/notify");
    let mut cluster = Cluster::from_command(command);
    cluster.await_text("tell the service manager: ");
    cluster.find_text("cluster ready");
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0);
    assert_eq!(ended.log.matches("tell the service manager: ").count(), 1);
}

#[test]
fn a_socket_of_another_kind_is_a_warning() {
    let mut command = service(1);
    command.env("NOTIFY_SOCKET", "vsock:2:1234");
    let mut cluster = Cluster::from_command(command);
    cluster.await_text("nobody is notified");
    cluster.await_ready();
}

#[test]
fn the_loop_gives_signs_of_life_and_a_stopped_master_none() {
    let mut manager = Manager::new();
    let mut command = after("export WATCHDOG_PID=$$", args(1));
    command.env("WATCHDOG_USEC", "200000");
    let cluster = manager.start(command);
    manager.await_message("STATUS=1 of 1 workers serving");
    for _ in 0..5 {
        assert_eq!(manager.await_message("WATCHDOG=1"), ["WATCHDOG=1"]);
    }
    processes::freeze(cluster.pid());
    while manager.next_within(Duration::from_millis(1)).is_some() {}
    assert_eq!(manager.next_within(Duration::from_millis(400)), None);
    processes::thaw(cluster.pid());
    manager.await_message("WATCHDOG=1");
}

#[test]
fn a_watchdog_over_another_process_is_not_ours_to_feed() {
    let mut manager = Manager::new();
    let mut command = service(1);
    command.env("WATCHDOG_USEC", "20000");
    command.env("WATCHDOG_PID", "1");
    let mut cluster = manager.start(command);
    cluster.await_ready();
    cluster.stop();
    manager.await_message("STATUS=stopping: 0 of 1 workers left");
    assert_eq!(count(manager.heard(), "WATCHDOG=1"), 0);
}

/// With `Type=notify-reload` the manager waits until it hears that, see systemd.service(5).
#[test]
fn a_reload_that_is_refused_is_over_for_the_manager_too() {
    let mut manager = Manager::new();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.toml");
    fs::write(&file, "").unwrap();
    let mut command = Command::new(rr_master());
    command.arg("-c").arg(&file).args(args(1));
    let mut cluster = manager.start(command);
    let ready = ready(&cluster);
    manager.await_message("STATUS=1 of 1 workers serving");
    cluster.await_ready();
    fs::write(&file, "nonsense = 1").unwrap();
    cluster.signal(Signal::SIGHUP);
    cluster.await_text("everything stays as it is");
    let told = manager.await_message(&ready);
    assert!(
        told[0].starts_with("RELOADING=1\nMONOTONIC_USEC="),
        "{told:?}"
    );
}

/// Longer than `TimeoutStopSec=` perhaps: the manager is asked for patience before it is lost.
#[test]
fn a_stop_that_takes_its_time_asks_for_patience() {
    let mut manager = Manager::new();
    let mut cluster = manager.start(service(1));
    let address: SocketAddr = cluster.address();
    cluster.await_ready();
    let slow = ask(connect(address).unwrap(), "/slow/300").unwrap();
    cluster.await_text("/slow/300 begun");
    cluster.signal(Signal::SIGTERM);
    manager.await_message("STOPPING=1");
    let patience = "EXTEND_TIMEOUT_USEC=15000000";
    while manager.next_within(common::DEADLINE).as_deref() != Some(patience) {}
    assert_eq!(slow.answer().unwrap().status, 200);
    assert_eq!(cluster.wait().code(), 0);
}

fn service(workers: usize) -> Command {
    let mut command = Command::new(rr_master());
    command.args(args(workers));
    command
}

fn args(workers: usize) -> Vec<String> {
    let worker = test_worker().display().to_string();
    let args = [
        "-w",
        &workers.to_string(),
        "-l",
        "127.0.0.1:0",
        &worker,
        "serve",
    ];
    args.map(str::to_owned).to_vec()
}

fn ready(cluster: &Cluster) -> String {
    format!("READY=1\nMAINPID={}", cluster.pid())
}

fn count(told: &[String], line: &str) -> usize {
    let lines = told.iter().flat_map(|message| message.lines());
    lines.filter(|told| *told == line).count()
}
