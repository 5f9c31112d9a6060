//! The rolling reload: everybody is replaced and nobody notices, and a new generation that is no good
//! is gone again before anybody of the old one has left.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};

use common::client::{ask_all, get, get_unix};
use common::load::{Load, Tally};
use common::processes::pid_in;
use common::{
    Cluster, DEADLINE, Stopwatch, await_condition, operator, processes, rr_master, test_worker,
};

/// E16, F19, P01, P10: without a single failed request and without retries.
#[test]
fn a_reload_replaces_every_worker_and_fails_no_request() {
    let (mut cluster, address) = Cluster::test_workers(3, &["--canary", "100ms"]);
    let before = cluster.workers();
    let load = Load::start(address, 4);
    load.await_more(50);
    reload(&mut cluster, "all at generation 2");
    load.await_more(50);
    assert_no_failure(&load.stop());
    for (slot, worker) in cluster.workers() {
        assert_eq!((worker.generation, worker.slot), (2, slot));
        assert_ne!(worker.id, before[&slot].id);
    }
    assert_eq!(get(address, "/").unwrap().server().generation, 2);
    let master = cluster.pid();
    assert_eq!(processes::of_master(master).len(), 3);
    assert_eq!(cluster.stop().code(), 0);
}

/// P08, P03: whatever is wrong with the new one, the old one serves on and is the same as before.
#[test]
fn a_generation_that_is_no_good_is_rolled_back() {
    for (bad, says) in [
        ("exit 1", "exited: code 1"),
        ("never-ready", "was not ready in time"),
        ("ready-then-exit 7", "exited: code 7"),
        ("abort", "signal SIGABRT"),
    ] {
        let mode = format!("by-generation serve then {bad} then serve");
        let mode: Vec<&str> = mode.split(' ').collect();
        let flags = ["--canary", "1s", "--ready-timeout", "700ms"];
        let (mut cluster, address) = Cluster::in_mode(&mode, 2, &flags);
        let before = cluster.workers();
        let load = Load::start(address, 2);
        let why = reload(&mut cluster, "generation 2 given up");
        assert!(why.contains(says), "{bad}: {why}");
        let tally = load.stop();
        assert_no_failure(&tally);
        let answers = |id| tally.answers.iter().filter(|it| it.id == id).count();
        assert!(before.values().all(|it| answers(it.id) > 0), "{bad}");
        assert!(tally.answers.iter().all(|it| it.generation == 1), "{bad}");
        // Mended, and the number is not used again.
        reload(&mut cluster, "all at generation 3");
        assert_eq!(get(address, "/").unwrap().server().generation, 3);
        assert_eq!(cluster.stop().code(), 0);
    }
}

/// One that fails after the canary was good: those that were replaced already go back, too.
#[test]
fn a_generation_that_fails_half_way_is_rolled_back_whole() {
    let good_then = "by-generation serve then by-slot serve -- exit 3";
    let mode: Vec<&str> = good_then.split(' ').collect();
    let (mut cluster, address) = Cluster::in_mode(&mode, 2, &["--canary", "50ms"]);
    let load = Load::start(address, 2);
    let why = reload(&mut cluster, "generation 2 given up");
    assert!(why.contains("exited: code 3"), "{why}");
    assert!(cluster.log().contains("reload: 1 of 2 at generation 2"));
    load.await_more(20);
    assert_no_failure(&load.stop());
    let generations = cluster.workers().into_values().map(|it| it.generation);
    assert_eq!(generations.collect::<Vec<_>>(), [1, 1]);
    assert_eq!(cluster.stop().code(), 0);
}

/// A link to a release is followed anew; a worker that dies meanwhile comes back as what it was.
#[test]
fn a_link_leads_to_the_new_release_with_the_next_reload_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let current = dir.path().join("current");
    let release = |name: &str| {
        let path = dir.path().join(name);
        fs::copy(test_worker(), &path).unwrap();
        path
    };
    let (one, two) = (release("one"), release("two"));
    symlink(&one, &current).unwrap();
    let (mut cluster, _) = start(&current, &["--canary", "50ms"]);
    let point_to = |release: &Path| {
        fs::remove_file(&current).unwrap();
        symlink(release, &current).unwrap();
    };
    point_to(&two);
    let victim = cluster.worker(0);
    kill(victim.pid(), Signal::SIGKILL).unwrap();
    cluster.await_line("the replacement", |line| {
        line.contains("slot=0") && line.contains(" ready after ")
    });
    assert_eq!(executable(cluster.worker(0).pid), one);
    reload(&mut cluster, "all at generation 2");
    assert_eq!(executable(cluster.worker(0).pid), two);
    assert_eq!(executable(cluster.worker(1).pid), two);
    assert_eq!(cluster.stop().code(), 0);
}

/// An agent that dies after a reload was given up comes back as what it was, and as the new one only
/// after a reload that was good.
#[test]
fn agents_start_anew_in_what_a_good_reload_has_read() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two, current] = ["one", "two", "current"].map(|name| dir.path().join(name));
    for release in [&one, &two] {
        fs::copy(test_worker(), release).unwrap();
    }
    symlink(&one, &current).unwrap();
    let worker = test_worker().display().to_string();
    let agent = format!("{} agent", current.display());
    let mut args = vec!["-w", "1", "-l", "127.0.0.1:0", "--canary", "50ms"];
    args.extend(["--backoff", "1ms..1ms", "--agent", &agent, &worker]);
    args.extend("by-generation serve then exit 3 then serve".split(' '));
    let mut cluster = Cluster::start(args);
    let spawned = cluster.await_text("agent slot=0");
    let mut pid = processes::pid_in(&spawned);
    cluster.await_ready();
    fs::remove_file(&current).unwrap();
    symlink(&two, &current).unwrap();
    for (until, release) in [("generation 2 given up", one), ("all at generation 3", two)] {
        reload(&mut cluster, until);
        kill(pid, Signal::SIGKILL).unwrap();
        let ready = cluster.await_line("the agent again", |line| {
            line.contains("agent slot=0") && line.contains(" ready after ")
        });
        pid = processes::pid_in(&ready);
        assert_eq!(executable(pid.as_raw()), release);
    }
    assert_eq!(cluster.stop().code(), 0);
}

/// The same with the directory that the master was started in: a generation that is given up leaves
/// nothing behind of where it was to run.
#[test]
fn a_generation_stays_in_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two, current] = ["one", "two", "current"].map(|name| dir.path().join(name));
    fs::create_dir(&one).unwrap();
    fs::create_dir(&two).unwrap();
    symlink(&one, &current).unwrap();
    let worker = test_worker().display().to_string();
    let mut command = Command::new(rr_master());
    command
        .args(["-w", "1", "-l", "127.0.0.1:0", "--canary", "50ms", &worker])
        .args("by-generation serve then exit 3 then serve".split(' '))
        .current_dir(&current)
        .env("PWD", &current);
    let mut cluster = Cluster::from_command(command);
    let address = cluster.address();
    cluster.await_ready();
    let directory = || get(address, "/cwd").unwrap().body.trim().to_owned();
    assert_eq!(directory(), one.to_str().unwrap());
    fs::remove_file(&current).unwrap();
    symlink(&two, &current).unwrap();
    reload(&mut cluster, "generation 2 given up");
    kill(cluster.worker(0).pid(), Signal::SIGKILL).unwrap();
    cluster.await_text(" ready after ");
    assert_eq!(directory(), one.to_str().unwrap());
    reload(&mut cluster, "all at generation 3");
    assert_eq!(directory(), two.to_str().unwrap());
    assert_eq!(cluster.stop().code(), 0);
}

/// The file itself is replaced by one that is no good: the old generation is still run from the old
/// file, also by whoever is started after that.
#[test]
fn a_file_that_was_replaced_is_still_there_for_its_generation() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    fs::copy(test_worker(), &program).unwrap();
    let (mut cluster, address) = start(&program, &["--canary", "1s"]);
    let bad = dir.path().join("bad");
    fs::copy("/bin/false", &bad).unwrap();
    fs::rename(&bad, &program).unwrap();
    reload(&mut cluster, "generation 2 given up");
    kill(cluster.worker(1).pid(), Signal::SIGKILL).unwrap();
    cluster.await_line("the replacement", |line| {
        line.contains("slot=1") && line.contains(" ready after ")
    });
    assert_eq!(get(address, "/").unwrap().server().generation, 1);
    fs::remove_file(&program).unwrap();
    cluster.signal(Signal::SIGHUP);
    let refused = cluster.await_text("everything stays as it is");
    assert!(refused.contains("no such file"), "{refused}");
    assert_eq!(cluster.stop().code(), 0);
}

/// P07: whoever asks while one is under way shares the one that follows.
#[test]
fn requests_during_a_reload_are_one_more_reload() {
    let (mut cluster, _) = Cluster::test_workers(2, &["--canary", "300ms"]);
    cluster.signal(Signal::SIGHUP);
    cluster.await_text("generation 2 begins");
    for _ in 0..5 {
        cluster.signal(Signal::SIGHUP);
    }
    cluster.await_text("all at generation 2");
    cluster.await_text("all at generation 3");
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert!(!ended.log.contains("generation 4"), "{}", ended.log);
}

#[test]
fn a_stop_is_not_kept_waiting_by_a_reload() {
    let mode = ["by-generation", "serve", "then", "never-ready"];
    let (mut cluster, _) = Cluster::in_mode(&mode, 2, &[]);
    let master = cluster.pid();
    cluster.signal(Signal::SIGHUP);
    cluster.await_line("the canary", |line| {
        line.contains("gen=2") && line.contains("spawned")
    });
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert!(ended.log.contains("the cluster stops"), "{}", ended.log);
    assert_eq!(processes::of_master(master), []);
}

/// P18: what changed in the file is applied, told if it cannot be, and refused as a whole if it is wrong.
#[test]
fn the_file_is_read_anew() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("app.toml");
    let write = |settings: &str| {
        let program = test_worker();
        let fixed = format!(
            "program = {program:?}\nargs = [\"serve\"]\nlisten = [\"127.0.0.1:0\"]\ncanary = \"50ms\"\n"
        );
        fs::write(&file, fixed + settings).unwrap();
    };
    write("workers = 1\n");
    let mut cluster = Cluster::start(["-c", file.to_str().unwrap()]);
    let address = cluster.address();
    cluster.await_ready();
    write("workers = 3\nwindow = 5\nenv = { GREETING = \"hello\" }\n");
    reload(&mut cluster, "all at generation 2");
    let log = cluster.log();
    assert!(log.contains("workers: 1 -> 3"), "{log}");
    assert!(
        log.contains("window: 32 -> 5: this takes a restart"),
        "{log}"
    );
    await_condition("three of them", || {
        let mut slots: Vec<u32> = ask_all(address, 6).iter().map(|it| it.slot).collect();
        slots.sort_unstable();
        slots == [0, 0, 1, 1, 2, 2]
    });
    assert_eq!(get(address, "/env/GREETING").unwrap().body, "hello");
    let said = operator::done(&cluster.control(), &["reload", "--wait"]);
    let promise = "all at generation 3; takes a restart of the master: window: 32 -> 5";
    assert!(said.contains(promise), "{said}");
    write("wrokers = 1\n");
    cluster.signal(Signal::SIGHUP);
    let refused = cluster.await_text("everything stays as it is");
    assert!(refused.contains("workers"), "{refused}");
    assert_eq!(get(address, "/").unwrap().server().generation, 3);
    assert_eq!(cluster.stop().code(), 0);
}

/// Whatever the new generation brought with it goes with it: the program of the agents, and a number of
/// workers that an operator had chosen meanwhile comes back.
#[test]
fn a_rollback_brings_back_agents_and_workers_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("app.toml");
    let write = |program: &str, workers: u32, mark: &str| {
        let worker = test_worker();
        let agent = format!("{} agent {mark}", worker.display());
        let settings = format!("program = {program:?}\nargs = [\"serve\"]\nworkers = {workers}\n");
        let agents = format!("listen = [\"127.0.0.1:0\"]\nagent = [{agent:?}]\n");
        fs::write(&file, settings + &agents).unwrap();
    };
    write(test_worker().to_str().unwrap(), 1, "old");
    let mut cluster = Cluster::start(["-c", file.to_str().unwrap()]);
    cluster.await_ready();
    cluster.signal(Signal::SIGTTIN);
    cluster.await_line("one more", |line| {
        line.contains("w3 ") && line.contains(" ready ")
    });
    write("/bin/false", 3, "new");
    reload(&mut cluster, "generation 2 given up");
    cluster.await_text("scale from 3 to 2 workers");
    let agent = pid_in(&cluster.find_text("agent slot=0"));
    kill(agent, Signal::SIGKILL).unwrap();
    let again = cluster.await_line("the agent", |line| {
        line.contains("agent slot=0") && line.contains(" ready ") && pid_in(line) != agent
    });
    let command = fs::read(format!("/proc/{}/cmdline", pid_in(&again))).unwrap();
    assert!(command.ends_with(b"\0agent\0old\0"), "{command:?}");
    assert_eq!(cluster.stop().code(), 0);
}

/// A listener that workers asked for passes from one generation to the next, and is let go with the last
/// worker that does.
#[test]
fn a_listener_on_demand_outlives_the_generation_that_asked_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("app.sock");
    let target = format!("unix:{}", socket.display());
    let worker = test_worker();
    let mode = [
        "by-generation",
        "serve",
        &target,
        "then",
        "serve",
        &target,
        "then",
        "agent",
    ];
    let args = ["-w", "2", "--canary", "50ms", worker.to_str().unwrap()];
    let mut cluster = Cluster::start([&args[..], &mode].concat());
    cluster.await_ready();
    cluster.signal(Signal::SIGHUP);
    let deadline = Stopwatch::start();
    let mut generation = 1;
    while generation == 1 && deadline.elapsed() < DEADLINE {
        generation = get_unix(&socket, "/").unwrap().server().generation;
    }
    cluster.await_text("all at generation 2");
    assert_eq!(get_unix(&socket, "/").unwrap().server().generation, 2);
    reload(&mut cluster, "all at generation 3");
    await_condition("nobody wants it any more", || !socket.exists());
    assert_eq!(cluster.stop().code(), 0);
}

/// Without room for one more, one less at a time: the others serve.
#[test]
fn without_surge_one_is_missing_at_a_time() {
    let flags = ["--surge", "0", "--unavailable", "1", "--canary", "50ms"];
    let (mut cluster, address) = Cluster::test_workers(3, &flags);
    let load = Load::start(address, 3);
    reload(&mut cluster, "all at generation 2");
    assert_no_failure(&load.stop());
    assert_eq!(cluster.stop().code(), 0);
}

fn reload(cluster: &mut Cluster, until: &str) -> String {
    cluster.signal(Signal::SIGHUP);
    cluster.await_text(until)
}

fn start(program: &Path, flags: &[&str]) -> (Cluster, std::net::SocketAddr) {
    let mut args = vec!["-w", "2", "-l", "127.0.0.1:0"];
    args.extend(flags);
    args.extend([program.to_str().unwrap(), "serve"]);
    let mut cluster = Cluster::start(args);
    let address = cluster.address();
    cluster.await_ready();
    (cluster, address)
}

fn executable(pid: i32) -> std::path::PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap()
}

fn assert_no_failure(tally: &Tally) {
    assert_eq!(tally.failures, Vec::<String>::new());
}
