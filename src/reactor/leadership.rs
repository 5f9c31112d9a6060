//! Who leads, asked and told: frames to the leadership and back, and what operators hear of it.

use std::time::Instant;

use serde_json::json;
use worker_proto::ids::WorkerId;

use super::{Reactor, clock};
use crate::control::event::Fact;
use crate::leadership::{Asker, Change, Electorate, Stage};
use crate::supervisor::WorkerState;

impl Reactor {
    /// The process offers to lead.
    pub(super) fn offer_to_lead(&mut self, worker: WorkerId, name: &str) {
        if let Some(asker) = self.asker(worker) {
            self.leadership.offer(asker, name);
        }
    }

    /// The process wants to know who leads.
    pub(super) fn follow(&mut self, worker: WorkerId, name: &str) {
        if let Some(asker) = self.asker(worker) {
            self.leadership.follow(asker, name);
        }
    }

    /// Tells processes and operators who leads, where that has changed; answers whether there was
    /// anything.
    pub(super) fn tell_leaders(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some((worker, frame)) = self.leadership.poll_news() {
            any = true;
            self.tell(worker, frame, None, now);
        }
        while let Some(change) = self.leadership.poll_change() {
            self.announce_leader(&change, now);
        }
        any
    }

    fn asker(&self, worker: WorkerId) -> Option<Asker> {
        let view = self.supervisor.worker(worker)?;
        Some(Asker {
            worker,
            role: view.role,
            generation: view.generation,
            stage: match view.state {
                WorkerState::Spawning | WorkerState::Starting => Stage::Starting,
                WorkerState::Standby | WorkerState::Serving => Stage::Ready,
                WorkerState::Leaving => Stage::Leaving,
            },
        })
    }

    fn announce_leader(&mut self, change: &Change, now: Instant) {
        let Change { name, term, leader } = change;
        let view = leader.and_then(|leader| self.supervisor.worker(leader));
        let text = match view {
            Some(view) => format!("{} leads {name:?}, term {term}", view.who()),
            None => format!("nobody leads {name:?}, term {term}"),
        };
        if !self.elections.may_be_told(now) {
            return log::debug!("{text}");
        }
        log::info!("{text}");
        let fields = json!({ "led": name, "term": term, "worker": leader.map(|it| it.0) });
        self.announce(clock::wall(), Fact::of_cluster("leader", text, fields));
    }
}

/// In a cluster with agents only they lead.
pub(super) fn electorate(agents: usize) -> Electorate {
    match agents {
        0 => Electorate::Workers,
        _ => Electorate::Agents,
    }
}
