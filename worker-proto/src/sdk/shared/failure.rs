//! What keeps a process from leading or following, and a follower from having what it asked for.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::message::Receipt;
use crate::name::BadName;
use crate::sdk::messenger::{RequestFailure, SendFailure};

/// Why a process cannot offer to lead, or follow.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LeadError {
    /// It is no name.
    #[error("name {name:?}: {problem}")]
    BadName {
        /// As it was given.
        name: String,
        /// What is wrong with it.
        problem: BadName,
    },
    /// This process has offered it before.
    #[error("this process has offered to lead {name:?} already")]
    Twice {
        /// The name.
        name: String,
    },
    /// No thread can be started.
    #[error("start a thread: {0}")]
    Io(#[from] io::Error),
}

/// Why a follower has not got what it asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SharedFailure {
    /// Nobody has led within that time.
    #[error("nobody leads within {within:?}")]
    NoLeader {
        /// How long it was waited for.
        within: Duration,
    },
    /// The leader had it, and was gone before it answered. Whether it did anything is unknown.
    #[error("the leader was gone before it answered")]
    LeaderGone,
    /// The leader has not answered in time. It may do it yet.
    #[error("the leader has not answered within {within:?}")]
    TimedOut {
        /// How long it was waited for.
        within: Duration,
    },
    /// The leader says so.
    #[error("{0}")]
    Failed(String),
    /// The master will not have this process follow.
    #[error("{0}")]
    Refused(String),
    /// It could not be sent: too long, or too much waits for the leader.
    #[error("{0}")]
    Unsent(String),
    /// The master is gone, or this process has left.
    #[error("this process is no longer part of the cluster")]
    Closed,
}

/// What became of one attempt.
pub(super) enum Attempt {
    /// It is over.
    Failed(SharedFailure),
    /// Nobody has got it: the next leader may have it.
    NotReceived,
}

impl Attempt {
    pub(super) fn of(failure: RequestFailure, within: Duration) -> Self {
        match failure {
            RequestFailure::TimedOut { .. } => Attempt::Failed(SharedFailure::TimedOut { within }),
            RequestFailure::Undelivered(
                Receipt::NoSuchPeer | Receipt::Draining | Receipt::Delivered { .. },
            ) => Attempt::NotReceived,
            RequestFailure::PeerGone => Attempt::Failed(SharedFailure::LeaderGone),
            RequestFailure::MasterGone
            | RequestFailure::Unsent(SendFailure::MasterGone | SendFailure::Left) => {
                Attempt::Failed(SharedFailure::Closed)
            }
            RequestFailure::Undelivered(_) | RequestFailure::Unsent(_) => {
                Attempt::Failed(SharedFailure::Unsent(failure.to_string()))
            }
        }
    }
}
