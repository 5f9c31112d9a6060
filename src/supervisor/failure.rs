//! A failure: what ended a process's service, or kept it from beginning.

use std::fmt;

use super::event::ExitStatus;

/// What ended a process's service, or kept it from beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It could not be started.
    NotSpawned {
        /// Why.
        reason: String,
    },
    /// It was not ready in time.
    NotReady,
    /// Its control channel ended.
    Disconnected,
    /// It said that it leaves.
    Goodbye,
    /// It said that something in it went wrong.
    Retired {
        /// What.
        reason: String,
    },
    /// It hung.
    Hung,
    /// It ended.
    Exited(ExitStatus),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotSpawned { reason } => write!(f, "could not be started: {reason}"),
            Failure::NotReady => f.write_str("was not ready in time"),
            Failure::Disconnected => f.write_str("closed its control channel"),
            Failure::Goodbye => f.write_str("left unasked"),
            Failure::Retired { reason } => write!(f, "retired: {reason}"),
            Failure::Hung => f.write_str("hung"),
            Failure::Exited(status) => write!(f, "exited: {status}"),
        }
    }
}
