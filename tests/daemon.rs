//! `--daemon`: whoever starts a cluster knows, when the command returns, how that went. (T02)

mod common;

use std::fs;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write, pipe};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{OpenptyResult, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid, getsid};
use tempfile::TempDir;

use common::client::get;
use common::gate::Gate;
use common::log::Log;
use common::{Cluster, await_condition, processes, rr_master, run_to_end, test_worker};

/// A place for a daemon, which is killed with it.
struct Place {
    directory: TempDir,
    log: Log,
}

/// What the command said that started the daemon.
struct Started {
    status: ExitStatus,
    said: String,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::at(directory.path().join("log"));
        Place { directory, log }
    }

    fn pidfile(&self) -> PathBuf {
        self.directory.path().join("pid")
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(rr_master());
        command
            .arg("--daemon")
            .arg("--log-file")
            .arg(self.log.path())
            .arg("--pidfile")
            .arg(self.pidfile())
            .args(["-l", "127.0.0.1:0"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Starts ready workers of `test_worker`.
    fn start(&self, mode: &[&str]) -> Started {
        let worker = test_worker().display().to_string();
        let mut args = vec!["-w", "2", &worker];
        args.extend(mode);
        Started::by(self.command(&args))
    }

    fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.pidfile()).ok()?;
        Some(Pid::from_raw(text.trim().parse().ok()?))
    }

    fn await_end(&self) {
        await_condition("the end of the daemon", || !self.pidfile().exists());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the daemon's log ---\n{}", self.log.text());
        }
        if let Some(pid) = self.pid() {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

impl Started {
    fn by(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        // Ends although the daemon goes on: it has nothing of what the command was given.
        let mut stderr = child.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        let status = child.wait().unwrap();
        Started { status, said }
    }
}

#[test]
fn it_returns_when_the_cluster_is_ready() {
    let place = Place::new();
    let started = place.start(&["serve"]);
    assert_eq!(started.status.code(), Some(0), "{}", started.said);
    // No waiting from here on.
    let daemon = place.pid().expect("a pid file");
    assert_eq!(daemon, place.log.master());
    let address = place.log.address();
    assert_eq!(get(address, "/").unwrap().status, 200);
    // What was logged until then, and nothing else, was shown.
    assert!(started.said.starts_with("rr-master 0."), "{}", started.said);
    assert!(started.said.contains("cluster ready: 2 workers"));
    assert!(!started.said.contains("Ctrl-C"), "{}", started.said);
    assert!(place.log.text().starts_with(&started.said));
    kill(daemon, Signal::SIGTERM).unwrap();
    place.await_end();
    place.log.await_text("stopped: exit code 0");
}

/// The name of the control socket has the pid of the daemon, which is another one than that of who
/// was started; and a reload finds no other name.
#[test]
fn operators_reach_it_by_its_pid() {
    let place = Place::new();
    let worker = test_worker().display().to_string();
    let mut command = place.command(&["-w", "1", "--canary", "1ms", &worker, "serve"]);
    command.env("RR_CONTROL_DIR", place.directory.path());
    let started = Started::by(command);
    assert_eq!(started.status.code(), Some(0), "{}", started.said);
    let daemon = place.pid().unwrap();
    let socket = format!("rr-master-{daemon}.sock");
    assert!(place.directory.path().join(socket).exists());
    kill(daemon, Signal::SIGHUP).unwrap();
    place.log.await_text("all at generation 2");
    assert!(!place.log.text().contains("reload: control: "));
}

#[test]
fn the_daemon_has_nothing_of_the_terminal() {
    let place = Place::new();
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    common::shell::keep_to_this_process(&master);
    let mut command = Command::new("setsid");
    let daemon = place.command(&["-w", "1"]);
    command
        .arg("--ctty")
        .arg(rr_master())
        .args(daemon.get_args());
    command
        .stdin(slave)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let started = Started::by(command);
    assert_eq!(started.status.code(), Some(0), "{}", started.said);
    let daemon = place.pid().unwrap();
    assert_eq!(getsid(Some(daemon)), Ok(daemon), "a session of its own");
    assert_eq!(getpgid(Some(daemon)), Ok(daemon));
    let files = processes::open_files(daemon);
    let log = place.log.path().canonicalize().unwrap();
    assert_eq!(files[&0].to_str(), Some("/dev/null"));
    assert_eq!((&files[&1], &files[&2]), (&log, &log));
    // The terminal goes, and nobody is left who would mind.
    drop(master);
    assert_eq!(get(place.log.address(), "/").unwrap().status, 200);
    assert!(!place.log.text().contains("SIGHUP"));
}

#[test]
fn what_the_processes_write_is_in_the_log_file() {
    let place = Place::new();
    let script = "echo this is said by a worker; echo and this >&2; exit 1";
    let started = Started::by(place.command(&["-w", "1", "/bin/sh", "-c", script]));
    assert_eq!(started.status.code(), Some(3), "{}", started.said);
    place.log.await_text("this is said by a worker");
    place.log.await_text("and this");
}

/// After a rotation what new processes write is in the new file.
#[test]
fn new_processes_write_to_the_new_file() {
    let place = Place::new();
    let started = place.start(&["serve"]);
    assert_eq!(started.status.code(), Some(0), "{}", started.said);
    let address = place.log.address();
    fs::rename(place.log.path(), place.directory.path().join("log.1")).unwrap();
    kill(place.pid().unwrap(), Signal::SIGUSR1).unwrap();
    place.log.await_file();
    get(address, "/exit/9").unwrap_err();
    let ready = place.log.await_text(" ready after ");
    let files = processes::open_files(processes::pid_in(&ready));
    assert_eq!(files[&2], place.log.path().canonicalize().unwrap());
}

/// What the master writes for processes goes where its own lines do, also of those that run already.
#[test]
fn lines_of_processes_go_on_in_the_new_file() {
    let place = Place::new();
    let worker = test_worker().display().to_string();
    let started = Started::by(place.command(&[
        "-w", "1", "--stdout", "lines", "--stderr", "lines", &worker, "serve",
    ]));
    assert_eq!(started.status.code(), Some(0), "{}", started.said);
    let address = place.log.address();
    get(address, "/say/6265666f72650a").unwrap();
    place.log.await_text(" | before");
    fs::rename(place.log.path(), place.directory.path().join("log.1")).unwrap();
    let daemon = place.pid().unwrap();
    kill(daemon, Signal::SIGUSR1).unwrap();
    let log = place.log.path();
    await_condition("the new file", || {
        processes::open_files(daemon)[&2].as_path() == log
    });
    get(address, "/say/61667465720a").unwrap();
    place.log.await_text(" | after");
    get(address, "/flood/1").unwrap();
    place.log.await_text(&format!(" | {:099}", 0));
}

#[test]
fn a_worker_that_does_not_start_is_the_commands_failure() {
    let place = Place::new();
    let started = place.start(&["exit", "7"]);
    assert_eq!(started.status.code(), Some(3), "{}", started.said);
    assert!(
        started.said.contains("a worker failed to start"),
        "{}",
        started.said
    );
    let last = started.said.lines().last().unwrap();
    assert!(
        last.starts_with("rr-master: the start failed with exit code 3"),
        "{last}"
    );
    assert!(last.ends_with(place.log.path().to_str().unwrap()), "{last}");
    assert!(!place.pidfile().exists());
}

#[test]
fn an_agent_that_does_not_start_is_one_too() {
    let place = Place::new();
    let started = Started::by(place.command(&["--agent", "/bin/false"]));
    assert_eq!(started.status.code(), Some(4), "{}", started.said);
}

#[test]
fn so_is_an_address_in_use() {
    let place = Place::new();
    let (first, address) = Cluster::hello(1);
    let started = Started::by(place.command(&["-l", &address.to_string()]));
    assert_eq!(started.status.code(), Some(6), "{}", started.said);
    assert!(started.said.contains("EADDRINUSE"), "{}", started.said);
    first.stop();
}

#[test]
fn so_is_a_pid_file_that_another_master_has() {
    let place = Place::new();
    let first = place.start(&["serve"]);
    assert_eq!(first.status.code(), Some(0), "{}", first.said);
    let second = place.start(&["serve"]);
    assert_eq!(second.status.code(), Some(2), "{}", second.said);
    assert!(
        second.said.contains("another master runs with it"),
        "{}",
        second.said
    );
    assert_eq!(get(place.log.address(), "/").unwrap().status, 200);
}

#[test]
fn a_program_that_is_not_there_is_refused_at_once() {
    let place = Place::new();
    let started = Started::by(place.command(&["/nonexistent/program"]));
    assert_eq!(started.status.code(), Some(2), "{}", started.said);
    assert_eq!(started.said.lines().count(), 1, "{}", started.said);
}

#[test]
fn a_log_that_nobody_would_see_is_refused() {
    let ended = run_to_end(&["--daemon", "-l", "127.0.0.1:0"]);
    assert_eq!(ended.code(), 2);
    assert!(ended.log.contains("add --log-file FILE"), "{}", ended.log);
    assert_eq!(ended.log.lines().count(), 1, "{}", ended.log);
}

/// By Ctrl-C, or by whatever ends the shell: a cluster that comes up later would surprise everybody.
#[test]
fn the_start_is_given_up_when_nobody_waits_for_it() {
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let place = Place::new();
        let gate = Gate::new();
        let worker = test_worker().display().to_string();
        let fifo = gate.path().display().to_string();
        let mut command = place.command(&["-w", "1", &worker, "late", "0", &fifo]);
        let mut child = command.spawn().unwrap();
        place.log.await_text("listening and not ready");
        let starter = Pid::from_raw(child.id().cast_signed());
        kill(starter, signal).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(signal as i32));
        place.log.await_text("whoever started the master is gone");
        place.await_end();
        place.log.await_text("stopped: exit code");
    }
}

/// Ready means for good: who started it goes, and that is all right.
#[test]
fn a_daemon_that_is_ready_does_not_need_who_started_it() {
    let place = Place::new();
    let started = place.start(&["serve"]);
    assert_eq!(started.status.code(), Some(0), "{}", started.said);
    let daemon = place.pid().unwrap();
    // The thread that watched who started it has seen that, and ended.
    await_condition("its threads", || {
        let threads = fs::read_dir(format!("/proc/{daemon}/task")).unwrap();
        let names = threads.flatten().map(|thread| thread.path().join("comm"));
        let names: Vec<_> = names
            .filter_map(|name| fs::read_to_string(name).ok())
            .collect();
        !names.iter().any(|name| name.trim() == "rr-starter")
    });
    assert!(!place.log.text().contains("stopping"));
    assert_eq!(get(place.log.address(), "/").unwrap().status, 200);
}

#[test]
fn a_daemon_that_is_stopped_before_it_is_ready_is_a_failure() {
    let place = Place::new();
    let gate = Gate::new();
    let worker = test_worker().display().to_string();
    let fifo = gate.path().display().to_string();
    let mut command = place.command(&["-w", "1", &worker, "late", "0", &fifo]);
    let mut child = command.spawn().unwrap();
    place.log.await_text("listening and not ready");
    kill(place.pid().unwrap(), Signal::SIGTERM).unwrap();
    let said: Vec<_> = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .collect();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{said:#?}");
    assert!(
        said.last()
            .unwrap()
            .starts_with("rr-master: the start stopped"),
        "{said:#?}"
    );
}

/// Nobody reads what the command shows: it waits for its reader, and the daemon for nobody.
#[test]
fn a_terminal_that_takes_nothing_does_not_hold_the_daemon() {
    let place = Place::new();
    let worker = test_worker().display().to_string();
    // The start-up screen shows all of it, which is more than any pipe takes.
    let much = "x".repeat(100_000);
    let mut command = place.command(&["-w", "1", &worker, "by-slot", "serve", "--", &much]);
    let (mut screen, full) = pipe_that_is_full();
    let mut child = command.stderr(full).spawn().unwrap();
    drop(command);
    place.log.await_text("cluster ready");
    assert_eq!(get(place.log.address(), "/").unwrap().status, 200);
    let mut shown = Vec::new();
    screen.read_to_end(&mut shown).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(place.log.text().contains(&much), "the file has all of it");
}

fn pipe_that_is_full() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while writer.write(&[0; 4096]).is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (reader, writer)
}
