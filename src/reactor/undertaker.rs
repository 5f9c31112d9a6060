//! The undertaker: a thread for what the dead leave behind.
//!
//! A process that has ended stays a zombie until nobody of its group lives: so long the kernel gives
//! the group's number to nobody else, and whoever is signalled by it is one of those left behind.
//! They get SIGTERM, then SIGKILL. Whoever left the group is a daemon of its own, and nobody's here,
//! unless processes have control groups: then it ends as well.
//!
//! Who lives is read from `/proc`, which takes a while: hence the thread, and one look for all the
//! dead at a time. It waits for no process but those it was given and signals no group but theirs,
//! so a process that a master is embedded in has nothing to fear.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use worker_proto::ids::WorkerId;

use super::clock;
use crate::supervisor::Signal;
use crate::sys::census::Census;
use crate::sys::cgroup::{Cell, Cgroup};
use crate::sys::describe;
use crate::sys::pidfd::Pidfd;

/// The thread, and the way to it.
#[derive(Debug)]
pub(crate) struct Undertaker {
    // One errand per process that was started: the master's own restart limit bounds them.
    errands: Sender<Errand>,
    thread: Option<JoinHandle<()>>,
    /// From SIGTERM to SIGKILL.
    patience: Duration,
    cgroup: Option<Arc<Cgroup>>,
}

#[derive(Debug)]
enum Errand {
    Bury(Grave),
    /// The master ends: come back when everybody is buried.
    Finish,
}

/// One process that must be reaped, and its group.
#[derive(Debug)]
struct Grave {
    worker: WorkerId,
    pidfd: Pidfd,
    cell: Option<Cell>,
    step: Step,
}

/// What has been done about those in the group.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Nothing yet; their time is up then.
    Unseen { until: Instant },
    /// They got SIGTERM, and have until then.
    Terminated { until: Instant },
    /// They got SIGKILL, and the kernel has until then.
    Killed { until: Instant },
}

impl Undertaker {
    pub(crate) fn start(patience: Duration, cgroup: Option<Arc<Cgroup>>) -> io::Result<Self> {
        let (errands, inbox) = unbounded();
        let thread = thread::Builder::new()
            .name("rr-undertaker".to_owned())
            .spawn(move || work(&inbox))?;
        Ok(Undertaker {
            errands,
            thread: Some(thread),
            patience: patience.min(LONGEST_PATIENCE),
            cgroup,
        })
    }

    /// Buries a process that has ended. If its group got SIGTERM before, at `told`, that is when
    /// the time of those left behind began.
    pub(crate) fn bury(&self, worker: WorkerId, pidfd: Pidfd, told: Option<Instant>, now: Instant) {
        let step = self.first_step(told, now);
        self.send(worker, pidfd, step);
    }

    /// Ends a process that nobody knows any more, with its group, and buries it.
    pub(crate) fn put_down(&self, worker: WorkerId, pidfd: Pidfd, now: Instant) {
        let _ = pidfd.signal(Signal::Kill);
        let step = Step::Terminated { until: now };
        self.send(worker, pidfd, step);
    }

    fn first_step(&self, told: Option<Instant>, now: Instant) -> Step {
        let until = told.unwrap_or(now) + self.patience;
        Step::Unseen { until }
    }

    fn send(&self, worker: WorkerId, pidfd: Pidfd, step: Step) {
        let cgroup = self.cgroup.as_ref();
        let grave = Grave {
            worker,
            pidfd,
            cell: cgroup.map(|cgroup| cgroup.cell(worker.0)),
            step,
        };
        // The thread ends only when it is told to, by drop.
        let _ = self.errands.send(Errand::Bury(grave));
    }
}

/// Waits until nobody is left, at most as long as everybody's time and a moment.
impl Drop for Undertaker {
    fn drop(&mut self) {
        let _ = self.errands.send(Errand::Finish);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Looks at every open grave, at once when one is added and less and less often after that.
fn work(inbox: &Receiver<Errand>) {
    let mut graves: Vec<Grave> = Vec::new();
    let mut pause = FIRST_PAUSE;
    let mut is_finishing = false;
    while !(is_finishing && graves.is_empty()) {
        let first = if graves.is_empty() {
            inbox.recv().ok()
        } else {
            inbox.recv_timeout(pause).ok()
        };
        pause = if first.is_some() {
            FIRST_PAUSE
        } else {
            (pause * 2).min(LONGEST_PAUSE)
        };
        for errand in first.into_iter().chain(inbox.try_iter()) {
            match errand {
                Errand::Bury(grave) => graves.push(grave),
                Errand::Finish => is_finishing = true,
            }
        }
        let census = Census::take().inspect_err(|err| {
            log::debug!("cannot tell who is left behind: {}", describe(err));
        });
        let census = census.ok();
        let now = clock::now();
        for done in graves.extract_if(.., |grave| grave.visit(census.as_ref(), now)) {
            if let Some(cell) = &done.cell {
                cell.close();
            }
            done.pidfd.reap();
        }
    }
}

impl Grave {
    /// Does what there is to be done now; answers whether that was the last of it.
    fn visit(&mut self, census: Option<&Census>, now: Instant) -> bool {
        let Ok(ended) = self.pidfd.exit_status() else {
            // Somebody else has reaped it: its group's number may be a stranger's by now.
            return true;
        };
        let left = self.left(census);
        match (left, self.step) {
            (Left::Nobody, _) | (Left::Unknown, Step::Killed { .. }) if ended.is_some() => true,
            (_, Step::Unseen { until }) => {
                log::debug!("{} left {left} behind: SIGTERM", self.worker);
                let until = until.max(now + LEAST_PATIENCE);
                self.press(Signal::Terminate, Step::Terminated { until })
            }
            (_, Step::Terminated { until }) if until <= now => {
                if let Left::Alive(_) = left {
                    log::warn!("{} left {left} behind: SIGKILL", self.worker);
                }
                let until = now + KILL_PATIENCE;
                self.press(Signal::Kill, Step::Killed { until })
            }
            (_, Step::Killed { until }) if until <= now => {
                let (worker, pid) = (self.worker, self.pidfd.pid());
                match ended {
                    Some(_) => log::error!("{worker} left {left} behind, despite SIGKILL"),
                    None => log::error!("{worker} pid={pid} lives, despite SIGKILL"),
                }
                true
            }
            (_, Step::Terminated { .. } | Step::Killed { .. }) => false,
        }
    }

    fn left(&self, census: Option<&Census>) -> Left {
        let in_group = census.map(|census| census.followers(self.pidfd.pid()));
        let in_cell = self.cell.as_ref().map_or(0, Cell::count);
        match (in_group, in_cell) {
            (Some(0), 0) => Left::Nobody,
            (None, 0) => Left::Unknown,
            (in_group, in_cell) => Left::Alive(in_cell.max(in_group.unwrap_or(0))),
        }
    }

    /// A process that changed its user may not be signalled: all the same it is waited for, and no
    /// longer than others.
    fn press(&mut self, signal: Signal, next: Step) -> bool {
        if let Err(err) = self.pidfd.signal(signal) {
            log::debug!("{}: send its group {signal:?}: {err}", self.worker);
        }
        match (&self.cell, signal) {
            (Some(cell), Signal::Terminate) => cell.terminate(),
            (Some(cell), Signal::Kill) => cell.kill(),
            (Some(_), Signal::Ask | Signal::Abort) | (None, _) => {}
        }
        self.step = next;
        false
    }
}

/// Who lives of those that the dead one has started.
#[derive(Clone, Copy, Debug)]
enum Left {
    Nobody,
    Alive(usize),
    /// `/proc` does not say: there may be somebody.
    Unknown,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Left::Nobody => f.write_str("nobody"),
            Left::Alive(1) => f.write_str("1 process"),
            Left::Alive(count) => write!(f, "{count} processes"),
            Left::Unknown => f.write_str("perhaps somebody"),
        }
    }
}

/// Between two looks at those who take their time.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Whoever got SIGKILL along with the leader may need that long to be gone.
const LEAST_PATIENCE: Duration = Duration::from_millis(20);

/// Keeps the sum of a time and another away from the clock's end.
const LONGEST_PATIENCE: Duration = Duration::from_secs(366 * 24 * 3600);

/// Longer than a process needs to die that can.
const KILL_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use nix::sys::signal::kill;
    use nix::unistd::Pid;

    use super::*;

    /// A leader that has started somebody who ignores SIGTERM, and whose own end the other end of
    /// the pipe tells.
    #[expect(clippy::zombie_processes, reason = "the undertaker reaps it")]
    fn stubborn(leader: &str) -> (Pidfd, impl Read) {
        let script = format!("trap '' TERM; sleep 600 & echo; {leader}");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script]).stdout(Stdio::piped());
        let mut process = command.process_group(0).spawn().unwrap();
        let mut output = process.stdout.take().unwrap();
        output.read_exact(&mut [0]).unwrap();
        (Pidfd::open(process.id()).unwrap(), output)
    }

    fn await_exit(pidfd: &Pidfd) {
        while pidfd.exit_status().unwrap().is_none() {
            thread::yield_now();
        }
    }

    fn is_reaped(pid: u32) -> bool {
        kill(Pid::from_raw(pid.cast_signed()), None).is_err()
    }

    #[test]
    fn whoever_is_put_down_is_gone_with_his_group() {
        let undertaker = Undertaker::start(Duration::from_secs(600), None).unwrap();
        let (pidfd, mut group) = stubborn("wait");
        let pid = pidfd.pid();
        undertaker.put_down(WorkerId(1), pidfd, clock::now());
        drop(undertaker);
        assert!(is_reaped(pid));
        assert_eq!(group.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn time_that_began_before_the_leaders_death_is_not_given_twice() {
        let undertaker = Undertaker::start(Duration::from_secs(600), None).unwrap();
        let (pidfd, mut group) = stubborn("exit");
        await_exit(&pidfd);
        let told = clock::now();
        let now = told + Duration::from_secs(601);
        let step = undertaker.first_step(Some(told), now);
        let mut grave = Grave {
            worker: WorkerId(1),
            pidfd,
            cell: None,
            step,
        };
        let census = Census::take().unwrap();
        assert!(!grave.visit(Some(&census), now));
        assert!(!grave.visit(Some(&census), now + LEAST_PATIENCE));
        assert_eq!(group.read(&mut [0]).unwrap(), 0);
    }

    /// As in a directory tree without `/proc`: everybody is given the time, and nobody is left.
    #[test]
    fn who_cannot_be_seen_is_killed_all_the_same() {
        let (pidfd, mut group) = stubborn("exit");
        await_exit(&pidfd);
        let now = clock::now();
        let until = now + Duration::from_secs(1);
        let mut grave = Grave {
            worker: WorkerId(1),
            pidfd,
            cell: None,
            step: Step::Unseen { until },
        };
        assert!(!grave.visit(None, now));
        assert!(!grave.visit(None, now + Duration::from_millis(999)));
        assert!(matches!(grave.step, Step::Terminated { .. }));
        assert!(!grave.visit(None, until));
        assert_eq!(group.read(&mut [0]).unwrap(), 0);
        assert!(grave.visit(None, until));
    }
}
