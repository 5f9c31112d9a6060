//! Standard error is a terminal, and the person there presses Ctrl-S: the cluster does not care.

mod common;

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};

use common::client::get;
use common::terminal::OnTerminal;
use common::{Stopwatch, await_condition, rr_master, test_worker};

/// Nobody reads what the crashes have to say; everybody is served, and later it is all there.
#[test]
fn a_stopped_terminal_does_not_stop_the_cluster() {
    let (mut terminal, address) = serve(2, &["--backoff", "1ms..1ms"]);
    terminal.stop_output();
    for turn in 0..1000 {
        if turn % 100 == 50 {
            // One dies; the other must serve at once, and the next turn has both again.
            get(address, "/exit/9").unwrap_err();
        }
        assert_eq!(get(address, "/").unwrap().status, 200, "turn {turn}");
    }
    assert!(terminal.is_silent(), "it is stopped");
    terminal.resume_output();
    terminal.await_seen("ten exits", |seen| seen.matches(": code 9").count() == 10);
    kill(terminal.pid(), Signal::SIGTERM).unwrap();
    let (code, seen) = terminal.wait();
    assert_eq!(code, 0);
    assert!(!seen.contains("log lines dropped"), "{seen}");
}

/// What does not fit is counted: no line is lost without a word.
#[test]
fn lines_that_a_stopped_terminal_does_not_take_are_counted() {
    const EACH_TWO_LINES: usize = 4_000;
    let (mut terminal, address) = serve(1, &["--allow-listen", "127.0.0.2:0"]);
    terminal.stop_output();
    get(address, &format!("/relisten/{EACH_TWO_LINES}")).unwrap();
    assert_eq!(get(address, "/").unwrap().status, 200);
    assert!(terminal.is_silent(), "it is stopped");
    terminal.resume_output();
    let lines = 2 * EACH_TWO_LINES;
    let seen = terminal.await_seen("every line", |seen| written(seen) + dropped(seen) >= lines);
    assert!(dropped(seen) > 0, "{seen}");
    assert_eq!(written(seen) + dropped(seen), lines);
    // From here on there is room again.
    kill(terminal.pid(), Signal::SIGTERM).unwrap();
    let (code, seen) = terminal.wait();
    assert_eq!(code, 0);
    assert!(seen.contains("stopped: exit code 0"), "{seen}");
}

/// How many of the lines are there.
fn written(seen: &str) -> usize {
    seen.matches("listening on 127.0.0.2:").count()
}

/// How many lines are said to be missing.
fn dropped(seen: &str) -> usize {
    let said = seen.lines().filter_map(|line| {
        let count = line
            .split_once(" log lines dropped: standard error is too slow]")?
            .0;
        Some(count.trim_start_matches('[').parse::<usize>().unwrap())
    });
    said.sum()
}

/// The same when nobody stopped the terminal, but nobody reads it either: its buffer is full.
#[test]
fn a_terminal_that_nobody_reads_does_not_stop_the_cluster() {
    let (mut terminal, address) = serve(1, &["--allow-listen", "127.0.0.2:0"]);
    get(address, "/relisten/1000").unwrap();
    assert_eq!(get(address, "/").unwrap().status, 200);
    let seen = terminal.await_seen("every line", |seen| written(seen) == 2000);
    assert_eq!(dropped(seen), 0);
}

/// Nor does it keep the master from its end.
#[test]
fn a_stopped_terminal_does_not_delay_the_end_for_long() {
    let (mut terminal, address) = serve(1, &[]);
    terminal.stop_output();
    get(address, "/exit/9").unwrap_err();
    let took = Stopwatch::start();
    kill(terminal.pid(), Signal::SIGTERM).unwrap();
    await_condition("the end of the master", || terminal.has_ended());
    assert!(
        took.elapsed() < common::DEADLINE / 2,
        "{:?}",
        took.elapsed()
    );
}

#[test]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    for (variables, coloured) in [
        (&[("TERM", "xterm")][..], true),
        (&[("TERM", "xterm"), ("NO_COLOR", "")], true),
        (&[("TERM", "xterm"), ("NO_COLOR", "1")], false),
        (&[("TERM", "dumb")], false),
    ] {
        let mut command = master(1, &[]);
        command
            .env_remove("NO_COLOR")
            .envs(variables.iter().copied());
        let mut terminal = OnTerminal::start(command);
        let seen = terminal.await_text("cluster ready");
        assert_eq!(seen.contains(ESCAPE), coloured, "{variables:?}: {seen:?}");
    }
}

#[test]
fn there_are_no_colours_in_a_file() {
    let mut command = master(1, &["--stop-timeout", "1s"]);
    let mut child = command
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .env("CLICOLOR_FORCE", "1")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut seen = String::new();
    while !seen.contains("cluster ready") {
        assert_ne!(std::io::BufRead::read_line(&mut log, &mut seen).unwrap(), 0);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!seen.contains(ESCAPE), "{seen:?}");
}

const ESCAPE: char = '\u{1b}';

fn master(workers: usize, flags: &[&str]) -> Command {
    let mut command = Command::new(rr_master());
    command
        .args(["-w", &workers.to_string(), "-l", "127.0.0.1:0"])
        .args(flags)
        .arg(test_worker())
        .arg("serve");
    command
}

/// Ready workers, and a master that logs to a terminal.
fn serve(workers: usize, flags: &[&str]) -> (OnTerminal, SocketAddr) {
    let mut command = master(workers, flags);
    command.env("NO_COLOR", "1");
    let mut terminal = OnTerminal::start(command);
    let seen = terminal.await_seen("the whole line", |seen| {
        seen.contains("cluster ready") && seen.ends_with('\n')
    });
    let listening = seen
        .lines()
        .find_map(|line| line.strip_prefix("  listening "));
    let address = listening.and_then(|line| line.split(' ').next()?.parse().ok());
    (
        terminal,
        address.expect("an address on the start-up screen"),
    )
}
