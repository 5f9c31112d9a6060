//! The comparison in docs/performance.md: that it can be made. Nothing here is about time.

mod common;

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use common::{await_condition, example, processes, rr_master};

/// `scripts/compare` on what was built for the tests.
fn compare(flags: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/compare");
    example("bench_server");
    let mut command = Command::new(script);
    command
        .arg("--binaries")
        .arg(rr_master().parent().unwrap())
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(flags: &[&str]) -> Output {
    compare(flags).output().expect("run scripts/compare")
}

/// With whoever is not installed on the way. That they answer alike is its own check.
#[test]
fn everybody_answers_alike_and_nobody_fails() {
    let ended = run(&["--quick"]);
    let (out, err) = (text(&ended.stdout), text(&ended.stderr));
    assert!(ended.status.success(), "{out}{err}");
    for name in ["floor", "hand-off", "nginx", "node-net", "pm2", "haproxy"] {
        assert!(out.contains(name), "{name} is not in {out}");
    }
}

/// What process clusters are taught with.
#[test]
fn one_process_its_threads_and_a_cluster_are_compared() {
    let ended = run(&["--quick", "--burn=50"]);
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    let out = text(&ended.stdout);
    assert!(out.contains("process, threads, processes"), "{out}");
}

#[test]
fn every_round_is_in_the_csv() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rounds.csv");
    let who = "--only=floor,hand-off";
    let ended = run(&[
        "--quick",
        "--rounds=2",
        "--loads=c20,keep",
        who,
        "--csv",
        path.to_str().unwrap(),
    ]);
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    let rounds = fs::read_to_string(path).unwrap();
    let mut found: Vec<_> = rounds.lines().skip(1).map(first_three).collect();
    found.sort();
    let mut expected = Vec::new();
    for round in ["1", "2"] {
        for contestant in ["floor", "hand-off"] {
            for load in ["c20", "keep"] {
                expected.push([round, contestant, load].join(","));
            }
        }
    }
    assert_eq!(found, expected, "{rounds}");
}

#[test]
fn a_wrong_flag_is_a_matter_of_usage() {
    for (flags, says) in [
        (&["--only=apache"][..], "'apache' is none of floor,"),
        (&["--loads=c20,c21"], "'c21' is none of c20, c200, keep"),
        (&["--rounds=0"], "'0' is no number from 1 to 100"),
        (&["--only=threads"], "--only threads: only with --burn"),
        (&["--burn=200", "--only=nginx"], "--only nginx: not with"),
        (&["--json", "--markdown"], "not both"),
        (&["--update=none.md"], "there is no such file"),
    ] {
        let ended = run(flags);
        assert_eq!(ended.status.code(), Some(2), "{flags:?}");
        let err = text(&ended.stderr);
        assert!(err.contains(says), "{flags:?}: {err}");
    }
}

#[test]
fn a_missing_build_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let binaries = directory.path().to_str().unwrap();
    let ended = run(&["--quick", "--only=floor", "--binaries", binaries]);
    assert_eq!(ended.status.code(), Some(1));
    let err = text(&ended.stderr);
    assert!(
        err.contains("rr-master: cargo build") && err.contains(binaries),
        "{err}"
    );
}

/// What cannot be had is not left out of what was asked for by name.
#[test]
fn a_contestant_that_was_not_built_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let built = rr_master().parent().unwrap().to_owned();
    example("bench_server");
    fs::create_dir(directory.path().join("examples")).unwrap();
    for program in ["rr-master", "rr-ctl", "examples/bench_server"] {
        symlink(built.join(program), directory.path().join(program)).unwrap();
    }
    let binaries = directory.path().to_str().unwrap();
    let ended = run(&["--quick", "--only=splice", "--binaries", binaries]);
    let err = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{err}");
    assert!(err.contains("splice: there is no examples/splice_proxy"));
}

/// As when a peer dies under the load.
#[test]
fn a_load_that_nobody_answers_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let wrk = directory.path().join("wrk");
    let says = "#!/bin/sh\necho '50% 0.00us 99% 0.00us 0 requests in 1.00s Requests/sec: 0.00'\n";
    fs::write(&wrk, says).unwrap();
    fs::set_permissions(&wrk, Permissions::from_mode(0o755)).unwrap();
    let path = format!(
        "{}:{}",
        directory.path().display(),
        std::env::var("PATH").unwrap()
    );
    let mut script = compare(&["--quick", "--only=floor", "--loads=keep"]);
    let ended = script.env("PATH", path).output().unwrap();
    let err = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{err}");
    let told = "scripts/compare: floor: nobody was answered at keep";
    assert!(err.contains(told) && !err.contains("Traceback"), "{err}");
}

#[test]
fn who_interrupts_it_leaves_nobody_behind() {
    let flags = [
        "--only=hand-off",
        "--loads=c20",
        "--rounds=100",
        "--connections=1000000",
    ];
    let mut script = compare(&flags).spawn().expect("start scripts/compare");
    let pid = Pid::from_raw(script.id().cast_signed());
    // The master, its four workers and ab.
    await_condition("it measures", || processes::descendants(pid).len() >= 6);
    let started = processes::descendants(pid);
    kill(pid, Signal::SIGTERM).unwrap();
    let err = last_words(&mut script);
    assert_eq!(script.wait().unwrap().code(), Some(1), "{err}");
    assert!(err.contains("interrupted"), "{err}");
    for process in started {
        await_condition("they are gone", || !processes::is_alive(process));
    }
}

fn first_three(line: &str) -> String {
    line.split(',').take(3).collect::<Vec<_>>().join(",")
}

fn last_words(script: &mut Child) -> String {
    let mut said = String::new();
    let mut err = script.stderr.take().unwrap();
    err.read_to_string(&mut said).expect("read what it says");
    said
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
