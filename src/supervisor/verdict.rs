//! The verdict: what happened that decides the exit code.

use super::notice::StopCause;
use crate::exit_code::ExitCode;

/// What there is to say against the cluster at its end.
#[derive(Debug)]
pub(super) struct Verdict {
    cause: StopCause,
    force: Force,
}

/// Whether a process had to be forced to leave although it was given time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Force {
    Unneeded,
    Needed,
}

impl Verdict {
    /// Nothing so far.
    pub(super) fn clean() -> Verdict {
        Verdict {
            cause: StopCause::Asked,
            force: Force::Unneeded,
        }
    }

    /// Something failed that ends the cluster. The first failure counts; the others follow from it.
    pub(super) fn fail(&mut self, cause: StopCause) {
        if !self.is_failure() {
            self.cause = cause;
        }
    }

    /// A process did not leave in the time that it had.
    pub(super) fn force(&mut self) {
        self.force = Force::Needed;
    }

    pub(super) fn cause(&self) -> StopCause {
        self.cause
    }

    pub(super) fn is_failure(&self) -> bool {
        !matches!(self.cause, StopCause::Asked)
    }

    pub(super) fn code(&self) -> ExitCode {
        match (self.cause, self.force) {
            (StopCause::AgentStart, _) => ExitCode::AgentStart,
            (StopCause::WorkerStart, _) => ExitCode::WorkerStart,
            (StopCause::CrashLoop, _) => ExitCode::CrashLoop,
            (StopCause::Unhealthy, _) => ExitCode::Unhealthy,
            (StopCause::Asked | StopCause::Done, Force::Needed) => ExitCode::ForcedKill,
            (StopCause::Asked | StopCause::Done, Force::Unneeded) => ExitCode::Clean,
        }
    }
}
