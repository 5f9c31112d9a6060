//! A worker that the kernel kills for want of memory: the log says so.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Cluster, rr_master, test_worker};

/// The log cannot know it from the signal: the master's cgroup has counted it.
#[test]
fn a_kill_for_want_of_memory_is_told_from_others() {
    let Some(group) = Group::new() else {
        eprintln!("NOT SHOWN: no memory cgroup can be made here (that takes root)");
        return;
    };
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg("echo $$ > \"$0\"/cgroup.procs && exec \"$@\"")
        .arg(&group.0)
        .arg(rr_master())
        .args(["-w", "1", "-l", "127.0.0.1:0"])
        .arg(test_worker())
        .args(["by-life", "greedy", "then", "serve"]);
    let mut cluster = Cluster::from_command(command);
    let exited = cluster.await_text("signal SIGKILL");
    assert!(
        exited.contains("the kernel killed it for want of memory"),
        "{exited}"
    );
    cluster.await_line("the replacement", |line| {
        line.contains("w2") && line.contains("ready")
    });
    let worker = cluster.worker(0);
    nix::sys::signal::kill(worker.pid(), nix::sys::signal::Signal::SIGKILL).unwrap();
    let exited = cluster.await_text("signal SIGKILL");
    assert!(!exited.contains("memory"), "{exited}");
    assert_eq!(cluster.stop().code(), 0);
}

/// A cgroup with little memory, below that of this process.
struct Group(PathBuf);

impl Group {
    fn new() -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
            let (parent, limit) = match controllers {
                "" => (Path::new("/sys/fs/cgroup").join(path), "memory.max"),
                "memory" => (
                    Path::new("/sys/fs/cgroup/memory").join(path),
                    "memory.limit_in_bytes",
                ),
                _ => return None,
            };
            let group = Group(parent.join(format!("rr-master-test-{}", std::process::id())));
            fs::create_dir(&group.0).ok()?;
            // Dropped, and so removed, if it has no limits.
            fs::write(group.0.join(limit), "64M").ok()?;
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever is still in it is leaving.
        let deadline = common::Stopwatch::start();
        while fs::remove_dir(&self.0).is_err() && deadline.elapsed() < common::DEADLINE {
            std::thread::yield_now();
        }
    }
}
