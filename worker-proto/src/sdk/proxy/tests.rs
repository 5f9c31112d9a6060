use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;

use super::*;
use crate::frame::ListenOptions;
use crate::proxy_protocol::kind;
use crate::sdk::{Connection, FakeMaster, Listener, Server, Stream, Worker, wait};

#[test]
fn a_connection_is_the_clients_that_the_balancer_names() {
    let (master, worker) = FakeMaster::new();
    let protocol = trusting_loopback();
    let listener = behind(&worker, &protocol, false);
    let mut client = connect(&master);
    let own = Address::from(client.local_addr().unwrap());
    client.write_all(&[ALICE, b"GET /"].concat()).unwrap();
    let mut connection = listener.accept().unwrap().unwrap();
    assert_eq!(connection.peer().to_string(), "192.0.2.7:4711");
    assert_eq!(connection.to_string(), "192.0.2.7:4711");
    let proxy = connection.proxy().unwrap();
    assert_eq!(proxy.balancer(), &own);
    assert_eq!(proxy.destination().unwrap().to_string(), "192.0.2.1:443");
    assert_eq!(proxy.version(), Version::V1);
    assert!(!proxy.is_own() && proxy.tlvs().is_empty());
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = String::new();
    connection.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "GET /", "what follows is the program's");
    assert_eq!(protocol.refused().total(), 0);
}

#[test]
fn a_balancer_that_speaks_for_itself_remains_the_peer() {
    let (master, worker) = FakeMaster::new();
    let listener = behind(&worker, &trusting_loopback(), false);
    let mut client = connect(&master);
    client.write_all(b"PROXY UNKNOWN\r\n").unwrap();
    let connection = listener.accept().unwrap().unwrap();
    assert_eq!(connection.peer(), &client.local_addr().unwrap().into());
    assert!(!connection.proxy().unwrap().is_own());
    let mut client = connect(&master);
    client.write_all(&v2(Origin::Balancer, Tlvs::NONE)).unwrap();
    let connection = listener.accept().unwrap().unwrap();
    assert_eq!(connection.peer(), &client.local_addr().unwrap().into());
    assert!(connection.proxy().unwrap().is_own());
}

#[test]
fn a_header_may_come_in_pieces_while_others_are_served() {
    let (master, worker) = FakeMaster::new();
    let listener = behind(&worker, &trusting_loopback(), false);
    let tlvs = [&[kind::AUTHORITY, 0, 7], &b"example"[..]].concat();
    let origin = Origin::Inet {
        source: "[2001:db8::7]:1".parse().unwrap(),
        destination: "[2001:db8::1]:2".parse().unwrap(),
    };
    let header = v2(origin, Tlvs::whole(&tlvs).unwrap());
    let mut slow = connect(&master);
    for byte in &header[..header.len() - 1] {
        slow.write_all(&[*byte]).unwrap();
        let mut other = connect(&master);
        other.write_all(ALICE).unwrap();
        let connection = listener.accept().unwrap().unwrap();
        assert_eq!(connection.peer().to_string(), "192.0.2.7:4711");
    }
    slow.write_all(&[header[header.len() - 1], b'!']).unwrap();
    let mut connection = listener.accept().unwrap().unwrap();
    assert_eq!(connection.peer().to_string(), "[2001:db8::7]:1");
    let tlvs = connection.proxy().unwrap().tlvs();
    assert_eq!(tlvs.find(kind::AUTHORITY), Some(&b"example"[..]));
    let mut next = [0];
    connection.read_exact(&mut next).unwrap();
    assert_eq!(&next, b"!");
}

#[test]
fn whoever_is_not_trusted_or_says_something_else_is_refused_and_counted() {
    let (master, worker) = FakeMaster::new();
    let protocol = trusting_loopback();
    let listener = behind(&worker, &protocol, false);
    let own: Network = "192.0.2.0/24".parse().unwrap();
    let elsewhere = ProxyProtocol::trusting([own]);
    let strict = worker.listen("127.0.0.1:8001").unwrap();
    let strict = strict.behind_proxy(&elsewhere).unwrap();

    let mut web = connect(&master);
    web.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    drop(connect(&master));
    let mut good = connect(&master);
    good.write_all(ALICE).unwrap();
    let served = listener.accept().unwrap().unwrap();
    assert_eq!(served.peer().to_string(), "192.0.2.7:4711");
    assert_is_closed(web);
    let counts = protocol.refused();
    assert_eq!([counts.malformed, counts.ended, counts.total()], [1, 1, 2]);

    let mut stranger = connect_to(&master, "127.0.0.1:8001");
    stranger.write_all(ALICE).unwrap();
    master.drain(PATIENCE);
    assert!(strict.accept().unwrap().is_none());
    assert_is_closed(stranger);
    assert_eq!(elsewhere.refused().untrusted, 1);
    drop(served);
    let score = master.score().unwrap();
    assert_eq!(score.received, score.finished, "refused ones are finished");
}

#[test]
fn a_silent_connection_is_closed_in_time_though_nobody_else_comes() {
    let (master, worker) = FakeMaster::new();
    let protocol = trusting_loopback().within(Duration::from_millis(30));
    let listener = behind(&worker, &protocol, false);
    let silent = connect(&master);
    thread::scope(|scope| {
        let accepting = scope.spawn(|| listener.accept().unwrap());
        assert_is_closed(silent);
        master.drain(PATIENCE);
        assert!(accepting.join().unwrap().is_none());
    });
    assert_eq!(protocol.refused().late, 1);
}

/// The descriptor of a non-blocking one says when there is something to do, and nothing else.
#[test]
fn a_poll_loop_is_woken_for_headers_and_for_those_who_never_send_one() {
    let (master, worker) = FakeMaster::new();
    let protocol = trusting_loopback().within(PATIENCE);
    let listener = behind(&worker, &protocol, true);
    let would_block = || {
        let err = listener.accept().unwrap_err();
        assert_eq!(err.kind(), std::io::ErrorKind::WouldBlock);
        assert!(!is_readable(&listener, Duration::ZERO), "it would spin");
    };
    would_block();
    let mut clients: Vec<TcpStream> = (0..3).map(|_| connect(&master)).collect();
    assert!(is_readable(&listener, PATIENCE));
    would_block();
    clients[0].write_all(&ALICE[..20]).unwrap();
    assert!(is_readable(&listener, PATIENCE));
    would_block();
    clients[0].write_all(&ALICE[20..]).unwrap();
    clients[1].write_all(ALICE).unwrap();
    // One at a time, as a program may that polls again each time.
    for _ in 0..2 {
        assert!(is_readable(&listener, PATIENCE));
        assert!(listener.accept().unwrap().is_some());
    }
    would_block();
    master.drain(PATIENCE);
    assert!(is_readable(&listener, PATIENCE));
    would_block();
    clients[2].write_all(ALICE).unwrap();
    assert!(is_readable(&listener, PATIENCE));
    assert!(
        listener.accept().unwrap().is_some(),
        "received before the end"
    );
    assert!(listener.accept().unwrap().is_none());

    let (master, worker) = FakeMaster::new();
    let protocol = trusting_loopback().within(Duration::from_millis(20));
    let listener = behind(&worker, &protocol, true);
    let silent = connect(&master);
    let mut wakings = 0;
    while protocol.refused().late == 0 {
        assert!(is_readable(&listener, PATIENCE));
        let err = listener.accept().unwrap_err();
        assert_eq!(err.kind(), std::io::ErrorKind::WouldBlock);
        wakings += 1;
    }
    assert!(wakings <= 3, "{wakings}");
    assert_is_closed(silent);
}

#[test]
fn no_more_are_received_than_there_is_room_for_on_the_porch() {
    let (master, worker) = FakeMaster::new();
    let listener = behind(&worker, &trusting_loopback().within(PATIENCE), true);
    let mut silent: Vec<TcpStream> = (0..130).map(|_| connect(&master)).collect();
    assert!(listener.accept().is_err());
    assert_eq!(master.score().unwrap().received, 128);
    assert!(!is_readable(&listener, Duration::ZERO), "it would spin");
    silent[0].write_all(ALICE).unwrap();
    assert!(is_readable(&listener, PATIENCE));
    assert!(listener.accept().unwrap().is_some());
    assert!(listener.accept().is_err());
    assert_eq!(master.score().unwrap().received, 129, "one could come in");
    assert_eq!(master.reclaim(WEB).len(), 1, "somebody else may serve it");
}

#[test]
fn a_listener_that_is_closed_gives_out_whom_it_received() {
    let (master, worker) = FakeMaster::new();
    let protocol = trusting_loopback().within(PATIENCE);
    let listener = behind(&worker, &protocol, true);
    let mut client = connect(&master);
    drop(connect(&master));
    assert!(listener.accept().is_err());
    client.write_all(ALICE).unwrap();
    let served = listener.close();
    assert_eq!(served.len(), 1);
    assert_eq!(served[0].peer().to_string(), "192.0.2.7:4711");
    assert_eq!(protocol.refused().ended, 1);
}

#[test]
fn a_server_waits_for_a_header_in_the_connections_own_thread() {
    let (master, worker) = FakeMaster::new();
    let protocol = trusting_loopback().within(PATIENCE);
    let listener = behind(&worker, &protocol, false);
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            Server::new()
                .max_threads(3)
                .serve([listener], |mut connection| {
                    let peer = connection.peer().to_string();
                    connection.write_all(peer.as_bytes()).unwrap();
                })
        });
        let mut silent = connect(&master);
        let mut web = connect(&master);
        web.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        assert_is_closed(web);
        for mut client in [connect(&master), connect(&master)] {
            client.write_all(ALICE).unwrap();
            assert_eq!(answer(client), "192.0.2.7:4711");
        }
        silent.write_all(ALICE).unwrap();
        assert_eq!(answer(silent), "192.0.2.7:4711");
        master.drain(PATIENCE);
        assert_eq!(server.join().unwrap().unwrap().connections, 3);
    });
    assert_eq!(protocol.refused().total(), 1);
}

#[test]
fn without_a_master_it_is_the_same() {
    for nonblocking in [false, true] {
        let worker = Worker::connect().unwrap();
        let options = ListenOptions {
            nonblocking,
            ..ListenOptions::default()
        };
        let listener = worker.listen_with("127.0.0.1:0", options).unwrap();
        let address = listener.address().inet().unwrap();
        let listener = listener.behind_proxy(&trusting_loopback()).unwrap();
        let mut silent = TcpStream::connect(address).unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(ALICE).unwrap();
        let mut accepted = None;
        while accepted.is_none() {
            assert!(is_readable(&listener, PATIENCE));
            accepted = listener.accept().ok();
        }
        let connection = accepted.unwrap().unwrap();
        assert_eq!(connection.peer().to_string(), "192.0.2.7:4711");
        silent.write_all(ALICE).unwrap();
        assert_eq!(listener.close().len(), 1, "the silent one came first");
    }
}

/// Who may connect to a Unix socket is for its file to say.
#[test]
fn a_unix_client_is_trusted() {
    let (master, worker) = FakeMaster::new();
    let listener = behind(&worker, &ProxyProtocol::trusting([]), false);
    let mut client = master.connect(WEB);
    client.write_all(ALICE).unwrap();
    let connection = listener.accept().unwrap().unwrap();
    assert_eq!(connection.peer().to_string(), "192.0.2.7:4711");
    assert_eq!(connection.proxy().unwrap().to_string(), "unix:");
    let clone = connection.try_clone().unwrap();
    assert_eq!(clone.proxy(), connection.proxy());
    assert!(connection.into_unix().is_ok());
}

fn trusting_loopback() -> ProxyProtocol {
    ProxyProtocol::trusting(["127.0.0.0/8".parse().unwrap()])
}

fn behind(worker: &Worker, protocol: &ProxyProtocol, nonblocking: bool) -> Listener {
    let options = ListenOptions {
        nonblocking,
        ..ListenOptions::default()
    };
    let listener = worker.listen_with(WEB, options).unwrap();
    listener.behind_proxy(protocol).unwrap()
}

/// A client over TCP whose connection waits in the accept queue.
fn connect(master: &FakeMaster) -> TcpStream {
    connect_to(master, WEB)
}

fn connect_to(master: &FakeMaster, target: &str) -> TcpStream {
    let own = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(own.local_addr().unwrap()).unwrap();
    let (server, peer): (TcpStream, SocketAddr) = own.accept().unwrap();
    let connection = Connection::new(Stream::Tcp(server), peer.into());
    master.hand_off(target, vec![connection]).unwrap();
    client
}

fn v2(origin: Origin<'_>, tlvs: Tlvs<'_>) -> Vec<u8> {
    let version = Version::V2;
    let header = Header {
        version,
        origin,
        tlvs,
    };
    header.encode().unwrap()
}

fn is_readable(listener: &Listener, within: Duration) -> bool {
    wait::readable([listener.as_fd()], Some(within)).unwrap()[0]
}

fn answer(mut client: TcpStream) -> String {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

/// Reset is closed, too: bytes were left unread.
fn assert_is_closed(mut client: TcpStream) {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    match client.read(&mut [0]) {
        Ok(len) => assert_eq!(len, 0),
        Err(err) => assert_eq!(err.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

const ALICE: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n";
const WEB: &str = "127.0.0.1:8000";
const PATIENCE: Duration = Duration::from_secs(5);
