//! Limits: on connections, on waiting, on descriptors. Whoever cannot be served now waits or is
//! refused, as was asked for, and the counts say so.

mod common;

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use nix::sys::signal::Signal;

use common::client::{ask, connect, get, read_response};
use common::command::{Unprivileged, after};
use common::gate::Gate;
use common::load::Load;
use common::{Cluster, Stopwatch, await_condition, processes, sockets, test_worker};

/// A worker gets no more than its limit; when one of its connections is closed it gets the next at
/// once.
#[test]
fn a_worker_has_no_more_connections_than_it_may() {
    let (cluster, address) = Cluster::test_workers(2, &["--max-connections-per-worker", "3"]);
    let workers = [cluster.worker(0), cluster.worker(1)];
    let mut clients: Vec<TcpStream> = (0..20).map(|_| connect(address).unwrap()).collect();
    for worker in &workers {
        await_condition("three connections each", || {
            connections_of(worker.pid(), address) == 3
        });
    }
    processes::await_quiet(cluster.pid());
    for worker in &workers {
        assert_eq!(connections_of(worker.pid(), address), 3);
    }
    // One after the other they ask, are answered, and make room.
    for client in clients.drain(..) {
        assert_eq!(finish(client), 200);
    }
    assert_eq!(get(address, "/").unwrap().status, 200);
    assert_eq!(cluster.stop().code(), 0);
}

/// The same for all workers together.
#[test]
fn all_workers_have_no_more_connections_than_they_may() {
    let (cluster, address) = Cluster::test_workers(4, &["--max-connections", "6"]);
    let workers: Vec<_> = cluster.workers().into_values().collect();
    let open = || -> usize {
        let workers = workers.iter();
        workers
            .map(|worker| connections_of(worker.pid(), address))
            .sum()
    };
    let clients: Vec<TcpStream> = (0..20).map(|_| connect(address).unwrap()).collect();
    await_condition("six connections", || open() == 6);
    processes::await_quiet(cluster.pid());
    assert_eq!(open(), 6);
    for client in clients {
        assert_eq!(finish(client), 200);
    }
    assert_eq!(cluster.stop().code(), 0);
}

/// What a worker gave back unread is nobody's, and must not take the place that it needs itself.
#[test]
fn what_a_worker_leaves_when_it_closes_its_listener_does_not_count_for_it() {
    let mut gate = Gate::new();
    let path = gate.path();
    let closes = format!("steps listen:web ready gate:{} close:web", path.display());
    let flags = ["--max-connections", "1", "--stall-timeout", "never"];
    let (mut cluster, address) = Cluster::by_slot(&flags, &[&closes, "serve"]);
    let asked = ask(connect(address).unwrap(), "/").unwrap();
    await_condition("it is with the worker", || {
        sockets::unaccepted(address) == 0
    });
    gate.let_one_through();
    cluster.await_text("slot=0 close web: 0");
    assert_eq!(asked.answer().unwrap().server().slot, 1);
    assert_eq!(get(address, "/").unwrap().server().slot, 1);
    assert_eq!(cluster.stop().code(), 0);
}

/// A packet that is moved may hold more than its new worker has room for.
#[test]
fn a_worker_is_given_no_more_than_it_may_have_of_a_packet_that_is_moved() {
    let flags = ["--max-connections-per-worker", "3", "--log-level", "debug"];
    let flags = [&flags[..], &["--stall-timeout", "100ms"]].concat();
    let (mut cluster, address) =
        Cluster::by_slot(&flags, &["steps listen:web,batch=3 ready park", "serve"]);
    let other = cluster.worker(1);
    // All of them are there when the master looks, so three are in one packet.
    processes::freeze(cluster.pid());
    let mut clients: Vec<TcpStream> = (0..6).map(|_| connect(address).unwrap()).collect();
    processes::thaw(cluster.pid());
    let line = cluster.await_text("w1 web: has received nothing for");
    assert!(line.contains("(unread packets: 1)"), "{line}");
    assert_eq!(finish(clients.remove(1)), 200, "makes room for one");
    cluster.await_text("1 connections moved to w2");
    processes::await_quiet(cluster.pid());
    assert_eq!(connections_of(other.pid(), address), 3);
    // Those of the other make room for the rest.
    for client in [2, 3, 0, 0, 0].map(|index| clients.remove(index)) {
        assert_eq!(finish(client), 200);
    }
    assert_eq!(cluster.stop().code(), 0);
}

/// Who would rather refuse than let wait can: nobody waits longer than that, and when there is room
/// again everybody is served.
#[test]
fn clients_that_nobody_has_room_for_are_refused_if_asked_for() {
    for (how, expected) in [("close", None), ("reset", Some(ErrorKind::ConnectionReset))] {
        let flags = ["--overflow", how, "--overflow-after", "50ms"];
        let flags = [&flags[..], &["--max-connections-per-worker", "2"]].concat();
        let (mut cluster, address) = Cluster::test_workers(1, &flags);
        let served = [(); 2].map(|()| ask(connect(address).unwrap(), "/slow/600").unwrap());
        let mut refused: Vec<TcpStream> = (0..10).map(|_| connect(address).unwrap()).collect();
        for client in &mut refused {
            let outcome = client.read(&mut [0; 100]);
            assert_eq!(outcome.as_ref().err().map(std::io::Error::kind), expected);
            assert_eq!(outcome.unwrap_or(0), 0, "{how}");
        }
        cluster.await_text("no worker has had room for 50ms");
        for asked in served {
            assert_eq!(asked.answer().unwrap().status, 200);
        }
        cluster.await_text("has room again, 10 connections were refused");
        assert_eq!(get(address, "/").unwrap().status, 200);
        assert_eq!(cluster.stop().code(), 0);
    }
}

/// A cluster that stops lets nobody in, so there is nobody whom it could refuse.
#[test]
fn a_graceful_stop_is_no_overflow() {
    let flags = ["--overflow", "close", "--overflow-after", "10ms"];
    let (mut cluster, address) = Cluster::test_workers(1, &flags);
    let asked = ask(connect(address).unwrap(), "/slow/300").unwrap();
    cluster.await_text("/slow/300 begun");
    let ended = cluster.stop();
    assert_eq!(asked.answer().unwrap().status, 200);
    assert_eq!(ended.code(), 0);
    assert!(!ended.log.contains("are refused"), "{}", ended.log);
}

/// At a stop everybody who waits is served: limits would keep the workers from being told.
#[test]
fn a_limit_does_not_keep_a_cluster_from_stopping() {
    let flags = [
        "--max-connections-per-worker",
        "1",
        "--max-connections",
        "1",
    ];
    let (cluster, address) = Cluster::test_workers(1, &flags);
    let worker = cluster.worker(0);
    let idle = connect(address).unwrap();
    await_condition("the limit", || connections_of(worker.pid(), address) == 1);
    let waiting = ask(connect(address).unwrap(), "/").unwrap();
    cluster.signal(Signal::SIGTERM);
    assert_eq!(waiting.answer().unwrap().status, 200);
    drop(idle);
    assert_eq!(cluster.wait().code(), 0);
}

/// Nor does somebody who waits where nobody listens.
#[test]
fn a_listener_that_no_worker_asked_for_does_not_keep_a_cluster_from_stopping() {
    let worker = test_worker();
    let flags = [
        "-w",
        "2",
        "-l",
        "web=127.0.0.1:0",
        "-l",
        "admin=127.0.0.1:0",
    ];
    let program = [worker.to_str().unwrap(), "serve", "web"];
    let mut cluster = Cluster::start(flags.iter().chain(&program));
    let addresses = cluster.addresses(2);
    cluster.await_ready();
    let mut client = connect(addresses[1].parse().unwrap()).unwrap();
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert!(ended.log.contains("1 connections refused"), "{}", ended.log);
    assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
}

/// A worker that has said that it has no descriptors left does not hang.
#[test]
fn a_worker_without_descriptors_is_not_taken_for_hung() {
    let short = "ulimit -n 32; exec \"$0\" serve";
    let worker = test_worker();
    let flags = ["-w", "1", "-l", "web=127.0.0.1:0", "--hang-timeout", "1s"];
    let program = ["/bin/sh", "-c", short, worker.to_str().unwrap()];
    let mut cluster = Cluster::start(flags.iter().chain(&program));
    let address = cluster.address();
    cluster.await_ready();
    let worker = cluster.worker(0);
    let clients: Vec<TcpStream> = (0..50).map(|_| connect(address).unwrap()).collect();
    cluster.await_text("may not open more descriptors");
    // Several times as long as it would take.
    let watch = Stopwatch::start();
    await_condition("three times the timeout", || {
        watch.elapsed().as_millis() > 3000
    });
    assert!(processes::is_alive(worker.pid()));
    for client in clients {
        assert_eq!(finish(client), 200);
    }
    let ended = cluster.stop();
    assert!(!ended.log.contains(" hangs: "), "{}", ended.log);
}

/// A cluster that is just starting refuses nobody.
#[test]
fn clients_wait_for_the_first_worker_whatever_the_overflow() {
    let mut gate = Gate::new();
    let worker = test_worker();
    let flags = ["-w", "1", "-l", "127.0.0.1:0", "--overflow", "reset"];
    let flags = [&flags[..], &["--overflow-after", "1ms"]].concat();
    let gate_path = gate.path();
    let program = [worker.to_str().unwrap(), "late", "0"];
    let program = [&program[..], &[gate_path.to_str().unwrap()]].concat();
    let mut cluster = Cluster::start(flags.iter().chain(&program));
    let address = cluster.address();
    // Perhaps before the start-up screen.
    cluster.find_text("listening and not ready");
    let asked = ask(connect(address).unwrap(), "/").unwrap();
    processes::await_quiet(cluster.pid());
    gate.let_one_through();
    assert_eq!(asked.answer().unwrap().status, 200);
}

/// A worker at its limit on descriptors says so, and others get what waits for it.
#[test]
fn what_a_worker_has_no_descriptors_for_goes_to_others() {
    let short = "test $RR_SLOT = 0 && ulimit -n 32; exec \"$0\" serve";
    let (mut cluster, address) = start_with_shell(&[], short, 2);
    let clients: Vec<TcpStream> = (0..80).map(|_| connect(address).unwrap()).collect();
    cluster.await_text("may not open more descriptors");
    let (full, free) = (cluster.worker(0), cluster.worker(1));
    await_condition("everybody with a worker", || {
        connections_of(full.pid(), address) + connections_of(free.pid(), address) == 80
    });
    assert!(connections_of(full.pid(), address) < 32);
    for client in clients {
        assert_eq!(finish(client), 200);
    }
    assert_eq!(cluster.stop().code(), 0);
}

/// The same when nobody is free at that moment: it stays known until somebody is.
#[test]
fn what_a_worker_has_no_descriptors_for_waits_until_somebody_has() {
    let short = "test $RR_SLOT = 0 && ulimit -n 32; exec \"$0\" serve";
    let flags = ["--window", "1", "--stall-timeout", "never"];
    let (mut cluster, address) = start_with_shell(&flags, short, 2);
    let (full, busy) = (cluster.worker(0), cluster.worker(1));
    processes::freeze(busy.pid());
    let clients: Vec<TcpStream> = (0..50).map(|_| connect(address).unwrap()).collect();
    cluster.await_text("may not open more descriptors");
    // Until it has been tried again, which is when it could be forgotten.
    processes::await_quiet(cluster.pid());
    processes::thaw(busy.pid());
    await_condition("everybody with a worker", || {
        connections_of(full.pid(), address) + connections_of(busy.pid(), address) == 50
    });
    for client in clients {
        assert_eq!(finish(client), 200);
    }
    assert_eq!(cluster.stop().code(), 0);
}

/// A program that knows nothing of all this is not given more than it can open: the kernel would
/// close the rest without a trace.
#[test]
fn a_program_without_the_sdk_gets_no_more_than_it_has_descriptors_for() {
    const CLIENTS: usize = 100;
    for workers in [1, 2] {
        let short = "test $RR_SLOT = 0 && ulimit -n 40; exec \"$0\" plain web";
        let (cluster, address) = start_with_shell(&[], short, workers);
        let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(address).unwrap()).collect();
        for client in clients {
            assert_eq!(finish(client), 200, "with {workers} workers");
        }
        assert_eq!(cluster.stop().code(), 0);
    }
}

/// A shell that waits for the program has descriptors enough, and they are not what counts.
#[test]
fn the_descriptors_of_the_program_count_and_not_those_of_its_launcher() {
    let stays = "ulimit -n 40; \"$0\" plain web; exit $?";
    let (cluster, address) = start_with_shell(&[], stays, 1);
    let clients: Vec<TcpStream> = (0..100).map(|_| connect(address).unwrap()).collect();
    for client in clients {
        assert_eq!(finish(client), 200);
    }
    assert_eq!(cluster.stop().code(), 0);
}

/// What is moved needs descriptors as much as what is new.
#[test]
fn a_program_without_the_sdk_gets_no_more_moved_than_it_has_descriptors_for() {
    let short = "test $RR_SLOT = 1 && ulimit -n 24; exec \"$0\" plain web";
    let (mut cluster, address) = start_with_shell(&["--stall-timeout", "100ms"], short, 2);
    processes::freeze(cluster.worker(0).pid());
    // As many for each as the one with the low limit may just have.
    let clients: Vec<TcpStream> = (0..20).map(|_| connect(address).unwrap()).collect();
    cluster.await_text("w1 web: has received nothing for");
    // Before anybody makes room again.
    processes::await_quiet(cluster.pid());
    for client in clients {
        assert_eq!(finish(client), 200);
    }
}

/// The same for a packet that holds more than that.
#[test]
fn a_program_without_the_sdk_gets_as_much_of_a_moved_packet_as_it_has_descriptors_for() {
    const CLIENTS: usize = 20;
    let large = "exec \"$0\" steps listen:web,batch=10 ready park";
    let small = "ulimit -n 24; exec \"$0\" plain web";
    let by_slot = format!("if test $RR_SLOT = 0; then {large}; fi; {small}");
    let flags = ["--stall-timeout", "100ms", "--log-level", "debug"];
    let (mut cluster, address) = start_with_shell(&flags, &by_slot, 2);
    // All of them are there when the master looks, so the first worker gets one packet.
    processes::freeze(cluster.pid());
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(address).unwrap()).collect();
    processes::thaw(cluster.pid());
    let line = cluster.await_text("w1 web: has received nothing for");
    assert!(line.contains("(unread packets: 1)"), "{line}");
    cluster.await_text("connections moved to w2");
    processes::await_quiet(cluster.pid());
    let asked: Vec<_> = clients
        .into_iter()
        .map(|client| ask(client, "/").unwrap())
        .collect();
    for asked in asked {
        assert_eq!(asked.answer().unwrap().status, 200);
    }
    assert_eq!(cluster.stop().code(), 0);
}

/// Descriptors run out everywhere: in the master, in the workers, and on the way between them. As
/// root and as anybody else, for whom the kernel counts what is on the way (`ETOOMANYREFS`).
#[test]
fn with_few_descriptors_everybody_is_served_all_the_same() {
    const FEW: &str = "ulimit -n 64";
    let programs = Unprivileged::new();
    let worker = programs.worker();
    let args = ["-w", "4", "-l", "127.0.0.1:0", worker.to_str().unwrap()];
    let args = || args.iter().copied().chain(["serve"]);
    for command in [after(FEW, args()), programs.after(FEW, args())] {
        let mut cluster = Cluster::from_command(command);
        let address = cluster.address();
        cluster.await_ready();
        let frozen = [cluster.worker(0), cluster.worker(1), cluster.worker(2)];
        // More at once than anybody can open, and most of the workers do not receive.
        let clients: Vec<TcpStream> = (0..400).map(|_| connect(address).unwrap()).collect();
        for worker in &frozen {
            processes::freeze(worker.pid());
        }
        let more: Vec<_> = (0..200)
            .map(|_| ask(connect(address).unwrap(), "/").unwrap())
            .collect();
        processes::await_quiet(cluster.pid());
        for worker in &frozen {
            processes::thaw(worker.pid());
        }
        for client in clients {
            assert_eq!(finish(client), 200);
        }
        for asked in more {
            assert_eq!(asked.answer().unwrap().status, 200);
        }
        let load = Load::start(address, 20);
        load.await_more(2000);
        assert_eq!(load.stop().failures, Vec::<String>::new());
        assert_eq!(cluster.stop().code(), 0);
    }
}

/// Workers of a shell command in which `$0` is the test worker.
fn start_with_shell(flags: &[&str], command: &str, workers: usize) -> (Cluster, SocketAddr) {
    let worker = test_worker();
    let workers = workers.to_string();
    let flags = [&["-w", &workers, "-l", "web=127.0.0.1:0"], flags].concat();
    let program = ["/bin/sh", "-c", command, worker.to_str().unwrap()];
    let mut cluster = Cluster::start(flags.iter().chain(&program));
    let address = cluster.address();
    cluster.await_ready();
    (cluster, address)
}

/// Asks on a connection that was opened before; answers the status.
fn finish(mut client: TcpStream) -> u16 {
    client
        .write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        .unwrap();
    read_response(&mut BufReader::new(client)).unwrap().status
}

/// How many clients of this address the process has.
fn connections_of(worker: nix::unistd::Pid, address: SocketAddr) -> usize {
    sockets::connections(worker, address)
}
