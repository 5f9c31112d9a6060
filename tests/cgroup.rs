//! Control groups: whatever a process has started ends with it, wherever it went. On a machine
//! without a hierarchy that may be written, what is tested is that the master says so.

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};

use common::client::get;
use common::command::Unprivileged;
use common::processes::{is_alive, pid_in};
use common::script::Script;
use common::{Cluster, await_condition, test_worker};

/// A daemon that has left its process group, one of them for good: it ignores SIGTERM.
const DAEMONS: [&str; 2] = [
    "setsid sleep 600 & echo $! > \"$0.pid\"",
    "trap '' TERM; setsid sleep 600 & echo $! > \"$0.pid\"",
];

#[test]
fn daemons_end_with_the_process_that_started_them() {
    for is_killed in [true, false] {
        let Some((mut cluster, address)) = in_control_groups() else {
            return;
        };
        let directory = hierarchy().join(format!("rr-{}", cluster.pid()));
        let scripts = DAEMONS.map(Script::new);
        let daemons = scripts.each_ref().map(|script| {
            script.run(address);
            script.pid_written()
        });
        let of_first = fs::read_to_string(format!("/proc/{}/cgroup", daemons[0])).unwrap();
        assert!(
            of_first.contains(&format!("/rr-{}/1\n", cluster.pid())),
            "{of_first}"
        );
        assert!(directory.join("1").exists());
        if is_killed {
            kill(cluster.worker(0).pid(), Signal::SIGKILL).unwrap();
            cluster.await_text(" behind: SIGKILL");
            await_condition("the daemons gone", || {
                !daemons.iter().any(|&it| is_alive(it))
            });
            await_condition("its group removed", || !directory.join("1").exists());
            cluster.find_text("w2 slot=0 gen=1 pid=");
        }
        let ended = cluster.stop();
        assert_eq!(ended.code(), 0, "{}", ended.log);
        assert!(!daemons.iter().any(|&it| is_alive(it)), "{}", ended.log);
        assert!(!directory.exists(), "{}", ended.log);
    }
}

/// A program may have control groups of its own below the one that it was given; another master may.
#[test]
fn groups_within_the_group_of_a_process_end_with_it() {
    let worker = test_worker();
    let master = common::rr_master();
    let inner = format!(
        "exec '{}' --cgroup -w 1 -l 127.0.0.1:0 '{}' serve",
        master.display(),
        worker.display()
    );
    let args = [
        "--cgroup",
        "-w",
        "1",
        "-l",
        "127.0.0.1:0",
        "/bin/sh",
        "-c",
        &inner,
    ];
    let mut cluster = Cluster::start(args);
    if is_refused(&mut cluster) {
        return;
    }
    let inner = pid_in(&cluster.await_text(" spawned"));
    cluster.await_text("cluster ready");
    let directory = hierarchy().join(format!("rr-{}", cluster.pid()));
    assert!(directory.join(format!("1/rr-{inner}/1")).exists());
    // Nobody else would remove what it has made.
    kill(inner, Signal::SIGKILL).unwrap();
    let ended = cluster.wait();
    assert_eq!(ended.code(), 3, "{}", ended.log);
    assert!(!directory.exists(), "{}", ended.log);
}

#[test]
fn who_may_not_make_control_groups_is_told() {
    if !nix::unistd::geteuid().is_root() {
        // The test above has shown it, if it is so.
        return;
    }
    let programs = Unprivileged::new();
    let worker = programs.worker();
    let args = [
        "--cgroup",
        "-w",
        "1",
        "-l",
        "127.0.0.1:0",
        worker.to_str().unwrap(),
    ];
    let ended = Cluster::from_command(programs.command(args)).wait();
    assert_eq!(ended.code(), 2, "{}", ended.log);
    let told = ended.log.contains("Delegate=yes") || ended.log.contains("without --cgroup");
    assert!(told, "{}", ended.log);
}

/// A worker in a control group of its own; `None` where that cannot be had.
fn in_control_groups() -> Option<(Cluster, SocketAddr)> {
    let worker = test_worker();
    let flags = ["--cgroup", "-w", "1", "-l", "127.0.0.1:0"];
    let program = [worker.to_str().unwrap(), "serve"];
    let mut cluster = Cluster::start(flags.iter().chain(&program));
    if is_refused(&mut cluster) {
        return None;
    }
    let address = cluster.address();
    cluster.await_ready();
    get(address, "/").unwrap();
    Some((cluster, address))
}

/// Says so where a control group cannot be made, which the master must have told.
fn is_refused(cluster: &mut Cluster) -> bool {
    let first = cluster.await_line("a first line", |_| true);
    let is_refused = first.starts_with("rr-master: cgroup");
    if is_refused {
        eprintln!("NOT TESTED: no control group can be made here: {first}");
    }
    is_refused
}

/// Where this process's own group is mounted.
fn hierarchy() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let point = mount.unwrap().split(' ').nth(4).unwrap();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .unwrap();
    PathBuf::from(point).join(own)
}
