//! `--log-file`: the log in a file, which can be moved away and may be full.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};

use common::client::get;
use common::command::after;
use common::log::Log;
use common::{Cluster, rr_master, run_to_end, test_worker};

#[test]
fn the_log_is_in_the_file_and_not_on_standard_error() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::at(directory.path().join("log"));
    fs::write(log.path(), "before\n").unwrap();
    let cluster = start(&log);
    log.await_text("cluster ready");
    get(log.address(), "/exit/9").unwrap_err();
    log.await_text(": code 9");
    // A worker that is about to listen when the master stops is refused, and says so.
    assert_eq!(get(log.address(), "/").unwrap().status, 200);
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0);
    assert!(log.text().starts_with("before\nrr-master 0."));
    assert!(log.text().ends_with("stopped: exit code 0\n"));
    assert!(!log.text().contains('\u{1b}'), "no colours");
    // What the workers say stays where it was.
    assert_eq!(ended.log, "", "nothing but what workers say");
}

#[test]
fn others_may_not_read_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::at(directory.path().join("log"));
    let mut command = after("umask 0", [] as [&str; 0]);
    command.args(args(&log));
    let _cluster = Cluster::from_command(command);
    log.await_text("cluster ready");
    let mode = fs::metadata(log.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

/// As logrotate does it.
#[test]
fn a_file_that_was_moved_away_is_made_anew_on_sigusr1() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::at(directory.path().join("log"));
    let moved = Log::at(directory.path().join("log.1"));
    let cluster = start(&log);
    let address = log.address();
    log.await_text("cluster ready");
    fs::rename(log.path(), moved.path()).unwrap();
    get(address, "/exit/9").unwrap_err();
    moved.await_text(": code 9");
    assert!(!log.path().exists(), "not before it is asked for");
    cluster.signal(Signal::SIGUSR1);
    log.await_file();
    get(address, "/exit/8").unwrap_err();
    log.await_text(": code 8");
    assert!(!moved.text().contains(": code 8"));
    assert_eq!(cluster.stop().code(), 0);
}

/// A reload may go to another directory, where the name of the first one leads by then.
#[test]
fn the_masters_own_files_stay_where_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let [one, two, current] = ["one", "two", "current"].map(|name| directory.path().join(name));
    fs::create_dir(&one).unwrap();
    fs::create_dir(&two).unwrap();
    symlink(&one, &current).unwrap();
    let mut command = Command::new(rr_master());
    command
        .args(["--pidfile", "pid", "--canary", "1ms"])
        .args(args(&Log::at("log")))
        .current_dir(&current)
        .env("PWD", &current);
    let cluster = Cluster::from_command(command);
    let log = Log::at(one.join("log"));
    log.await_text("cluster ready");
    fs::remove_file(&current).unwrap();
    symlink(&two, &current).unwrap();
    cluster.signal(Signal::SIGHUP);
    log.await_text("all at generation 2");
    fs::rename(log.path(), one.join("log.1")).unwrap();
    cluster.signal(Signal::SIGUSR1);
    log.await_file();
    assert_eq!(cluster.stop().code(), 0);
    assert!(!one.join("pid").exists());
    assert_eq!(fs::read_dir(&two).unwrap().count(), 0);
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::at(directory.path().join("log"));
    let pidfile = directory.path().join("pid");
    symlink("/dev/full", log.path()).unwrap();
    let mut command = Command::new(rr_master());
    command.arg("--pidfile").arg(&pidfile).args(args(&log));
    let cluster = Cluster::from_command(command);
    common::await_condition("ready", || is_ready(&cluster));
    fs::remove_file(log.path()).unwrap();
    cluster.signal(Signal::SIGUSR1);
    // Start-up screen, spawned, ready, cluster ready and SIGUSR1 itself, but for those that were still
    // queued when the file was opened again.
    let said = log.await_text(" log lines dropped: no space left on device (ENOSPC)]");
    let lost: u64 = said
        .trim_start_matches('[')
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=5).contains(&lost), "{said}");
    assert_eq!(cluster.stop().code(), 0);
    log.await_text("stopped: exit code 0");
}

/// SIGXFSZ would end it otherwise.
#[test]
fn a_file_at_the_limit_of_sizes_does_not_end_the_master() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::at(directory.path().join("log"));
    let mut command = after("ulimit -f 1", ["--log-level", "debug"]);
    command.args(args(&log));
    let cluster = Cluster::from_command(command);
    let address = log.address();
    common::await_condition("ready", || is_ready(&cluster));
    // In units of 512 or 1024 bytes, depending on the shell.
    let full = || matches!(fs::metadata(log.path()).unwrap().len(), 512 | 1024);
    for _ in 0..5 {
        get(address, "/exit/9").unwrap_err();
        assert_eq!(get(address, "/").unwrap().status, 200);
    }
    common::await_condition("the file at its limit", full);
    fs::remove_file(log.path()).unwrap();
    cluster.signal(Signal::SIGUSR1);
    let said = log.await_text(" log lines dropped: ");
    assert!(said.ends_with("file too large (EFBIG)]"), "{said}");
    // A line was cut where the limit is.
    assert!(log.text().starts_with("\n["), "{:?}", log.text());
    assert_eq!(cluster.stop().code(), 0);
}

#[test]
fn a_file_that_cannot_be_opened_is_refused_before_anything_starts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none/log").display().to_string();
    for (path, errno) in [(path.as_str(), "ENOENT"), ("/", "EISDIR")] {
        let ended = run_to_end(&["--log-file", path, "-l", "127.0.0.1:0"]);
        assert_eq!(ended.code(), 2);
        assert_eq!(ended.log.lines().count(), 1, "{}", ended.log);
        for part in ["log file", path, errno, "give another --log-file"] {
            assert!(ended.log.contains(part), "{part}: {}", ended.log);
        }
    }
}

/// A person at the terminal wants to know, and so does whoever reads the log.
#[test]
fn a_start_that_fails_is_told_in_both_places() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::at(directory.path().join("log"));
    let (first, address) = Cluster::hello(1);
    let path = log.path().display().to_string();
    let ended = run_to_end(&["--log-file", &path, "-l", &address.to_string()]);
    assert_eq!(ended.code(), 6);
    assert!(ended.log.contains("EADDRINUSE"), "{}", ended.log);
    assert!(log.await_text("EADDRINUSE").contains("ERROR"));
    first.stop();
}

/// Before the feature it ended the master; a restart of it would be worse than a missing rotation.
#[test]
fn sigusr1_without_a_log_file_is_for_the_processes_alone() {
    let (mut cluster, address) = Cluster::hello(1);
    kill(cluster.pid(), Signal::SIGUSR1).unwrap();
    cluster.await_text("SIGUSR1 received: reopen logs: 1 process told, there is no log file");
    assert_eq!(get(address, "/").unwrap().status, 200);
}

fn start(log: &Log) -> Cluster {
    let mut command = Command::new(rr_master());
    command.args(args(log));
    Cluster::from_command(command)
}

fn args(log: &Log) -> Vec<String> {
    let path = log.path().display().to_string();
    let worker = test_worker().display().to_string();
    let backoff = "1ms..1ms";
    let flags = [
        "-w",
        "1",
        "-l",
        "127.0.0.1:0",
        "--backoff",
        backoff,
        "--log-file",
        &path,
    ];
    let program = [worker.as_str(), "serve"];
    let all = flags.iter().chain(&program);
    all.map(|&arg| arg.to_owned()).collect()
}

/// Seen from outside, where there is no log.
fn is_ready(cluster: &Cluster) -> bool {
    let line = Path::new("/proc")
        .join(cluster.pid().to_string())
        .join("cmdline");
    fs::read(line).is_ok_and(|title| title.starts_with(b"rr-master: 1/1 serving"))
}
