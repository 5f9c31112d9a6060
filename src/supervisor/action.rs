//! What the supervisor wants done. The reactor does it, in this order, and reports with events.

use std::time::Duration;

use worker_proto::ids::{Generation, Role, Slot, WorkerId};

use super::notice::Notice;
use crate::exit_code::ExitCode;

/// An order to the reactor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a process; answered by `Spawned` or `SpawnFailed`.
    Spawn {
        /// Its identity.
        worker: WorkerId,
        /// Its position.
        slot: Slot,
        /// The version of the program.
        generation: Generation,
        /// What it is for.
        role: Role,
    },
    /// It may receive connections from now on.
    Enter {
        /// Who.
        worker: WorkerId,
    },
    /// It receives no more connections; what is already in its accept queues stays there.
    Leave {
        /// Who.
        worker: WorkerId,
    },
    /// Tell it that the whole cluster is ready.
    AnnounceReady {
        /// Whom.
        worker: WorkerId,
    },
    /// Ask it whether it is alive; answered by `Pong`, by `Untold` if it could not be asked yet, or
    /// not at all.
    Ping {
        /// Whom.
        worker: WorkerId,
        /// Comes back with the answer.
        token: u64,
    },
    /// Accept what waits in the backlogs, hand it off, close the listeners. Answered by
    /// `ListenersClosed`.
    CloseListeners,
    /// Close the listeners without serving what waits in them. Not answered.
    AbandonListeners,
    /// Tell it to finish and end its accept queues.
    Drain {
        /// Whom.
        worker: WorkerId,
        /// How long until it gets SIGTERM.
        within: Duration,
    },
    /// Send it a signal.
    Signal {
        /// Whom.
        worker: WorkerId,
        /// Which.
        signal: Signal,
    },
    /// Close its control channel, take back what it left unread, forget it. The last action about
    /// this worker.
    Forget {
        /// Whom.
        worker: WorkerId,
    },
    /// Tell whoever is interested.
    Notify(Notice),
    /// Nothing is left: end the master. The last action of all.
    Finish {
        /// With this exit code.
        code: ExitCode,
    },
}

/// The signals that the supervisor sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Its stop signal, to its process group: the one that its program takes as the wish to finish
    /// and exit.
    Ask,
    /// SIGTERM, to its process group.
    Terminate,
    /// SIGABRT, to the process alone: it is for the core dump of the one that hangs, and its helpers
    /// would only add theirs. What it leaves behind in its group gets SIGTERM as after any death.
    Abort,
    /// SIGKILL, to its process group.
    Kill,
}
