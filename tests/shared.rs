//! What one process does for all: leaders and followers of real clusters, through deaths, reloads and
//! the stop.

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use common::client::{ask, connect, get};
use common::operator::{done, events};
use common::{Cluster, Stopwatch, await_condition, test_worker};

/// What each of so many workers answers, as far as round-robin reaches each.
fn all(address: SocketAddr, workers: usize, path: &str) -> BTreeSet<String> {
    let answers = (0..workers).map(|_| get(address, path).expect("an answer").body);
    answers.collect()
}

/// Who leads, and in which term, as all workers know it by and by.
fn leader(address: SocketAddr, workers: usize) -> (u64, u64) {
    let mut said = BTreeSet::new();
    await_condition("one leader for all", || {
        said = all(address, workers, "/invoke/who");
        said.len() == 1 && !said.iter().any(|it| it.starts_with("failed"))
    });
    let said = said.pop_first().unwrap();
    let (leader, term) = said.split_once(' ').expect("a leader and a term");
    (leader.parse().unwrap(), term.parse().unwrap())
}

fn await_news(address: SocketAddr, workers: usize, news: &str) {
    let expected = BTreeSet::from([news.to_owned()]);
    await_condition(news, || all(address, workers, "/see/news") == expected);
}

fn leader_events(all: &[Value]) -> Vec<&Value> {
    let of_leaders = all.iter().filter(|event| event["name"] == "leader");
    of_leaders.collect()
}

/// With so many workers, and an agent in this mode.
fn with_agent(workers: &str, mode: &str) -> (Cluster, SocketAddr) {
    let worker = test_worker();
    let worker = worker.to_str().unwrap();
    let agent = format!("desk={worker} shared {mode}");
    let args = ["-w", workers, "-l", "127.0.0.1:0", "--agent", &agent];
    let mut cluster = Cluster::start(args.iter().chain(&[worker, "shared", "lead"]));
    let address = cluster.address();
    cluster.await_ready();
    (cluster, address)
}

/// G03, L02.
#[test]
fn one_worker_leads_and_all_follow() {
    let (mut cluster, address) = Cluster::in_mode(&["shared", "lead"], 3, &[]);
    let (first, term) = leader(address, 3);
    assert_eq!(term, 1);
    await_news(address, 3, "term 1");
    get(address, "/publish/rain").unwrap();
    await_news(address, 3, "rain");
    let control = cluster.control();
    let all = events(&control);
    let told = leader_events(&all);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["worker"], first);
    assert_eq!(told[0]["term"], 1);
    assert_eq!(told[0]["led"], "desk");
    assert_eq!(cluster.stop().code(), 0);
}

/// L02: re-subscribed, and what was under way fails at once.
#[test]
fn a_leader_that_is_killed_is_followed_by_the_next() {
    let (mut cluster, address) = Cluster::in_mode(&["shared", "lead"], 3, &[]);
    let (first, _) = leader(address, 3);
    let victim = cluster.workers().into_values().find(|it| it.id == first);
    let victim = victim.expect("it is one of the workers");
    let others = || loop {
        let asked = ask(connect(address).unwrap(), "/invoke/hang").unwrap();
        // The leader's own call ends with it.
        if get(address, "/").unwrap().server().slot != (victim.slot + 1) % 3 {
            break asked;
        }
    };
    let call = others();
    cluster.await_text("hangs");
    let since = Stopwatch::start();
    kill(victim.pid(), Signal::SIGKILL).unwrap();
    let answer = call.answer().expect("an answer").body;
    assert_eq!(answer, "failed: the leader was gone before it answered");
    assert!(since.elapsed() < common::DEADLINE);
    let (second, term) = leader(address, 3);
    assert_ne!(second, first);
    assert!(term > 1, "{term}");
    get(address, "/publish/sun").unwrap();
    // One of the three has come since.
    await_news(address, 3, "sun");
    cluster.stop();
}

#[test]
fn with_an_agent_it_leads_and_its_successor_after_it() {
    let (cluster, address) = with_agent("2", "lead");
    let (first, term) = leader(address, 2);
    assert_eq!((first, term), (1, 1));
    assert!(get(address, "/invoke/crash").unwrap().body.contains("gone"));
    let (second, term) = leader(address, 2);
    assert!(second > 1 && term > 1, "{second} {term}");
    get(address, "/publish/wind").unwrap();
    await_news(address, 2, "wind");
    assert_eq!(cluster.stop().code(), 0);
}

/// L03, L04.
#[test]
fn what_keeps_the_leader_from_beginning_is_what_followers_are_told() {
    let (mut cluster, address) = with_agent("1", "ill");
    let said = get(address, "/invoke/who").unwrap().body;
    assert!(
        said.starts_with("failed: ") && said.contains("no ink"),
        "{said}"
    );
    cluster.find_text("reports: the leader of \"desk\": begin failed: no ink");
    cluster.stop();
}

/// A leader that has to go says so before: nobody misses it.
#[test]
fn a_restart_of_the_leader_fails_no_call() {
    let (mut cluster, address) = Cluster::in_mode(&["shared", "lead"], 3, &[]);
    let control = cluster.control();
    let (first, _) = leader(address, 3);
    let slot = cluster.workers().into_values().find(|it| it.id == first);
    let slot = slot.expect("it is one of the workers").slot.to_string();
    let (done_with_it, is_done) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let caller = scope.spawn(move || {
            let mut calls = 0;
            while is_done.try_recv().is_err() {
                let said = get(address, "/invoke/who").expect("an answer").body;
                assert!(!said.starts_with("failed"), "{said}");
                calls += 1;
            }
            calls
        });
        done(&control, &["restart", &slot, "--wait"]);
        done_with_it.send(()).unwrap();
        assert!(caller.join().unwrap() > 0);
    });
    let (second, term) = leader(address, 3);
    assert_ne!(second, first);
    assert_eq!(term, 2);
    cluster.stop();
}

/// Otherwise it would change as often as there are workers.
#[test]
fn a_reload_changes_the_leader_once() {
    let (mut cluster, address) = Cluster::in_mode(&["shared", "lead"], 4, &["--canary", "50ms"]);
    let control = cluster.control();
    leader(address, 4);
    done(&control, &["reload", "--wait"]);
    let (last, term) = leader(address, 4);
    assert_eq!(term, 2);
    assert!(last > 4, "it is of the new generation: {last}");
    await_news(address, 4, "term 2");
    let all = events(&control);
    assert_eq!(leader_events(&all).len(), 2);
    cluster.stop();
}

/// G04: nobody has anything to complain of.
#[test]
fn the_stop_is_quiet() {
    for agents in [false, true] {
        let (cluster, address) = match agents {
            true => with_agent("2", "lead"),
            false => Cluster::in_mode(&["shared", "lead"], 2, &[]),
        };
        leader(address, 2);
        let ended = cluster.stop();
        assert_eq!(ended.code(), 0, "{}", ended.log);
        for word in ["WARN", "ERROR", "reports:", "panicked"] {
            assert!(!ended.log.contains(word), "{word}\n{}", ended.log);
        }
        let led = ended.log.matches("leads term=").count();
        assert_eq!(led, 1, "{}", ended.log);
    }
}

/// G03: the same program without a master.
#[test]
fn the_same_program_leads_and_follows_itself_without_a_master() {
    let output = Command::new(test_worker())
        .arg("shared-alone")
        .stdin(Stdio::null())
        .output()
        .expect("run it");
    let said = String::from_utf8(output.stdout).expect("text");
    assert_eq!(said, "0 1\nterm 1\nrain\n");
    assert!(output.status.success());
}
