//! The window: how many connections a worker that does not receive can delay.

mod common;

use std::io::{BufReader, Write};

use common::client::{ask_all, connect, read_response};
use common::{Cluster, DEADLINE, await_condition, processes, test_worker};

/// The others serve whatever does not fit into the stopped worker's queue, and nothing of what
/// does is lost.
#[test]
fn a_stopped_worker_delays_no_more_clients_than_its_window() {
    for window in [1, 5, 8] {
        let (cluster, address) = Cluster::test_workers(
            2,
            &["--window", &window.to_string(), "--stall-timeout", "never"],
        );
        let (stopped, other) = (cluster.worker(0), cluster.worker(1));
        processes::freeze(stopped.pid());
        let answers = ask_all(address, 40);
        for _ in window..40 {
            let server = answers
                .recv_timeout(DEADLINE)
                .expect("an answer of the other");
            assert_eq!(server, other, "window {window}");
        }
        assert_eq!(answers.try_recv().ok(), None, "window {window}");
        processes::thaw(stopped.pid());
        for _ in 0..window {
            let server = answers
                .recv_timeout(DEADLINE)
                .expect("an answer of the stopped one");
            assert_eq!(server, stopped, "window {window}");
        }
    }
}

/// With nobody to give them to, clients wait in the kernel's backlog, and the master sleeps.
#[test]
fn a_master_whose_workers_are_all_full_uses_no_cpu() {
    const CLIENTS: usize = 60;
    let (cluster, address) = Cluster::test_workers(2, &["--window", "4"]);
    let workers = [cluster.worker(0), cluster.worker(1)];
    workers
        .iter()
        .for_each(|worker| processes::freeze(worker.pid()));
    let answers = ask_all(address, CLIENTS);
    processes::await_quiet(cluster.pid());
    assert_eq!(answers.try_recv().ok(), None);
    workers
        .iter()
        .for_each(|worker| processes::thaw(worker.pid()));
    for _ in 0..CLIENTS {
        answers.recv_timeout(DEADLINE).expect("an answer");
    }
}

/// A worker that may not open more descriptors leaves what it cannot take in its queue, until one
/// of its connections is closed.
#[test]
fn a_worker_at_its_own_descriptor_limit_loses_nobody() {
    const CLIENTS: usize = 60;
    let limited = "ulimit -n 32; exec \"$0\" serve";
    let worker = test_worker();
    let program = ["/bin/sh", "-c", limited, worker.to_str().unwrap()];
    let mut cluster = Cluster::start(["-w", "1", "-l", "127.0.0.1:0"].iter().chain(&program));
    let address = cluster.address();
    cluster.await_ready();
    // They come and say nothing, so the worker fills up with them.
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| connect(address).unwrap()).collect();
    let worker = processes::of_master(cluster.pid())[0];
    await_condition("a worker with all its descriptors in use", || {
        processes::descriptors(worker) == 32
    });
    for client in &mut clients {
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    }
    for client in clients {
        let response = read_response(&mut BufReader::new(client)).unwrap();
        assert_eq!(response.status, 200);
    }
    assert_eq!(cluster.stop().code(), 0);
}
