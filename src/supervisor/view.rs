//! What the supervisor shows of a process to those who ask.

use std::time::Instant;

use worker_proto::ids::{Generation, Role, Slot, WorkerId};

use super::notice::Who;
use super::phase::{Phase, Post};
use super::process::Process;

/// A process as the supervisor knows it, worker or agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerView {
    /// Its identity.
    pub worker: WorkerId,
    /// Its position among those of its role.
    pub slot: Slot,
    /// The version of the program.
    pub generation: Generation,
    /// What it is for.
    pub role: Role,
    /// `None` until it exists.
    pub pid: Option<u32>,
    /// How far it has come.
    pub state: WorkerState,
    /// Since when it is in that state.
    pub since: Instant,
    /// Since when it exists; until it does, since when it was ordered.
    pub born: Instant,
}

/// A rollout as it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolloutView {
    /// The generation before.
    pub from: Generation,
    /// The new one.
    pub to: Generation,
    /// Whether it goes back to the one before.
    pub is_rollback: bool,
    /// How many slots have passed to the new generation.
    pub renewed: u32,
    /// Since when.
    pub since: Instant,
}

/// How far a process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkerState {
    /// It was ordered.
    Spawning,
    /// It exists and is not ready.
    Starting,
    /// It is ready, and gets no connections: an agent, or a spare worker.
    Standby,
    /// It is ready, and in the rotation.
    Serving,
    /// It has to be gone.
    Leaving,
}

impl WorkerView {
    /// What it is called in the log.
    #[must_use]
    pub fn who(&self) -> Who {
        Who {
            worker: self.worker,
            slot: self.slot,
            generation: self.generation,
            role: self.role,
            pid: self.pid,
        }
    }
}

impl From<&Process> for WorkerView {
    fn from(process: &Process) -> Self {
        WorkerView {
            worker: process.worker,
            slot: process.slot,
            generation: process.generation,
            role: process.role,
            pid: process.pid,
            state: process.phase.into(),
            since: process.since,
            born: process.born,
        }
    }
}

impl From<Phase> for WorkerState {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Spawning { .. } => WorkerState::Spawning,
            Phase::Starting { .. } => WorkerState::Starting,
            Phase::Serving {
                post: Post::Standby,
            } => WorkerState::Standby,
            Phase::Serving {
                post: Post::Rotation,
            } => WorkerState::Serving,
            Phase::Leaving { .. } => WorkerState::Leaving,
        }
    }
}
