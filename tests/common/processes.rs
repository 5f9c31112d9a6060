//! Processes that belong to a master, found by what they inherited from it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, iter, thread};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{DEADLINE, await_condition};

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

/// The process that started this one, or took it over.
pub fn parent(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    let parent = after_name.split(' ').nth(1)?.parse().ok()?;
    Some(Pid::from_raw(parent))
}

/// Every process below this one: its children, theirs, and so on. Also finds those that write over
/// their environment to change their title.
pub fn descendants(ancestor: Pid) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|it| it.file_name().to_str()?.parse().ok());
    let pids = pids.map(Pid::from_raw);
    pids.filter(|&pid| iter::successors(parent(pid), |&it| parent(it)).any(|it| it == ancestor))
        .collect()
}

/// Whether the process exists and is more than a zombie.
pub fn is_alive(pid: Pid) -> bool {
    kill(pid, None) != Err(Errno::ESRCH)
        && fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| state(&stat) != Some('Z'))
}

/// Whether there is such a process, if only a zombie.
pub fn exists(pid: Pid) -> bool {
    kill(pid, None) != Err(Errno::ESRCH)
}

/// Who lives in the group of this process beside itself, with the letter that `proc(5)` has for the
/// state; the leader may be gone.
pub fn followers(leader: Pid) -> Vec<(Pid, char)> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (_, after_name) = stat.rsplit_once(") ")?;
            let group: i32 = after_name.split(' ').nth(2)?.parse().ok()?;
            let state = state(&stat)?;
            let is_follower = group == leader.as_raw() && pid != group && state != 'Z';
            is_follower.then_some((Pid::from_raw(pid), state))
        })
        .collect()
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

/// The pid that a line of the log names.
pub fn pid_in(line: &str) -> Pid {
    let (_, rest) = line
        .split_once(" pid=")
        .unwrap_or_else(|| panic!("no pid in {line:?}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Pid::from_raw(digits.parse().expect("a pid"))
}

/// The environment that the process was started with.
pub fn environ(pid: Pid) -> BTreeMap<String, String> {
    let environ = fs::read(format!("/proc/{pid}/environ")).expect("a living process");
    String::from_utf8_lossy(&environ)
        .split_terminator('\0')
        .filter_map(|variable| variable.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// What each descriptor of the process is, as `/proc` names it.
pub fn open_files(pid: Pid) -> BTreeMap<i32, PathBuf> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("a living process")
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, fs::read_link(entry.path()).ok()?))
        })
        .collect()
}

/// A line of `/proc/PID/status`, without its label.
pub fn status(pid: Pid, label: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a living process");
    let line = status.lines().find_map(|line| line.strip_prefix(label));
    line.unwrap_or_else(|| panic!("no {label} in {status}"))
        .trim_start_matches(':')
        .trim()
        .to_owned()
}

/// Waits until the process uses next to no CPU any more.
pub fn await_quiet(pid: Pid) {
    const LOOK: Duration = Duration::from_millis(300);
    let deadline = Instant::now() + DEADLINE;
    loop {
        let before = cpu_time(pid);
        thread::park_timeout(LOOK);
        if cpu_time(pid) - before < LOOK / 100 {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{pid} is busy with nothing to do"
        );
    }
}

/// How long the main thread has run on a CPU: the master's loop. See `/proc/PID/schedstat` in the
/// kernel's sched-stats.rst.
fn cpu_time(pid: Pid) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

/// How many processes have the file open.
pub fn holders(path: &Path) -> usize {
    let wanted = path.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|it| it.file_name().to_str()?.parse().ok());
    ids.filter(|&id| open_in(Pid::from_raw(id), |target| target == wanted).is_some())
        .count()
}

/// A process's first descriptor whose file has such a name, as a path that leads to that file.
pub fn open_in(pid: Pid, is_wanted: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let mut open = open.map(|it| it.path());
    open.find(|it| {
        let target = fs::read_link(it).unwrap_or_default();
        target.to_str().is_some_and(&is_wanted)
    })
}
