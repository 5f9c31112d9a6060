//! The modes of dispatch: who accepts, and that nobody is lost whichever way it is.

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};

use common::client::{Server, ask, ask_all, connect, get};
use common::load::Load;
use common::{Cluster, DEADLINE, await_condition, operator, processes, run_to_end, test_worker};

const MODES: [&str; 3] = ["hand-off", "shared", "reuseport"];

/// Those in which workers accept themselves.
const LENT: [&str; 2] = ["shared", "reuseport"];

/// Ready workers in this mode, and the control socket.
fn cluster(mode: &str, workers: usize, flags: &[&str]) -> (Cluster, SocketAddr, PathBuf) {
    let flags = [&["--dispatch", mode], flags].concat();
    let (mut cluster, address) = Cluster::test_workers(workers, &flags);
    let control = cluster.control();
    (cluster, address, control)
}

#[test]
fn every_mode_serves_and_is_shown() {
    for mode in MODES {
        let (cluster, address, control) = cluster(mode, 3, &[]);
        for _ in 0..60 {
            assert_eq!(get(address, "/").unwrap().status, 200);
        }
        let shown = operator::status(&control);
        let listener = &shown["listeners"][0];
        assert_eq!(listener["mode"], mode);
        // What the master does not see is unknown, and no zero.
        assert_eq!(listener["accepted"].is_null(), mode != "hand-off", "{mode}");
        let workers = shown["workers"].as_array().unwrap();
        let received = workers.iter().map(|it| it["load"]["received"].as_u64());
        assert_eq!(received.map(Option::unwrap).sum::<u64>(), 60, "{shown}");
        for worker in workers {
            assert_eq!(worker["load"]["given"].is_null(), mode != "hand-off");
            assert_eq!(worker["load"]["active"], 0);
        }
        assert_eq!(cluster.stop().code(), 0);
    }
}

#[test]
fn every_worker_may_wake_for_a_connection() {
    let (_cluster, address, _) = cluster("shared", 3, &["--exclusive", "no"]);
    for _ in 0..60 {
        assert_eq!(get(address, "/").unwrap().status, 200);
    }
}

/// Each listener as it says itself.
#[test]
fn listeners_of_one_master_may_differ() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let unix = format!("unix:{},dispatch=shared", path.display());
    let mut cluster = Cluster::start([
        "-w",
        "2",
        "-l",
        "127.0.0.1:0,dispatch=hand-off",
        "-l",
        "web=127.0.0.1:0",
        "-l",
        &unix,
        "--dispatch",
        "reuseport",
        test_worker().to_str().unwrap(),
        "serve",
    ]);
    let addresses = cluster.addresses(3);
    cluster.await_ready();
    for address in &addresses[..2] {
        for _ in 0..20 {
            get(address.parse().unwrap(), "/").unwrap();
        }
    }
    for _ in 0..20 {
        common::client::get_unix(&path, "/").unwrap();
    }
    let shown = operator::status(&cluster.control());
    let modes = shown["listeners"].as_array().unwrap().iter();
    let modes: Vec<_> = modes.map(|it| it["mode"].as_str().unwrap()).collect();
    assert_eq!(modes, ["hand-off", "reuseport", "shared"]);
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert!(!path.exists());
}

/// Whoever it was serving is lost with it, and nobody else.
#[test]
fn a_worker_that_is_killed_takes_nobody_along_whom_it_did_not_serve() {
    const CLIENTS: usize = 4;
    for mode in LENT {
        let (mut cluster, address, _) = cluster(mode, 3, &[]);
        let load = Load::start(address, CLIENTS);
        load.await_more(100);
        kill(cluster.worker(1).pid(), Signal::SIGKILL).unwrap();
        cluster.await_text("slot=1 gen=1 pid=");
        cluster.await_line("the replacement", |line| {
            line.contains("slot=1") && line.contains("ready after")
        });
        load.await_more(100);
        let tally = load.stop();
        let slots: BTreeSet<u32> = tally.answers.iter().map(|it| it.slot).collect();
        assert_eq!(slots, BTreeSet::from([0, 1, 2]), "{mode}");
        assert!(
            tally.failures.len() <= CLIENTS,
            "{mode}: {:?}",
            tally.failures
        );
        assert!(cluster.stop().code() == 0);
    }
}

/// The socket outlives its worker, and with it those who wait.
#[test]
fn what_waited_for_a_worker_that_was_killed_is_for_its_replacement() {
    for mode in LENT {
        let (mut cluster, address, _) = cluster(mode, 1, &[]);
        let worker = cluster.worker(0);
        processes::freeze(worker.pid());
        let answers = ask_all(address, 50);
        kill(worker.pid(), Signal::SIGKILL).unwrap();
        cluster.await_line("the replacement", |line| line.contains("ready after"));
        let replacement = cluster.worker(0);
        assert_ne!(replacement, worker);
        for _ in 0..50 {
            let server = answers.recv_timeout(DEADLINE).expect(mode);
            assert_eq!(server, replacement, "{mode}");
        }
        assert_eq!(cluster.stop().code(), 0);
    }
}

/// With no replacement in sight the others get them, over their queues.
#[test]
fn what_waited_in_the_socket_of_a_dead_worker_is_handed_off_to_others() {
    let flags = ["--backoff", "10m..10m"];
    let (cluster, address, control) = cluster("reuseport", 2, &flags);
    let [frozen, other] = [0, 1].map(|slot| cluster.worker(slot));
    processes::freeze(frozen.pid());
    let answers = ask_all(address, 60);
    kill(frozen.pid(), Signal::SIGKILL).unwrap();
    for _ in 0..60 {
        assert_eq!(answers.recv_timeout(DEADLINE).unwrap(), other);
    }
    let rescued = operator::status(&control)["listeners"][0]["rescued"].as_u64();
    assert!(rescued.unwrap() > 0);
    // Nobody new waits for the dead one.
    for _ in 0..60 {
        assert_eq!(get(address, "/").unwrap().server(), other);
    }
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn a_slot_that_stays_empty_gets_no_share_of_the_clients() {
    let (mut cluster, address, control) = cluster("reuseport", 3, &[]);
    let load = Load::start(address, 4);
    load.await_more(50);
    operator::done(&control, &["drain", "1"]);
    cluster.await_text("slot=1 gen=1");
    await_condition("slot 1 is empty", || {
        operator::status(&control)["workers"][1]["state"] == "parked"
    });
    for _ in 0..60 {
        assert_ne!(get(address, "/").unwrap().server().slot, 1);
    }
    assert_eq!(load.stop().failures, Vec::<String>::new());
}

#[test]
fn a_change_of_size_under_load_fails_no_request() {
    for mode in LENT {
        let (_cluster, address, control) = cluster(mode, 4, &[]);
        let load = Load::start(address, 6);
        load.await_more(100);
        for size in ["1", "4", "2"] {
            operator::done(&control, &["scale", size]);
            await_condition("the size", || {
                let shown = operator::status(&control);
                shown["master"]["settled"] == true
            });
            load.await_more(100);
        }
        let tally = load.stop();
        assert_eq!(tally.failures, Vec::<String>::new(), "{mode}");
    }
}

#[test]
fn a_reload_under_load_fails_no_request() {
    for mode in LENT {
        let (_cluster, address, control) = cluster(mode, 3, &["--canary", "0s"]);
        let load = Load::start(address, 6);
        load.await_more(100);
        for _ in 0..2 {
            operator::done(&control, &["reload", "--wait"]);
            load.await_more(50);
        }
        let tally = load.stop();
        assert_eq!(tally.failures, Vec::<String>::new(), "{mode}");
        let generations: BTreeSet<u64> = tally.answers.iter().map(|it| it.generation).collect();
        assert_eq!(generations, BTreeSet::from([1, 2, 3]), "{mode}");
    }
}

#[test]
fn a_stop_under_load_fails_no_request_that_had_begun() {
    for mode in LENT {
        let (cluster, address, _) = cluster(mode, 4, &[]);
        let load = Load::start(address, 4);
        load.await_more(100);
        let asked: Vec<_> = (0..200)
            .map(|_| ask(connect(address).unwrap(), "/").unwrap())
            .collect();
        let ended = cluster.stop();
        assert_eq!(ended.code(), 0, "{}", ended.log);
        for asked in asked {
            assert_eq!(asked.answer().expect(mode).status, 200);
        }
        let tally = load.stop();
        let refused = "ConnectionRefused";
        let cut_off = tally.failures.iter().filter(|err| !err.contains(refused));
        assert_eq!(cut_off.collect::<Vec<_>>(), Vec::<&String>::new(), "{mode}");
        assert!(!ended.log.contains("connections refused"), "{}", ended.log);
    }
}

/// More clients than the workers accept at once wait in the backlogs when the stop begins.
#[test]
fn clients_in_the_backlogs_are_served_before_the_end() {
    for mode in LENT {
        let (mut cluster, address, _) = cluster(mode, 2, &[]);
        let workers = [0, 1].map(|slot| cluster.worker(slot));
        for worker in &workers {
            processes::freeze(worker.pid());
        }
        let answers = ask_all(address, 200);
        cluster.signal(Signal::SIGTERM);
        cluster.await_text("stopping gracefully");
        for worker in &workers {
            processes::thaw(worker.pid());
        }
        for _ in 0..200 {
            answers.recv_timeout(DEADLINE).expect(mode);
        }
        let ended = cluster.wait();
        assert_eq!(ended.code(), 0, "{}", ended.log);
    }
}

/// `shutdown(2)` is for everybody who has a copy of the socket.
#[test]
fn a_listener_that_a_worker_shuts_down_is_listened_again() {
    for mode in LENT {
        let mut cluster = started(mode, &["-w", "2"], &activated());
        let address = cluster.address();
        get(address, "/shut").unwrap();
        cluster.await_text("listening again");
        let mut seen = BTreeSet::new();
        await_condition("both serve", || {
            seen.insert(get(address, "/").expect(mode).server().slot);
            seen.len() == 2
        });
        let shown = operator::status(&cluster.control());
        assert_eq!(shown["listeners"][0]["mended"], 1, "{mode}");
        cluster.signal(Signal::SIGTERM);
        assert_eq!(cluster.wait().code(), 0);
    }
}

#[test]
fn a_worker_bears_that_another_shuts_the_listener_down() {
    let mut cluster = started("shared", &["-w", "2"], &mixed());
    let address = cluster.address();
    cluster.await_line("worker 0", |line| line.contains("ready after"));
    let worker = cluster.worker(0);
    processes::freeze(worker.pid());
    assert_eq!(get(address, "/shut").unwrap().server().slot, 1);
    processes::thaw(worker.pid());
    cluster.await_text("listening again");
    await_condition("worker 0 serves again", || {
        get(address, "/").unwrap().server() == worker
    });
    assert_eq!(cluster.stop().code(), 0);
}

/// Slot 0 is a program of ours, slot 1 one that knows systemd's protocol.
fn mixed() -> Vec<String> {
    let mut program = vec![test_worker().display().to_string()];
    program.extend(["by-slot", "serve", "--", "boot", "0"].map(str::to_owned));
    program.extend(activated());
    program
}

fn activated() -> [String; 2] {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/activated.py");
    ["/usr/bin/python3", script].map(str::to_owned)
}

/// A cluster that may never be ready: such a program does not say when it is.
fn started(mode: &str, flags: &[&str], program: &[String]) -> Cluster {
    let usual = [
        "-l",
        "web=127.0.0.1:0",
        "--ready-timeout",
        "10m",
        "--dispatch",
        mode,
    ];
    let flags = usual.iter().chain(flags).map(|&flag| flag.to_owned());
    Cluster::start(flags.chain(program.iter().cloned()))
}

#[test]
fn a_program_that_knows_only_socket_activation_serves() {
    for mode in LENT {
        let flags = ["-w", "2", "-l", "127.0.0.1:0"];
        let mut cluster = started(mode, &flags, &activated());
        let addresses: Vec<SocketAddr> = cluster
            .addresses(2)
            .iter()
            .map(|it| it.parse().unwrap())
            .collect();
        for (&address, name) in addresses.iter().zip(["'web': 3", "'127.0.0.1-0': 4"]) {
            let names = get(address, "/names").unwrap().body;
            assert!(names.contains(name) && names.ends_with(" waits"), "{names}");
        }
        let mut seen: BTreeSet<Server> = BTreeSet::new();
        await_condition("both have served", || {
            seen.insert(get(addresses[0], "/").unwrap().server());
            seen.len() == 2
        });
        cluster.signal(Signal::SIGTERM);
        let ended = cluster.wait();
        assert_eq!(ended.code(), 0, "{}", ended.log);
    }
}

#[test]
fn without_lent_sockets_nothing_is_said_of_them() {
    let (_cluster, address, _) = cluster("hand-off", 1, &[]);
    for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
        assert_eq!(get(address, &format!("/env/{name}")).unwrap().body, "");
    }
}

#[test]
fn what_needs_connections_that_the_master_sees_is_refused_with_other_modes() {
    for (flags, says) in [
        (&["--max-connections", "5"][..], "--max-connections needs"),
        (&["--window", "5"], "--window needs"),
        (&["--overflow", "close"], "--overflow needs"),
        (&["--stall-timeout", "3s"], "--stall-timeout needs"),
        (&["-l", "unix:@x"], "listener unix:@x: dispatch reuseport"),
    ] {
        let args = [
            &["-l", "127.0.0.1:0", "--dispatch", "reuseport"],
            flags,
            &["true"],
        ];
        let ended = run_to_end(&args.concat());
        assert_eq!(ended.code(), 2, "{}", ended.log);
        assert!(ended.log.contains(says), "{}", ended.log);
    }
    let ended = run_to_end(&["--dispatch", "fair", "true"]);
    assert_eq!(ended.code(), 2, "{}", ended.log);
}

/// A group is open to every process of the same user.
#[test]
fn a_listener_from_which_workers_accept_cannot_be_paused() {
    for mode in LENT {
        let (_cluster, address, control) = cluster(mode, 1, &[]);
        let said = operator::ctl(&control, &["pause"]);
        assert_ne!(said.code, 0);
        assert!(said.err.contains("workers accept themselves"), "{said:?}");
        assert_eq!(get(address, "/").unwrap().status, 200);
    }
}

/// Those who stand by get nobody, and take the place of one that is missing.
#[test]
fn a_spare_worker_gets_no_share_of_a_group() {
    let flags = ["--spare", "1", "--backoff", "10m..10m"];
    let (cluster, address, _) = cluster("reuseport", 2, &flags);
    let slots = || -> BTreeSet<u32> {
        let answers = (0..80).map(|_| get(address, "/").unwrap().server().slot);
        answers.collect()
    };
    let before = slots();
    assert_eq!(before.len(), 2);
    let first = *before.first().unwrap();
    kill(cluster.worker(first).pid(), Signal::SIGKILL).unwrap();
    await_condition("the spare one serves", || {
        slots().difference(&before).count() == 1
    });
}

#[test]
fn two_masters_do_not_share_an_address_by_accident() {
    let (_cluster, address, _) = cluster("reuseport", 1, &[]);
    let address = address.to_string();
    let ended = run_to_end(&["-l", &address, "--dispatch", "reuseport", "true"]);
    assert_eq!(ended.code(), 6, "{}", ended.log);
    assert!(ended.log.contains("in use"), "{}", ended.log);
}

/// Its workers run a server in Python that knows nothing of all this.
fn preloaded(mode: &str, flags: &[&str]) -> (Cluster, SocketAddr) {
    const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/any/server.py");
    let usual = ["--dispatch", mode, "-l", "127.0.0.1:0=8000"];
    let program = ["--preload", "python3", SERVER, "127.0.0.1:8000"];
    let mut cluster = Cluster::start([&usual, flags, &program].concat());
    let address = cluster.address();
    cluster.await_ready();
    (cluster, address)
}

#[test]
fn an_unchanged_program_accepts_itself_with_the_library() {
    for mode in LENT {
        let (cluster, address) = preloaded(mode, &["-w", "2"]);
        let mut seen = BTreeSet::new();
        await_condition("both serve", || {
            seen.insert(get(address, "/").expect(mode).server().slot);
            seen.len() == 2
        });
        assert_eq!(cluster.stop().code(), 0);
    }
}

/// Each has a socket of its own, which gets nobody new while it leaves. A shared socket has no such
/// moment: the program accepts until its stop signal comes.
#[test]
fn unchanged_programs_are_replaced_in_a_group_without_a_failure() {
    let (mut cluster, address) = preloaded("reuseport", &["-w", "2", "--canary", "0s"]);
    let load = Load::start(address, 4);
    load.await_more(50);
    let control = cluster.control();
    operator::done(&control, &["reload", "--wait"]);
    load.await_more(50);
    let tally = load.stop();
    assert_eq!(tally.failures, Vec::<String>::new());
    let generations: BTreeSet<u64> = tally.answers.iter().map(|it| it.generation).collect();
    assert_eq!(generations, BTreeSet::from([1, 2]));
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn what_waited_for_an_unchanged_program_is_for_its_replacement() {
    for mode in LENT {
        let (mut cluster, address) = preloaded(mode, &["-w", "1"]);
        let worker = cluster.worker(0);
        processes::freeze(worker.pid());
        let answers = ask_all(address, 10);
        kill(worker.pid(), Signal::SIGKILL).unwrap();
        cluster.await_line("the replacement", |line| line.contains("ready after"));
        for _ in 0..10 {
            let server = answers.recv_timeout(DEADLINE).expect(mode);
            assert_ne!(server.id, worker.id, "{mode}");
        }
    }
}

/// Nothing can be loaded into it, and it says nothing: a socket that it is passed is all it needs.
#[test]
fn a_static_program_serves_from_the_socket_that_it_is_passed() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("activated");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/activated.c");
    let compiled = std::process::Command::new("cc")
        .args(["-static", "-o", program.to_str().unwrap(), source])
        .status()
        .expect("a C compiler: apt-get install gcc libc6-dev");
    assert!(compiled.success());
    for mode in LENT {
        let mut cluster = Cluster::start([
            "-w",
            "2",
            "-l",
            "127.0.0.1:0",
            "--dispatch",
            mode,
            "--ready-on",
            "delay=50ms",
            "--canary",
            "0s",
            program.to_str().unwrap(),
        ]);
        let address = cluster.address();
        cluster.await_ready();
        let mut seen: BTreeSet<u32> = BTreeSet::new();
        await_condition("both have served", || {
            seen.insert(get(address, "/").unwrap().server().slot);
            seen.len() == 2
        });
        let killed = get(address, "/").unwrap().server();
        nix::sys::signal::kill(killed.pid(), Signal::SIGKILL).unwrap();
        // What it had accepted in its last moment dies with it.
        await_condition("it is replaced", || {
            get(address, "/").is_ok_and(|response| {
                let server = response.server();
                server.slot == killed.slot && server.id != killed.id
            })
        });
        cluster.signal(Signal::SIGHUP);
        cluster.await_text("all at generation 2");
        assert_eq!(get(address, "/").unwrap().server().generation, 2);
        assert_eq!(cluster.stop().code(), 0, "{mode}");
    }
}
