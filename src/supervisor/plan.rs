//! The plan: what the supervisor is asked to keep alive, and with how much patience. Data only.

use std::time::Duration;

use super::wear::Jitter;

/// What should run, and the limits that the supervisor keeps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many workers receive connections.
    pub workers: u32,
    /// How many more are ready to take the place of one that is missing.
    pub spare: u32,
    /// How many agents; they start before the first worker and stop after the last.
    pub agents: u32,
    /// From the process's start to its `Ready`.
    pub ready_timeout: Duration,
    /// From the order to leave to SIGTERM.
    pub stop_timeout: Duration,
    /// From SIGTERM or SIGABRT to SIGKILL.
    pub kill_timeout: Duration,
    /// How long a process that serves may owe the answer to a ping; `None`: for ever, and nobody is
    /// asked.
    pub hang_timeout: Option<Duration>,
    /// What happens after an exit that nobody asked for.
    pub restart: Restart,
    /// Exit codes that say that the process is done: its slot stays empty.
    pub stop_exit_codes: Vec<i32>,
    /// How old a worker may get.
    pub max_age: Option<Duration>,
    /// By how much limits on age and the like are lowered, worker by worker.
    pub jitter: Jitter,
    /// With fewer serving workers, or without one of the agents, the cluster is unhealthy.
    pub min_workers: u32,
    /// A cluster that was unhealthy for so long ends with
    /// [`ExitCode::Unhealthy`](crate::ExitCode::Unhealthy); `None`: it never does.
    pub unhealthy_exit: Option<Duration>,
}

impl Plan {
    /// How many slots for workers there are.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots_for(self.workers)
    }

    /// How many there would be with so many workers.
    pub(super) fn slots_for(&self, workers: u32) -> u32 {
        match workers {
            0 => 0,
            workers => workers.saturating_add(self.spare),
        }
    }
}

/// What happens after an exit that nobody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restart {
    /// The slot stays empty: for development (`--no-refork`).
    Never,
    /// The slot is filled again, after a delay and within limits.
    Always {
        /// How long the next start waits.
        backoff: BackoffPlan,
        /// How many restarts, of all slots together, are too many.
        limit: RestartLimit,
        /// What happens then.
        on_crash_loop: OnCrashLoop,
    },
}

/// The delay before a slot is filled again: `first * 1.5^n`, at most `max`, where `n` counts the
/// failures in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffPlan {
    /// The first delay.
    pub first: Duration,
    /// The longest delay.
    pub max: Duration,
    /// A worker that served this long ends the row.
    pub healthy_after: Duration,
}

/// At most `count` restarts within any `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartLimit {
    /// How many restarts.
    pub count: u32,
    /// Within how long.
    pub window: Duration,
}

/// What happens when the restart limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCrashLoop {
    /// Restarts go on as soon as the window allows.
    Hold,
    /// The slot is parked: not filled again. When every worker slot is parked the master gives up.
    Park,
    /// The master stops with [`ExitCode::CrashLoop`](crate::ExitCode::CrashLoop).
    Exit,
}
