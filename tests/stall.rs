//! Stalls: a worker that does not receive what waits for it delays its clients for a moment only.

mod common;

use std::net::{SocketAddr, TcpStream};

use nix::sys::signal::{Signal, kill};

use common::client::{Asked, Server, ask, ask_all, connect, get};
use common::gate::Gate;
use common::load::Load;
use common::{Cluster, DEADLINE, Stopwatch, await_condition, processes, sockets};

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
    let (cluster, address) = Cluster::in_mode(&["pool", "1"], 4, &["--stall-timeout", "50ms"]);
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
    let (mut cluster, address) = Cluster::in_mode(&["pool", "1"], 2, &["--stall-timeout", "100ms"]);
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
    let (mut cluster, address) = Cluster::in_mode(&["pool", "1"], 1, &["--hang-timeout", "500ms"]);
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

/// A stalled worker is better than none. What it is given then goes to the first that comes.
#[test]
fn what_a_stalled_worker_got_for_want_of_another_goes_to_the_next_that_is_ready() {
    let mut gate = Gate::new();
    let other = format!("by-life serve then late 1 {}", gate.path().display());
    let flags = ["--stall-timeout", "100ms"];
    let (mut cluster, address) = Cluster::by_slot(&flags, &["serve", &other]);
    let (stalled, other) = (cluster.worker(0), cluster.worker(1));
    processes::freeze(stalled.pid());
    assert_eq!(get(address, "/").unwrap().server(), other, "moved");
    kill(other.pid(), Signal::SIGKILL).unwrap();
    cluster.await_text("listening and not ready");
    let asked = ask(connect(address).unwrap(), "/").unwrap();
    await_condition("it is with the stalled one", || {
        sockets::unaccepted(address) == 0
    });
    gate.let_one_through();
    assert_eq!(asked.answer().unwrap().server().id, other.id + 1);
}

/// Who is tried may well leave it, too, so others come first.
#[test]
fn what_a_stalled_worker_left_goes_to_a_sound_one_before_one_that_is_being_tried() {
    let modes = ["serve", PARK, "serve"];
    let (mut cluster, address) = start_patient(&modes);
    let (next, sound) = (cluster.worker(0), cluster.worker(2));
    assert_eq!(get(address, "/").unwrap().server(), next);
    assert_eq!(get(address, "/").unwrap().server(), sound, "moved");
    // It answers pings and has nothing to do, so it seems to go on.
    cluster.await_text("w2 web: tried again");
    processes::freeze(next.pid());
    let asked = ask(connect(address).unwrap(), "/").unwrap();
    let line = cluster.await_text("w1 web: 1 connections moved to ");
    assert!(line.ends_with("to w3"), "{line}");
    assert_eq!(asked.answer().unwrap().server(), sound);
}

/// With nobody else it goes to the one that is being tried, and that is no move that counts.
#[test]
fn what_went_to_a_worker_that_is_being_tried_is_moved_again() {
    let (mut cluster, address) = start_patient(&["serve", PARK]);
    let (other, parked) = (cluster.worker(0), cluster.worker(1));
    processes::freeze(parked.pid());
    for _ in 0..2 {
        assert_eq!(get(address, "/").unwrap().server(), other);
    }
    processes::freeze(other.pid());
    let asked = ask(connect(address).unwrap(), "/").unwrap();
    cluster.await_text("w1 web: has received nothing for");
    // It answers pings and has nothing to do, so it seems to go on.
    processes::thaw(parked.pid());
    cluster.await_text("w1 web: 1 connections moved to w2");
    processes::thaw(other.pid());
    cluster.await_text("w2 web: 1 connections moved to w1");
    assert_eq!(asked.answer().unwrap().server(), other);
}

/// Its control thread is alive and its program is not: no client waits for long, and one day it is
/// replaced.
#[test]
fn a_worker_that_answers_pings_and_never_accepts_is_replaced() {
    let parked = format!("by-life {PARK} then serve");
    let flags = ["--stall-timeout", "50ms", "--hang-timeout", "600ms"];
    let (mut cluster, address) = Cluster::by_slot(&flags, &[&parked, "serve"]);
    let load = Load::start(address, 1);
    let line = cluster.await_text(" hangs: ");
    assert!(line.contains("] w1 "), "{line}");
    assert!(line.contains("its accept queue did not move for"), "{line}");
    cluster.await_line("its successor", |line| {
        line.contains("w3 slot=0") && line.contains("ready after")
    });
    load.await_more(10);
    let tally = load.stop();
    assert_eq!(tally.failures, [""; 0]);
    assert!(tally.answers.iter().all(|server| server.id != 1));
    assert_eq!(cluster.stop().code(), 0);
}

/// A packet is moved whole, but it may be more than its new worker takes at once.
#[test]
fn a_packet_larger_than_its_new_worker_takes_is_served_to_the_last_connection() {
    let mut gate = Gate::new();
    let path = gate.path();
    let small = format!(
        "steps listen:web,batch=5 gate:{0} ready gate:{0}",
        path.display()
    );
    let large = "steps listen:web,batch=8 ready park";
    let flags = [
        "--window",
        "16",
        "--stall-timeout",
        "50ms",
        "--log-level",
        "debug",
    ];
    let mut cluster = Cluster::start(Cluster::by_slot_args(&flags, &[large, &small]));
    let address = cluster.address();
    cluster.find_line("the first worker", |line| {
        line.contains("w1 slot=0") && line.contains(" ready after ")
    });
    // In one packet, since all of them are there when the master looks.
    processes::freeze(cluster.pid());
    let asked: Vec<_> = (0..8)
        .map(|_| ask(connect(address).unwrap(), "/").unwrap())
        .collect();
    processes::thaw(cluster.pid());
    let line = cluster.await_text("w1 web: has received nothing for");
    assert!(line.contains("(unread packets: 1)"), "{line}");
    gate.let_one_through();
    cluster.await_text("w1 web: 8 connections moved to w2");
    gate.let_one_through();
    for asked in asked {
        assert_eq!(asked.answer().unwrap().server().slot, 1);
    }
    assert_eq!(cluster.stop().code(), 0);
}

/// A program may leave its control channel unread, and many pings would fill it.
#[test]
fn a_worker_that_reads_no_pings_is_sent_one_however_often_it_stalls() {
    let flags = ["--stall-timeout", "20ms", "--log-level", "debug"];
    let (mut cluster, address) = Cluster::by_slot(&flags, &["plain web"]);
    let worker = processes::pid_in(&cluster.find_text("w1 slot=0"));
    let mut pings = 0;
    for _ in 0..3 {
        processes::freeze(worker);
        let asked = ask(connect(address).unwrap(), "/").unwrap();
        cluster.await_text("has received nothing for");
        processes::thaw(worker);
        let unread = asked.answer().unwrap().body;
        pings += unread.parse::<u32>().unwrap();
        cluster.await_text("goes on after");
    }
    assert_eq!(pings, 1);
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

/// Workers in these modes, with a log that tells of every move. The timeout is one that a healthy
/// worker hardly ever exceeds, since each of its stalls would change what is told.
fn start_patient(modes: &[&str]) -> (Cluster, SocketAddr) {
    let flags = ["--stall-timeout", "200ms", "--log-level", "debug"];
    Cluster::by_slot(&flags, modes)
}

fn await_server(address: SocketAddr, wanted: &Server) {
    await_condition("an answer of that worker", || {
        get(address, "/").unwrap().server() == *wanted
    });
}

/// A worker that answers the master and never accepts.
const PARK: &str = "steps listen:web ready park";
