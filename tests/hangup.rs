//! Signals that mean different things, depending on who sends them and why: the end of a terminal is
//! not an order to reload, and what the kernel sends to users of a terminal is no order at all.

mod common;

use std::process::{Command, Stdio};

use nix::pty::{OpenptyResult, openpty};
use nix::sys::signal::{Signal, kill};

use common::client::{ask, connect, get};
use common::command::after;
use common::gate::Gate;
use common::shell::{Shell, keep_to_this_process};
use common::{Cluster, rr_master, test_worker};

/// A window with nothing but the master: the kernel tells the leader of the session.
#[test]
fn losing_the_terminal_is_a_stop() {
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    keep_to_this_process(&master);
    let mut command = Command::new("setsid");
    command.arg("--ctty").arg(rr_master()).args(args());
    command.stdin(slave).stdout(Stdio::null());
    let mut cluster = Cluster::with_streams(command);
    cluster.await_ready();
    drop(master);
    cluster.await_text("SIGHUP received: the terminal is gone");
    let ended = cluster.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert!(ended.log.contains("stopping gracefully"), "{}", ended.log);
}

/// The shell is told, and sends SIGHUP to its jobs before it ends.
#[test]
fn so_it_is_when_a_shell_passes_it_on() {
    let mut shell = Shell::start();
    shell.type_line(&background(""));
    shell.cluster.await_ready();
    let mut cluster = shell.close_terminal();
    cluster.await_text("SIGHUP received: the terminal is gone");
    cluster.await_text("stopped: exit code 0");
}

/// In the foreground the master is told twice: by the shell, and by the kernel when the shell has ended.
/// Nobody is in more of a hurry for that.
#[test]
fn a_terminal_is_lost_only_once() {
    let mut shell = Shell::start();
    shell.type_line(background("").trim_end_matches(" &"));
    let address = shell.cluster.address();
    shell.cluster.await_ready();
    let slow = ask(connect(address).unwrap(), "/slow/500").unwrap();
    shell.cluster.await_text("/slow/500 begun");
    let mut cluster = shell.close_terminal();
    // Both may come as one.
    cluster.await_text("SIGHUP received: the terminal is gone");
    assert_eq!(slow.answer().unwrap().status, 200);
    cluster.await_text("stopped: exit code 0");
}

/// It sends SIGHUP while the terminal is there still, or until a moment ago.
#[test]
fn so_it_is_when_a_shell_exits_and_takes_its_jobs_along() {
    let mut shell = Shell::login();
    shell.type_line("shopt -s huponexit");
    shell.type_line(&background(""));
    shell.cluster.await_ready();
    shell.type_line("exit");
    shell.cluster.await_text("the terminal is gone");
    shell.cluster.await_text("stopped: exit code 0");
}

/// The same signal of the same shell, but a person has ordered it and the terminal is there.
#[test]
fn sighup_by_hand_is_no_loss_of_the_terminal() {
    let mut shell = Shell::start();
    shell.type_line(&background(""));
    shell.cluster.await_ready();
    shell.type_line("kill -HUP %1");
    let said = shell.cluster.await_text("SIGHUP received");
    assert!(said.ends_with("SIGHUP received"), "{said}");
    let next = shell.cluster.await_text("] ");
    assert!(!next.contains("the terminal is gone"), "{next}");
    // It goes on, so it has to be told.
    shell.type_line("kill %1");
    shell.cluster.await_text("stopped: exit code 0");
}

/// Nor is it one by anybody else, and without any terminal.
#[test]
fn sighup_from_elsewhere_is_no_loss_of_the_terminal() {
    let (mut cluster, _) = Cluster::test_workers(1, &[]);
    cluster.signal(Signal::SIGHUP);
    let said = cluster.await_text("SIGHUP received");
    assert!(
        said.ends_with("SIGHUP received: reload: reloading"),
        "{said}"
    );
}

#[test]
fn nohup_holds_against_the_loss_of_the_terminal() {
    let mut shell = Shell::start();
    shell.type_line(&background("trap '' HUP; "));
    let master = shell.master();
    let address = shell.cluster.address();
    shell.cluster.await_ready();
    let _log = shell.close_terminal();
    assert_eq!(get(address, "/").unwrap().status, 200);
    kill(master, Signal::SIGTERM).unwrap();
}

#[test]
fn signals_that_mean_nothing_yet_end_nobody() {
    let command = after("trap '' USR1 TTIN TTOU", args());
    let commands = [command, Command::new(rr_master())];
    for (mut command, needs_args) in commands.into_iter().zip([false, true]) {
        if needs_args {
            command.args(args());
        }
        let mut cluster = Cluster::from_command(command);
        let address = cluster.address();
        cluster.await_ready();
        for signal in [Signal::SIGUSR1, Signal::SIGTTIN, Signal::SIGTTOU] {
            cluster.signal(signal);
            cluster.await_text(&format!("{signal} received"));
        }
        assert_eq!(get(address, "/").unwrap().status, 200);
        assert_eq!(cluster.stop().code(), 0);
    }
}

/// Somebody in the master's group reads the terminal from the background: the kernel stops the group,
/// but for those who have the signal blocked.
#[test]
fn what_the_kernel_sends_to_users_of_a_terminal_is_no_order() {
    let mut shell = Shell::start();
    let mut gate = Gate::new();
    let fifo = gate.path();
    let reader = format!("read -n 1 <{}; cat </dev/tty", fifo.display());
    shell.type_line(&format!("({} {reader}) &", background("")));
    let address = shell.cluster.address();
    gate.let_one_through();
    shell.cluster.await_text("SIGTTIN received: ignored");
    assert_eq!(get(address, "/").unwrap().status, 200);
    let said = shell.cluster.log();
    assert!(!said.contains("number of workers"), "{said}");
}

/// `stty tostop` stops whoever writes to the terminal from the background: not the master, whose
/// clients would wait.
#[test]
fn a_terminal_that_stops_writers_does_not_stop_the_master() {
    let mut shell = Shell::start();
    shell.type_line("stty tostop");
    let directory = tempfile::tempdir().unwrap();
    let pidfile = directory.path().join("pid");
    let master = background("").replace("-w 1", &format!("-w 1 --pidfile {}", pidfile.display()));
    let master = master.trim_end_matches(" &");
    shell.type_line(&format!("{master} 2>/dev/tty &"));
    common::await_condition("the master writes its pid", || {
        std::fs::read_to_string(&pidfile).is_ok_and(|pid| pid.ends_with('\n'))
    });
    let pid: i32 = std::fs::read_to_string(&pidfile)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    // It writes a start-up screen and more. An end in order shows that it was not stopped.
    kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    common::await_condition("the end", || !pidfile.exists());
}

fn args() -> Vec<String> {
    let worker = test_worker().display().to_string();
    let args = ["-w", "1", "-l", "127.0.0.1:0", &worker, "serve"];
    args.map(str::to_owned).to_vec()
}

/// A line that makes the shell start a master in the background.
fn background(before: &str) -> String {
    let line = format!("{} {}", rr_master().display(), args().join(" "));
    match before {
        "" => format!("{line} &"),
        before => format!("({before}exec {line}) &"),
    }
}
