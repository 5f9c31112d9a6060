//! The stage: how far the cluster as a whole has come. It only ever moves forward.

use std::time::Instant;

use worker_proto::ids::Role;

use super::event::Stop;

/// How far the cluster has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing was started yet.
    Idle,
    /// The processes of this role are starting: agents first, then workers.
    Booting {
        /// Whose turn it is.
        role: Role,
        /// When the start began.
        since: Instant,
    },
    /// The whole cluster was ready once; what dies is replaced.
    Serving,
    /// A graceful stop began: what waits in the listen backlogs is still served.
    Closing {
        /// When the workers must be gone.
        deadline: Instant,
    },
    /// The processes of this role are leaving: workers first, then agents.
    Stopping {
        /// Whose turn it is.
        role: Role,
        /// How.
        how: Stop,
        /// When they must be gone, in a graceful stop.
        deadline: Instant,
    },
    /// Nothing is left.
    Finished,
}

/// What a stage wants of the processes of one role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Every slot filled.
    All,
    /// What there is may stay; nothing new.
    NoMore,
    /// Nobody.
    None { how: Stop, deadline: Instant },
}

impl Stage {
    pub(super) fn wish(self, wanted: Role) -> Wish {
        match self {
            Stage::Serving => Wish::All,
            Stage::Booting { role, .. } => match (role, wanted) {
                (Role::Worker, _) | (Role::Agent, Role::Agent) => Wish::All,
                (Role::Agent, Role::Worker) => Wish::NoMore,
            },
            Stage::Stopping {
                role,
                how,
                deadline,
            } => match (role, wanted) {
                (Role::Agent, _) | (Role::Worker, Role::Worker) => Wish::None { how, deadline },
                (Role::Worker, Role::Agent) => Wish::NoMore,
            },
            Stage::Idle | Stage::Closing { .. } | Stage::Finished => Wish::NoMore,
        }
    }

    /// The moment at which the stage ends by itself.
    pub(super) fn deadline(self) -> Option<Instant> {
        match self {
            Stage::Closing { deadline } => Some(deadline),
            Stage::Idle
            | Stage::Booting { .. }
            | Stage::Serving
            | Stage::Stopping { .. }
            | Stage::Finished => None,
        }
    }

    pub(super) fn is_booting(self) -> bool {
        matches!(self, Stage::Booting { .. })
    }

    /// Whether the cluster is on its way out, and if so, how.
    pub(super) fn stopping(self) -> Option<Stop> {
        match self {
            Stage::Closing { .. } => Some(Stop::Graceful),
            Stage::Stopping { how, .. } => Some(how),
            Stage::Idle | Stage::Booting { .. } | Stage::Serving | Stage::Finished => None,
        }
    }
}
