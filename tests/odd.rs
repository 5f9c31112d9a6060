//! Odd workers: what they do to a connection or to a queue harms nobody who has it after them.

mod common;

use std::net::SocketAddr;

use nix::sys::signal::{Signal, kill};

use common::client::{Asked, ask, connect, get};
use common::{Cluster, await_condition, sockets};

/// `O_NONBLOCK` belongs to the connection, not to the worker, and workers differ in what they want.
#[test]
fn a_connection_that_was_moved_blocks_as_its_new_worker_wants() {
    let flags = ["--stall-timeout", "50ms"];
    let (cluster, address) = Cluster::by_slot(&flags, &[NONBLOCKING_PARK, "serve"]);
    for _ in 0..2 {
        let answer = get(address, "/nonblocking").unwrap();
        assert_eq!((answer.server().slot, &*answer.body), (1, "false"));
    }
    assert_eq!(cluster.stop().code(), 0);
}

/// The same when the first worker has died.
#[test]
fn a_connection_that_was_reclaimed_blocks_as_its_new_worker_wants() {
    let (mut cluster, address) = Cluster::by_slot(NEVER_STALLED, &[NONBLOCKING_PARK, "serve"]);
    let asked = ask_first(address, "/nonblocking");
    kill(cluster.worker(0).pid(), Signal::SIGKILL).unwrap();
    cluster.await_text("w1 web: 1 unread connections reclaimed");
    let answer = asked.answer().unwrap();
    assert_eq!((answer.server().slot, &*answer.body), (1, "false"));
}

/// `SO_PEEK_OFF` makes a queue that is full look empty, from the master's end, too.
#[test]
fn what_a_worker_hid_from_a_peek_is_reclaimed() {
    let (mut cluster, address) = Cluster::by_slot(NEVER_STALLED, &["odd peeks-far", "serve"]);
    let asked = ask_first(address, "/");
    kill(cluster.worker(0).pid(), Signal::SIGKILL).unwrap();
    cluster.await_text("w1 web: 1 unread connections reclaimed");
    assert_eq!(asked.answer().unwrap().server().slot, 1);
}

/// A worker may have looked at a connection and set `SO_LINGER`. Nobody waits while it is closed.
#[test]
fn refusing_a_connection_that_lingers_takes_no_time() {
    let flags = ["--overflow", "close", "--overflow-after", "0s"];
    let flags = [&flags[..], NEVER_STALLED].concat();
    let (mut cluster, address) = Cluster::by_slot(&flags, &["by-life odd lingers then serve"]);
    let _reads_nothing = connect(address).unwrap();
    cluster.await_text("its connection lingers");
    cluster.await_text("connections are refused until one has");
    cluster.await_text("w2 slot=0");
    cluster.await_text("ready after");
    assert_eq!(get(address, "/").unwrap().server().id, 2);
    assert_eq!(cluster.stop().code(), 0);
}

/// Asks the worker in slot 0, which is first; answers when it has been handed off.
fn ask_first(address: SocketAddr, path: &str) -> Asked<std::net::TcpStream> {
    let asked = ask(connect(address).unwrap(), path).unwrap();
    await_condition("accepted and handed off", || {
        sockets::unaccepted(address) == 0
    });
    asked
}

/// A worker that wants its connections with `O_NONBLOCK`, and never accepts.
const NONBLOCKING_PARK: &str = "steps listen:web,nonblocking ready park";

/// What a worker has is taken back when it has died, and not before.
const NEVER_STALLED: &[&str] = &["--stall-timeout", "never"];
