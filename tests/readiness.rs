//! Programs that say nothing to anybody: when they count as ready, and how they leave.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::client::get;
use common::{Cluster, run_to_end, test_worker};

/// Each has a port of its own, at an address that no other test has.
#[test]
fn a_server_is_ready_when_it_takes_connections() {
    let host = host(1);
    let ready_on = format!("tcp={host}:{{9000+slot}}");
    // There is no room for two at a port.
    let flags = ["--surge", "0", "--unavailable", "1", "--canary", "50ms"];
    let mut cluster = start(
        2,
        &[&["--ready-on", &ready_on][..], &flags].concat(),
        &[
            "python3",
            "-m",
            "http.server",
            "{9000+slot}",
            "--bind",
            &host,
        ],
    );
    cluster.await_ready();
    let addresses: [SocketAddr; 2] =
        [9000, 9001].map(|port| format!("{host}:{port}").parse().unwrap());
    for address in addresses {
        assert_eq!(get(address, "/").unwrap().status, 200, "{address}");
    }
    cluster.signal(nix::sys::signal::Signal::SIGHUP);
    cluster.await_text("all at generation 2");
    for address in addresses {
        assert_eq!(get(address, "/").unwrap().status, 200, "{address}");
    }
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert!(!ended.log.contains("SIGKILL"), "{}", ended.log);
}

#[test]
fn a_server_that_takes_no_connections_is_not_ready() {
    let ready_on = format!("tcp={}:9000", host(2));
    let flags = ["--ready-on", &ready_on, "--ready-timeout", "300ms"];
    let ended = start(1, &flags, &["sleep", "1000"]).wait();
    assert_eq!(ended.code(), 3, "{}", ended.log);
    let says = format!("; nobody takes connections at {}:9000", host(2));
    assert!(ended.log.contains(&says), "{}", ended.log);
    assert!(!ended.log.contains("never heard of"), "{}", ended.log);
}

#[test]
fn a_program_that_listens_nowhere_is_ready_when_it_has_lived_for_a_while() {
    let mut cluster = start(2, &["--ready-on", "delay=300ms"], &["sleep", "1000"]);
    let line = cluster.await_text("cluster ready");
    let took = line.rsplit(" after ").next().unwrap();
    let took = humantime::parse_duration(took).unwrap();
    assert!(took >= Duration::from_millis(300), "{line}");
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    let ended = start(1, &["--ready-on", "delay=60s"], &["sh", "-c", "exit 9"]).wait();
    assert_eq!(ended.code(), 3, "{}", ended.log);
}

/// Many a server closes every descriptor that it does not know.
#[test]
fn a_program_may_close_the_channel_that_it_does_not_use() {
    let script =
        "import os, time; os.closerange(3, 1024); print('closed', flush=True); time.sleep(1000)";
    let flags = ["--ready-on", "delay=500ms", "--stdout", "lines"];
    let mut cluster = start(1, &flags, &["python3", "-c", script]);
    cluster.await_ready();
    assert!(!cluster.log().contains("disconnected"), "{}", cluster.log());
    let pid = cluster.worker(0).pid();
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    cluster.await_text("signal SIGKILL");
    cluster.await_text(" ready after ");
    assert_eq!(cluster.stop().code(), 0);
}

/// What was asked for is what counts, also of a program that could say it.
#[test]
fn a_message_is_not_enough_when_something_else_was_asked_for() {
    let ready_on = format!("tcp={}:9000", host(3));
    let worker = test_worker().display().to_string();
    let flags = ["--ready-on", &ready_on, "--ready-timeout", "300ms"];
    let ended = start(1, &flags, &[&worker, "serve"]).wait();
    assert_eq!(ended.code(), 3, "{}", ended.log);
    assert!(
        ended.log.contains("not ready after 300 ms"),
        "{}",
        ended.log
    );
}

#[test]
fn what_cannot_show_readiness_is_refused() {
    for (ready_on, says) in [
        ("listen", "write message, delay=TIME or tcp=ADDRESS"),
        ("tcp=9000", "write an IP address and a port, such as tcp="),
        ("tcp=[::1]:{65535+slot}", "there is no such port for slot 1"),
    ] {
        let ended = run_to_end(&["-w", "2", "--ready-on", ready_on, "sleep", "1000"]);
        assert_eq!(ended.code(), 2, "{}", ended.log);
        assert!(ended.log.contains(says), "{ready_on}: {}", ended.log);
    }
}

fn start(workers: usize, flags: &[&str], program: &[&str]) -> Cluster {
    let workers = workers.to_string();
    Cluster::start([&["-w", &workers][..], flags, program].concat())
}

/// An address of the loopback network for this process and this purpose alone, so that any port of it
/// can be had.
fn host(purpose: u32) -> String {
    let [_, a, b, c] = (std::process::id() * 8 + purpose).to_be_bytes();
    format!("127.{a}.{b}.{c}")
}
