//! One process that the supervisor knows, worker or agent, from its `Spawn` to its `Forget`.

use std::time::{Duration, Instant};

use worker_proto::ids::{Generation, Role, Slot, WorkerId};

use super::notice::Who;
use super::phase::{Departure, Phase, Post, Step};
use super::pulse::Pulse;
use super::wear::Wear;

/// A process, alive or about to be.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) worker: WorkerId,
    pub(super) slot: Slot,
    pub(super) generation: Generation,
    pub(super) role: Role,
    pub(super) pid: Option<u32>,
    /// Since when there is a process; until then, since when it was ordered.
    pub(super) born: Instant,
    /// Since when it can serve, if it ever could.
    pub(super) ready_at: Option<Instant>,
    pub(super) channel: Channel,
    pub(super) pulse: Pulse,
    /// Why it is to be replaced, and from when on, whatever keeps its turn from coming.
    pub(super) worn: Option<(Wear, Instant)>,
    pub(super) phase: Phase,
    /// Since when it is in that phase.
    pub(super) since: Instant,
}

/// The state of its control channel, as far as it was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    /// Nothing was heard yet.
    Silent,
    /// It said `Hello`.
    Open,
    Over,
}

impl Process {
    /// A process whose `Spawn` is ordered now.
    pub(super) fn ordered(
        now: Instant,
        worker: WorkerId,
        (role, slot): (Role, Slot),
        generation: Generation,
        deadline: Instant,
    ) -> Process {
        Process {
            worker,
            slot,
            generation,
            role,
            pid: None,
            born: now,
            ready_at: None,
            channel: Channel::Silent,
            pulse: Pulse::default(),
            worn: None,
            phase: Phase::Spawning { deadline },
            since: now,
        }
    }

    pub(super) fn turn(&mut self, now: Instant, phase: Phase) {
        self.phase = phase;
        self.since = now;
    }

    /// Ready, and not leaving.
    pub(super) fn is_serving(&self) -> bool {
        matches!(self.phase, Phase::Serving { .. })
    }

    /// It receives connections.
    pub(super) fn is_in_rotation(&self) -> bool {
        let post = Post::Rotation;
        self.phase == Phase::Serving { post }
    }

    /// It could receive connections.
    pub(super) fn is_on_standby(&self) -> bool {
        let post = Post::Standby;
        self.role == Role::Worker && self.phase == Phase::Serving { post }
    }

    /// It serves no more, and has to be gone.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving { .. })
    }

    /// Whether somebody wants it to leave, so that its exit is no failure.
    pub(super) fn was_told_to_leave(&self) -> bool {
        match self.phase {
            Phase::Leaving { departure, .. } => departure == Departure::Ordered,
            Phase::Spawning { .. } | Phase::Starting { .. } | Phase::Serving { .. } => false,
        }
    }

    /// Whether it got a signal to leave, so that how it ends is not up to it.
    pub(super) fn is_pressed(&self) -> bool {
        match self.phase {
            Phase::Leaving { step, .. } => !matches!(step, Step::Free { .. }),
            Phase::Spawning { .. } | Phase::Starting { .. } | Phase::Serving { .. } => false,
        }
    }

    /// For how long it has been serving.
    pub(super) fn served(&self, now: Instant) -> Duration {
        if self.is_serving() {
            now.saturating_duration_since(self.since)
        } else {
            Duration::ZERO
        }
    }

    /// Whether it has let its deadline pass.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.phase
            .deadline()
            .is_some_and(|deadline| deadline <= now)
    }

    pub(super) fn uptime(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.born)
    }

    pub(super) fn who(&self) -> Who {
        Who {
            worker: self.worker,
            slot: self.slot,
            generation: self.generation,
            role: self.role,
            pid: self.pid,
        }
    }
}
