//! The verdict: what happened that decides the exit code.

use super::notice::StopCause;
use crate::exit_code::ExitCode;

/// What there is to say against the cluster at its end.
#[derive(Debug)]
pub(super) struct Verdict {
    cause: StopCause,
    leaving: Leaving,
}

/// How the processes left when they were given time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    Clean,
    Unclean,
}

impl Verdict {
    /// Nothing so far.
    pub(super) fn clean() -> Verdict {
        Verdict {
            cause: StopCause::Asked,
            leaving: Leaving::Clean,
        }
    }

    /// Something failed that ends the cluster. The first failure counts; the others follow from it.
    pub(super) fn fail(&mut self, cause: StopCause) {
        if !self.is_failure() {
            self.cause = cause;
        }
    }

    /// A process failed, or did not leave in the time that it had.
    pub(super) fn spoil(&mut self) {
        self.leaving = Leaving::Unclean;
    }

    pub(super) fn cause(&self) -> StopCause {
        self.cause
    }

    pub(super) fn is_failure(&self) -> bool {
        !matches!(self.cause, StopCause::Asked)
    }

    pub(super) fn code(&self) -> ExitCode {
        match (self.cause, self.leaving) {
            (StopCause::AgentStart, _) => ExitCode::AgentStart,
            (StopCause::WorkerStart, _) => ExitCode::WorkerStart,
            (StopCause::CrashLoop, _) => ExitCode::CrashLoop,
            (StopCause::Unhealthy, _) => ExitCode::Unhealthy,
            (StopCause::Asked | StopCause::Done, Leaving::Unclean) => ExitCode::Unclean,
            (StopCause::Asked | StopCause::Done, Leaving::Clean) => ExitCode::Clean,
        }
    }
}
