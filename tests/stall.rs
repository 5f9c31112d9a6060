//! Stalls: a worker that does not receive what waits for it delays its clients for a moment only.

mod common;

use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use common::client::{Asked, Server, ask, connect, get};
use common::{Cluster, DEADLINE, Stopwatch, await_condition, processes, test_worker};

/// What waits for a stopped worker is answered by the others; when it runs again it serves again,
/// and nobody is answered twice.
#[test]
fn what_a_stopped_worker_left_unread_is_answered_by_others() {
    const CLIENTS: usize = 40;
    let (mut cluster, address) = Cluster::test_workers(4, &[]);
    let stopped = cluster.worker(0);
    processes::freeze(stopped.pid());
    let watch = Stopwatch::start();
    let answers = ask_all(address, CLIENTS);
    for _ in 0..CLIENTS {
        let server = answers.recv_timeout(DEADLINE).expect("an answer");
        assert_ne!(server, stopped);
    }
    println!("the last of {CLIENTS} answers after {:?}", watch.elapsed());
    let line = cluster.await_text("has received nothing for");
    assert!(line.contains(&format!("w{} ", stopped.id)), "{line}");
    processes::thaw(stopped.pid());
    await_server(address, &stopped);
    cluster.await_text("goes on after");
    assert_eq!(cluster.stop().code(), 0);
}

/// The same when the worker has a full window: all of it is moved.
#[test]
fn a_full_queue_of_a_stopped_worker_is_emptied() {
    const WINDOW: usize = 8;
    let (mut cluster, address) = Cluster::test_workers(2, &["--window", "8"]);
    let (stopped, other) = (cluster.worker(0), cluster.worker(1));
    processes::freeze(stopped.pid());
    let answers = ask_all(address, 40);
    for _ in 0..40 {
        assert_eq!(answers.recv_timeout(DEADLINE).expect("an answer"), other);
    }
    let line = cluster.await_text("has received nothing for");
    assert!(
        line.contains(&format!("(unread packets: {WINDOW})")),
        "{line}"
    );
    processes::thaw(stopped.pid());
    await_server(address, &stopped);
    cluster.await_text("goes on after");
}

/// Each connection is moved once at most. What may not be moved again does not stand in the way of
/// what may.
#[test]
fn a_connection_is_moved_once_at_most() {
    let (mut cluster, address) = Cluster::test_workers(2, &["--log-level", "debug"]);
    let (one, other) = (cluster.worker(0), cluster.worker(1));
    processes::freeze(one.pid());
    let moved = ask(connect(address).unwrap(), "/").unwrap();
    processes::freeze(other.pid());
    cluster.await_text("1 connections moved to w2");
    // It waits for the other now, and so does the next: its turn.
    let fresh = ask(connect(address).unwrap(), "/").unwrap();
    processes::thaw(one.pid());
    cluster.await_text("goes on after");
    assert_eq!(
        fresh.answer().unwrap().server(),
        one,
        "from behind the first"
    );
    // Again and again somebody has an empty queue, and the first stays where it is.
    for _ in 0..20 {
        assert_eq!(get(address, "/").unwrap().server(), one);
    }
    processes::thaw(other.pid());
    assert_eq!(moved.answer().unwrap().server(), other);
}

/// Workers that serve one client at a time, longer than the timeout, look stalled and are only
/// slow: everybody is served, and nothing goes in circles.
#[test]
fn slow_workers_that_serve_one_at_a_time_serve_everybody() {
    let worker = test_worker();
    let program = [worker.to_str().unwrap(), "pool", "1"];
    let flags = ["-w", "4", "-l", "127.0.0.1:0", "--stall-timeout", "50ms"];
    let mut cluster = Cluster::start(flags.iter().chain(&program));
    let address = cluster.address();
    cluster.await_ready();
    let asked: Vec<Asked<TcpStream>> = (0..24)
        .map(|_| ask(connect(address).unwrap(), "/slow/150").unwrap())
        .collect();
    for asked in asked {
        assert_eq!(asked.answer().unwrap().status, 200);
    }
    assert_eq!(cluster.stop().code(), 0);
}

/// A pool whose threads are all busy for long does not receive: its clients are served by others.
#[test]
fn a_worker_with_every_thread_busy_keeps_nobody_waiting() {
    let worker = test_worker();
    let program = [worker.to_str().unwrap(), "pool", "1"];
    let flags = ["-w", "2", "-l", "127.0.0.1:0", "--stall-timeout", "100ms"];
    let mut cluster = Cluster::start(flags.iter().chain(&program));
    let address = cluster.address();
    cluster.await_ready();
    let busy = cluster.worker(0);
    let long = ask(connect(address).unwrap(), "/slow/2000").unwrap();
    cluster.await_text("/slow/2000 begun");
    for _ in 0..6 {
        assert_ne!(get(address, "/").unwrap().server(), busy);
    }
    assert_eq!(long.answer().unwrap().server(), busy);
    await_server(address, &busy);
    cluster.await_text("goes on after");
}

/// A worker that receives nothing for long, although it lives, is replaced if that was asked for;
/// who waited for it is served by the next.
#[test]
fn a_worker_that_leaves_its_clients_waiting_for_too_long_is_replaced() {
    let worker = test_worker();
    let program = [worker.to_str().unwrap(), "pool", "1"];
    let flags = ["-w", "1", "-l", "127.0.0.1:0", "--hang-timeout", "500ms"];
    let mut cluster = Cluster::start(flags.iter().chain(&program));
    let address = cluster.address();
    cluster.await_ready();
    let hung = cluster.worker(0);
    let _held = ask(connect(address).unwrap(), "/slow/60000").unwrap();
    cluster.await_text("/slow/60000 begun");
    let waiting = ask(connect(address).unwrap(), "/").unwrap();
    let line = cluster.await_text(" hangs: ");
    assert!(line.contains("its accept queue did not move for"), "{line}");
    let line = cluster.await_text(" exited after ");
    assert!(line.contains("SIGABRT"), "{line}");
    assert_ne!(waiting.answer().unwrap().server(), hung);
    assert_eq!(cluster.stop().code(), 0);
}

/// A master that was stopped itself has seen nobody do nothing.
#[test]
fn time_in_which_the_master_was_stopped_does_not_count() {
    let (cluster, address) = Cluster::test_workers(2, &[]);
    let worker = cluster.worker(0);
    processes::freeze(worker.pid());
    let asked = ask(connect(address).unwrap(), "/").unwrap();
    processes::freeze(cluster.pid());
    // Longer than the timeout, which is what must not matter.
    let watch = Stopwatch::start();
    await_condition("twice the timeout", || watch.elapsed().as_millis() > 1000);
    processes::thaw(cluster.pid());
    processes::thaw(worker.pid());
    assert_eq!(asked.answer().unwrap().server(), worker);
    assert!(!cluster.stop().log.contains("has received nothing"));
}

/// Asks on as many connections, opened one after the other; answers come as they come.
fn ask_all(address: SocketAddr, clients: usize) -> Receiver<Server> {
    let (sender, answers) = channel();
    for _ in 0..clients {
        let asked = ask(connect(address).unwrap(), "/").unwrap();
        let sender = sender.clone();
        thread::spawn(move || sender.send(asked.answer().expect("an answer").server()));
    }
    answers
}

fn await_server(address: SocketAddr, wanted: &Server) {
    await_condition("an answer of that worker", || {
        get(address, "/").unwrap().server() == *wanted
    });
}
