//! Notices: what the supervisor has to tell. `Display` writes the log line, `level` says how loud.

use std::fmt;
use std::time::Duration;

use log::Level;
use nix::sys::signal;
use worker_proto::ids::{Generation, Role, Slot, WorkerId};

use super::action::Signal;
use super::event::{Disconnect, ExitStatus, Stop, Symptom};
use super::failure::Failure;
use super::plan::{OnCrashLoop, RestartLimit};
use super::wear::Wear;

/// Something worth telling: to the log, to whoever listens to the cluster's events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A process exists.
    Spawned {
        /// Which.
        who: Who,
    },
    /// A process could not be started.
    SpawnFailed {
        /// Which.
        who: Who,
        /// Why.
        reason: String,
        /// What becomes of its slot.
        next: Next,
    },
    /// It said `Hello`.
    Online {
        /// Which.
        who: Who,
    },
    /// It can serve.
    Ready {
        /// Which.
        who: Who,
        /// Since it exists.
        took: Duration,
    },
    /// Every process was ready; told once.
    ClusterReady {
        /// How many workers.
        workers: u32,
        /// How many agents.
        agents: u32,
        /// Since the start.
        took: Duration,
    },
    /// It was not ready in time, and gets SIGTERM.
    ReadyTimeout {
        /// Which.
        who: Who,
        /// How long it had.
        after: Duration,
        /// Whether it said `Hello` at least: if not, it may be no worker at all.
        was_heard: bool,
        /// What becomes of its slot.
        next: Next,
    },
    /// It hangs, and gets SIGABRT. Told before that, so that what it is doing can still be seen.
    Hung {
        /// Which.
        who: Who,
        /// How that shows.
        symptom: Symptom,
        /// What becomes of its slot.
        next: Next,
    },
    /// It said that it leaves, and nobody had asked it to.
    Goodbye {
        /// Which.
        who: Who,
        /// What becomes of its slot.
        next: Next,
    },
    /// Something in it went wrong: it finishes what it has, and is replaced at once.
    Retiring {
        /// Which.
        who: Who,
        /// What went wrong, as it says itself.
        reason: String,
        /// What becomes of its slot.
        next: Next,
    },
    /// It is to be replaced, as soon as a successor is ready.
    Worn {
        /// Which.
        who: Who,
        /// Why.
        why: Wear,
        /// How long it stays at least, since it is not the first to wear out so early.
        delay: Duration,
    },
    /// Its successor has taken its slot, and it has to leave.
    Replaced {
        /// Which.
        who: Who,
        /// Its successor.
        by: Who,
    },
    /// There are to be more workers, or fewer.
    Scaled {
        /// How many there were to be.
        from: u32,
        /// How many there are to be.
        to: u32,
    },
    /// An operator wants the slot filled, which was empty or had somebody in it who leaves first.
    Reopened {
        /// Of which role.
        role: Role,
        /// Which.
        slot: Slot,
    },
    /// A rollout began.
    ReloadStarted {
        /// The new generation.
        generation: Generation,
        /// The generation before.
        from: Generation,
        /// How many slots have to pass to it.
        workers: u32,
    },
    /// One more slot has passed to the new generation.
    ReloadProgress {
        /// The new generation.
        generation: Generation,
        /// How many slots have passed to it.
        renewed: u32,
        /// Of so many.
        workers: u32,
    },
    /// Every slot has passed to the new generation, and nobody of the one before is left.
    ReloadDone {
        /// The new generation.
        generation: Generation,
        /// Since its start.
        took: Duration,
    },
    /// The rollout ends here, and every slot goes back to the generation before.
    RollingBack {
        /// The new generation.
        generation: Generation,
        /// The generation before.
        to: Generation,
        /// Why.
        cause: RollbackCause,
    },
    /// Nobody of the new generation is left that could be replaced.
    RolledBack {
        /// The new generation.
        generation: Generation,
        /// The generation before.
        to: Generation,
        /// Why.
        cause: RollbackCause,
        /// Since the start of the rollout.
        took: Duration,
    },
    /// Too few serve; told once until enough do.
    Unhealthy {
        /// How many workers serve.
        serving: usize,
        /// How many have to.
        least: u32,
        /// How many agents serve.
        agents: usize,
        /// How long this may last.
        patience: Duration,
    },
    /// Its control channel is over; told at most once, and before its `Exited`.
    Disconnected {
        /// Which.
        who: Who,
        /// How that came.
        cause: Disconnect,
        /// Whether it ever said anything.
        was_heard: bool,
        /// What becomes of its slot; `None` if that was told before or is plain.
        next: Option<Next>,
    },
    /// The process is gone; told once.
    Exited {
        /// Which.
        who: Who,
        /// How it ended.
        status: ExitStatus,
        /// How long it existed.
        uptime: Duration,
        /// Whether it was told to leave, and did so without a failure.
        expected: bool,
        /// What becomes of its slot; `None` if that was told before or is plain.
        next: Option<Next>,
    },
    /// It gets SIGTERM.
    Terminating {
        /// Which.
        who: Who,
        /// Why not something kinder.
        why: Why,
    },
    /// It gets SIGKILL: nothing kinder was of use.
    Killing {
        /// Which.
        who: Who,
        /// How long the signal before had.
        after: Duration,
        /// That signal.
        despite: Signal,
    },
    /// A restart was due, but there were too many; told once until restarts flow again.
    RestartLimitReached {
        /// Of which role.
        role: Role,
        /// The limit.
        limit: RestartLimit,
        /// What happens now.
        policy: OnCrashLoop,
    },
    /// A slot is not filled again, since the restart limit was reached or an operator wants it so.
    Parked {
        /// Of which role.
        role: Role,
        /// Which.
        slot: Slot,
        /// Why.
        why: WhyParked,
    },
    /// The cluster stops.
    Stopping {
        /// How.
        how: Stop,
        /// Why.
        cause: StopCause,
    },
}

/// Whom a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// Its identity.
    pub worker: WorkerId,
    /// Its position.
    pub slot: Slot,
    /// The version of the program.
    pub generation: Generation,
    /// What it is for.
    pub role: Role,
    /// `None` if it never existed.
    pub pid: Option<u32>,
}

/// What becomes of a slot whose incumbent is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is filled again after this delay, as far as the restart limit allows.
    RestartIn(Duration),
    /// It stays empty.
    Parked,
    /// The cluster is about to end.
    NotReplaced,
    /// It was to be a successor, and the one before it goes on.
    PredecessorStays,
    /// It was of a new generation: that ends the rollout.
    RolledBack,
}

/// Why a slot is parked while its incumbent has nothing to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyParked {
    /// The restart limit was reached, or nobody is ever restarted.
    GaveUp,
    /// An operator wants it empty.
    Drained,
}

/// Why a process gets SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It had time to leave by itself and did not.
    Overstayed,
    /// The cluster stops, and it has nothing to finish since it was not ready.
    NotReady,
    /// The cluster has to stop fast.
    Hurry,
}

/// Why the cluster stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// Somebody wants it.
    Asked,
    /// An agent failed to start.
    AgentStart,
    /// A worker failed to start.
    WorkerStart,
    /// Too many restarts, or no worker left that could be restarted.
    CrashLoop,
    /// Too few processes served for too long.
    Unhealthy,
    /// Every worker has said with its exit code that it is done.
    Done,
}

/// Why a rollout goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RollbackCause {
    /// An operator wants it.
    Asked,
    /// One of the new generation failed.
    Failed {
        /// Which.
        culprit: Who,
        /// In which way.
        what: Failure,
    },
    /// The cluster stops.
    Stopping,
}

impl Notice {
    /// How loud to say it: `error` if an operator must act, `warn` if something was lost or
    /// retried, `info` for the ordinary course of life.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Notice::SpawnFailed { .. }
            | Notice::RestartLimitReached { .. }
            | Notice::Unhealthy { .. }
            | Notice::Parked {
                why: WhyParked::GaveUp,
                ..
            } => Level::Error,
            Notice::Parked {
                why: WhyParked::Drained,
                ..
            } => Level::Info,
            Notice::Stopping { cause, .. } => match cause {
                StopCause::Asked | StopCause::Done => Level::Info,
                StopCause::AgentStart
                | StopCause::WorkerStart
                | StopCause::CrashLoop
                | StopCause::Unhealthy => Level::Error,
            },
            Notice::ReadyTimeout { .. }
            | Notice::Hung { .. }
            | Notice::Goodbye { .. }
            | Notice::Retiring { .. }
            | Notice::Killing { .. } => Level::Warn,
            Notice::Terminating { why, .. } => match why {
                Why::Overstayed => Level::Warn,
                Why::NotReady | Why::Hurry => Level::Info,
            },
            Notice::Exited { expected, .. } => {
                if *expected {
                    Level::Info
                } else {
                    Level::Warn
                }
            }
            Notice::Disconnected { cause, next, .. } => match (cause, next) {
                (Disconnect::Violation { .. } | Disconnect::Rejected { .. }, _)
                | (Disconnect::Closed | Disconnect::Ended { .. }, Some(_)) => Level::Warn,
                (Disconnect::Closed | Disconnect::Ended { .. }, None) => Level::Debug,
            },
            Notice::RollingBack { cause, .. } | Notice::RolledBack { cause, .. } => match cause {
                RollbackCause::Failed { .. } => Level::Error,
                RollbackCause::Asked | RollbackCause::Stopping => Level::Warn,
            },
            Notice::Online { .. } => Level::Debug,
            Notice::Spawned { .. }
            | Notice::Ready { .. }
            | Notice::ClusterReady { .. }
            | Notice::Worn { .. }
            | Notice::Replaced { .. }
            | Notice::Scaled { .. }
            | Notice::Reopened { .. }
            | Notice::ReloadStarted { .. }
            | Notice::ReloadProgress { .. }
            | Notice::ReloadDone { .. } => Level::Info,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Spawned { who } => write!(f, "{who} spawned"),
            Notice::SpawnFailed { who, reason, next } => {
                write!(f, "{who} failed to spawn: {reason}, {next}")
            }
            Notice::Online { who } => write!(f, "{who} online"),
            Notice::Ready { who, took } => write!(f, "{who} ready after {}", Span(*took)),
            Notice::ClusterReady {
                workers,
                agents,
                took,
            } => write!(
                f,
                "cluster ready: {}, {} after {}",
                Count(*workers, Role::Worker),
                Count(*agents, Role::Agent),
                Span(*took)
            ),
            Notice::ReadyTimeout {
                who,
                after,
                was_heard,
                next,
            } => {
                write!(f, "{who} not ready after {}", Span(*after))?;
                if !was_heard {
                    f.write_str(" and was never heard of")?;
                }
                write!(f, ": SIGTERM, {next}")
            }
            Notice::Hung { who, symptom, next } => {
                write!(f, "{who} hangs: {symptom}: {}, {next}", Signal::Abort)
            }
            Notice::Goodbye { who, next } => write!(f, "{who} leaves unasked, {next}"),
            Notice::Retiring { who, reason, next } => write!(f, "{who} retires: {reason}, {next}"),
            Notice::Worn { who, why, delay } if delay.is_zero() => {
                write!(f, "{who} is to be replaced: {why}")
            }
            Notice::Worn { who, why, delay } => {
                write!(f, "{who} is to be replaced in {}: {why}", Span(*delay))
            }
            Notice::Replaced { who, by } => write!(f, "{who} replaced by {by}"),
            Notice::Scaled { from, to } => {
                write!(f, "scale from {from} to {}", Count(*to, Role::Worker))
            }
            Notice::Reopened { role, slot } => write!(f, "{role} slot={slot} is filled again"),
            Notice::ReloadStarted {
                generation,
                from,
                workers,
            } => write!(
                f,
                "reload: generation {generation} begins, {from} has {}",
                Count(*workers, Role::Worker)
            ),
            Notice::ReloadProgress {
                generation,
                renewed,
                workers,
            } => write!(
                f,
                "reload: {renewed} of {workers} at generation {generation}"
            ),
            Notice::ReloadDone { generation, took } => write!(
                f,
                "reload: all at generation {generation} after {}",
                Span(*took)
            ),
            Notice::RollingBack {
                generation,
                to,
                cause,
            } => write!(
                f,
                "reload: back from generation {generation} to {to}: {cause}"
            ),
            Notice::RolledBack {
                generation,
                to,
                cause,
                took,
            } => write!(
                f,
                "reload: generation {generation} given up after {}, all at {to}: {cause}",
                Span(*took)
            ),
            Notice::Unhealthy {
                serving,
                least,
                agents,
                patience,
            } => write!(
                f,
                "unhealthy: of the workers {serving} serve (at least {least} have to), of the agents {agents} (all have to): giving up in {}",
                Span(*patience)
            ),
            Notice::Disconnected {
                who, cause, next, ..
            } => {
                match cause {
                    Disconnect::Closed | Disconnect::Ended { .. } => {
                        write!(f, "{who} closed its control channel")?;
                    }
                    Disconnect::Rejected { what } => write!(f, "{who} is not welcome: {what}")?,
                    Disconnect::Violation { what } => {
                        write!(f, "{who} broke the protocol: {what}: SIGTERM")?;
                    }
                }
                write_next(f, *next)
            }
            Notice::Exited {
                who,
                status,
                uptime,
                expected: _,
                next,
            } => {
                write!(f, "{who} exited after {}: {status}", Span(*uptime))?;
                write_next(f, *next)
            }
            Notice::Terminating { who, why } => write!(f, "{who} {why}: SIGTERM"),
            Notice::Killing {
                who,
                after,
                despite,
            } => {
                let after = Span(*after);
                write!(f, "{who} alive {after} after {despite}: {}", Signal::Kill)
            }
            Notice::RestartLimitReached {
                role,
                limit,
                policy,
            } => write!(
                f,
                "restart limit{} reached: {} in {}, {policy}",
                match role {
                    Role::Agent => " of agents",
                    Role::Worker => "",
                },
                limit.count,
                Span(limit.window)
            ),
            Notice::Parked { role, slot, why } => {
                write!(f, "{role} slot={slot} parked")?;
                match why {
                    WhyParked::GaveUp => Ok(()),
                    WhyParked::Drained => f.write_str(": drained by an operator"),
                }
            }
            Notice::Stopping { how, cause } => write!(f, "stopping {how}: {cause}"),
        }
    }
}

fn write_next(f: &mut fmt::Formatter<'_>, next: Option<Next>) -> fmt::Result {
    match next {
        Some(next) => write!(f, ", {next}"),
        None => Ok(()),
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role {
            Role::Worker => write!(f, "{}", self.worker)?,
            Role::Agent => f.write_str("agent")?,
        }
        write!(f, " slot={} gen={}", self.slot, self.generation)?;
        match self.pid {
            Some(pid) => write!(f, " pid={pid}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Next::RestartIn(delay) => write!(f, "restart in {}", Span(*delay)),
            Next::Parked => f.write_str("slot parked"),
            Next::NotReplaced => f.write_str("not replaced"),
            Next::PredecessorStays => f.write_str("the one before it stays"),
            Next::RolledBack => f.write_str("the reload goes back"),
        }
    }
}

impl fmt::Display for Symptom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Symptom::Silent { lasted } => write!(f, "no answer to a ping for {}", Span(*lasted)),
            Symptom::Unmoved { lasted } => {
                write!(f, "its accept queue did not move for {}", Span(*lasted))
            }
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Signal::Ask => "its stop signal",
            Signal::Terminate => "SIGTERM",
            Signal::Abort => "SIGABRT",
            Signal::Kill => "SIGKILL",
        })
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Overstayed => "did not leave in time",
            Why::NotReady => "not ready yet",
            Why::Hurry => "has to leave at once",
        })
    }
}

impl fmt::Display for StopCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StopCause::Asked => "asked to",
            StopCause::AgentStart => "an agent failed to start",
            StopCause::WorkerStart => "a worker failed to start",
            StopCause::CrashLoop => "gave up on a crash loop",
            StopCause::Unhealthy => "too few served for too long",
            StopCause::Done => "every worker is done",
        })
    }
}

impl fmt::Display for RollbackCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RollbackCause::Asked => f.write_str("asked to"),
            RollbackCause::Failed { culprit, what } => write!(f, "{culprit} {what}"),
            RollbackCause::Stopping => f.write_str("the cluster stops"),
        }
    }
}

impl fmt::Display for OnCrashLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OnCrashLoop::Hold => "restarts wait",
            OnCrashLoop::Park => "slots are parked",
            OnCrashLoop::Exit => "giving up",
        })
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stop::Graceful => "gracefully",
            Stop::Fast => "fast",
        })
    }
}

/// `code 1`, `signal SIGSEGV (core dumped)`.
impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ExitStatus::Code(code) => write!(f, "code {code}"),
            ExitStatus::Signal {
                signal,
                core_dumped,
            } => {
                match signal::Signal::try_from(signal) {
                    Ok(signal) => write!(f, "signal {signal}")?,
                    Err(_) => write!(f, "signal {signal}")?, // A real-time signal has no name.
                }
                f.write_str(if core_dumped { " (core dumped)" } else { "" })
            }
        }
    }
}

/// A duration as a person reads it: `250 ms`, `1.5 s`, `3600 s`.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Span(span) = self;
        if *span < Duration::from_secs(1) {
            return write!(f, "{} ms", span.as_millis());
        }
        write!(f, "{}", span.as_secs())?;
        match span.subsec_millis() / 10 {
            0 => f.write_str(" s"),
            tenths if tenths % 10 == 0 => write!(f, ".{} s", tenths / 10),
            hundredths => write!(f, ".{hundredths:02} s"),
        }
    }
}

/// `1 agent`, `4 workers`.
struct Count(u32, Role);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count(count, role) = self;
        write!(f, "{count} {role}{}", if *count == 1 { "" } else { "s" })
    }
}
