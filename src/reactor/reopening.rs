//! Log files opened again: the master's own, and everybody's who has some.
//!
//! Who is told opens them after everything that was moved away before. So what processes wish for in
//! one turn is done once, and they cannot have it done more than [`ROUNDS`] times within [`WINDOW`]:
//! a wish beyond that waits, and is for everything that was moved away until then.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use serde_json::json;
use worker_proto::ids::WorkerId;

use super::command::{Answer, Origin};
use super::process::Connection;
use super::{Reactor, clock};
use crate::control::change::Change;
use crate::control::event::Fact;
use crate::control::outcome::Outcome;
use crate::control::protocol::When;
use crate::supervisor::Who;

/// Who wishes for it, and who is still to hear of it.
#[derive(Debug, Default)]
pub(super) struct Reopening {
    wish: Option<Who>,
    /// When the last wishes were fulfilled; at most [`ROUNDS`].
    rounds: VecDeque<Instant>,
    /// Those who have not said `Hello`: their log files may be open all the same.
    newcomers: BTreeSet<WorkerId>,
}

impl Reopening {
    /// When the wish is to be fulfilled, if there is one.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.wish?;
        self.rounds
            .front()
            .map(|&oldest| oldest + WINDOW)
            .filter(|_| self.rounds.len() >= ROUNDS)
    }

    /// Whose wish is to be fulfilled now.
    fn take_wish(&mut self, now: Instant) -> Option<Who> {
        if self.deadline().is_some_and(|due| now < due) {
            return None;
        }
        let who = self.wish.take()?;
        if self.rounds.len() >= ROUNDS {
            self.rounds.pop_front();
        }
        self.rounds.push_back(now);
        Some(who)
    }
}

impl Reactor {
    pub(super) fn note_wish_to_reopen_logs(&mut self, worker: WorkerId) {
        if let Some(process) = self.processes.get(&worker) {
            self.reopening.wish = Some(process.who());
        }
    }

    /// Once a turn.
    pub(super) fn reopen_logs_as_wished(&mut self, now: Instant) {
        if let Some(who) = self.reopening.take_wish(now) {
            let by = (Origin::Process(who), When::Begun);
            self.change(now, &Change::ReopenLogs, by, Answer::Nobody);
        }
    }

    /// Has everybody open their log files again.
    pub(super) fn reopen_logs(&mut self, now: Instant) -> Outcome {
        // Whatever a process wished for until now comes true with it.
        self.reopening.wish = None;
        let log_file = self.log_file.as_ref().is_some_and(|reopen| {
            // Full: it is about to be opened.
            let _ = reopen.try_send(());
            true
        });
        let mut told = Vec::new();
        self.reopening.newcomers.clear();
        for (&worker, process) in &mut self.processes {
            match process.connection_mut() {
                Connection::Open(link) if link.is_introduced() => {
                    told.push((worker, link.reopen_logs()));
                }
                Connection::Open(_) | Connection::Prepared(_) => {
                    self.reopening.newcomers.insert(worker);
                }
                Connection::Over => {}
            }
        }
        let processes = told.len();
        for (worker, flushed) in told {
            self.settle_flush(worker, flushed, now);
        }
        let outcome = Outcome::LogsReopened {
            processes,
            log_file,
        };
        let fields = json!({ "processes": processes, "log_file": log_file });
        let fact = Fact::of_cluster("logs-reopened", outcome.to_string(), fields);
        self.announce(clock::wall(), fact);
        outcome
    }

    /// A process has just been welcomed.
    pub(super) fn reopen_logs_of_newcomer(&mut self, worker: WorkerId, now: Instant) {
        if self.reopening.newcomers.remove(&worker)
            && let Some(link) = self.link(worker)
        {
            let flushed = link.reopen_logs();
            self.settle_flush(worker, flushed, now);
        }
    }
}

/// How often processes can have it done at once: more than any rotation needs, and few enough to be
/// told to everybody and to be logged.
const ROUNDS: usize = 30;

/// Within so much time.
const WINDOW: Duration = Duration::from_secs(30);

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "any moment will do as the beginning"
)]
mod tests {
    use worker_proto::ids::{Generation, Role, Slot};

    use super::*;

    #[test]
    fn wishes_beyond_the_limit_wait_and_are_one() {
        let mut reopening = Reopening::default();
        let beginning = Instant::now();
        let who = Who {
            worker: WorkerId(1),
            slot: Slot(0),
            generation: Generation(1),
            role: Role::Agent,
            pid: Some(101),
        };
        let at = |millis| beginning + Duration::from_millis(millis);
        assert_eq!(reopening.take_wish(at(0)), None);
        for millis in 0..ROUNDS as u64 {
            reopening.wish = Some(who);
            assert_eq!(reopening.deadline(), None, "at once");
            assert_eq!(reopening.take_wish(at(millis)), Some(who));
        }
        for millis in 30..40 {
            reopening.wish = Some(who);
            assert_eq!(reopening.take_wish(at(millis)), None);
        }
        assert_eq!(reopening.deadline(), Some(at(0) + WINDOW));
        assert_eq!(reopening.take_wish(at(0) + WINDOW), Some(who));
        assert_eq!(reopening.take_wish(at(0) + WINDOW), None);
        assert_eq!(reopening.rounds.len(), ROUNDS);
    }
}
