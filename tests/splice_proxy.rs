//! The proxy that modes of dispatch are compared with: it loses nothing, or the comparison would be
//! with a program that nobody could use.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use socket2::SockRef;
use tempfile::TempDir;

use common::listening::Listening;
use common::{DEADLINE, await_condition, processes};

/// The proxy, and where it listens.
struct Proxy(Listening);

impl Proxy {
    fn before(backends: &[String]) -> Self {
        let address = ["127.0.0.1:0".to_owned()];
        Proxy(Listening::start(
            "splice_proxy",
            address.iter().chain(backends),
        ))
    }

    fn connect(&self) -> TcpStream {
        patient(TcpStream::connect(&self.0.address).expect("connect to the proxy"))
    }

    fn descriptors(&self) -> usize {
        processes::descriptors(self.0.pid())
    }
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// A backend of the test's own.
fn backend() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = listener.local_addr().unwrap().to_string();
    (listener, name)
}

/// One that nobody listens on.
fn refusing() -> String {
    backend().1
}

fn accept(listener: &TcpListener) -> TcpStream {
    patient(listener.accept().expect("a client of the proxy").0)
}

#[test]
fn each_side_may_stop_speaking_and_still_listen() {
    let (listener, name) = backend();
    let proxy = Proxy::before(&[name]);
    let mut client = proxy.connect();
    let mut server = accept(&listener);

    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut heard = String::new();
    server.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "question");

    server.write_all(b"answer").unwrap();
    drop(server);
    heard.clear();
    client.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "answer");
}

/// More than every buffer between them holds, both ways at once.
#[test]
fn much_arrives_whole_however_slowly_it_is_taken() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("backend");
    let listener = UnixListener::bind(&path).unwrap();
    let proxy = Proxy::before(&[format!("unix:{}", path.display())]);
    let bytes: Vec<u8> = (0..16_u32 << 20).map(|at| at.to_le_bytes()[1]).collect();

    let mut client = proxy.connect();
    let echo = thread::spawn(move || {
        let (mut server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut heard = Vec::new();
        // Nothing is read until the client is stuck.
        server.write_all(b"go").unwrap();
        server.read_to_end(&mut heard).unwrap();
        server.write_all(&heard).unwrap();
    });
    client.read_exact(&mut [0; 2]).unwrap();
    client.write_all(&bytes).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).unwrap();
    assert!(heard == bytes, "{} of {} bytes", heard.len(), bytes.len());
    echo.join().unwrap();
}

#[test]
fn backends_take_turns_and_one_that_refuses_is_passed_over() {
    let (first, first_name) = backend();
    let (second, second_name) = backend();
    let proxy = Proxy::before(&[first_name, refusing(), second_name]);
    let mut clients = Vec::new();
    // The turn of the one in the middle goes to the one after it.
    for listener in [&first, &second, &first, &second] {
        clients.push(proxy.connect());
        accept(listener).write_all(b"!").unwrap();
        let mut heard = Vec::new();
        clients.last_mut().unwrap().read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b"!");
    }
}

#[test]
fn a_client_for_whom_there_is_no_backend_is_told_at_once() {
    let directory = TempDir::new().unwrap();
    let nowhere = format!("unix:{}", directory.path().join("nobody").display());
    for backend in [refusing(), nowhere] {
        let proxy = Proxy::before(&[backend]);
        let before = proxy.descriptors();
        let answer = proxy.connect().read(&mut [0; 1]);
        match answer {
            Ok(0) => {}
            Ok(_) => panic!("somebody answered"),
            Err(err) => assert_eq!(err.kind(), ErrorKind::ConnectionReset),
        }
        await_condition("nothing left of it", || proxy.descriptors() == before);
    }
}

/// Half an answer must not look like a whole one.
#[test]
fn a_backend_that_breaks_off_resets_its_client() {
    let (listener, name) = backend();
    let proxy = Proxy::before(&[name]);
    let mut client = proxy.connect();
    let mut server = accept(&listener);
    server.write_all(b"half of").unwrap();
    client.read_exact(&mut [0; 7]).unwrap();
    SockRef::from(&server)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(server);
    let err = client.read(&mut [0; 1]).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn nothing_is_left_of_clients_that_have_gone() {
    let (listener, name) = backend();
    let proxy = Proxy::before(&[name]);
    // The pipe that all of them need in turn is made for the first.
    let talk = || {
        let mut client = proxy.connect();
        client.write_all(b"?").unwrap();
        let mut server = accept(&listener);
        server.read_exact(&mut [0; 1]).unwrap();
        (client, server)
    };
    drop(talk());
    let silent = proxy.connect();
    let its_server = accept(&listener);
    let idle = proxy.descriptors();
    drop((silent, its_server));
    await_condition("two descriptors less", || proxy.descriptors() == idle - 2);

    let mut conversations: Vec<_> = (0..50).map(|_| talk()).collect();
    assert_eq!(proxy.descriptors(), idle - 2 + 2 * conversations.len());
    // Some break off, and the others leave in order.
    for (client, _) in conversations.iter().step_by(3) {
        SockRef::from(client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
    conversations.clear();
    await_condition("as few as before", || proxy.descriptors() == idle - 2);
}

#[test]
fn sigterm_ends_it_in_order() {
    let (_listener, name) = backend();
    let mut proxy = Proxy::before(&[name]);
    kill(proxy.0.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(proxy.0.child.wait().unwrap().code(), Some(0));
}
