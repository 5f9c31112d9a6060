//! What processes say with `--stdout lines` and `--stderr lines`: whole lines under their names, all
//! of them, whatever they are made of; the last of them in the log; and nobody but the writer waits
//! for a slow reader.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};

use common::client::{ask, connect, get};
use common::processes::{descriptors, is_alive, pid_in};
use common::terminal::OnTerminal;
use common::{Cluster, await_condition, rr_master, test_worker};

/// (C20)
#[test]
fn everything_arrives_under_the_name_of_who_said_it() {
    const LINES: usize = 20_000;
    let worker = test_worker();
    let output = Command::new(rr_master())
        .args(["-w", "1", "--stdout=lines", "--stderr=lines"])
        .args([worker.to_str().unwrap(), "talk", &LINES.to_string()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "it exits at once");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    let spawned = stderr.lines().find(|line| line.contains(" spawned"));
    let name = format!("w1 slot=0 pid={} | ", pid_in(spawned.unwrap()));
    let expected = |what| (0..LINES).map(move |number| format!("{what} {number}"));
    let said = |line: &str| line.strip_prefix(&name).map(str::to_owned);
    assert!(stdout.lines().filter_map(said).eq(expected("out")));
    assert_eq!(stdout.lines().count(), LINES);
    assert!(stderr.lines().filter_map(said).eq(expected("err")));
}

#[test]
fn agents_have_names_too_and_a_last_line_gets_its_newline() {
    let agent = "/bin/sh -c 'printf half; exit 0'";
    let mut command = Command::new(rr_master());
    command.args(["-w", "0", "--agent", agent, "--stdout", "lines"]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.starts_with("agent slot=0 pid="), "{stdout:?}");
    assert!(stdout.ends_with(" | half\n"), "{stdout:?}");
}

/// Also what was written in the last moment, and without a newline.
#[test]
fn the_last_words_of_a_process_that_dies_are_in_the_log() {
    let (mut cluster, address) = serving(2, &["--backoff", "1ms..1ms"]);
    for turn in 0..20 {
        let words = format!("one {turn}\ntwo {turn}\x1b[2J");
        get(address, &last_words(&words)).unwrap_err();
        let exited = cluster.await_text(": code 9");
        let (_, who) = exited.split_once("] ").unwrap();
        let who = who.split(' ').next().unwrap();
        let said = [(); 2].map(|()| cluster.await_text(&format!("] {who} stderr: ")));
        assert!(
            said[0].ends_with(&format!("stderr: one {turn}")),
            "{said:?}"
        );
        let escaped = format!("stderr: two {turn}\\u{{1b}}[2J");
        assert!(said[1].ends_with(&escaped), "{said:?}");
        cluster.await_text("ready after");
    }
}

#[test]
fn of_many_last_words_the_last_twenty_lines_are_in_the_log() {
    let (mut cluster, address) = serving(1, &[]);
    let words: String = (0..1000).map(|number| format!("line {number}\n")).collect();
    get(address, &last_words(&words)).unwrap_err();
    cluster.await_text(": code 9");
    for number in 980..1000 {
        let line = cluster.await_text("] w1 stderr: ");
        assert!(line.ends_with(&format!("stderr: line {number}")), "{line}");
    }
    cluster.await_text("ready after");
    assert_eq!(cluster.log().matches("w1 stderr: ").count(), 20);
}

#[test]
fn a_process_that_was_asked_to_leave_has_no_last_words() {
    let (cluster, address) = serving(1, &[]);
    get(address, &say("nothing special\n")).unwrap();
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0);
    assert!(ended.log.contains(" | nothing special"), "{}", ended.log);
    assert!(!ended.log.contains("stderr: "), "{}", ended.log);
}

/// The thread that writes is kept by a reader of standard output who does not read; the loop serves,
/// reaps, and tells the last words nevertheless.
#[test]
fn a_reader_that_does_not_read_keeps_only_those_who_write() {
    let (mut cluster, address, stdout) = serving_into_pipe(2);
    // More than the pipes take, the master's and the worker's.
    let flood = ask(connect(address).unwrap(), "/flood/40000").unwrap();
    stdout.await_full();
    for _ in 0..20 {
        assert_eq!(get(address, "/env/PATH").unwrap().status, 200);
    }
    get(address, &last_words("the end\n")).unwrap_err();
    cluster.await_text(": code 9");
    cluster.await_text("stderr: the end");
    cluster.await_text("ready after");
    // Now somebody reads: nothing is missing.
    let mut lines = stdout.lines();
    for number in 0..40_000 {
        let line = lines.next().unwrap();
        let (_, said) = line.split_once(" | ").unwrap();
        assert_eq!(said, format!("{number:099}"));
    }
    assert_eq!(flood.answer().unwrap().status, 200);
}

/// What a process left is kept for a reader that comes later.
#[test]
fn what_a_dead_process_has_said_is_written_when_somebody_reads_again() {
    let (mut cluster, address, stdout) = serving_into_pipe(1);
    // Into its own pipe it fits; the master's is smaller, and nobody reads it.
    get(address, "/flood/5000").unwrap();
    stdout.await_full();
    let worker = cluster.worker(0).pid();
    kill(worker, Signal::SIGKILL).unwrap();
    cluster.await_text("signal SIGKILL");
    let mut lines = stdout.lines();
    for number in 0..5000 {
        let line = lines.next().unwrap();
        assert!(
            line.starts_with(&format!("w1 slot=0 pid={worker} | ")),
            "{line}"
        );
        assert!(line.ends_with(&format!("{number:099}")), "{line}");
    }
}

/// The end waits a moment for a reader that is slow.
#[test]
fn what_was_said_before_the_end_is_written_before_the_end() {
    let (mut cluster, address, outlet) = serving_into_pipe(1);
    get(address, "/flood/5000").unwrap();
    outlet.await_full();
    cluster.signal(Signal::SIGTERM);
    cluster.await_text(" exited after ");
    let last = outlet.lines().last().unwrap();
    assert!(last.ends_with(&format!("{:099}", 4999)), "{last}");
    assert_eq!(cluster.wait().code(), 0);
}

/// The kernel asks who owns the pipe when it is opened by its name.
#[test]
fn a_process_of_another_user_can_open_its_own_standard_error() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("only root can become somebody else: nothing tested");
    }
    let script = "echo by name > /dev/stderr; exit 9";
    let flags = ["-w", "1", "--user", "nobody", "--stderr", "lines"];
    let mut cluster = Cluster::start(flags.iter().chain(&["/bin/sh", "-c", script]));
    let said = cluster.await_text("w1 stderr: ");
    assert!(said.ends_with("stderr: by name"), "{said}");
}

/// Nobody reads any more, and nobody ever will: the processes do not have to care.
#[test]
fn a_closed_standard_output_ends_nobody() {
    let (cluster, address, stdout) = serving_into_pipe(1);
    drop(stdout);
    let worker = cluster.worker(0).pid();
    get(address, "/flood/40000").unwrap();
    assert!(is_alive(worker));
    let ended = cluster.stop();
    assert_eq!(ended.code(), 0, "{}", ended.log);
}

#[test]
fn nothing_that_a_process_says_moves_the_cursor_of_a_terminal() {
    let mut command = Command::new(rr_master());
    command
        .args(args(1, &["--stderr=lines"]))
        .env("NO_COLOR", "1");
    let mut terminal = OnTerminal::start(command);
    let seen = terminal.await_seen("the whole line", |seen| {
        seen.contains("cluster ready") && seen.ends_with('\n')
    });
    let listening = seen
        .lines()
        .find_map(|line| line.strip_prefix("  listening "));
    let address: SocketAddr = listening
        .and_then(|line| line.split(' ').next()?.parse().ok())
        .unwrap();
    get(address, "/say/1b5b324a07ff61c3bc0d0a").unwrap();
    let seen = terminal.await_seen("the line", |seen| seen.contains("aü\r\n"));
    assert!(seen.contains(" | \\u{1b}[2J\\u{7}\\xffaü\r\n"), "{seen:?}");
    assert!(!seen.contains('\u{1b}'), "{seen:?}");
}

/// A file keeps every byte, but no line is endless.
#[test]
fn a_file_gets_every_byte_and_long_lines_in_pieces() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let script = "head -c 20000 /dev/zero | tr '\\0' x; printf '\\033\\377\\n'; exit 3";
    let mut command = Command::new(rr_master());
    command
        .args(["-w", "1", "--stdout=lines", "/bin/sh", "-c", script])
        .stdout(file.reopen().unwrap());
    let ended = Cluster::with_streams(command).wait();
    assert_eq!(ended.code(), 3, "{}", ended.log);
    let written = fs::read(file.path()).unwrap();
    let lines: Vec<_> = written.split(|byte| *byte == b'\n').collect();
    let said = |line: &[u8]| {
        let at = line.windows(3).position(|it| it == b" | ").unwrap();
        line[at + 3..].to_vec()
    };
    let [first, second, rest] = lines[..] else {
        panic!("{} lines", lines.len())
    };
    assert_eq!(
        said(first),
        [&[b'x'; 16 * 1024], &b" [continued]"[..]].concat()
    );
    assert_eq!(
        said(second),
        [&[b'x'; 20_000 - 16 * 1024], &b"\x1b\xff"[..]].concat()
    );
    assert_eq!(rest, b"");
}

/// Whoever a process started may have its streams for ever: nothing waits for that.
#[test]
fn a_grandchild_with_the_streams_delays_neither_the_log_nor_the_end() {
    let script = "setsid sleep 1000 & echo $! >&2; echo bye >&2; exit 9";
    let flags = ["-w", "1", "--stdout=lines", "--stderr=lines"];
    let mut cluster = Cluster::start(flags.iter().chain(&["/bin/sh", "-c", script]));
    let sleeper = cluster.await_text("w1 stderr: ");
    let sleeper = sleeper.rsplit_once(' ').unwrap().1.parse().unwrap();
    cluster.await_text("w1 stderr: bye");
    let ended = cluster.wait();
    let _ = kill(nix::unistd::Pid::from_raw(sleeper), Signal::SIGKILL);
    assert_eq!(ended.code(), 3, "{}", ended.log);
}

#[test]
fn a_process_that_is_gone_leaves_no_descriptor_behind() {
    let (mut cluster, address) = serving(2, &["--backoff", "1ms..1ms"]);
    crash(&mut cluster, address);
    let master = cluster.pid();
    let before = descriptors(master);
    for _ in 0..10 {
        crash(&mut cluster, address);
    }
    await_condition("as many descriptors as before", || {
        descriptors(master) <= before
    });
}

/// One worker dies, and is replaced.
fn crash(cluster: &mut Cluster, address: SocketAddr) {
    get(address, &last_words("bye\n")).unwrap_err();
    cluster.await_text("stderr: bye");
    cluster.await_text("ready after");
}

/// Ready workers whose streams are read, and whose standard output goes nowhere.
fn serving(workers: usize, flags: &[&str]) -> (Cluster, SocketAddr) {
    let flags = [&["--stdout=lines", "--stderr=lines"], flags].concat();
    let mut cluster = Cluster::start(args(workers, &flags));
    cluster.await_ready();
    let address = cluster.address();
    (cluster, address)
}

/// The master's standard output, held by the test at both ends.
struct Outlet {
    reader: PipeReader,
    writer: PipeWriter,
}

/// The same, with that.
fn serving_into_pipe(workers: usize) -> (Cluster, SocketAddr, Outlet) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = Command::new(rr_master());
    command
        .args(args(workers, &["--stdout=lines", "--stderr=lines"]))
        .stdin(Stdio::null())
        .stdout(writer.try_clone().unwrap());
    let mut cluster = Cluster::with_streams(command);
    cluster.await_ready();
    let address = cluster.address();
    (cluster, address, Outlet { reader, writer })
}

impl Outlet {
    /// Waits until nothing more fits in, pipe(7).
    fn await_full(&self) {
        await_condition("a full pipe", || {
            let mut fds = [PollFd::new(self.writer.as_fd(), PollFlags::POLLOUT)];
            poll(&mut fds, PollTimeout::ZERO).unwrap() == 0
        });
    }

    /// To the end, which comes with the master's.
    fn lines(self) -> impl Iterator<Item = String> {
        drop(self.writer);
        BufReader::new(self.reader).lines().map(Result::unwrap)
    }
}

fn args(workers: usize, flags: &[&str]) -> Vec<String> {
    let worker = test_worker();
    let workers = workers.to_string();
    let fixed = ["-w", &workers, "-l", "127.0.0.1:0"];
    let program = [worker.to_str().unwrap(), "serve"];
    let all = fixed.iter().chain(flags).chain(&program);
    all.map(|&arg| arg.to_owned()).collect()
}

fn say(text: &str) -> String {
    format!("/say/{}", hex(text))
}

fn last_words(text: &str) -> String {
    format!("/last-words/{}", hex(text))
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
