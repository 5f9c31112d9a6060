//! Workers that break the protocol: each costs itself its place, and nobody else anything.

mod common;

use std::net::SocketAddr;

use nix::sys::signal::{Signal, kill};

use common::load::Load;
use common::processes::{descriptors, pid_in};
use common::{Cluster, Ended, await_condition, run_to_end, test_worker};

/// Slot 0 breaks this rule when it has been ready for a while. (N33)
///
/// Slot 1 goes on serving, the log has one line that says what happened, the worker is replaced,
/// and the master has as many descriptors as before.
fn costs_its_place(rule: &str, violation: &str) {
    costs_its_place_with(&[], rule, violation);
}

fn costs_its_place_with(flags: &[&str], rule: &str, violation: &str) {
    let workers = [
        "by-life", "raw", "on-usr1", rule, "then", "agent", "--", "serve",
    ];
    let (mut cluster, address) = start_with(flags, &workers);
    cluster.await_ready();
    let worker = pid_in(&cluster.find_text("w1 slot=0"));
    let before = descriptors(cluster.pid());

    let load = Load::start(address, 2);
    load.await_more(20);
    kill(worker, Signal::SIGUSR1).unwrap();
    cluster.await_line(violation, |line| {
        is_about_w1(line) && line.contains(violation)
    });
    cluster.find_line("its end", |line| {
        is_about_w1(line) && line.contains("exited after")
    });
    cluster.find_line("its successor", |line| {
        line.contains("w3 slot=0") && line.contains("ready after")
    });
    load.await_more(20);
    let tally = load.stop();
    assert_eq!(tally.failures, [""; 0]);
    assert!(tally.answers.iter().all(|server| server.slot == 1));
    await_condition("as many descriptors as before", || {
        descriptors(cluster.pid()) == before
    });

    let Ended { status, log } = cluster.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    let lines: Vec<_> = log.lines().filter(|line| is_about_w1(line)).collect();
    let of_violation = lines.iter().filter(|line| line.contains(violation));
    assert_eq!(of_violation.count(), 1, "{log}");
    let restarts = lines
        .iter()
        .filter(|line| line.contains("restart in 100 ms"));
    assert_eq!(restarts.count(), 1, "replaced by the rules, once\n{log}");
}

#[test]
fn garbage_costs_a_worker_its_place() {
    costs_its_place("garbage", "broke the protocol: decode a frame of 100 bytes");
}

#[test]
fn an_unknown_frame_costs_a_worker_its_place() {
    costs_its_place(
        "unknown-frame",
        "broke the protocol: decode a frame of 4 bytes",
    );
}

#[test]
fn bytes_after_a_frame_cost_a_worker_its_place() {
    costs_its_place(
        "trailing",
        "broke the protocol: decode a frame: 2 bytes left over",
    );
}

#[test]
fn nonsense_on_its_scoreboard_costs_a_worker_its_place() {
    costs_its_place(
        "scoreboard",
        "broke the protocol: scoreboard: says it received 1000 connections",
    );
}

/// Whatever the master reads there for the sake of limits.
#[test]
fn a_scoreboard_that_is_scribbled_over_all_the_time_costs_a_worker_its_place() {
    let limits = [
        "--max-connections-per-worker",
        "3",
        "--max-connections",
        "5",
    ];
    costs_its_place_with(&limits, "scribble", "broke the protocol: scoreboard: ");
}

#[test]
fn an_oversized_packet_costs_a_worker_its_place() {
    costs_its_place(
        "oversized",
        "broke the protocol: a packet larger than 65536 bytes",
    );
}

#[test]
fn a_second_hello_costs_a_worker_its_place() {
    costs_its_place("second-hello", "broke the protocol: Hello a second time");
}

/// Since Linux 6.16 the kernel refuses the descriptor, and the worker sends garbage instead: that
/// the master refuses it elsewhere is a test of `reactor::link`.
#[test]
fn a_descriptor_costs_a_worker_its_place() {
    costs_its_place("descriptor", "broke the protocol: ");
}

#[test]
fn a_worker_that_never_reads_loses_its_place() {
    costs_its_place(
        "deaf",
        "broke the protocol: does not read its control channel",
    );
}

/// What a preloaded library says by itself, without the program that it is for.
#[test]
fn a_program_that_speaks_as_a_library_and_otherwise_loses_its_place() {
    let mixed = "frames of a program and of a library that is preloaded to it";
    costs_its_place("attach", mixed);
    for (rule, violation) in [
        ("attached-hello", mixed),
        ("attached-pong", mixed),
        ("attached-deaf", "does not read its control channel"),
    ] {
        let workers = [
            "by-life", "raw", "on-usr1", rule, "then", "agent", "--", "serve",
        ];
        let (mut cluster, address) = start_with(&[], &workers);
        cluster.await_ready();
        let worker = pid_in(&cluster.find_text("w1 slot=0"));
        let load = Load::start(address, 2);
        load.await_more(20);
        kill(worker, Signal::SIGUSR1).unwrap();
        cluster.await_line(violation, |line| {
            is_about_w1(line) && line.contains(violation)
        });
        cluster.find_line("its successor", |line| {
            line.contains("w3 slot=0") && line.contains("ready after")
        });
        load.await_more(20);
        assert_eq!(load.stop().failures, [""; 0]);
        assert_eq!(cluster.stop().code(), 0);
    }
}

/// (N52)
#[test]
fn a_worker_that_closes_its_channel_loses_its_place() {
    costs_its_place("closes", "closed its control channel");
}

/// It reads as the end of the channel, and must not be read as one for ever.
#[test]
fn an_empty_packet_costs_a_worker_its_place() {
    costs_its_place("empty", "closed its control channel");
}

/// Pieces that make no message: the sender cannot be understood any more.
#[test]
fn messages_that_cannot_be_understood_cost_a_worker_its_place() {
    for (rule, violation) in [
        ("letter-piece", "piece 2 of a message instead of piece 1"),
        ("letter-piece-of-none", "a piece of no message"),
        ("letter-empty-piece", "a piece of 0 bytes"),
        ("letter-excess", "more bytes than the message was to have"),
        (
            "letter-unfinished",
            "a message before the last one is complete",
        ),
        ("letter-back", "message 6 after message 7"),
        (
            "letter-value",
            "a message of a kind that only the master sends",
        ),
    ] {
        costs_its_place(rule, &format!("broke the protocol: messages: {violation}"));
    }
}

/// At the start nothing is tried twice: the master ends and says why.
#[test]
fn a_worker_that_fails_the_handshake_fails_the_start() {
    for (rule, reason) in [
        (
            "garbage-first",
            "broke the protocol: decode a frame of 100 bytes",
        ),
        (
            "ready-first",
            "broke the protocol: the first frame is not Hello",
        ),
        ("wrong-version", "speaks protocol 999, this master speaks 3"),
        ("wrong-pid", "says it is pid 1, but the kernel says pid "),
        ("garbage", "broke the protocol: decode a frame of 100 bytes"),
        ("closes", "closed its control channel"),
    ] {
        let worker = test_worker();
        // With a second worker that is never ready, the one that breaks the rule does so at the start.
        let program = [
            worker.to_str().unwrap(),
            "by-slot",
            "raw",
            rule,
            "--",
            "never-ready",
        ];
        let args = [&["-w", "2", "--stop-timeout", "1s"], &program[..]].concat();
        let ended = run_to_end(&args);
        assert_eq!(ended.code(), 3, "{}", ended.log);
        let line = ended
            .log
            .lines()
            .find(|line| is_about_w1(line) && line.contains(reason));
        assert!(
            line.is_some_and(|line| line.contains("not replaced")),
            "{rule}\n{}",
            ended.log
        );
        assert!(
            ended.log.contains("a worker failed to start"),
            "{}",
            ended.log
        );
    }
}

/// When the cluster serves, a replacement that fails is one more crash: again, and more slowly.
#[test]
fn a_replacement_that_fails_the_handshake_is_tried_again_with_patience() {
    let workers = [
        "by-life",
        "raw",
        "on-usr1",
        "garbage",
        "then",
        "raw",
        "ready-first",
        "--",
        "serve",
    ];
    let (mut cluster, address) = start(&workers);
    cluster.await_ready();
    let load = Load::start(address, 1);
    kill(pid_in(&cluster.find_text("w1 slot=0")), Signal::SIGUSR1).unwrap();
    for (worker, next) in [("w1", "100 ms"), ("w3", "150 ms"), ("w4", "225 ms")] {
        cluster.await_line("a patient restart", |line| {
            line.contains(&format!("] {worker} slot=0"))
                && line.contains("broke the protocol")
                && line.ends_with(&format!("restart in {next}"))
        });
    }
    let tally = load.stop();
    assert_eq!(tally.failures, [""; 0]);
    assert!(!tally.answers.is_empty());
}

/// Sending what is allowed, without end: no rule is broken, and nobody has to wait for it.
#[test]
fn a_flood_of_frames_does_not_keep_the_others_from_serving() {
    let (mut cluster, address) = start(&["raw", "pongs", "--", "serve"]);
    cluster.await_ready();
    let load = Load::start(address, 2);
    load.await_more(100);
    let tally = load.stop();
    assert_eq!(tally.failures, [""; 0]);

    cluster.signal(Signal::SIGQUIT);
    let Ended { status, log } = cluster.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("broke the protocol"), "{log}");
}

/// A child of the worker that has its channel cannot speak for it, and cannot fill the log.
#[test]
fn frames_from_a_child_of_the_worker_are_ignored() {
    let (mut cluster, address) = start(&["raw", "parent", "--", "serve"]);
    cluster.await_ready();
    cluster.find_text("the child has spoken");
    cluster.find_text("no more of this is logged");
    common::client::get(address, "/").unwrap();

    cluster.signal(Signal::SIGQUIT);
    let Ended { status, log } = cluster.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    let complaints = log.matches("w1 ignores a frame from pid").count();
    assert_eq!(
        complaints, 10,
        "of 22 frames
{log}"
    );
    for unwanted in ["leaves unasked", "broke the protocol", "restart in"] {
        assert!(!log.contains(unwanted), "{unwanted}\n{log}");
    }
}

/// Two workers; the last of `workers` is the second one's mode.
fn start(workers: &[&str]) -> (Cluster, SocketAddr) {
    start_with(&[], workers)
}

fn start_with(flags: &[&str], workers: &[&str]) -> (Cluster, SocketAddr) {
    let worker = test_worker();
    let two = ["-w", "2", "-l", "127.0.0.1:0"];
    let program = [worker.to_str().unwrap(), "by-slot"];
    let args = [&two[..], flags, &program, workers].concat();
    let mut cluster = Cluster::start(args);
    let address = cluster.address();
    (cluster, address)
}

fn is_about_w1(line: &str) -> bool {
    line.contains("] w1 slot=0")
}

/// The worker's author looks at the worker: it has the time to hear why it is not welcome.
#[test]
fn a_worker_that_is_not_welcome_is_told_why() {
    let worker = test_worker();
    let program = [worker.to_str().unwrap(), "raw", "wrong-version"];
    let ended = Cluster::start(["-w", "1"].iter().chain(&program)).wait();
    assert_eq!(ended.code(), 3, "{}", ended.log);
    let told = "received: Rejected { reason: \"Hello: speaks protocol 999";
    assert!(ended.log.contains(told), "{}", ended.log);
    assert!(ended.log.contains("exited after"), "{}", ended.log);
    assert!(!ended.log.contains("SIGTERM"), "{}", ended.log);
}
