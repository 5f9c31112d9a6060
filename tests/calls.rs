//! What programs see of their listening sockets: the same under a master as without one.
//!
//! `tests/calls/*.c` is a program that knows nothing of a master. Each of its cases runs twice, by
//! itself and under a master with the preloaded library, and must say the same both times, save
//! what [`DIFFERENCES`] gives a reason for.

mod common;

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, killpg};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use tempfile::TempDir;

use common::DEADLINE;

/// One test for each case of the program.
macro_rules! cases {
    ($($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                is_the_same_under_a_master(stringify!($case));
            }
        )*

        const CASES: &[&str] = &[$(stringify!($case)),*];
    };
}

cases! {
    accepts_what_is_connected
    accept_waits_for_a_client
    accept_does_not_wait_where_it_must_not
    waiting_is_changed_after_listen
    accept4_flags_are_those_asked_for
    accept_times_out
    a_signal_interrupts_accept
    accept_is_restarted_after_a_signal
    a_signal_handler_accepts
    accept_of_what_does_not_listen
    a_peers_address_is_cut_to_its_room
    a_negative_room_is_an_error
    many_are_accepted_without_a_leak
    clients_are_accepted_in_their_order
    the_lowest_free_number_is_used
    at_the_limit_of_descriptors_a_client_waits
    a_low_limit_of_descriptors_is_enough
    a_client_that_has_left_is_accepted
    a_hundred_threads_accept
    closing_does_not_wake_who_waits
    who_waits_at_a_closed_one_is_served_once
    shutdown_wakes_who_waits
}

#[test]
fn every_case_is_a_test() {
    let listed = Command::new(program()).arg("--list").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut listed: Vec<_> = listed.lines().collect();
    let mut tested = CASES.to_vec();
    listed.sort_unstable();
    tested.sort_unstable();
    assert_eq!(tested, listed);
}

fn is_the_same_under_a_master(case: &str) {
    let plain = by_itself(case);
    let troubles = ["failed=", "ran out of time"];
    let is_trouble = |line: &&String| troubles.iter().any(|trouble| line.starts_with(trouble));
    assert_eq!(plain.iter().find(is_trouble), None, "{plain:#?}");
}

/// What the case says without a master.
fn by_itself(case: &str) -> Vec<String> {
    let said = Said::new();
    let mut command = Command::new(program());
    command.args([case, "said"]).current_dir(said.directory());
    let mut child = command
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let lines = said.to_the_end();
    // Not yet waited for, so the group is still this one.
    let group = Pid::from_raw(child.id().cast_signed());
    killpg(group, Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    lines.unwrap_or_else(|lines| panic!("{case} did not end: {lines:#?}"))
}

/// A FIFO in which a case says what it sees, in the directory that it works in.
struct Said {
    directory: TempDir,
    lines: Receiver<String>,
}

impl Said {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("said");
        mkfifo(&path, Mode::S_IRWXU).expect("make a FIFO");
        // For both, see fifo(7): so there is no end when one process of a case has left.
        let fifo = OpenOptions::new().read(true).write(true).open(path);
        let fifo = BufReader::new(fifo.expect("open the FIFO"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in fifo.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Said { directory, lines }
    }

    fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Every line before the last; those that came, if the last one does not.
    fn to_the_end(&self) -> Result<Vec<String>, Vec<String>> {
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) if line == "end" => return Ok(said),
                Ok(line) => said.push(line),
                Err(_) => return Err(said),
            }
        }
    }
}

/// The program, compiled by the first test of all that needs it.
fn program() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let sources = sources();
    let mut hasher = DefaultHasher::new();
    for source in &sources {
        fs::read(source).unwrap().hash(&mut hasher);
    }
    let program = directory.join(format!("calls-{:016x}", hasher.finish()));
    let lock = File::create(directory.join("calls.lock")).unwrap();
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).unwrap();
    if !program.exists() {
        compile(&sources, &program);
    }
    program
}

fn sources() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/calls");
    let entries = fs::read_dir(directory).unwrap();
    let mut sources: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    sources.sort_unstable();
    sources
}

fn compile(sources: &[PathBuf], program: &Path) {
    let unfinished = program.with_extension("unfinished");
    let is_code = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "c");
    let output = Command::new("cc")
        .args([
            "-std=gnu11",
            "-O1",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pthread",
            "-o",
        ])
        .arg(&unfinished)
        .args(sources.iter().filter(is_code))
        .output()
        .expect("cc compiles the program of these tests: apt-get install gcc libc6-dev");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    fs::rename(unfinished, program).unwrap();
}
