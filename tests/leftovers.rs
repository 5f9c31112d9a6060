//! What processes leave behind in their groups: gone with them, whatever they do about it, and
//! within the time.

mod common;

use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid};

use common::client::{Server, get};
use common::processes::{exists, followers};
use common::script::Script;
use common::{Cluster, Stopwatch, await_condition, processes, test_worker};

/// What a worker starts in its own group.
const CHILDREN: [&str; 6] = [
    // A child that does as it is told.
    "sleep 600",
    "trap '' TERM HUP; while :; do sleep 600; done",
    // Stopped: SIGTERM alone would be of no use. When its parent dies, the kernel sends the group
    // SIGHUP, see setpgid(2).
    "kill -STOP $$; sleep 600",
    "trap '' TERM HUP; kill -STOP $$; sleep 600",
    // Orphans, and the processes that they start in turn.
    "(sleep 600 &) & wait; exec sleep 600",
    "trap '' TERM HUP; (sh -c 'while :; do sleep 600; done' &) & wait; while :; do sleep 600; done",
];

/// How many processes that makes: shells and what they wait for.
const PROCESSES: usize = 9;

/// How the worker goes.
#[derive(Clone, Copy, Debug)]
enum End {
    Exits,
    Killed,
    StopsGracefully,
    StopsFast,
}

/// T03, E08: one table, since each cell takes a second.
#[test]
fn nobody_is_left_in_the_group_of_a_process_that_has_ended() {
    let ends = [
        End::Exits,
        End::Killed,
        End::StopsGracefully,
        End::StopsFast,
    ];
    thread::scope(|scope| {
        for end in ends {
            scope.spawn(move || ends_with_its_children(end));
        }
    });
}

/// The children of all kinds at once: each is a process, and none must hide another.
fn ends_with_its_children(end: End) {
    let (mut cluster, address) = Cluster::test_workers(1, &["--stop-timeout", "5s"]);
    let worker = cluster.worker(0).pid();
    let scripts = CHILDREN.map(Script::new);
    for script in &scripts {
        script.run(address);
    }
    await_condition("all children run, two of them stopped", || {
        let states = followers(worker).into_iter().map(|(_, state)| state);
        let (stopped, running): (Vec<_>, Vec<_>) = states.partition(|&state| state == 'T');
        stopped.len() == 2 && running.len() >= PROCESSES - 2
    });
    let took = Stopwatch::start();
    match end {
        End::Exits => drop(get(address, "/exit/3")),
        End::Killed => kill(worker, Signal::SIGKILL).unwrap(),
        End::StopsGracefully | End::StopsFast => {
            let is_fast = matches!(end, End::StopsFast);
            cluster.signal(if is_fast {
                Signal::SIGQUIT
            } else {
                Signal::SIGTERM
            });
            let ended = cluster.wait();
            assert_eq!(ended.code(), 0, "{}", ended.log);
            // Nothing is left at the master's end, not even on its way out.
            assert_eq!(followers(worker), [], "{end:?}\n{}", ended.log);
            assert_within_a_second(end, &took);
            return;
        }
    }
    await_condition("nobody left in the group", || followers(worker).is_empty());
    assert_within_a_second(end, &took);
    cluster.await_text(" behind: SIGKILL");
    await_condition("the worker reaped", || !exists(worker));
    // The replacement is none of those.
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
}

/// Nobody is looked for twice: the worker is gone as if there had never been children.
#[test]
fn a_process_that_leaves_nobody_behind_is_reaped_at_once() {
    let (mut cluster, _) = Cluster::test_workers(8, &[]);
    let workers: Vec<Pid> = cluster.workers().values().map(Server::pid).collect();
    let took = Stopwatch::start();
    for &worker in &workers {
        kill(worker, Signal::SIGKILL).unwrap();
    }
    await_condition("all reaped", || !workers.iter().any(|&it| exists(it)));
    assert!(
        took.elapsed() < Duration::from_millis(900),
        "{:?}",
        took.elapsed()
    );
    cluster.await_text(" ready after ");
    let ended = cluster.stop();
    assert!(!ended.log.contains(" behind: SIGKILL"), "{}", ended.log);
}

/// Many at a time are no slower than one.
#[test]
fn many_leftovers_at_once_are_ended_together() {
    let (cluster, address) = Cluster::test_workers(8, &["--stop-timeout", "5s"]);
    let workers: Vec<Pid> = cluster.workers().values().map(Server::pid).collect();
    let stubborn = Script::new("trap '' TERM HUP; while :; do sleep 600; done");
    for _ in &workers {
        stubborn.run(address);
    }
    await_condition("every worker has a child", || {
        workers.iter().all(|&worker| !followers(worker).is_empty())
    });
    let took = Stopwatch::start();
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    for worker in workers {
        assert_eq!(followers(worker), [], "{}", ended.log);
    }
    assert_within_a_second(End::StopsGracefully, &took);
}

/// A program that is stopped cannot obey before it goes on.
#[test]
fn a_stopped_process_obeys_sigterm() {
    let worker = test_worker();
    let hides = format!("\"{}\" silent; exit", worker.display());
    for program in [
        vec![worker.to_str().unwrap(), "silent"],
        // Its leader runs on, and waits for the one that is stopped.
        vec!["/bin/sh", "-c", &hides],
    ] {
        let args = ["-w", "1", "-l", "127.0.0.1:0"];
        let mut cluster = Cluster::start(args.iter().chain(&program));
        let leader = processes::pid_in(&cluster.await_text(" spawned"));
        let is_launched = program.len() > 2;
        let stopped = if is_launched {
            await_condition("the program launched", || !followers(leader).is_empty());
            followers(leader)[0].0
        } else {
            leader
        };
        processes::freeze(stopped);
        let took = Stopwatch::start();
        let ended = cluster.stop();
        assert_eq!(ended.code(), 0, "{}", ended.log);
        assert!(ended.log.contains(": signal SIGTERM"), "{}", ended.log);
        assert!(!ended.log.contains("SIGKILL"), "{}", ended.log);
        assert!(!processes::is_alive(stopped));
        assert_within_a_second(End::StopsFast, &took);
    }
}

/// Whoever leaves the group is a daemon of its own.
#[test]
fn who_left_the_group_is_left_alone() {
    let (cluster, address) = Cluster::test_workers(1, &[]);
    let script = Script::new("exec setsid sleep 600");
    let daemon = script.run(address);
    await_condition("a session of its own", || {
        getpgid(Some(daemon)) == Ok(daemon)
    });
    let ended = cluster.stop();
    let survived = processes::is_alive(daemon);
    let _ = kill(daemon, Signal::SIGKILL);
    assert!(survived, "{}", ended.log);
    assert_eq!(ended.code(), 0, "{}", ended.log);
}

/// A second is promised; the rest is for a machine that has other things to do.
#[track_caller]
fn assert_within_a_second(end: End, took: &Stopwatch) {
    let took = took.elapsed();
    assert!(
        took < Duration::from_secs(1) + TOLERANCE,
        "{end:?} took {took:?}"
    );
}

const TOLERANCE: Duration = Duration::from_secs(2);
