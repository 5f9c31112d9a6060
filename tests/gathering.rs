//! When the master accepts: while many come, several at once; and, if that is wanted, who has said
//! something.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;

use common::client::{Asked, ask, connect, get};
use common::operator::{done, status};
use common::{Cluster, run_to_end};
use nix::unistd::Pid;

/// Nobody is lost or passed over for it, and a stop in the middle of it waits for nobody.
#[test]
fn clients_who_are_gathered_are_served_in_strict_turns() {
    const FLAGS: &[&str] = &["--coalesce=10ms", "--log-level=debug"];
    let (mut cluster, address) = Cluster::test_workers(4, FLAGS);
    let control = cluster.control();
    // 3 in 10 ms are many: any machine has them.
    let report = ab(address);
    assert!(report.contains("Failed requests:        0"), "{report}");
    cluster.find_text("many clients come: they are gathered");
    let status = status(&control);
    let workers = status["workers"].as_array().unwrap();
    let given = workers
        .iter()
        .map(|it| it["load"]["given"].as_u64().unwrap());
    let given: Vec<u64> = given.collect();
    let (least, most) = (given.iter().min(), given.iter().max());
    assert!(most.unwrap() - least.unwrap() <= 1, "{given:?}");
    assert!(given.iter().sum::<u64>() >= 4000);
    // The first who comes alone afterwards is served, and sees to it that nobody is gathered.
    get(address, "/").unwrap();
    assert_eq!(cluster.stop().code(), 0);
}

/// Who says nothing is the kernel's; who does is served before him. A reload does not change it.
#[test]
fn a_client_that_says_nothing_is_not_accepted_if_that_is_deferred() {
    for flags in [
        &["--defer-accept=1h"][..],
        &["--dispatch=reuseport", "--defer-accept=1h"],
    ] {
        let (mut cluster, address) = Cluster::test_workers(2, flags);
        let control = cluster.control();
        let mut silent = connect(address).unwrap();
        for _ in 0..3 {
            get(address, "/").unwrap();
        }
        let received = |control: &_| -> u64 {
            let status = status(control);
            let workers = status["workers"].as_array().unwrap();
            workers
                .iter()
                .map(|it| it["load"]["received"].as_u64().unwrap())
                .sum()
        };
        assert_eq!(received(&control), 3, "{flags:?}");
        silent.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        Asked::of(silent).answer().unwrap();
        assert_eq!(received(&control), 4, "{flags:?}");
        assert_eq!(cluster.stop().code(), 0);
    }
}

/// A listener says otherwise than the others; on Unix sockets there is no such thing.
#[test]
fn a_listener_may_have_its_own_deferral() {
    let refused = run_to_end(&["-l", "unix:@x,defer-accept", "/bin/true"]);
    assert_eq!(refused.code(), 2);
    assert!(
        refused.log.contains("only a TCP address"),
        "{}",
        refused.log
    );
    let refused = run_to_end(&["--defer-accept", "10ms", "/bin/true"]);
    assert_eq!(refused.code(), 2);
    assert!(refused.log.contains("from 1s to 1h"), "{}", refused.log);
    let refused = run_to_end(&["--coalesce", "1s", "/bin/true"]);
    assert_eq!(refused.code(), 2);
    assert!(refused.log.contains("at most 10ms"), "{}", refused.log);
}

/// What was handed off makes room for the next: nobody has to wait for the next attempt.
#[test]
fn clients_who_come_together_need_few_descriptors() {
    const CLIENTS: usize = 40;
    let (mut cluster, address) = Cluster::test_workers(4, &[]);
    let control = cluster.control();
    leave_descriptors(cluster.pid(), CLIENTS / 5);
    done(&control, &["pause"]);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| ask(connect(address).unwrap(), "/").unwrap())
        .collect();
    done(&control, &["resume"]);
    for asked in clients {
        asked.answer().unwrap();
    }
    let ended = cluster.stop();
    assert!(!ended.log.contains("out of resources"), "{}", ended.log);
}

/// From now on the process may open so many more.
fn leave_descriptors(process: Pid, count: usize) {
    let open = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let numbers = open.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let open: BTreeSet<usize> = numbers.collect();
    let mut free = (0..).filter(|number| !open.contains(number));
    let most = free.nth(count).unwrap();
    let mut prlimit = Command::new("prlimit");
    prlimit.args([format!("--pid={process}"), format!("--nofile={most}:")]);
    assert!(prlimit.status().expect("run prlimit").success());
}

fn ab(address: SocketAddr) -> String {
    let output = Command::new("ab")
        .args(["-q", "-n4000", "-c20"])
        .arg(format!("http://{address}/"))
        .output()
        .expect("run ab (apt-get install apache2-utils)");
    String::from_utf8(output.stdout).unwrap()
}
