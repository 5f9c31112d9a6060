//! A connection costs a worker no allocation: received, served and closed, again and again, with what
//! the first ones have left behind.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use allocation_counter::{measure, opt_out};
use worker_proto::address::Address;
use worker_proto::{Connection, FakeMaster, ListenOptions, Listener, Server, Stream, Worker};

#[test]
fn a_connection_is_served_without_an_allocation() {
    for max_batch in [1, 8, 64] {
        let mut cluster = Cluster::new(listen(max_batch, false));
        for _ in 0..WARM_UP {
            cluster.visit(max_batch.into());
            serve(&cluster.listener, max_batch.into());
        }
        let made = measure(|| {
            for _ in 0..ROUNDS {
                opt_out(|| cluster.visit(max_batch.into()));
                serve(&cluster.listener, max_batch.into());
            }
        });
        assert_eq!(made.count_total, 0, "{max_batch} in a packet: {made:?}");
    }
}

/// As a program with a poll loop does it: until there is nothing more now.
#[test]
fn a_poll_loop_serves_without_an_allocation() {
    for max_batch in [1, 8, 64] {
        let mut cluster = Cluster::new(listen(max_batch, true));
        for _ in 0..WARM_UP {
            cluster.visit(max_batch.into());
            serve_what_is_there(&cluster.listener);
        }
        let made = measure(|| {
            for _ in 0..ROUNDS {
                opt_out(|| cluster.visit(max_batch.into()));
                serve_what_is_there(&cluster.listener);
            }
        });
        assert_eq!(made.count_total, 0, "{max_batch} in a packet: {made:?}");
    }
}

/// The server itself is no part of it, so it is the difference that counts.
#[test]
fn a_server_allocates_nothing_for_one_connection_more() {
    let [few, many] = [5, 50].map(|count| {
        let mut cluster = Cluster::new(listen(1, false));
        for _ in 0..count {
            cluster.visit(1);
        }
        cluster.master.drain(Duration::from_secs(30));
        let server = Server::new().max_threads(1);
        let listener = [cluster.listener];
        let mut served = 0;
        let made = measure(|| {
            let end = server.serve(listener, answer);
            served = end.expect("the end of the queue").connections;
        });
        assert_eq!(served, count);
        made.count_total
    });
    assert_eq!(few, many, "with 5 connections, and with 50");
}

/// A worker, a master that hands it TCP connections, and their clients.
struct Cluster {
    master: FakeMaster,
    _worker: Worker,
    listener: Listener,
    options: ListenOptions,
    kernel: [TcpListener; 2],
    clients: Vec<TcpStream>,
}

fn listen(max_batch: u8, nonblocking: bool) -> ListenOptions {
    ListenOptions {
        max_batch,
        nonblocking,
        ..ListenOptions::default()
    }
}

impl Cluster {
    fn new(options: ListenOptions) -> Self {
        let (master, worker) = FakeMaster::new();
        let listener = worker.listen_with(WEB, options).unwrap();
        let addresses: [SocketAddr; 2] = [
            (Ipv4Addr::LOCALHOST, 0).into(),
            (Ipv6Addr::LOCALHOST, 0).into(),
        ];
        Cluster {
            master,
            _worker: worker,
            listener,
            options,
            kernel: addresses.map(|address| TcpListener::bind(address).unwrap()),
            clients: Vec::new(),
        }
    }

    /// A packet of new clients, in turn of either family. Each has asked.
    fn visit(&mut self, count: usize) {
        self.clients.clear();
        let connections = self.kernel.iter().cycle().take(count).map(|kernel| {
            let mut client = TcpStream::connect(kernel.local_addr().unwrap()).unwrap();
            client.write_all(b"?").unwrap();
            self.clients.push(client);
            let (server, peer) = kernel.accept().unwrap();
            server.set_nonblocking(self.options.nonblocking).unwrap();
            Connection::new(Stream::Tcp(server), Address::from(peer))
        });
        let connections = connections.collect();
        self.master.hand_off(WEB, connections).unwrap();
    }
}

fn serve(listener: &Listener, count: usize) {
    for _ in 0..count {
        answer(listener.accept().unwrap().expect("one that was sent"));
    }
}

fn serve_what_is_there(listener: &Listener) {
    loop {
        match listener.accept() {
            Ok(connection) => answer(connection.expect("one that was sent")),
            Err(err) => {
                assert_eq!(err.kind(), ErrorKind::WouldBlock);
                return;
            }
        }
    }
}

fn answer(mut connection: Connection) {
    connection.read_exact(&mut [0; 1]).unwrap();
    connection.write_all(b"!").unwrap();
}

/// Packets until everything has the size that it keeps.
const WARM_UP: usize = 4;
const ROUNDS: usize = 16;

const WEB: &str = "127.0.0.1:8000";
