//! Processes that lose their parents and become the master's: as a container's first process, as a
//! subreaper, and when it inherits them. None remains a zombie, and none is taken for a worker.

mod common;

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use common::client::{ask, connect, get};
use common::command::after;
use common::processes::{exists, is_alive, status};
use common::script::Script;
use common::{Cluster, await_condition, rr_master, test_worker};

/// E50: it reaps whatever it is given, replaces a worker, serves to the end when it is told to stop
/// from outside, and its exit code arrives.
#[test]
fn the_first_process_of_a_container_reaps_orphans_and_stops_in_peace() {
    let (mut cluster, address) = ready(in_a_container(&served(&["--log-level", "debug"])));
    let master = child_of(cluster.pid());
    let leave_orphans = Script::new("for i in 1 2 3 4 5 6 7 8 9 10; do (sleep 0.01 &); done");
    for _ in 0..5 {
        leave_orphans.run(address);
    }
    for _ in 0..50 {
        cluster.await_text("DEBUG] orphan pid=");
    }
    await_condition("no zombie left", || zombies(master).is_empty());

    get(address, "/exit/1").unwrap_err();
    cluster.await_text(": code 1");
    cluster.await_text(" ready after ");
    assert_eq!(zombies(master), []);

    let under_way = ask(connect(address).unwrap(), "/slow/300").unwrap();
    cluster.await_text("/slow/300 begun");
    kill(master, Signal::SIGTERM).unwrap();
    assert_eq!(under_way.answer().unwrap().status, 200);
    let ended = cluster.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert!(ended.log.contains("SIGTERM received"), "{}", ended.log);
}

/// The kernel keeps from the first process every signal for which it has no handler.
#[test]
fn the_first_process_of_a_container_obeys_every_signal_that_ends_it() {
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        let (cluster, _) = ready(in_a_container(&served(&[])));
        kill(child_of(cluster.pid()), signal).unwrap();
        let ended = cluster.wait();
        assert_eq!(ended.code(), 0, "{}", ended.log);
        let received = format!("{signal} received");
        assert!(ended.log.contains(&received), "{}", ended.log);
    }
}

#[test]
fn the_exit_code_of_a_containers_first_process_arrives() {
    let args = ["-w", "1", "-l", "127.0.0.1:0", "/bin/false"].map(str::to_owned);
    let ended = Cluster::from_command(in_a_container(&args)).wait();
    assert_eq!(ended.code(), 3, "{}", ended.log);
}

/// Nobody outlives a container's first process; here it is the master that ends them, in time, while
/// it could be asked why.
#[test]
fn the_first_process_of_a_container_leaves_nobody_behind_in_a_group() {
    let (mut cluster, address) = ready(in_a_container(&served(&[])));
    let master = child_of(cluster.pid());
    let text = "trap '' TERM; echo $$ > \"$0.pid\"; while :; do sleep 600; done";
    let stubborn = Script::new(text);
    stubborn.run(address);
    stubborn.pid_written();
    get(address, "/exit/1").unwrap_err();
    cluster.await_text(" behind: SIGKILL");
    await_condition("nobody left", || children(master).is_empty());
    kill(master, Signal::SIGTERM).unwrap();
    assert_eq!(cluster.wait().code(), 0);
}

/// A system service, whose orphans are otherwise the first process's.
#[test]
fn a_subreaper_gets_what_its_processes_leave_behind() {
    let orphan = Script::new("setsid sleep 600 & echo $! > \"$0.pid\"");
    for (flags, is_adopted) in [(&["--subreaper"][..], true), (&[], false)] {
        let (cluster, address) = ready(command(&served(flags)));
        let shell = orphan.run(address);
        let daemon = orphan.pid_written();
        let parent = || status(daemon, "PPid");
        await_condition("an orphan", || parent() != shell.to_string());
        assert_eq!(parent() == cluster.pid().to_string(), is_adopted);
        kill(daemon, Signal::SIGKILL).unwrap();
        if is_adopted {
            await_condition("the orphan reaped", || !exists(daemon));
        }
        let ended = cluster.stop();
        assert_eq!(ended.code(), 0, "{}", ended.log);
    }
}

/// Thousands at once: each is reaped, and clients do not notice.
#[test]
fn a_flood_of_orphans_delays_nobody() {
    let (cluster, address) = ready(command(&served(&["--subreaper"])));
    let flood = Script::new("i=0; while [ $i -lt 500 ]; do (true &); i=$((i+1)); done");
    let shells: Vec<Pid> = (0..4).map(|_| flood.run(address)).collect();
    let mut answers = 0;
    while shells.iter().any(|&shell| is_alive(shell)) {
        get(address, "/").unwrap();
        answers += 1;
    }
    assert!(answers > 0);
    // The worker, and nothing else.
    await_condition("all reaped", || children(cluster.pid()).is_empty());
    assert_eq!(cluster.stop().code(), 0);
}

/// A shell that becomes the master leaves it its children.
#[test]
fn children_that_were_there_before_are_reaped() {
    let before = after("sleep 600 & echo \"$!\" >&2", served(&[]));
    let mut cluster = Cluster::from_command(before);
    let inherited: Pid = Pid::from_raw(cluster.await_line("a pid", |_| true).parse().unwrap());
    cluster.await_ready();
    assert_eq!(children(cluster.pid()), [inherited]);
    kill(inherited, Signal::SIGKILL).unwrap();
    await_condition("reaped", || !exists(inherited));
    assert_eq!(cluster.stop().code(), 0);
}

/// With SIGCHLD ignored the kernel would reap the workers, and the master not learn of their end.
#[test]
fn a_worker_is_replaced_although_the_masters_parent_ignores_sigchld() {
    // sh does not let it be ignored.
    let mut command = Command::new("bash");
    command.args(["-c", "trap '' CHLD; exec \"$0\" \"$@\""]);
    command.arg(rr_master()).args(served(&[]));
    let (mut cluster, address) = ready(command);
    get(address, "/exit/3").unwrap_err();
    cluster.await_text(": code 3");
    cluster.await_text(" ready after ");
    assert_eq!(cluster.stop().code(), 0);
}

/// One worker of `test_worker serve`.
fn served(flags: &[&str]) -> Vec<String> {
    let worker = test_worker();
    let args = [&["-w", "1", "-l", "127.0.0.1:0"], flags].concat();
    let program = [worker.to_str().unwrap(), "serve"];
    args.iter()
        .chain(&program)
        .map(ToString::to_string)
        .collect()
}

fn command(args: &[String]) -> Command {
    let mut command = Command::new(rr_master());
    command.args(args);
    command
}

/// A command that starts `rr-master` as the first process of a pid namespace; who has no right to
/// make one gets it within a user namespace of his own.
fn in_a_container(args: &[String]) -> Command {
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--pid", "--fork", "--mount-proc"]);
    command.arg(rr_master()).args(args);
    command
}

fn ready(command: Command) -> (Cluster, SocketAddr) {
    let mut cluster = Cluster::from_command(command);
    let address = cluster.address();
    cluster.await_ready();
    (cluster, address)
}

/// The children of the process's main thread: not those that other threads have started.
fn children(process: Pid) -> Vec<Pid> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let children = children.unwrap_or_default();
    let numbers = children.split_whitespace().map(|pid| pid.parse().unwrap());
    numbers.map(Pid::from_raw).collect()
}

fn child_of(process: Pid) -> Pid {
    children(process)[0]
}

fn zombies(parent: Pid) -> Vec<Pid> {
    let mut children = children(parent);
    children.retain(|&child| !is_alive(child));
    children
}
