//! Processes that belong to a master, found by what they inherited from it.

use std::fs;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::await_condition;

/// Every living process that `master` started, directly or not.
///
/// A process keeps the environment that it was started with in `/proc/PID/environ`, whatever it
/// does to its variables later, and so do the processes that it starts from before that.
pub fn of_master(master: Pid) -> Vec<Pid> {
    let mark = format!("RR_MASTER_PID={master}\0");
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| {
                environ
                    .windows(mark.len())
                    .any(|window| window == mark.as_bytes())
            })
        })
        .map(Pid::from_raw)
        .collect()
}

/// Whether the process exists and is more than a zombie.
pub fn is_alive(pid: Pid) -> bool {
    kill(pid, None) != Err(Errno::ESRCH)
        && fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| state(&stat) != Some('Z'))
}

/// Stops the process as SIGSTOP does, and waits until none of its threads runs.
pub fn freeze(pid: Pid) {
    kill(pid, Signal::SIGSTOP).expect("stop the process");
    await_condition("every thread stopped", || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there");
        threads.flatten().all(|thread| {
            fs::read_to_string(thread.path().join("stat"))
                .is_ok_and(|stat| state(&stat) == Some('T'))
        })
    });
}

/// Lets a frozen process go on.
pub fn thaw(pid: Pid) {
    kill(pid, Signal::SIGCONT).expect("continue the process");
}

/// The letter that `proc(5)` has for it.
fn state(stat: &str) -> Option<char> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.chars().next()
}

/// How many descriptors the process has open.
pub fn descriptors(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
