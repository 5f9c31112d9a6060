//! Farewells: programs that do not speak to their master, and are to leave.
//!
//! Such a program gets nothing more, and its stop signal when it has nothing left to finish: a
//! program without a handler of its own would lose what it has. Shortly before the deadline it gets
//! the signal all the same, so that one with a handler can finish in its own way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use worker_proto::ids::WorkerId;

use super::link::Link;
use super::{Reactor, turn};
use crate::config::farewell::Farewell;
use crate::supervisor::{Event, Stage};

/// Who is to leave, and has not got its stop signal yet.
#[derive(Debug, Default)]
pub(super) struct Farewells {
    leaving: BTreeMap<WorkerId, Leaving>,
    /// Nothing says that the last connection has ended, if it ends in a process that was started by
    /// the program: when to look again.
    look_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Leaving {
    /// Until then what it has not counted yet may be on its way to it.
    settled_at: Instant,
    /// When it gets the signal, whatever it does.
    latest: Instant,
}

impl Farewells {
    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.leaving.remove(&worker);
        if self.leaving.is_empty() {
            self.look_at = None;
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.look_at
    }
}

impl Reactor {
    /// Whether the process reads what it is told.
    pub(super) fn is_heard(&self, worker: WorkerId) -> bool {
        let process = self.processes.get(&worker);
        process.is_some_and(|process| process.link().is_some_and(Link::is_introduced))
    }

    /// A program that cannot be told so is to leave.
    pub(super) fn part_from(&mut self, worker: WorkerId, within: Duration, now: Instant) {
        self.acceptor.leave(worker, &mut turn!(self, now));
        if let Some(process) = self.processes.get(&worker) {
            let (role, slot) = (process.role, process.slot);
            let is_awaited = || self.supervisor.is_awaited(role, slot);
            let is_replaced = self.supervisor.stage() == Stage::Serving && is_awaited();
            // Otherwise nobody else would take what it has not received: it has time for that.
            if is_replaced || self.supervisor.serving(role) > 0 {
                self.acceptor.dismiss(worker, slot, &mut turn!(self, now));
            }
        }
        self.note_peer(worker);
        let latest = match self.config.farewell {
            Farewell::AtOnce => now,
            Farewell::Idle => now + within.saturating_sub(FOR_ITS_OWN_STOP.min(within / 4)),
        };
        let settled_at = (now + SETTLING).min(latest);
        self.farewells
            .leaving
            .insert(worker, Leaving { settled_at, latest });
        self.farewells.look_at = Some(now);
    }

    /// Gives those their stop signal who have nothing left to finish, or not much time.
    pub(super) fn say_farewell(&mut self, now: Instant) {
        if self.farewells.look_at.is_none_or(|at| now < at) {
            return;
        }
        let (loads, acceptor) = (&mut self.loads, &self.acceptor);
        let due = self.farewells.leaving.iter().filter(|(worker, leaving)| {
            let has_counted_all = now >= leaving.settled_at;
            let is_idle = loads.is_idle(**worker, has_counted_all);
            now >= leaving.latest || is_idle && !acceptor.is_waited_for(**worker)
        });
        let due: Vec<WorkerId> = due.map(|(worker, _)| *worker).collect();
        for worker in due {
            self.farewells.leaving.remove(&worker);
            self.supervisor.handle(now, Event::Idle { worker });
        }
        self.farewells.look_at =
            (!self.farewells.leaving.is_empty()).then(|| now + LOOK_AGAIN_AFTER);
        self.execute_actions(now);
    }
}

/// What a program with a handler of its own has at the end, if there is so much.
const FOR_ITS_OWN_STOP: Duration = Duration::from_secs(5);

/// From when a program receives a connection to when it has counted it, at the most.
const SETTLING: Duration = Duration::from_millis(500);

/// Less than anybody notices of a stop.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);
