//! What the supervisor is told. Bare facts; who found them out is not its business.

use std::time::Duration;

use worker_proto::ids::WorkerId;

use super::wear::Wear;

/// A fact that may change what has to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The listeners are bound: start the cluster. Given once.
    Start,
    /// The process exists.
    Spawned {
        /// Whose `Spawn` succeeded.
        worker: WorkerId,
        /// Its pid, for notices.
        pid: u32,
    },
    /// There is no process.
    SpawnFailed {
        /// Whose `Spawn` failed.
        worker: WorkerId,
        /// Why, for a person.
        reason: String,
    },
    /// Its `Hello` was welcome.
    Online {
        /// Who.
        worker: WorkerId,
    },
    /// It can serve.
    Ready {
        /// Who.
        worker: WorkerId,
    },
    /// It answered a ping.
    Pong {
        /// Who.
        worker: WorkerId,
        /// Which ping.
        token: u64,
    },
    /// Something could not be said to it yet, for want of resources: it owes no answer meanwhile.
    Untold {
        /// Whom.
        worker: WorkerId,
    },
    /// It does not do what it is there for. Only one that serves can hang: who starts has its ready
    /// timeout, and who leaves has its own deadlines.
    Hung {
        /// Who.
        worker: WorkerId,
        /// How that shows.
        symptom: Symptom,
    },
    /// It is to leave, was not told so, and has nothing left to finish or not much time: it gets its
    /// stop signal. Only of programs that do not speak to their master.
    Idle {
        /// Who.
        worker: WorkerId,
    },
    /// It is about to exit of its own accord.
    Goodbye {
        /// Who.
        worker: WorkerId,
    },
    /// Something in it went wrong: it serves what it has, and wants to be replaced.
    Retiring {
        /// Who.
        worker: WorkerId,
        /// What went wrong, for a person.
        reason: String,
    },
    /// It could go on, but should be replaced: its successor comes first.
    Worn {
        /// Who.
        worker: WorkerId,
        /// Why.
        why: Wear,
    },
    /// Its control channel is over, after everything on it was read.
    Disconnected {
        /// Who.
        worker: WorkerId,
        /// How that came.
        cause: Disconnect,
    },
    /// The process is gone.
    Exited {
        /// Who.
        worker: WorkerId,
        /// How it ended.
        status: ExitStatus,
    },
    /// Everything in the listen backlogs was accepted and handed off, and the listeners are closed.
    ListenersClosed,
    /// The cluster must end.
    Stop(Stop),
    /// Time has passed.
    Tick,
}

/// How a control channel ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// The process closed it.
    Closed,
    /// The process ended.
    Ended {
        /// How.
        status: ExitStatus,
    },
    /// Its `Hello` was not welcome; it was told why, and the master closed the channel.
    Rejected {
        /// What is wrong with it, for a person.
        what: String,
    },
    /// The process broke the protocol; the master closed it.
    Violation {
        /// What it did, for a person.
        what: String,
    },
}

/// How it shows that a process hangs. Only time in which the master's own loop turned counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symptom {
    /// It did not answer a ping. The supervisor finds this out by itself.
    Silent {
        /// For how long.
        lasted: Duration,
    },
    /// Connections wait in one of its accept queues, and it receives none.
    Unmoved {
        /// For how long.
        lasted: Duration,
    },
}

/// How a process ended, see `wait(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It called `exit`.
    Code(i32),
    /// A signal ended it.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether it left a core file.
        core_dumped: bool,
    },
}

/// How the cluster ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Serve what was accepted, then leave. Asked for again, it becomes fast.
    Graceful,
    /// SIGTERM at once, SIGKILL soon after.
    Fast,
}
