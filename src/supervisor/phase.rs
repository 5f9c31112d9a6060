//! The phase of one process: where it is between its `Spawn` and its `Forget`.
//!
//! A phase that waits for somebody carries its deadline. `Killed` does not: it waits for the
//! kernel, which has promised.

use std::time::Instant;

/// Where a process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its start was ordered; whether there is a process has to be known by the deadline.
    Spawning { deadline: Instant },
    /// It exists and must be ready by the deadline.
    Starting { deadline: Instant },
    /// It was ready and has not begun to leave.
    Serving { post: Post },
    /// It has to be gone.
    Leaving { departure: Departure, step: Step },
}

/// What a process that is ready does. Agents are always on standby: connections are not for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Post {
    /// It receives connections.
    Rotation,
    /// It could, and does as soon as somebody is missing.
    Standby,
}

/// Whether somebody wanted it to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Departure {
    /// The supervisor.
    Ordered,
    /// Nobody: it failed, or leaves of its own accord.
    Unasked,
}

/// How much force was used to make it leave; grows with each deadline that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It leaves by itself until then.
    Free { until: Instant },
    /// It got its stop signal, which it may take as it likes, and leaves by itself until then.
    Asked { until: Instant },
    /// It got SIGTERM and has until then.
    Terminated { until: Instant },
    /// It got SIGABRT, since it hangs, and has until then.
    Aborted { until: Instant },
    /// It got SIGKILL: the kernel does the rest.
    Killed,
}

impl Phase {
    /// When the supervisor has to act if nothing happens.
    pub(super) fn deadline(self) -> Option<Instant> {
        match self {
            Phase::Spawning { deadline } | Phase::Starting { deadline } => Some(deadline),
            Phase::Leaving { step, .. } => step.until(),
            Phase::Serving { .. } => None,
        }
    }
}

impl Step {
    fn until(self) -> Option<Instant> {
        match self {
            Step::Free { until }
            | Step::Asked { until }
            | Step::Terminated { until }
            | Step::Aborted { until } => Some(until),
            Step::Killed => None,
        }
    }
}
