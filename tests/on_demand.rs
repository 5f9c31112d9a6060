//! Listeners that nobody declared: bound when the first worker asks, shared by those who ask
//! after it, gone with the last of them. And what workers are refused.

mod common;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

use common::client::get;
use common::command::{Unprivileged, privileged_port};
use common::load::Load;
use common::{Cluster, test_worker};

/// Every worker sees the same real port, and each is served in turn. (N38)
#[test]
fn workers_that_ask_for_the_same_address_share_one_listener() {
    let mut cluster = start(4, &[], &["steps", "listen:127.0.0.1:0", "ready"]);
    let address = bound(&mut cluster, "127.0.0.1:0");
    assert_ne!(address.port(), 0);
    cluster.await_ready();
    for slot in 0..4 {
        cluster.find_text(&format!("slot={slot} listen 127.0.0.1:0: {address}"));
    }
    let mut served: Vec<_> = (0..8)
        .map(|_| get(address, "/").unwrap().server().slot)
        .collect();
    assert_eq!(served[..4], served[4..]);
    served.truncate(4);
    served.sort_unstable();
    assert_eq!(served, [0, 1, 2, 3]);

    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert_eq!(
        ended.log.matches("] listening on 127.0.0.1").count(),
        1,
        "{}",
        ended.log
    );
}

/// (N08, N49)
#[test]
fn a_worker_listens_once_at_a_time_but_as_often_as_it_likes() {
    let steps = [
        "listen:127.0.0.1:0",
        "listen:127.0.0.1:0",
        "close:127.0.0.1:0",
        "listen:127.0.0.1:0",
        "close:127.0.0.1:0",
        "listen:127.0.0.1:0",
        "ready",
    ];
    let mut cluster = start(1, &[], &[&["steps"], &steps[..]].concat());
    cluster.await_ready();
    let reports: Vec<_> = cluster
        .log()
        .lines()
        .filter_map(|line| line.strip_prefix("slot=0 ").map(str::to_owned))
        .collect();
    let outcome = |report: &String| report.rsplit_once("127.0.0.1:0: ").unwrap().1.to_owned();
    let outcomes: Vec<_> = reports.iter().map(outcome).collect();
    let [first, second, closed, again, closed_again, last] = &outcomes[..] else {
        panic!("{reports:?}")
    };
    for address in [first, again, last] {
        assert_ne!(address.parse::<SocketAddr>().unwrap().port(), 0);
    }
    assert!(second.starts_with("EADDRINUSE"), "{second}");
    assert_eq!((closed.as_str(), closed_again.as_str()), ("0", "0"));

    let address = last.parse().unwrap();
    assert_eq!(get(address, "/").unwrap().status, 200);
    for address in [first, again].map(|address| address.parse().unwrap()) {
        if address != last.parse().unwrap() {
            get(address, "/").expect_err("nobody listens there any more");
        }
    }
}

/// One worker listens anew for every connection, the other serves all along. (N62, N63)
#[test]
fn a_worker_can_listen_again_while_another_serves() {
    let workers = [
        "by-slot",
        "serve",
        "127.0.0.1:0",
        "--",
        "relisten",
        "127.0.0.1:0",
    ];
    let mut cluster = start(2, &[], &workers);
    let address = bound(&mut cluster, "127.0.0.1:0");
    cluster.await_ready();
    let load = Load::start(address, 2);
    load.await_more(200);
    let tally = load.stop();
    assert_eq!(tally.failures, [""; 0]);
    for slot in 0..2 {
        let served = tally.answers.iter().filter(|server| server.slot == slot);
        assert!(served.count() > 0, "slot {slot} served nothing");
    }
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert_eq!(
        ended.log.matches("] listening on 127.0.0.1").count(),
        1,
        "{}",
        ended.log
    );
}

/// (N49)
#[test]
fn a_listener_lives_until_its_last_holder_leaves_it() {
    let steps = [
        "listen:127.0.0.1:0",
        "ready",
        "answer:1",
        "close:127.0.0.1:0",
    ];
    let mut cluster = start(2, &[], &[&["steps"], &steps[..]].concat());
    let address = bound(&mut cluster, "127.0.0.1:0");
    cluster.await_ready();

    let first = get(address, "/").unwrap().server();
    cluster.await_text(&format!("slot={} close 127.0.0.1:0", first.slot));
    assert!(
        !cluster.log().contains("no longer listening"),
        "{}",
        cluster.log()
    );

    let second = get(address, "/").unwrap().server();
    assert_ne!(second.slot, first.slot);
    cluster.find_text("no longer listening on 127.0.0.1:0");
    get(address, "/").expect_err("nobody listens there any more");

    // Workers without a listener are ordinary workers.
    assert_eq!(cluster.stop().code(), 0);
}

/// The address stays bound: clients wait, and the replacement serves them.
#[test]
fn a_listener_survives_the_crash_of_its_only_holder() {
    let mut cluster = start(1, &["--backoff", "300ms..1s"], &["serve", "127.0.0.1:0"]);
    let address = bound(&mut cluster, "127.0.0.1:0");
    cluster.await_ready();
    let before = get(address, "/").unwrap().server();

    get(address, "/exit/1").expect_err("it dies without an answer");
    cluster.await_text("exited");
    let after = get(address, "/")
        .expect("waits for the replacement")
        .server();
    assert_eq!((after.slot, after.id), (before.slot, before.id + 1));
    assert!(
        !cluster.log().contains("no longer listening"),
        "{}",
        cluster.log()
    );
}

/// The replacement decides: what it does not ask for goes when it is ready.
#[test]
fn a_listener_that_the_replacement_does_not_want_is_closed() {
    let workers = [
        "by-life",
        "steps",
        "listen:127.0.0.1:0",
        "ready",
        "answer:1",
        "then",
        "steps",
        "ready",
    ];
    let mut cluster = start(1, &[], &workers);
    let address = bound(&mut cluster, "127.0.0.1:0");
    cluster.await_ready();
    get(address, "/exit/1").expect_err("it dies without an answer");
    cluster.await_text("w2 slot=0 gen=1 pid=");
    cluster.find_text("no longer listening on 127.0.0.1:0");
    get(address, "/").expect_err("nobody listens there any more");
}

/// A holder that dies and is not replaced takes its listener with it, whoever else held it once.
#[test]
fn a_listener_goes_with_its_last_holder_if_nobody_takes_the_slot() {
    let workers = [
        "by-slot",
        "serve",
        "127.0.0.1:0",
        "--",
        "steps",
        "listen:127.0.0.1:0",
        "close:127.0.0.1:0",
        "ready",
    ];
    let mut cluster = start(2, &["--no-refork"], &workers);
    let address = bound(&mut cluster, "127.0.0.1:0");
    cluster.await_ready();
    get(address, "/exit/1").expect_err("it dies without an answer");
    cluster.find_text("no longer listening on 127.0.0.1:0");
    get(address, "/").expect_err("nobody listens there any more");
}

/// Nothing that a graceful stop does needs privileges.
#[test]
fn a_master_without_privileges_closes_its_listeners_without_a_warning() {
    let programs = Unprivileged::new();
    let worker = programs.worker();
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let args = ["-w", "1", "-l", address, worker.to_str().unwrap(), "serve"];
        let mut cluster = Cluster::from_command(programs.command(args));
        cluster.await_ready();
        let ended = cluster.stop();
        assert_eq!(ended.code(), 0, "{}", ended.log);
        assert!(!ended.log.contains("WARN"), "{}", ended.log);
    }
}

/// Once something is declared, the rest is forbidden.
#[test]
fn an_address_that_is_not_declared_is_refused_unless_it_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}/app.sock", dir.path().display());
    let listen_socket = format!("listen:{socket}");
    let steps = [
        "steps",
        "listen:main",
        "listen:127.0.0.1:0",
        &listen_socket,
        "ready",
    ];
    let declared = ["-l", "main=127.0.0.1:0"];

    let mut cluster = start(1, &declared, &steps);
    cluster.await_ready();
    for target in ["127.0.0.1:0", &socket] {
        let refused = cluster.find_text(&format!("slot=0 listen {target}: "));
        assert!(refused.contains("EACCES"), "{refused}");
        assert!(
            refused.contains(&format!("--allow-listen {target}")),
            "{refused}"
        );
    }
    assert_eq!(get(cluster.address(), "/").unwrap().status, 200);

    let flags = [&declared[..], &["--allow-listen", "127.0.0.1:0"]].concat();
    let mut cluster = start(1, &flags, &steps);
    cluster.await_ready();
    let granted = cluster.find_text("slot=0 listen 127.0.0.1:0: ");
    assert!(granted.contains("0: 127.0.0.1:"), "{granted}");
    let refused = cluster.find_text(&format!("slot=0 listen {socket}: "));
    assert!(refused.contains("EACCES"), "{refused}");
}

#[test]
fn a_name_that_is_not_declared_is_refused_with_those_that_are() {
    let flags = ["-l", "main=127.0.0.1:0", "-l", "admin=127.0.0.1:0"];
    let mut cluster = start(1, &flags, &["steps", "listen:adnim", "ready"]);
    let refused = cluster.find_text("slot=0 listen adnim: ");
    assert!(refused.contains("ENOENT"), "{refused}");
    assert!(refused.contains("main, admin"), "{refused}");
}

#[test]
fn an_agent_may_not_listen() {
    let worker = test_worker();
    let agent = format!(
        "{} steps listen:main listen:127.0.0.1:0 ready",
        worker.display()
    );
    let flags = [
        "-l",
        "main=127.0.0.1:0",
        "--allow-listen",
        "127.0.0.1:0",
        "--agent",
        &agent,
    ];
    let mut cluster = start(1, &flags, &["serve", "main"]);
    for target in ["main", "127.0.0.1:0"] {
        let refused = cluster.find_text(&format!("slot=0 listen {target}: "));
        assert!(refused.contains("EACCES"), "{refused}");
        assert!(refused.contains("agent"), "{refused}");
    }
    cluster.await_ready();
    assert_eq!(cluster.stop().code(), 0);
}

/// The worker is told, lives on, and succeeds when the address is free. (N26, N27, N69)
#[test]
fn an_address_in_use_is_reported_to_the_worker_that_asks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("taken.sock");
    let _other_unix = UnixListener::bind(&path).unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    let (listen_taken, listen_unix) = (
        format!("listen:{taken}"),
        format!("listen:unix:{}", path.display()),
    );
    let steps = [
        "steps",
        &listen_unix,
        &listen_taken,
        "listen:127.0.0.1:0",
        "ready",
        "answer:1",
        &listen_taken,
    ];
    let mut cluster = start(1, &[], &steps);
    let refused_unix = cluster.await_text("slot=0 listen unix:");
    assert!(refused_unix.contains("EADDRINUSE"), "{refused_unix}");
    let refused = cluster.await_text(&format!("slot=0 listen {taken}: "));
    assert!(refused.contains("EADDRINUSE"), "{refused}");
    assert!(refused.contains(&format!("bind {taken}")), "{refused}");
    let granted = cluster.await_text("slot=0 listen 127.0.0.1:0: ");
    let address = granted.rsplit_once(' ').unwrap().1.parse().unwrap();
    cluster.await_ready();

    drop(other);
    assert_eq!(get(address, "/").unwrap().status, 200);
    cluster.await_text(&format!("slot=0 listen {taken}: {taken}"));
    assert_eq!(get(taken.parse().unwrap(), "/").unwrap().status, 200);
    assert_eq!(cluster.stop().code(), 0);
    assert!(path.exists(), "somebody else's");
}

/// (N04, N70)
#[test]
fn a_privileged_port_is_refused_to_the_worker_that_asks() {
    let Some(port) = privileged_port() else {
        return eprintln!("every port is free for everybody here: nothing tested");
    };
    let programs = Unprivileged::new();
    let worker = programs.worker();
    let listen = format!("listen:127.0.0.1:{port}");
    let args = [
        "-w",
        "1",
        worker.to_str().unwrap(),
        "steps",
        &listen,
        "ready",
    ];
    let mut cluster = Cluster::from_command(programs.command(args));
    let refused = cluster.await_text("slot=0 listen ");
    assert!(refused.contains("EACCES"), "{refused}");
    assert!(refused.contains("CAP_NET_BIND_SERVICE"), "{refused}");
    cluster.await_ready();
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn a_worker_holds_a_bounded_number_of_listeners() {
    let name = |number: usize| format!("unix:@rr-test-{}-{number}", std::process::id());
    let listens: Vec<_> = (0..65)
        .map(|number| format!("listen:{}", name(number)))
        .collect();
    let mut steps = vec!["steps"];
    steps.extend(listens.iter().map(String::as_str));
    steps.push("ready");
    let mut cluster = start(1, &[], &steps);
    let last_granted = cluster.await_text(&format!("slot=0 listen {}: ", name(63)));
    assert!(last_granted.ends_with(&name(63)), "{last_granted}");
    let refused = cluster.await_text(&format!("slot=0 listen {}: ", name(64)));
    assert!(
        refused.contains("EMFILE") && refused.contains("at most 64"),
        "{refused}"
    );
}

/// (N40)
#[test]
fn a_worker_chooses_the_backlog_of_what_it_has_bound() {
    let steps = ["steps", "listen:127.0.0.1:0,backlog=19", "ready"];
    let mut cluster = start(1, &[], &steps);
    let address = bound(&mut cluster, "127.0.0.1:0");
    assert_eq!(common::sockets::backlog(address), 19);
}

/// A cluster of test workers that is on its way.
fn start(workers: usize, flags: &[&str], program: &[&str]) -> Cluster {
    let (workers, worker) = (workers.to_string(), test_worker());
    let mut args = vec!["-w", &workers];
    args.extend(flags);
    args.push(worker.to_str().unwrap());
    args.extend(program);
    Cluster::start(args)
}

/// Where the listener that was asked for as `target` is really bound.
fn bound(cluster: &mut Cluster, target: &str) -> SocketAddr {
    let ip = target.rsplit_once(':').unwrap().0;
    let line = cluster.find_text(&format!("] listening on {ip}:"));
    let (_, address) = line.split_once("listening on ").unwrap();
    address.split(' ').next().unwrap().parse().unwrap()
}
