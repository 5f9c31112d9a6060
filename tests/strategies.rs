//! Strategies: each shows its nature, and can be exchanged while clients come.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use rr_master::StrategyName;
use socket2::{Domain, Socket, Type};

use common::client::{Server, ask, connect, get};
use common::load::Load;
use common::operator::{ctl, done, events, status};
use common::{Cluster, DEADLINE, await_condition, processes, rr_master, run_to_end, test_worker};

/// Connections that last, all with one worker: who goes by loads leaves it alone until they end.
#[test]
fn who_goes_by_loads_avoids_the_worker_that_holds_connections() {
    for strategy in ["least-connections", "power-of-two-choices"] {
        let (mut cluster, address) = Cluster::test_workers(3, &[]);
        let control = cluster.control();
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(hold(address, &mut cluster));
            assert_eq!([slot(address), slot(address)], [1, 2], "in turn");
        }
        done(&control, &["strategy", strategy]);
        // Who has just answered may have one that is not closed yet, and no more.
        let slots: BTreeSet<u32> = (0..60).map(|_| slot(address)).collect();
        assert_eq!(slots, BTreeSet::from([1, 2]), "{strategy}");
        for client in held {
            drop(client);
        }
        await_condition("the worker to be chosen again", || slot(address) == 0);
        assert_eq!(cluster.stop().code(), 0);
    }
}

/// What waits for it counts, although it has not received it.
#[test]
fn least_connections_counts_what_is_on_its_way() {
    const FLAGS: &[&str] = &["--strategy=least-connections", "--stall-timeout=never"];
    let (mut cluster, address) = Cluster::test_workers(2, FLAGS);
    let control = cluster.control();
    let frozen = cluster.worker(0);
    processes::freeze(frozen.pid());
    let first = ask(connect(address).unwrap(), "/").unwrap();
    for _ in 0..10 {
        await_condition("the other to have closed what it had", || {
            status(&control)["workers"][1]["load"]["active"] == 0
        });
        assert_eq!(slot(address), 1);
    }
    processes::thaw(frozen.pid());
    assert_eq!(first.answer().unwrap().server(), frozen);
}

/// Without a stall timeout nothing but the strategy keeps clients from it.
#[test]
fn idle_first_passes_over_a_worker_that_does_not_receive() {
    const FLAGS: &[&str] = &["--strategy=idle-first", "--stall-timeout=never"];
    let (cluster, address) = Cluster::test_workers(3, FLAGS);
    assert_eq!([(); 6].map(|()| slot(address)), [0, 1, 2, 0, 1, 2]);
    processes::freeze(cluster.worker(0).pid());
    let first = ask(connect(address).unwrap(), "/").unwrap();
    assert_eq!([(); 6].map(|()| slot(address)), [1, 2, 1, 2, 1, 2]);
    processes::thaw(cluster.worker(0).pid());
    assert_eq!(first.answer().unwrap().server().slot, 0);
    // It is free again, behind the one that was free before.
    assert_eq!([(); 4].map(|()| slot(address)), [1, 0, 2, 1]);
}

#[test]
fn weighted_is_exact_and_follows_what_a_worker_says() {
    let (mut cluster, address) =
        Cluster::test_workers(2, &["--strategy=weighted", "--weights=3,1"]);
    let control = cluster.control();
    let slots = [(); 8].map(|()| slot(address));
    assert_eq!(slots, [0, 0, 1, 0, 0, 0, 1, 0]);
    let table = done(&control, &["status"]);
    assert!(
        table.contains("weighted") && table.contains("WEIGHT"),
        "{table}"
    );
    assert_eq!(weights(&control), [3, 1]);

    // The second connection of a cycle of four is slot 0's, the third slot 1's.
    assert_eq!([slot(address), slot(address)], [0, 0]);
    let told = get(address, "/weight/5000").unwrap().server();
    assert_eq!(told.slot, 1);
    await_condition("the weight, as far as it may", || {
        weights(&control) == [3, 1000]
    });
    get(address, "/weight/3").unwrap();
    await_condition("the weight", || weights(&control) == [3, 3]);
    // What had been saved up is spent.
    count(address, 6000);
    assert_eq!(count(address, 60), BTreeMap::from([(0, 30), (1, 30)]));

    // The wish ends with the worker.
    kill(told.pid(), Signal::SIGKILL).unwrap();
    await_condition("another worker", || {
        let shown = status(&control);
        let id = shown["workers"][1]["worker"].as_u64();
        id.is_some_and(|id| id != told.id) && shown["workers"][1]["state"] == "serving"
    });
    assert_eq!(weights(&control), [3, 1]);
    count(address, 40);
    assert_eq!(count(address, 40), BTreeMap::from([(0, 30), (1, 10)]));
    assert_eq!(cluster.stop().code(), 0);
}

/// Whoever serves a slot serves its clients; who leaves for good leaves only its own to others.
#[test]
fn source_hash_keeps_a_client_at_its_slot() {
    const FLAGS: &[&str] = &["--strategy=source-hash", "--canary=0s"];
    let (mut cluster, address) = Cluster::test_workers(4, FLAGS);
    let control = cluster.control();
    let before = of_clients(address);
    let slots = |servers: &[Server]| servers.iter().map(|it| it.slot).collect::<Vec<_>>();
    assert_eq!(of_clients(address), before, "from other ports");
    let all: BTreeSet<u32> = slots(&before).into_iter().collect();
    assert_eq!(all.len(), 4, "{all:?}");

    let killed = cluster.worker(1);
    kill(killed.pid(), Signal::SIGKILL).unwrap();
    await_condition("its replacement", || {
        let restarted = &status(&control)["workers"][1];
        restarted["state"] == "serving" && restarted["worker"] != killed.id
    });
    let after_crash = of_clients(address);
    assert_eq!(slots(&after_crash), slots(&before));
    for (before, after) in before.iter().zip(&after_crash) {
        assert_eq!(before == after, before.slot != 1);
    }

    done(&control, &["reload", "--wait"]);
    let after_reload = of_clients(address);
    assert_eq!(slots(&after_reload), slots(&before));
    assert!(after_reload.iter().all(|it| it.generation == 2));

    done(&control, &["scale", "3", "--wait"]);
    let fewer = of_clients(address);
    for (before, after) in after_reload.iter().zip(&fewer) {
        assert_eq!(before == after, before.slot != 3, "{before:?} {after:?}");
    }
    assert!(slots(&fewer).iter().all(|slot| *slot < 3));
    done(&control, &["scale", "4", "--wait"]);
    assert_eq!(slots(&of_clients(address)), slots(&before));
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn random_leaves_nobody_out() {
    let (_cluster, address) = Cluster::test_workers(3, &["--strategy=random"]);
    let counts = count(address, 120);
    // One of them gets fewer once in a hundred thousand runs.
    assert!(
        counts.len() == 3 && counts.values().all(|&it| it > 15),
        "{counts:?}"
    );
}

#[test]
fn strategies_are_exchanged_under_load_without_losing_anybody() {
    let (mut cluster, address) = Cluster::test_workers(4, &[]);
    let control = cluster.control();
    let load = Load::start(address, 8);
    for strategy in StrategyName::ALL.into_iter().skip(1).cycle().take(9) {
        let said = done(&control, &["strategy", strategy.as_str()]);
        assert!(said.contains(&format!(" -> {strategy}")), "{said}");
        load.await_more(100);
    }
    done(&control, &["strategy", "round-robin"]);
    let tally = load.stop();
    assert_eq!(tally.failures, Vec::<String>::new());
    assert!(tally.answers.len() > 900);
    let shown = status(&control);
    let listener = &shown["listeners"][0];
    assert_eq!(listener["handed_off"], listener["accepted"], "{shown}");
    let again = count(address, 400);
    assert!(again.values().all(|&it| it == 100), "{again:?}");
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn each_listener_has_a_strategy_of_its_own() {
    let worker = test_worker();
    let mut cluster = Cluster::start([
        "-w2",
        "--strategy=idle-first",
        "--weights=2",
        "-la=127.0.0.1:0",
        "-lb=127.0.0.1:0,strategy=weighted",
        worker.to_str().unwrap(),
        "serve",
    ]);
    let addresses = cluster.addresses(2);
    let b: SocketAddr = addresses[1].parse().unwrap();
    let control = cluster.control();
    cluster.await_ready();
    assert_eq!(strategies(&control), ["idle-first", "weighted"]);
    assert_eq!([(); 6].map(|()| slot(b)), [0, 1, 0, 0, 1, 0]);

    let said = done(&control, &["strategy", "random", "b"]);
    assert_eq!(said.trim(), "b: weighted -> random");
    let said = done(&control, &["strategy", "random"]);
    assert_eq!(said.trim(), "a: idle-first -> random");
    let said = done(&control, &["strategy", "random"]);
    assert_eq!(said.trim(), "the strategy is random already");
    assert_eq!(strategies(&control), ["random", "random"]);
    let told = events(&control);
    let mut told = told.iter().filter(|event| event["name"] == "strategy");
    let first = told
        .next()
        .unwrap_or_else(|| panic!("{:?}", events(&control)));
    assert_eq!(first["listener"], "b");
    assert_eq!([&first["from"], &first["to"]], ["weighted", "random"]);
    cluster.await_text("strategy random: a: idle-first -> random");

    let table = done(&control, &["strategy"]);
    let words: Vec<&str> = table.split_whitespace().collect();
    assert_eq!(words[2..], ["a", "random", "b", "random"], "{table}");
    let shown: serde_json::Value =
        serde_json::from_str(&done(&control, &["strategy", "--json"])).unwrap();
    assert_eq!(shown[1]["listener"], "b");
    assert_eq!(shown[1]["strategy"], "random");

    let unknown = ctl(&control, &["strategy", "random", "c"]);
    assert_eq!(unknown.code, 1);
    assert!(
        unknown.err.contains("the listeners are: a, b"),
        "{unknown:?}"
    );
    let unknown = ctl(&control, &["strategy", "roundrobin"]);
    assert_eq!(unknown.code, 2);
    assert!(
        unknown.err.contains("did you mean \"round-robin\"?"),
        "{unknown:?}"
    );
    assert_eq!(cluster.stop().code(), 0);
}

/// What an operator has chosen lasts until the configuration wants something else.
#[test]
fn a_reload_applies_a_strategy_that_has_changed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("app.toml");
    let write = |strategy: &str, of_b: &str, weights: &str| {
        let text = format!(
            "workers = 2\nlisten = ['a=127.0.0.1:0', 'b=127.0.0.1:0,strategy={of_b}']\n\
             strategy = '{strategy}'\nweights = [{weights}]\ncanary = '0s'\n"
        );
        fs::write(&file, text).unwrap();
    };
    write("weighted", "random", "2, 1");
    let mut command = Command::new(rr_master());
    command
        .arg("--config")
        .arg(&file)
        .arg(test_worker())
        .arg("serve");
    let mut cluster = Cluster::from_command(command);
    let a: SocketAddr = cluster.addresses(2)[0].parse().unwrap();
    let control = cluster.control();
    cluster.await_ready();
    assert_eq!(strategies(&control), ["weighted", "random"]);
    assert_eq!([(); 6].map(|()| slot(a)), [0, 1, 0, 0, 1, 0]);

    write("weighted", "least-connections", "1, 3");
    done(&control, &["strategy", "idle-first", "a"]);
    let said = done(&control, &["reload", "--wait"]);
    assert!(!said.contains("restart"), "{said}");
    assert_eq!(strategies(&control), ["idle-first", "least-connections"]);
    assert_eq!(weights(&control), [1, 3]);

    write("weighted", "least-connections", "1, 3");
    done(&control, &["strategy", "weighted", "a"]);
    count(a, 40);
    assert_eq!(count(a, 40), BTreeMap::from([(0, 10), (1, 30)]));

    write("round-robin", "least-connections", "");
    cluster.signal(Signal::SIGHUP);
    await_condition("the reload", || {
        strategies(&control) == ["round-robin", "least-connections"]
    });
    assert_eq!(weights(&control), [1, 1]);
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn where_workers_accept_themselves_there_is_no_strategy() {
    let worker = test_worker();
    let mut cluster = Cluster::start([
        "-w2",
        "-lown=127.0.0.1:0,dispatch=shared",
        "-lours=127.0.0.1:0",
        worker.to_str().unwrap(),
        "serve",
    ]);
    let control = cluster.control();
    cluster.await_ready();
    assert_eq!(strategies(&control), ["", "round-robin"]);
    let refused = ctl(&control, &["strategy", "random", "own"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused
            .err
            .contains("only a listener with dispatch hand-off")
    );
    let said = done(&control, &["strategy", "random"]);
    assert_eq!(said.trim(), "ours: round-robin -> random");
    assert_eq!(cluster.stop().code(), 0);

    for (flags, says) in [
        (
            &["-lx=127.0.0.1:0,dispatch=shared,strategy=random"][..],
            "listener x: a strategy needs a master that chooses",
        ),
        (
            &["--dispatch=reuseport", "-l127.0.0.1:0", "--strategy=random"],
            "--strategy needs connections that the master accepts",
        ),
        (
            &["--strategy=rnd"],
            "There are round-robin, least-connections",
        ),
        (&["-l127.0.0.1:0,strategy=rnd"], "There are round-robin"),
        (&["--weights=3,0"], "a weight is a number from 1 to 1000"),
    ] {
        let ended = run_to_end(flags);
        assert_eq!(ended.code(), 2, "{}", ended.log);
        assert!(ended.log.contains(says), "{flags:?}: {}", ended.log);
    }
}

/// A connection that slot 0, whose turn it is, holds.
fn hold(address: SocketAddr, cluster: &mut Cluster) -> TcpStream {
    let mut client = connect(address).unwrap();
    write!(client, "GET /held HTTP/1.1\r\n\r\n").unwrap();
    cluster.await_text("/held begun");
    client
}

/// Who gets the next connection.
fn slot(address: SocketAddr) -> u32 {
    get(address, "/").unwrap().server().slot
}

fn count(address: SocketAddr, requests: usize) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        *counts.entry(slot(address)).or_default() += 1;
    }
    counts
}

/// Who serves each of many clients, which differ in their address.
fn of_clients(address: SocketAddr) -> Vec<Server> {
    let clients = (2..42).map(|host| Ipv4Addr::new(127, 0, 0, host));
    let served = clients.map(|client| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((client, 0)).into()).unwrap();
        socket.connect_timeout(&address.into(), DEADLINE).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        ask(stream, "/").unwrap().answer().unwrap().server()
    });
    served.collect()
}

fn strategies(control: &Path) -> Vec<String> {
    let shown = status(control);
    let listeners = shown["listeners"].as_array().unwrap().iter();
    let strategies = listeners.map(|it| it["strategy"].as_str().unwrap_or_default());
    strategies.map(str::to_owned).collect()
}

/// What the worker of each slot weighs.
fn weights(control: &Path) -> Vec<u64> {
    let shown = status(control);
    let workers = shown["workers"].as_array().unwrap().iter();
    let serving = workers.filter(|it| it["state"] == "serving");
    let weights = serving.map(|it| it["load"]["weight"].as_u64());
    weights.map(|weight| weight.expect("a weight")).collect()
}
