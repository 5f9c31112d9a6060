//! Behind a load balancer that speaks the PROXY protocol: a real HAProxy, and clients that lie.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tempfile::TempDir;

use common::{Cluster, DEADLINE, await_condition, example};

#[test]
fn haproxy_tells_who_its_clients_are_in_both_versions() {
    let (cluster, address) = start("127.0.0.0/8");
    let haproxy = Haproxy::start(address);
    for (version, at) in [(1, haproxy.v1), (2, haproxy.v2)] {
        for number in 0..20 {
            let client = TcpStream::connect(at).unwrap();
            let own = client.local_addr().unwrap();
            let answer = ask(client, b"GET / HTTP/1.0\r\n\r\n");
            let what = format!("version {version}, request {number}: {answer:?}");
            assert!(answer.contains(&format!("client {own}\n")), "{what}");
            assert!(answer.contains("through 127.0.0.1:"), "{what}");
            let named = answer.contains(&format!("as {own}\n"));
            assert_eq!(named, version == 2, "{what}");
        }
    }
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
}

#[test]
fn a_client_that_is_no_balancer_is_closed_and_counted() {
    let (cluster, address) = start("192.0.2.0/24");
    let forged = b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET / HTTP/1.0\r\n\r\n";
    assert_eq!(ask(TcpStream::connect(address).unwrap(), forged), "");
    let ended = cluster.stop();
    assert!(ended.log.contains("untrusted: 1"), "{}", ended.log);

    let (cluster, address) = start("127.0.0.0/8");
    let mut silent = TcpStream::connect(address).unwrap();
    let plain = b"GET / HTTP/1.0\r\n\r\n";
    assert_eq!(ask(TcpStream::connect(address).unwrap(), plain), "");
    let answer = ask(TcpStream::connect(address).unwrap(), forged);
    assert!(answer.contains("client 10.0.0.1:1\n"), "{answer:?}");
    // It kept nobody waiting, and may still say who it is.
    silent.write_all(forged).unwrap();
    assert!(ask(silent, b"").contains("client 10.0.0.1:1\n"));
    let ended = cluster.stop();
    assert!(ended.log.contains("malformed: 1"), "{}", ended.log);
}

/// One worker of the example, with these balancers.
fn start(balancers: &str) -> (Cluster, SocketAddr) {
    let program = example("behind_proxy").display().to_string();
    let mut cluster = Cluster::start(["-w", "1", "-l", "127.0.0.1:0", &program, balancers]);
    let address = cluster.address();
    cluster.await_ready();
    (cluster, address)
}

/// What comes until the end; nothing, if the connection is reset.
fn ask(mut client: TcpStream, request: &[u8]) -> String {
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.write_all(request).unwrap();
    let mut answer = String::new();
    match client.read_to_string(&mut answer) {
        Ok(_) => answer,
        Err(err) if err.kind() == std::io::ErrorKind::ConnectionReset => answer,
        Err(err) => panic!("{err}: {answer:?}"),
    }
}

/// A HAProxy with a frontend for each version. Killed when dropped.
struct Haproxy {
    child: Child,
    _directory: TempDir,
    v1: SocketAddr,
    v2: SocketAddr,
}

impl Haproxy {
    fn start(server: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // It inherits its listeners, so no port is guessed.
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [v1, v2] = listeners.each_ref().map(|it| it.local_addr().unwrap());
        for listener in &listeners {
            fcntl(listener, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        }
        let [first, second] = listeners.each_ref().map(AsRawFd::as_raw_fd);
        let configuration = format!(
            "defaults\n mode tcp\n timeout client 20s\n timeout server 20s\n timeout connect 20s\n\
             listen v1\n bind fd@{first}\n server rr {server} send-proxy check inter 50ms\n\
             listen v2\n bind fd@{second}\n unique-id-format %ci:%cp\n \
             server rr {server} send-proxy-v2 proxy-v2-options unique-id,crc32c \
             check inter 50ms check-send-proxy\n"
        );
        let file = directory.path().join("haproxy.cfg");
        fs::write(&file, configuration).unwrap();
        let child = Command::new("haproxy")
            .args(["-db", "-q", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .expect("start haproxy: scripts/test installs it");
        let haproxy = Haproxy {
            child,
            _directory: directory,
            v1,
            v2,
        };
        // The kernel's backlog takes clients before HAProxy does, so these are only served later.
        for at in [v1, v2] {
            await_condition("an answer through HAProxy", || {
                TcpStream::connect(at)
                    .is_ok_and(|client| !ask(client, b"GET / HTTP/1.0\r\n\r\n").is_empty())
            });
        }
        haproxy
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
