//! Why something that was asked of the master is not done.

use thiserror::Error;

use crate::jobs::NotRun;
use crate::supervisor::Refused;
use crate::values;

/// Why a request was not followed. Unless the variant says otherwise, nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Denied {
    /// The cluster cannot do it now, or never.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Fewer than no worker.
    #[error("scale {asked}: there are {now} workers, so at most that many can go")]
    BelowZero {
        /// As it was asked for.
        asked: String,
        /// How many there are to be now.
        now: u32,
    },
    /// More than one master takes, or more than its descriptors allow.
    #[error("{0}")]
    TooMany(String),
    /// No agent has that name.
    #[error("there is no agent {name:?}; the agents are: {there_are}")]
    NoSuchAgent {
        /// As it was asked for.
        name: String,
        /// Those that there are.
        there_are: String,
    },
    /// No listener has that name.
    #[error("there is no listener {name:?}; the listeners are: {there_are}")]
    NoSuchListener {
        /// As it was asked for.
        name: String,
        /// Those that there are.
        there_are: String,
    },
    /// The value is not taken.
    #[error(transparent)]
    Value(#[from] values::Refused),
    /// A piece of a value is not the one that comes next.
    #[error("{0}")]
    OutOfOrder(String),
    /// It is no message.
    #[error("{0}")]
    BadMessage(String),
    /// A message that nobody can get.
    #[error("{0}")]
    NoReceiver(String),
    /// The kernel refused a signal; other recipients may have got it.
    #[error("{0}")]
    Signal(String),
    /// This master cannot do it.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The reload did not begin: the configuration is wrong, or cannot be had.
    #[error("reload: {0}")]
    NotReloaded(String),
    /// The configuration was looked at, and is wrong.
    #[error("{0}")]
    Misconfigured(String),
    /// The reload went back.
    #[error("{0}")]
    RolledBack(String),
    /// The job is not run.
    #[error(transparent)]
    NotRun(#[from] NotRun),
    /// It was begun, and did not come to its end.
    #[error("{0}")]
    Failed(String),
    /// Too many wait for an outcome.
    #[error("too many requests wait for their outcome: ask without waiting")]
    Busy,
    /// The master is no longer there to be asked.
    #[error("the master has ended")]
    Ended,
}

impl Denied {
    /// A stable name for programs, `kind` of an `error` on the control socket.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Denied::Refused(Refused::NoSuchSlot { .. })
            | Denied::NoSuchAgent { .. }
            | Denied::NoReceiver(_)
            | Denied::NotRun(NotRun::NoSuchJob { .. })
            | Denied::NoSuchListener { .. } => "not-found",
            Denied::OutOfOrder(_) => "bad-request",
            Denied::Refused(_)
            | Denied::Value(_)
            | Denied::BelowZero { .. }
            | Denied::NotRun(NotRun::Skipped { .. })
            | Denied::NotReloaded(_)
            | Denied::Misconfigured(_)
            | Denied::TooMany(_)
            | Denied::BadMessage(_)
            | Denied::Unsupported(_) => "refused",
            Denied::RolledBack(_) => "rolled-back",
            Denied::Signal(_) | Denied::Failed(_) => "failed",
            Denied::Busy => "busy",
            Denied::Ended => "ended",
        }
    }
}
