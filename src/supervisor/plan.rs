//! The plan: what the supervisor is asked to keep alive, and with how much patience. Data only.

use std::time::Duration;

/// What should run, and the limits that the supervisor keeps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many workers.
    pub workers: u32,
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
