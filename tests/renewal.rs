//! Workers that have done enough are replaced, spare ones step in, and a cluster that is done, or in
//! which too few serve, ends.

mod common;

use nix::sys::signal::{Signal, kill};

use common::client::{ask_all, get};
use common::load::Load;
use common::{Cluster, await_condition, run_to_end, test_worker};

/// Each reason: the successor is ready before its predecessor leaves, and never are two replaced at once.
#[test]
fn a_worker_that_has_done_enough_is_replaced_and_nobody_notices() {
    for (flags, mode, says) in [
        (["--max-received", "40"], "serve", "has received"),
        (["--max-age", "400ms"], "serve", "old enough"),
        (
            ["--max-rss", "48MiB"],
            "by-life hoard 64 then serve",
            "of memory",
        ),
    ] {
        let flags = [&flags[..], &["--recycle-jitter", "0%"]].concat();
        let mode: Vec<&str> = mode.split(' ').collect();
        let (mut cluster, address) = Cluster::in_mode(&mode, 2, &flags);
        let before = cluster.workers();
        let load = Load::start(address, 3);
        let worn = cluster.await_text("is to be replaced");
        assert!(worn.contains(says), "{worn}");
        for _ in &before {
            cluster.await_text(" replaced by ");
        }
        let tally = load.stop();
        assert_eq!(tally.failures, Vec::<String>::new(), "{says}");
        for (slot, worker) in cluster.workers() {
            assert_ne!(worker.id, before[&slot].id, "{says}");
            assert_eq!(worker.generation, 1, "{says}");
        }
        let ended = cluster.stop();
        assert_eq!(ended.code(), 0, "{}", ended.log);
        assert_one_at_a_time(&ended.log);
    }
}

/// A successor of a worker is spawned only when the predecessor of the one before it is gone.
fn assert_one_at_a_time(log: &str) {
    let mut leaving = None;
    for line in log.lines().take_while(|line| !line.contains("stopping")) {
        let who = line
            .split("] ")
            .nth(1)
            .and_then(|who| who.split(' ').next());
        if line.contains(" replaced by ") {
            assert_eq!(leaving, None, "{log}");
            leaving = who;
        } else if line.contains(" exited after ") && leaving == who {
            leaving = None;
        } else if line.contains(" spawned") {
            assert_eq!(leaving, None, "two at once: {line}\n{log}");
        }
    }
}

/// It serves as soon as somebody is missing, and not before.
#[test]
fn a_spare_worker_steps_in_at_once() {
    let mode = ["by-life", "serve", "then", "never-ready"];
    let (mut cluster, address) = Cluster::in_mode(&mode, 2, &["--spare", "1"]);
    let answers = |count| {
        let mut slots: Vec<u32> = ask_all(address, count).iter().map(|it| it.slot).collect();
        slots.sort_unstable();
        slots.dedup();
        slots
    };
    assert_eq!(cluster.workers().len(), 3);
    // Whoever was ready last stands by.
    let [victim, other] = answers(12)[..] else {
        panic!("one too many, or too few");
    };
    let spare = 3 - victim - other;
    kill(cluster.worker(victim).pid(), Signal::SIGKILL).unwrap();
    cluster.await_text("signal SIGKILL");
    let mut serving = [other, spare];
    serving.sort_unstable();
    assert_eq!(answers(12), serving);
    assert_eq!(cluster.stop().code(), 0);
}

/// P02: who says that it is done is not started again, and when all are the cluster is.
#[test]
fn exit_codes_say_who_is_not_to_be_started_again() {
    let worker = test_worker();
    let worker = worker.to_str().unwrap();
    for (flags, code, says) in [
        (
            &["--stop-exit-codes", "0,3"][..],
            "3",
            "every worker is done",
        ),
        (&[], "78", "gave up on a crash loop"),
    ] {
        let args = [&["-w", "2", "-l", "127.0.0.1:0"][..], flags].concat();
        let program = [worker, "gated", code];
        let cluster = Cluster::start([&args[..], &program].concat());
        let ended = cluster.wait();
        assert!(ended.log.contains(says), "{}", ended.log);
        assert_eq!(ended.log.matches(" spawned").count(), 2, "{}", ended.log);
        let expected = if code == "3" { 0 } else { 5 };
        assert_eq!(ended.code(), expected, "{}", ended.log);
    }
}

/// E24.
#[test]
fn a_cluster_in_which_too_few_serve_for_too_long_ends() {
    let mode = ["by-life", "serve", "then", "never-ready"];
    let flags = ["--min-workers", "2", "--unhealthy-exit", "300ms"];
    let (mut cluster, address) = Cluster::in_mode(&mode, 2, &flags);
    assert!(get(address, "/").is_ok());
    kill(cluster.worker(0).pid(), Signal::SIGKILL).unwrap();
    cluster.await_text(
        "unhealthy: of the workers 1 serve (at least 2 have to), of the agents 0 (all have to)",
    );
    let ended = cluster.wait();
    assert!(
        ended.log.contains("too few served for too long"),
        "{}",
        ended.log
    );
    assert_eq!(ended.code(), 8, "{}", ended.log);
}

/// It is back in time: nothing happens.
#[test]
fn a_cluster_that_recovers_in_time_goes_on() {
    let flags = ["--min-workers", "2", "--unhealthy-exit", "20s"];
    let (mut cluster, address) = Cluster::test_workers(2, &flags);
    kill(cluster.worker(0).pid(), Signal::SIGKILL).unwrap();
    cluster.await_text("unhealthy");
    cluster.await_text(" ready after ");
    await_condition("it serves", || get(address, "/").is_ok());
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn what_cannot_be_is_refused() {
    for (flags, says) in [
        (&["--surge", "0"][..], "nobody could ever be replaced"),
        (&["--max-rss", "much"], "512MiB"),
        (&["--recycle-jitter", "200%"], "0% to 100%"),
        (&["--stop-exit-codes", "256"], "256"),
        (&["--max-received", "0"], "above 0"),
        (&["-w", "4000", "--spare", "4000"], "at most 4096"),
    ] {
        let ended = run_to_end(&[flags, &["/bin/true"]].concat());
        assert_eq!(ended.code(), 2, "{flags:?}: {}", ended.log);
        assert!(ended.log.contains(says), "{flags:?}: {}", ended.log);
    }
}
