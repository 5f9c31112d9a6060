//! Log files opened again after they were moved away: by a signal, an operator, or a process.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use common::log::Log;
use common::operator::{ByHand, done, events};
use common::processes::{holders, pid_in};
use common::{Cluster, await_condition, rr_master, test_worker};

/// Two writers, an agent that says what it is told, and a log of the master's own.
#[test]
fn everybody_opens_their_files_again_on_sigusr1_and_when_an_operator_says_so() {
    let (directory, path) = place();
    let log = Log::at(directory.path().join("log"));
    let mut command = Command::new(rr_master());
    let control = directory.path().join("control");
    command
        .args(["-w", "2", "--agent", &mode("agent")])
        .arg("--log-file")
        .arg(log.path())
        .arg("--control")
        .arg(&control);
    command.arg(test_worker()).arg("scribe").arg(&path);
    let mut cluster = Cluster::from_command(command);
    log.await_text("cluster ready");

    let doors = ["SIGUSR1", "rr-ctl", "by hand"];
    for (door, number) in doors.iter().zip(1..) {
        let moved = [&path, log.path()].map(|path| {
            let moved = PathBuf::from(format!("{}.{number}", path.display()));
            fs::rename(path, &moved).unwrap();
            moved
        });
        match *door {
            "SIGUSR1" => cluster.signal(Signal::SIGUSR1),
            "rr-ctl" => {
                let said = done(&control, &["logs", "reopen"]);
                assert_eq!(said, "3 processes told, the log file is opened again\n");
            }
            _ => {
                let request = r#"{"id":1,"command":"logs-reopen"}"#;
                let answer = ByHand::connect(&control).ask(request);
                assert_eq!(answer["ok"]["did"], "logs-reopened", "{answer}");
            }
        }
        log.await_file();
        await_condition(door, || holders(&path) == 2);
        cluster.await_text("agent: ReopenLogs");
        await_condition(door, || holders(&moved[0]) == 0);
    }
    let told = events(&control);
    let told = told.iter().filter(|it| it["name"] == "logs-reopened");
    let told: Vec<_> = told.map(|it| (&it["processes"], &it["log_file"])).collect();
    assert_eq!(told, [(&3.into(), &true.into()); 3]);
    assert_eq!(cluster.stop().code(), 0);
}

/// Whether it may serve has nothing to do with its log.
#[test]
fn who_is_not_ready_is_told_as_well() {
    let (directory, path) = place();
    let fifo = directory.path().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let (worker, fifo_text) = (test_worker(), fifo.to_str().unwrap());
    let flags = ["-w", "2", "--ready-timeout", "1h"];
    let modes = ["by-slot", "late", "1", fifo_text, "--", "scribe"];
    let mut command = Command::new(rr_master());
    command.args(flags).arg(worker).args(modes).arg(&path);
    let mut cluster = Cluster::from_command(command);
    let control = cluster.control();
    await_condition("both online", || named(&control, "online") == 2);
    let said = done(&control, &["logs", "reopen"]);
    assert_eq!(said, "2 processes told, there is no log file\n");
}

/// It may have opened its log before it says who it is.
#[test]
fn who_has_not_said_hello_is_told_when_it_has() {
    let (directory, _) = place();
    let fifo = directory.path().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let begins = format!("read line < {}; exec {}", fifo.display(), mode("agent"));
    let agent = format!("/bin/sh -c '{begins}'");
    let mut cluster = Cluster::start(["-w", "0", "--agent", &agent, "/bin/true"]);
    let control = cluster.control();
    cluster.find_text(" spawned");
    let said = done(&control, &["logs", "reopen"]);
    assert_eq!(said, "0 processes told, there is no log file\n");
    fs::write(&fifo, "\n").unwrap();
    cluster.find_text("agent: ReopenLogs");
    assert_eq!(cluster.stop().code(), 0);
}

/// The rest waits, and a process that reads nothing is not disconnected for it.
#[test]
fn a_process_that_asks_again_and_again_floods_nobody() {
    let (mad, deaf) = (mode("steps ready reopen:20000"), mode("agent"));
    let agents = ["--agent", &mad, "--agent", &deaf];
    let mut cluster = Cluster::start([&["-w", "0"], &agents[..], &["/bin/true"]].concat());
    let control = cluster.control();
    let deaf = pid_in(&cluster.find_text("] agent slot=1"));
    cluster.find_text("agent: ReopenLogs");
    kill(deaf, Signal::SIGSTOP).unwrap();
    await_condition("the most there can be", || {
        named(&control, "logs-reopened") == ROUNDS
    });
    let mut operator = ByHand::connect(&control);
    for id in 0..MORE_THAN_A_CHANNEL_HOLDS {
        let answer = operator.ask(&format!(r#"{{"id":{id},"command":"logs-reopen"}}"#));
        assert_eq!(answer["ok"]["processes"], 2, "{answer}");
    }
    kill(deaf, Signal::SIGCONT).unwrap();
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert_eq!(ended.log.matches(" spawned").count(), 2, "{}", ended.log);
    let rounds = ended.log.matches(" asks: reopen logs").count();
    assert!(rounds <= 2 * ROUNDS, "20,000 orders, {rounds} rounds");
}

/// A directory that is gone at the end, and a log in it that there is none of yet.
fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.log");
    (directory, path)
}

/// An agent's command: `test_worker` in this mode.
fn mode(mode: &str) -> String {
    format!("{} {mode}", test_worker().display())
}

/// How many events of this name there were.
fn named(control: &Path, name: &str) -> usize {
    let events = events(control);
    events.iter().filter(|event| event["name"] == name).count()
}

/// How often processes can have logs reopened within 30 s.
const ROUNDS: usize = 30;

/// In packets that nobody reads, and frames that wait for room.
const MORE_THAN_A_CHANNEL_HOLDS: usize = 1000;
