//! Who gets which connection: everybody in turn, and nobody before he is ready.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;

use common::client::{Server, connect, get, read_response};
use common::gate::Gate;
use common::{Cluster, rr_master, test_worker};

/// F01, and the issue's own measure: 250 each of 1,000.
#[test]
fn every_worker_serves_its_share_of_ab() {
    assert_even_shares(1_000);
}

/// The same over a longer time: nothing drifts.
#[test]
fn shares_stay_even_over_many_requests() {
    assert_even_shares(10_000);
}

#[test]
fn workers_take_strict_turns() {
    let (_cluster, address) = Cluster::test_workers(4, &[]);
    let slots: Vec<u32> = (0..400).map(|_| slot_of_next(address)).collect();
    let expected: Vec<u32> = (0..400).map(|turn| turn % 4).collect();
    assert_eq!(slots, expected);
}

#[test]
fn turns_are_strict_however_many_clients_come_at_once() {
    let (_cluster, address) = Cluster::test_workers(4, &[]);
    let clients = (0..20).map(|_| {
        thread::spawn(move || -> Vec<Server> {
            (0..20)
                .map(|_| get(address, "/").unwrap().server())
                .collect()
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut served = BTreeMap::new();
    for server in clients
        .into_iter()
        .flat_map(|client| client.join().unwrap())
    {
        *served.entry(server.slot).or_insert(0) += 1;
    }
    assert_eq!(
        served,
        BTreeMap::from([(0, 100), (1, 100), (2, 100), (3, 100)])
    );
}

#[test]
fn each_listener_has_a_rotation_of_its_own() {
    let worker = test_worker();
    let mut cluster = Cluster::start([
        "-w",
        "3",
        "-l",
        "a=127.0.0.1:0",
        "-l",
        "b=127.0.0.1:0",
        worker.to_str().unwrap(),
        "serve",
    ]);
    let addresses: Vec<SocketAddr> = cluster
        .addresses(2)
        .iter()
        .map(|address| address.parse().unwrap())
        .collect();
    cluster.await_ready();
    // Two of one, then one of the other: a rotation that they shared would give other turns.
    let order = [0, 0, 1, 0, 0, 1, 0, 0, 1];
    let slots: Vec<(usize, u32)> = order
        .iter()
        .map(|&listener| (listener, slot_of_next(addresses[listener])))
        .collect();
    assert_eq!(
        slots,
        [
            (0, 0),
            (0, 1),
            (1, 0),
            (0, 2),
            (0, 0),
            (1, 1),
            (0, 1),
            (0, 2),
            (1, 2)
        ]
    );
}

#[test]
fn requests_on_one_connection_stay_with_one_worker() {
    let (_cluster, address) = Cluster::hello(3);
    for turn in 0..3 {
        let mut connection = BufReader::new(connect(address).unwrap());
        let servers: Vec<Server> = (0..5)
            .map(|_| {
                write!(connection.get_mut(), "GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
                read_response(&mut connection).unwrap().server()
            })
            .collect();
        assert_eq!(servers[0].slot, turn);
        assert_eq!(servers, vec![servers[0].clone(); 5]);
    }
}

#[test]
fn ab_with_keep_alive_fails_no_request() {
    let (cluster, address) = Cluster::hello(4);
    let report = ab(&["-n1000", "-c20", "-k"], address);
    assert_eq!(report.field("Complete requests"), "1000");
    assert_eq!(report.field("Keep-Alive requests"), "1000");
    assert_eq!(cluster.stop().code(), 0);
}

/// E38: what a worker listens on says nothing about whether it can serve.
#[test]
fn a_worker_that_is_not_ready_gets_nothing() {
    let mut gate = Gate::new();
    let mut command = Command::new(rr_master());
    command.args(["-w", "2", "-l", "127.0.0.1:0"]);
    command.arg(test_worker()).args(["late", "1"]);
    command.arg(gate.path());
    let mut cluster = Cluster::from_command(command);
    let address = cluster.address();
    // In any order, and perhaps before the start-up screen.
    cluster.find_text("ready after");
    cluster.find_text("listening and not ready");
    let before: Vec<u32> = (0..20).map(|_| slot_of_next(address)).collect();
    assert_eq!(before, [0; 20]);

    gate.let_one_through();
    cluster.await_ready();
    let after: Vec<u32> = (0..4).map(|_| slot_of_next(address)).collect();
    assert_eq!(after, [1, 0, 1, 0]);
}

fn slot_of_next(address: SocketAddr) -> u32 {
    get(address, "/").unwrap().server().slot
}

/// Lets `ab` send requests to four workers: none fails, and each worker gets a quarter.
fn assert_even_shares(requests: u64) {
    let counts = tempfile::tempdir().unwrap();
    let variable = format!("TEST_COUNTS={}", counts.path().display());
    let (cluster, address) = Cluster::test_workers(4, &["--env", &variable]);
    let report = ab(&[&format!("-n{requests}"), "-c20"], address);
    assert_eq!(report.field("Complete requests"), requests.to_string());
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);

    let counts = read_counts(counts.path());
    let served: Vec<_> = counts.values().map(|counts| counts.requests).collect();
    assert_eq!(served, [requests / 4; 4], "{counts:?}");
    // ab opens a few connections that it never uses: they are handed off in turn, too.
    let handed_off = counts.values().map(|counts| counts.connections);
    let (least, most) = (handed_off.clone().min(), handed_off.max());
    assert!(most.unwrap() - least.unwrap() <= 1, "{counts:?}");
}

/// What a worker said that it served.
#[derive(Debug)]
struct Counts {
    connections: u64,
    requests: u64,
}

/// What every worker served, by slot.
fn read_counts(directory: &Path) -> BTreeMap<u64, Counts> {
    let files = fs::read_dir(directory).unwrap();
    files
        .map(|file| {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            let number = |name: &str| -> u64 {
                let field = text.split(' ').find_map(|field| field.strip_prefix(name));
                field.unwrap().parse().unwrap()
            };
            let counts = Counts {
                connections: number("connections="),
                requests: number("requests="),
            };
            (number("slot="), counts)
        })
        .collect()
}

/// What `ab` found.
struct Report(String);

impl Report {
    fn field(&self, name: &str) -> &str {
        let Report(text) = self;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name:?} in:\n{text}"))
            .trim()
    }
}

/// Runs ApacheBench; every request must have been answered with 200 and the same length.
fn ab(flags: &[&str], address: SocketAddr) -> Report {
    let output = Command::new("ab")
        .args(flags)
        .arg(format!("http://{address}/"))
        .output()
        .expect("run ab (apt-get install apache2-utils)");
    let report = Report(String::from_utf8(output.stdout).unwrap());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}\n{}", report.0);
    assert_eq!(report.field("Failed requests"), "0", "{}", report.0);
    assert!(!report.0.contains("Non-2xx"), "{}", report.0);
    report
}
