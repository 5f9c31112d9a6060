//! Messages between processes: from their links into the relay, and out again.
//!
//! They never keep a connection waiting: in each turn only so much is read and written, counted in
//! what it costs, and then the listeners have their turn.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Instant;

use worker_proto::frame::ToMaster;
use worker_proto::ids::{Role, WorkerId};
use worker_proto::message::{More, Send};

use super::link::{Broken, Posted};
use super::process::Process;
use super::{Reactor, clock};
use crate::config::Config;
use crate::config::messages::MessageLimits;
use crate::config::program::Program;
use crate::control::time::UnixTime;
use crate::relay::{Identity, Limits, Nonsense, Relay};

/// How far the messages of this turn have come.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// Whose channel was full when it was written to last.
    blocked: BTreeSet<WorkerId>,
    /// Who was written to last: the next one comes first in the next turn.
    written: Option<WorkerId>,
    /// Who was heard last.
    pub(super) heard: Option<WorkerId>,
}

impl Mail {
    /// The channel may have room again, or is gone.
    pub(super) fn unblock(&mut self, worker: WorkerId) {
        self.blocked.remove(&worker);
    }
}

/// The relay of a cluster that is about to start.
pub(super) fn relay(config: &Config) -> Relay {
    let MessageLimits {
        max_message,
        memory,
        hold,
    } = config.messages;
    let limits = Limits {
        max_message,
        memory,
        hold,
    };
    let agents = config.agents.iter().map(Program::name).collect();
    let UnixTime(seed) = clock::wall();
    Relay::new(limits, agents, config.workers, seed.subsec_nanos().into())
}

impl Reactor {
    /// From now on there are messages for this process.
    pub(super) fn join_relay(&mut self, worker: WorkerId, pid: u32, now: Instant) {
        let Some(process) = self.processes.get(&worker) else {
            return;
        };
        let (role, slot, generation) = (process.role, process.slot, process.generation);
        let agent = match role {
            Role::Agent => self.config.agents.get(slot.0 as usize),
            Role::Worker => None,
        };
        let identity = Identity {
            worker,
            slot,
            generation,
            role,
            pid,
            name: agent.map(Program::name),
        };
        self.relay.join(now, identity);
    }

    /// Tells the relay how far a process is.
    pub(super) fn note_peer(&mut self, worker: WorkerId) {
        if let Some(view) = self.supervisor.worker(worker) {
            self.relay.note_state(worker, view.state);
        }
    }

    /// Does what a process wants of the relay.
    pub(super) fn obey_message(
        &mut self,
        worker: WorkerId,
        understood: Result<(), Nonsense>,
        now: Instant,
    ) {
        if let Err(nonsense) = understood {
            self.break_link(worker, &Broken::Nonsense(nonsense), now);
        }
        self.hear_own_messages();
    }

    /// Writes to those for whom something waits, in turn.
    pub(super) fn write_messages(&mut self, now: Instant) {
        let mut left = COST_PER_TURN;
        let order = in_turn(self.relay.active(), self.mail.written);
        for worker in order {
            if left == 0 {
                break;
            }
            if !self.mail.blocked.contains(&worker) {
                self.mail.written = Some(worker);
                left = left.saturating_sub(self.write_to(worker, left.min(COST_PER_PROCESS), now));
            }
        }
    }

    /// Writes to one of them; answers with what that has cost.
    pub(super) fn write_to(&mut self, worker: WorkerId, budget: usize, now: Instant) -> usize {
        let mut spent = 0;
        while spent < budget {
            let Some(frame) = self.relay.frame(worker) else {
                break;
            };
            let Some(link) = self.processes.get_mut(&worker).and_then(Process::link_mut) else {
                self.relay.part(worker);
                break;
            };
            match link.post(&frame, &mut self.scratch) {
                Ok(Posted::Sent) => self.relay.note_sent(worker),
                Ok(Posted::Full) => {
                    self.mail.blocked.insert(worker);
                    break;
                }
                Ok(Posted::Starved) => {
                    self.mail.blocked.insert(worker);
                    self.rest(worker, now);
                    break;
                }
                Err(broken) => {
                    self.break_link(worker, &broken, now);
                    break;
                }
            }
            spent += cost(self.scratch.len());
        }
        spent
    }

    /// Whether there is something to write, and to somebody who may take it.
    pub(super) fn has_messages(&self) -> bool {
        let mut active = self.relay.active().iter();
        active.any(|worker| !self.mail.blocked.contains(worker))
    }

    /// Whether somebody has said something that is to be heard now.
    pub(super) fn has_frames(&self) -> bool {
        let mut talkative = self.talkative.iter();
        talkative.any(|worker| !self.relay.is_swamped(*worker))
    }

    /// Those whose control channel has something, who was heard last at the end.
    pub(super) fn speakers(&self) -> Vec<WorkerId> {
        let mut order = in_turn(&self.talkative, self.mail.heard);
        order.retain(|worker| !self.relay.is_swamped(*worker));
        order
    }
}

/// All of them, beginning after the last one.
fn in_turn(workers: &BTreeSet<WorkerId>, last: Option<WorkerId>) -> Vec<WorkerId> {
    let Some(last) = last else {
        return workers.iter().copied().collect();
    };
    let after = workers.range((Excluded(last), Unbounded));
    after.chain(workers.range(..=last)).copied().collect()
}

/// What a frame that was read costs.
pub(super) fn cost_of(frame: &ToMaster) -> usize {
    if let ToMaster::Send(Send { chunk, .. }) | ToMaster::SendMore(More { chunk, .. }) = frame {
        cost(chunk.len())
    } else {
        cost(0)
    }
}

/// A system call, and as many bytes as it takes to copy in about the same time.
fn cost(len: usize) -> usize {
    1 + len / BYTES_PER_COST
}

const BYTES_PER_COST: usize = 2 * 1024;

/// What is read of all processes in one turn, and what is written: as many small frames, or one
/// piece of a large message.
pub(super) const COST_PER_TURN: usize = 16;

/// What of its messages a process gets before it is told to leave: a receive window of small ones.
pub(super) const COST_BEFORE_DRAIN: usize = 4096;

/// What one process may take of that before the others have their turn.
pub(super) const COST_PER_PROCESS: usize = 8;
