//! A run: one time that a job was due, and the errands that it takes.
//!
//! An errand is one worker's share. It is bound to its worker until that says `JobDone` or is gone,
//! also when nobody waits for its result any more: so nothing runs beside itself.

use std::fmt;
use std::time::Instant;

use jiff::Timestamp;
use worker_proto::ids::{Role, Slot, WorkerId};

use super::roster::Member;

/// One time that a job was due.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) number: u64,
    pub(super) due: Timestamp,
    /// Since its first errand was given to somebody.
    pub(super) since: Option<Instant>,
    pub(super) errands: Vec<Errand>,
    /// What came of it, as it was told.
    pub(super) conclusion: Option<Verdict>,
}

#[derive(Debug)]
pub(super) struct Errand {
    pub(super) for_whom: Doers,
    pub(super) attempt: u32,
    pub(super) state: State,
}

/// Whose errand it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doers {
    /// Any worker's.
    Anybody,
    /// It becomes an errand for each worker that serves.
    Everybody,
    /// Whoever serves there.
    Seat(Role, Slot),
}

/// How far an errand is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// For somebody who can do it.
    Waiting,
    Running {
        by: Member,
        since: Instant,
        deadline: Option<Instant>,
    },
    /// It took too long and counts as failed, and its worker still has it.
    Overdue {
        by: Member,
        since: Instant,
    },
    Over(Verdict),
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The handler's result.
    Done(String),
    /// The handler's error.
    Failed(String),
    /// It took longer than it may.
    TimedOut,
    /// Its process died.
    Lost,
    /// It was not begun any more.
    Dropped,
}

impl Run {
    pub(super) fn new(number: u64, due: Timestamp, for_whom: Doers) -> Self {
        let errand = Errand::new(for_whom);
        Run {
            number,
            due,
            since: None,
            errands: vec![errand],
            conclusion: None,
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.since.is_some()
    }

    /// Whether somebody has something of it.
    pub(super) fn is_in_hand(&self) -> bool {
        self.errands.iter().any(|it| it.worker().is_some())
    }

    /// Whether nobody has anything of it any more.
    pub(super) fn is_over(&self) -> bool {
        self.errands.iter().all(Errand::is_over)
    }

    /// What came of it, once that is known of each errand.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        let verdicts: Option<Vec<Verdict>> = self.errands.iter().map(Errand::verdict).collect();
        let verdicts = verdicts?;
        if let [verdict] = &verdicts[..] {
            return Some(verdict.clone());
        }
        let all = verdicts.len();
        let bad = verdicts
            .iter()
            .filter(|verdict| !matches!(verdict, Verdict::Done(_)));
        let mut bad = bad.peekable();
        Some(match bad.peek() {
            None => Verdict::Done(format!("{all} of {all} done")),
            Some(first) => {
                let first = first.to_string();
                Verdict::Failed(format!(
                    "{} of {all} failed, one of them: {first}",
                    bad.count()
                ))
            }
        })
    }

    /// The errand that this worker has.
    pub(super) fn errand_of(&mut self, worker: WorkerId) -> Option<&mut Errand> {
        self.errands
            .iter_mut()
            .find(|errand| errand.worker() == Some(worker))
    }
}

impl Errand {
    pub(super) fn new(for_whom: Doers) -> Self {
        Errand {
            for_whom,
            attempt: 1,
            state: State::Waiting,
        }
    }

    /// Who has it.
    pub(super) fn worker(&self) -> Option<WorkerId> {
        match self.state {
            State::Running { by, .. } | State::Overdue { by, .. } => Some(by.worker),
            State::Waiting | State::Over(_) => None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Running { deadline, .. } => deadline,
            State::Waiting | State::Overdue { .. } | State::Over(_) => None,
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Over(_))
    }

    fn verdict(&self) -> Option<Verdict> {
        match &self.state {
            State::Waiting | State::Running { .. } => None,
            State::Overdue { .. } => Some(Verdict::TimedOut),
            State::Over(verdict) => Some(verdict.clone()),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Done(result) => f.write_str(result),
            Verdict::Failed(error) => f.write_str(error),
            Verdict::TimedOut => f.write_str("took too long"),
            Verdict::Lost => f.write_str("its process died"),
            Verdict::Dropped => f.write_str("was not begun"),
        }
    }
}
