//! Processes that belong to a master, found by what they inherited from it.

use std::fs;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

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
        && fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
            !stat
                .rsplit(')')
                .next()
                .is_some_and(|rest| rest.trim_start().starts_with('Z'))
        })
}

/// How many descriptors the process has open.
pub fn descriptors(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
