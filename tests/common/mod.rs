//! A real master under test: started on port 0, observed through its log, ended by its pid.
//!
//! Nothing here sleeps: every wait is for an event and has a deadline, and a wait that fails
//! prints the master's whole log.
#![allow(dead_code, reason = "every test file uses its own part")]
#![allow(unreachable_pub, reason = "each test file is a crate of its own")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test's deadlines are real time"
)]

pub mod client;
pub mod command;
pub mod evidence;
pub mod gate;
#[path = "../../src/sys/lease.rs"]
pub mod lease;
pub mod listening;
pub mod load;
pub mod log;
pub mod manager;
pub mod operator;
pub mod port;
pub mod processes;
pub mod puppet;
pub mod redis;
pub mod script;
pub mod shell;
pub mod sockets;
pub mod terminal;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use client::Server;

/// How long anything may take before a test fails. Generous: the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The `rr-master` binary. An example is not told where it is: a directory above its own.
pub fn rr_master() -> PathBuf {
    match option_env!("CARGO_BIN_EXE_rr-master") {
        Some(path) => PathBuf::from(path),
        None => {
            let own = std::env::current_exe().expect("this program's own file");
            own.parent().unwrap().with_file_name("rr-master")
        }
    }
}

/// An example of this package, built by the same cargo run as the tests.
pub fn example(name: &str) -> PathBuf {
    let path = rr_master().parent().unwrap().join("examples").join(name);
    let profile = if cfg!(debug_assertions) {
        ""
    } else {
        " --release"
    };
    assert!(
        path.exists(),
        "{} is not built: cargo build{profile} --examples",
        path.display()
    );
    path
}

/// The worker with many modes, see `tests/common/worker/main.rs`.
pub fn test_worker() -> PathBuf {
    example("test_worker")
}

/// A running master. Killed when dropped; its processes follow it by themselves.
pub struct Cluster {
    child: Child,
    lines: Receiver<String>,
    log: Vec<String>,
}

/// What is left of a master that has ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub log: String,
}

impl Ended {
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| panic!("ended by a signal: {:?}\n{}", self.status, self.log))
    }
}

impl Cluster {
    /// Starts `rr-master` with these arguments.
    pub fn start<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(rr_master());
        command.args(args);
        Self::from_command(command)
    }

    /// Starts a command that becomes `rr-master`; its standard error is the log.
    pub fn from_command(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self::with_streams(command)
    }

    /// As [`from_command`](Self::from_command), with standard input and output as the command
    /// has them.
    pub fn with_streams(mut command: Command) -> Self {
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("start rr-master");
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stderr.split(b'\n').map_while(Result::ok) {
                if sender
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    break;
                }
            }
        });
        Cluster {
            child,
            lines,
            log: Vec::new(),
        }
    }

    /// Workers of the built-in hello program, ready on port 0.
    pub fn hello(workers: usize) -> (Self, SocketAddr) {
        Self::serving(workers, &[], &[])
    }

    /// Ready workers of `test_worker serve` with more flags for the master.
    pub fn test_workers(workers: usize, flags: &[&str]) -> (Self, SocketAddr) {
        Self::in_mode(&["serve"], workers, flags)
    }

    /// Ready workers of `test_worker` in this mode.
    pub fn in_mode(mode: &[&str], workers: usize, flags: &[&str]) -> (Self, SocketAddr) {
        let worker = test_worker();
        let program = [&[worker.to_str().unwrap()], mode].concat();
        Self::serving(workers, flags, &program)
    }

    /// Ready workers, each slot in a mode of `test_worker` of its own, on a listener called `web`.
    pub fn by_slot(flags: &[&str], modes: &[&str]) -> (Self, SocketAddr) {
        let mut cluster = Self::start(Self::by_slot_args(flags, modes));
        let address = cluster.address();
        cluster.await_ready();
        (cluster, address)
    }

    /// The arguments for that.
    pub fn by_slot_args(flags: &[&str], modes: &[&str]) -> Vec<String> {
        let mut args = vec!["-w".to_owned(), modes.len().to_string()];
        args.extend(["-l", "web=127.0.0.1:0"].map(str::to_owned));
        args.extend(flags.iter().map(|&flag| flag.to_owned()));
        args.push(test_worker().display().to_string());
        args.push("by-slot".to_owned());
        let modes = modes.join(" -- ");
        args.extend(modes.split(' ').map(str::to_owned));
        args
    }

    fn serving(workers: usize, flags: &[&str], program: &[&str]) -> (Self, SocketAddr) {
        let workers = workers.to_string();
        let mut args = vec!["-w", &workers, "-l", "127.0.0.1:0"];
        args.extend(flags);
        args.extend(program);
        let mut cluster = Self::start(args);
        let address = cluster.address();
        cluster.await_ready();
        (cluster, address)
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("signal the master");
    }

    /// The first address that the start-up screen shows.
    pub fn address(&mut self) -> SocketAddr {
        self.addresses(1)[0].parse().expect("an Internet address")
    }

    /// The addresses that the start-up screen shows, in its order.
    pub fn addresses(&mut self, count: usize) -> Vec<String> {
        let is_last = |line: &str| line.trim_start().starts_with("stop ");
        self.find_line("the start-up screen", is_last);
        let listening = self
            .log
            .iter()
            .skip_while(|line| !line.starts_with("  listening"));
        let listening = listening.take_while(|line| {
            !is_last(line)
                && !["control ", "try "]
                    .iter()
                    .any(|label| line.trim_start().starts_with(label))
        });
        let found: Vec<_> = listening
            .map(|line| line.trim_start().trim_start_matches("listening").trim())
            .map(|line| line.split([' ', ',']).next().unwrap().to_owned())
            .collect();
        assert_eq!(
            found.len(),
            count,
            "listeners on the start-up screen\n{}",
            self.log()
        );
        found
    }

    /// The control socket that the start-up screen shows.
    pub fn control(&mut self) -> PathBuf {
        let line = self.find_line("the control socket", |line| line.starts_with("  control "));
        PathBuf::from(line.trim_start().trim_start_matches("control").trim())
    }

    /// The process that became ready last in each slot of the workers, as the log tells it.
    pub fn workers(&self) -> BTreeMap<u32, Server> {
        let ready = self.log.iter().filter_map(|line| {
            let (who, _) = line.split_once(" ready after ")?;
            let (_, id) = who.split_once("] w")?;
            Server::parse(&format!("id={id}"))
        });
        ready.map(|worker| (worker.slot, worker)).collect()
    }

    /// Like [`Self::workers`], one of them.
    pub fn worker(&self, slot: u32) -> Server {
        self.workers()
            .remove(&slot)
            .unwrap_or_else(|| panic!("nobody in slot {slot}\n{}", self.log()))
    }

    pub fn await_ready(&mut self) {
        self.await_line("cluster ready", |line| line.contains("cluster ready"));
    }

    /// Waits for a line of the log that was not waited for before; answers it.
    pub fn await_line(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.await_within(DEADLINE, what, wanted)
    }

    /// The same with a deadline of its own.
    pub fn await_within(
        &mut self,
        patience: Duration,
        what: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> String {
        let deadline = Instant::now() + patience;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.log.push(line);
                    let line = self.log.last().unwrap();
                    if wanted(line) {
                        return line.clone();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no {what} within {patience:?}\n{}", self.log())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the log ended before {what}\n{}", self.log())
                }
            }
        }
    }

    /// The next line of the log, if there is one before that moment.
    pub fn next_line(&mut self, before: Instant) -> Option<&str> {
        let wait = before.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(wait) {
            Ok(line) => {
                self.log.push(line);
                self.log.last().map(String::as_str)
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the master has ended\n{}", self.log()),
        }
    }

    /// Waits until the log has a line with this text.
    pub fn await_text(&mut self, text: &str) -> String {
        self.await_line(text, |line| line.contains(text))
    }

    /// The first such line of the whole log, past or to come: for what has no order.
    pub fn find_line(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        match self.log.iter().find(|line| wanted(line)) {
            Some(line) => line.clone(),
            None => self.await_line(what, wanted),
        }
    }

    /// The first line with this text in the whole log, past or to come.
    pub fn find_text(&mut self, text: &str) -> String {
        self.find_line(text, |line| line.contains(text))
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.log.join("\n")
    }

    /// Waits for the master's end.
    pub fn wait(mut self) -> Ended {
        let deadline = Instant::now() + DEADLINE * 2;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.log.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("the master does not end\n{}", self.log()),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = self.child.wait().expect("wait for the master");
        Ended {
            status,
            log: self.log(),
        }
    }

    /// SIGTERM, and the end.
    pub fn stop(self) -> Ended {
        self.signal(Signal::SIGTERM);
        self.wait()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the master's log ---\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `rr-master` to its end: for arguments with which it must not start.
pub fn run_to_end(args: &[&str]) -> Ended {
    let mut child = Command::new(rr_master())
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start rr-master");
    let mut log = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut log)
        .expect("read the log");
    let status = child.wait().expect("wait for the master");
    Ended { status, log }
}

/// Waits until `condition` holds, looking again whenever something may have changed.
pub fn await_condition(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        thread::park_timeout(Duration::from_millis(2));
    }
}

/// Measures how long something takes.
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Self {
        Stopwatch(Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
