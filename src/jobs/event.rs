//! What the jobs are told. Bare facts; who found them out is not their business.

use worker_proto::ids::{Role, Slot, WorkerId};
use worker_proto::job::JobSpec;

use super::offers::Registrant;
use super::roster::Member;

/// A fact that may change what has to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This is what the configuration says from now on.
    Adopt(Plan),
    /// Every process is ready: the clocks start. Given once.
    ClusterReady,
    /// Somebody can be given runs from now on.
    Joined(Member),
    /// It can be given none any more; what it has, it goes on with.
    Left {
        /// Who.
        worker: WorkerId,
    },
    /// The process is gone, and everything that it said before was told.
    Gone {
        /// Who.
        worker: WorkerId,
    },
    /// Nobody will take the seat, but for who has it.
    Vacant {
        /// Of which role.
        role: Role,
        /// Which.
        slot: Slot,
    },
    /// A process wants a job run.
    Register {
        /// Who.
        by: Registrant,
        /// Which.
        spec: JobSpec,
    },
    /// A process wants a job that it registered run no more.
    Unregister {
        /// Who.
        worker: WorkerId,
        /// Which.
        name: String,
    },
    /// A run has ended.
    Done {
        /// Whose.
        worker: WorkerId,
        /// Which.
        run: u64,
        /// What came of it.
        outcome: Result<String, String>,
    },
    /// The cluster ends: nothing is begun any more.
    Stopping,
    /// Time has passed.
    Tick,
}

/// What the configuration says about jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The jobs, each known to be fit.
    pub jobs: Vec<Planned>,
    /// The names of the agents, by slot.
    pub agents: Vec<String>,
}

/// A job of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What it is.
    pub spec: JobSpec,
    /// Whether it runs by itself.
    pub standing: Standing,
}

/// Whether a job of the configuration runs by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// When it is due.
    #[default]
    Enabled,
    /// Only when an operator wants it.
    Disabled,
}
