//! Values: what operators and files give a running cluster, and how all its processes get it.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use common::client::get;
use common::operator::{ByHand, Said, command, ctl, done, events};
use common::{Cluster, Ended, await_condition, run_to_end, test_worker};

fn cluster(workers: usize, flags: &[&str]) -> (Cluster, SocketAddr) {
    Cluster::in_mode(&["shared"], workers, flags)
}

/// What each of so many workers has.
fn seen(address: SocketAddr, workers: usize) -> BTreeSet<String> {
    let answers = (0..workers).map(|_| get(address, "/see/flags").expect("an answer").body);
    answers.collect()
}

fn only(what: &str) -> BTreeSet<String> {
    BTreeSet::from([what.to_owned()])
}

fn await_flags(address: SocketAddr, workers: usize, what: &str) {
    await_condition(what, || seen(address, workers) == only(what));
}

/// Runs `rr-ctl push` with this standard input.
fn push_bytes(control: &Path, args: &[&str], bytes: &[u8]) -> Said {
    let mut child = command(control, &[&["push"], args].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run rr-ctl");
    // Who refuses it does not read it.
    let _ = child.stdin.take().unwrap().write_all(bytes);
    child.wait_with_output().expect("wait for rr-ctl").into()
}

fn push(control: &Path, text: &str) -> String {
    let said = push_bytes(control, &["flags", "-", "--wait"], text.as_bytes());
    assert_eq!(said.code, 0, "{said:?}");
    said.out
}

fn values(control: &Path) -> Value {
    serde_json::from_str(&done(control, &["values", "--json"])).expect("JSON")
}

#[test]
fn what_is_pushed_all_have_when_it_is_waited_for() {
    let (mut cluster, address) = cluster(3, &[]);
    let control = cluster.control();
    assert_eq!(seen(address, 3), only("0 "));
    assert!(done(&control, &["values"]).contains("no values"));
    let said = push(&control, "on");
    assert!(
        said.contains("\"flags\" is at version 1; all 3 processes"),
        "{said}"
    );
    assert_eq!(seen(address, 3), only("1 on"));
    push(&control, "off");
    assert_eq!(seen(address, 3), only("2 off"));
    // The same again changes nothing.
    let said = push_bytes(&control, &["flags", "-"], b"off").out;
    assert!(said.contains("stays at version 2"), "{said}");

    let shown = &values(&control)["values"][0];
    assert_eq!(shown["key"], "flags");
    assert_eq!(shown["version"], 2);
    assert_eq!(shown["bytes"], 3);
    assert_eq!(shown["type"], "text");
    assert_eq!(
        (&shown["watchers"], &shown["adopted"]),
        (&3.into(), &3.into())
    );
    assert_eq!(shown["holders"].as_array().unwrap().len(), 3);
    assert!(done(&control, &["values"]).contains("3 of 3"));

    // A newcomer has it before it is ready.
    let first = cluster.worker(0);
    kill(first.pid(), Signal::SIGKILL).unwrap();
    cluster.await_line("its successor", |line| {
        line.contains("slot=0") && line.contains("ready after")
    });
    assert_eq!(seen(address, 3), only("2 off"));
    let all = events(&control);
    let names: Vec<_> = all
        .iter()
        .filter(|it| ["pushed", "adopted"].contains(&it["name"].as_str().unwrap()))
        .map(|it| {
            (
                it["name"].as_str().unwrap(),
                it["version"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        names,
        [("pushed", 1), ("adopted", 1), ("pushed", 2), ("adopted", 2)]
    );
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn a_value_longer_than_a_line_arrives_whole() {
    let (mut cluster, address) = cluster(2, &[]);
    let control = cluster.control();
    let long: String = (0..1_000_000).map(|number| format!("{number} ")).collect();
    push(&control, &long);
    for _ in 0..2 {
        let body = get(address, "/see/flags").unwrap().body;
        assert!(body == format!("1 {long}"), "{} bytes", body.len());
    }
    cluster.stop();
}

#[test]
fn who_is_behind_is_waited_for_and_shown() {
    let (mut cluster, address) = Cluster::by_slot(&[], &["shared", "shared stuck", "shared"]);
    let control = cluster.control();
    let said = ctl(
        &control,
        &[
            "push",
            "flags",
            "/etc/hostname",
            "--wait",
            "--timeout",
            "300ms",
        ],
    );
    assert_eq!(said.code, 4, "{said:?}");
    let stuck = cluster.worker(1);
    let shown = &values(&control)["values"][0];
    assert_eq!(
        (&shown["watchers"], &shown["adopted"]),
        (&3.into(), &2.into())
    );
    assert_eq!(shown["holders"][0]["worker"], stuck.id);
    assert_eq!(shown["holders"][0]["version"], 0);
    let table = done(&control, &["values"]);
    assert!(table.contains(&format!("w{} at none", stuck.id)), "{table}");
    // Nobody waits for one that leaves.
    let mut waiting = command(&control, &["push", "flags", "/etc/hostname", "--wait"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("run rr-ctl");
    done(&control, &["drain", "1", "--wait"]);
    assert!(waiting.wait().unwrap().success());
    assert!(get(address, "/see/flags").unwrap().body.starts_with("1 "));
    cluster.stop();
}

/// A process that does not read costs nobody else anything, and gets the newest in the end.
#[test]
fn one_that_is_stopped_gets_the_newest_when_it_goes_on() {
    let (mut cluster, address) = cluster(2, &["--stall-timeout", "never", "--max-message", "2MiB"]);
    let control = cluster.control();
    let stopped = cluster.worker(0);
    kill(stopped.pid(), Signal::SIGSTOP).unwrap();
    for number in 0..20 {
        let value = format!("{number}").repeat(512 * 1024);
        let said = push_bytes(&control, &["flags", "-"], value.as_bytes());
        assert_eq!(said.code, 0, "{said:?}");
    }
    push_bytes(&control, &["flags", "-"], b"last");
    await_condition("the other one has it", || {
        values(&control)["values"][0]["adopted"] == 1
    });
    kill(stopped.pid(), Signal::SIGCONT).unwrap();
    push(&control, "really");
    assert_eq!(seen(address, 2), only("22 really"));
    cluster.stop();
}

#[test]
fn a_data_file_is_there_before_workers_are_and_followed_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("flags.json");
    fs::write(&file, "[1]").unwrap();
    let flag = format!("flags={}", file.display());
    let (mut cluster, address) = cluster(2, &["--watch-data", &flag]);
    assert_eq!(seen(address, 2), only("1 [1]"));
    let control = cluster.control();
    assert_eq!(values(&control)["values"][0]["type"], "json");
    // Written in place, and replaced by another file.
    fs::write(&file, "[2]").unwrap();
    await_flags(address, 2, "2 [2]");
    let other = dir.path().join("other");
    fs::write(&other, "[3]").unwrap();
    fs::rename(&other, &file).unwrap();
    await_flags(address, 2, "3 [3]");
    // What is wrong leaves the value as it is.
    fs::write(&file, "[").unwrap();
    cluster.await_text("no JSON");
    fs::remove_file(&file).unwrap();
    cluster.await_text("ENOENT");
    assert_eq!(seen(address, 2), only("3 [3]"));
    fs::write(&file, "[4]").unwrap();
    await_flags(address, 2, "4 [4]");
    cluster.stop();
}

#[test]
fn a_data_file_that_is_not_there_or_too_large_keeps_nobody_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let large = dir.path().join("large");
    fs::write(&large, vec![b'x'; 2 << 20]).unwrap();
    let flags = [
        format!("flags={}", dir.path().join("missing").display()),
        format!("large={}", large.display()),
    ];
    let (mut cluster, address) = cluster(
        1,
        &[
            "--max-message",
            "1MiB",
            "--watch-data",
            &flags[0],
            "--watch-data",
            &flags[1],
        ],
    );
    assert_eq!(seen(address, 1), only("0 "));
    cluster.find_line("missing", |line| {
        line.contains("missing: no such file or directory (ENOENT)") && line.contains("WARN")
    });
    cluster.find_text("more than 1048576 bytes: make it shorter, or raise --max-message");
    cluster.stop();
}

#[test]
fn a_reload_watches_other_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("one"), "one").unwrap();
    fs::write(path("two"), "two").unwrap();
    let config = path("app.toml");
    let settings = |name: &str| {
        let watched = path(name).display().to_string();
        let program = test_worker();
        let text = format!(
            "program = {program:?}\nargs = ['shared']\nworkers = 1\nlisten = '127.0.0.1:0'\ncanary = '10ms'\nwatch-data.flags = {watched:?}\n"
        );
        fs::write(&config, text).unwrap();
    };
    settings("one");
    let mut cluster = Cluster::start(["-c", config.to_str().unwrap()]);
    let address = cluster.address();
    cluster.await_ready();
    assert_eq!(seen(address, 1), only("1 one"));
    settings("two");
    let control = cluster.control();
    done(&control, &["reload", "--wait"]);
    await_flags(address, 1, "2 two");
    cluster.stop();
}

#[test]
fn bad_values_are_refused_with_the_limit_and_the_remedy() {
    let (mut cluster, _) = cluster(1, &["--max-message", "1MiB"]);
    let control = cluster.control();
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken.json");
    fs::write(&broken, "{\"a\":").unwrap();
    let long = "k".repeat(129);
    let large = vec![b'x'; (1 << 20) + 1];
    for (args, bytes, code, says) in [
        (
            &["flags", "-"][..],
            &large[..],
            1,
            "1048577 bytes, 1048576 are the most: push less, or raise --max-message",
        ),
        (&["fl\nags", "-"], b"x", 2, "control characters"),
        (&["", "-"], b"x", 2, "it is empty"),
        (&[&long, "-"], b"x", 2, "128 are the most"),
        (
            &["flags", "/no/such/file"],
            b"",
            2,
            "push /no/such/file: No such file",
        ),
        (&["flags", broken.to_str().unwrap()], b"", 2, "no JSON: EOF"),
        (&["flags", "-", "--type", "json"], b"{", 2, "no JSON"),
        (&["flags", "-", "--type", "text"], b"\xff", 2, "no UTF-8"),
        (
            &["flags", "-", "--type", "xml"],
            b"x",
            2,
            "write bytes, text, json or bincode",
        ),
    ] {
        let said = push_bytes(&control, args, bytes);
        assert_eq!(said.code, code, "{args:?}: {said:?}");
        assert!(said.err.contains(says), "{args:?}: {said:?}");
    }
    assert_eq!(values(&control)["values"].as_array().unwrap().len(), 0);

    let mut operator = ByHand::connect(&control);
    for (line, kind, says) in [
        (
            r#"{"id":1,"command":"push","key":"k","data":"eA==","at":7,"size":9}"#,
            "bad-request",
            "begin with",
        ),
        (
            r#"{"id":1,"command":"push","key":"k","text":"x","size":2000000}"#,
            "refused",
            "raise --max-message",
        ),
        (
            r#"{"id":1,"command":"push","key":"k"}"#,
            "bad-request",
            "either",
        ),
    ] {
        let answer = operator.ask(line);
        assert_eq!(answer["error"]["kind"], kind, "{answer}");
        assert!(
            answer["error"]["message"].as_str().unwrap().contains(says),
            "{answer}"
        );
    }
    let answer = operator.ask(r#"{"id":2,"command":"push","key":"k","text":"by hand"}"#);
    assert_eq!(answer["ok"]["did"], "pushed", "{answer}");
    cluster.stop();
}

#[test]
fn bad_settings_start_nothing() {
    let refused = |flags: &[&str]| {
        let worker = test_worker();
        let args = [flags, &[worker.to_str().unwrap(), "shared"]].concat();
        let ended: Ended = run_to_end(&args);
        assert_eq!(ended.code(), 2, "{}", ended.log);
        ended.log
    };
    assert!(refused(&["--watch-data", "flags"]).contains("write a key and a file"));
    assert!(refused(&["--watch-data", "=x"]).contains("it is empty"));
    let log = refused(&["--watch-data", "a=x", "--watch-data", "a=y"]);
    assert!(log.contains("\"a\" is another file already"), "{log}");
}
