//! Whom a message is for: names and positions to the processes that are there.

use worker_proto::ids::{Role, Slot, WorkerId};
use worker_proto::message::{Kind, Receipt, Recipient};

use super::Relay;
use super::envelope::Envelope;
use super::member::Member;
use crate::supervisor::WorkerState;

/// What a recipient comes to at this moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Members(Vec<WorkerId>),
    Master,
    /// Nobody yet.
    Later,
    /// Nobody, and why.
    Nobody(Receipt),
}

impl Relay {
    pub(super) fn find(&mut self, recipient: &Recipient, envelope: &Envelope) -> Found {
        match recipient {
            Recipient::Master => Found::Master,
            Recipient::Worker(worker) => self.one(self.members.get(worker), envelope),
            Recipient::Pid(pid) => {
                let found = self.members.values().find(|it| it.identity.pid == *pid);
                self.one(found, envelope)
            }
            Recipient::Slot { role, slot } => match self.holder(*role, *slot) {
                Some(holder) => Found::Members(vec![holder]),
                None => self.absent(*role, |relay| match role {
                    Role::Worker => slot.0 < relay.workers,
                    Role::Agent => relay.agents.len() > slot.0 as usize,
                }),
            },
            Recipient::Agent(name) => match self.agent(name.as_deref()) {
                Some(agent) => Found::Members(vec![agent]),
                None => self.absent(Role::Agent, |relay| match name {
                    Some(name) => relay.agents.contains(name),
                    None => !relay.agents.is_empty(),
                }),
            },
            Recipient::AnyWorker => {
                let best = [
                    WorkerState::Serving,
                    WorkerState::Standby,
                    WorkerState::Starting,
                ]
                .map(|state| self.workers_in(state).collect::<Vec<_>>())
                .into_iter()
                .find(|workers| !workers.is_empty());
                match best {
                    Some(workers) => {
                        Found::Members(vec![workers[self.dice.usize(..workers.len())]])
                    }
                    None => self.absent(Role::Worker, |relay| relay.workers > 0),
                }
            }
            Recipient::Workers | Recipient::Everyone | Recipient::Others => {
                let is_sender = |worker| envelope.sender() == Some(worker);
                let found = self.members.values().filter(|it| {
                    it.is_open()
                        && is_for(recipient, it)
                        && !(*recipient == Recipient::Others && is_sender(it.identity.worker))
                });
                Found::Members(found.map(|it| it.identity.worker).collect())
            }
        }
    }

    /// A process that was meant in particular.
    fn one(&self, member: Option<&Member>, envelope: &Envelope) -> Found {
        match member {
            None => Found::Nobody(Receipt::NoSuchPeer),
            Some(member) if member.is_open() || matches!(envelope.kind, Kind::Reply { .. }) => {
                Found::Members(vec![member.identity.worker])
            }
            Some(_) => Found::Nobody(Receipt::Draining),
        }
    }

    /// There is nobody of that name or in that place: somebody may come.
    fn absent(&self, role: Role, is_expected: impl Fn(&Relay) -> bool) -> Found {
        let comes_back = role == Role::Agent || !self.is_cluster_ready;
        match is_expected(self) && comes_back {
            true => Found::Later,
            false => Found::Nobody(Receipt::NoSuchPeer),
        }
    }

    /// Whoever holds a slot: who is ready rather than who starts, who is new rather than who is old.
    fn holder(&self, role: Role, slot: Slot) -> Option<WorkerId> {
        let of_slot = self
            .members
            .values()
            .filter(|it| (it.identity.role, it.identity.slot) == (role, slot) && it.is_open());
        of_slot
            .max_by_key(|it| (it.state != WorkerState::Starting, it.identity.worker))
            .map(|it| it.identity.worker)
    }

    fn agent(&self, name: Option<&str>) -> Option<WorkerId> {
        let is_meant = |it: &&Member| is_named(it, name) && it.is_open();
        let agents = self.members.values().filter(is_meant);
        agents.map(|it| it.identity.worker).next_back()
    }

    fn workers_in(&self, state: WorkerState) -> impl Iterator<Item = WorkerId> {
        let workers = self.members.values();
        workers
            .filter(move |it| it.identity.role == Role::Worker && it.state == state)
            .map(|it| it.identity.worker)
    }
}

/// Whether a message that waits is for this newcomer.
pub(super) fn is_for(recipient: &Recipient, member: &Member) -> bool {
    let identity = &member.identity;
    match recipient {
        Recipient::Worker(worker) => identity.worker == *worker,
        Recipient::Pid(pid) => identity.pid == *pid,
        Recipient::Slot { role, slot } => (identity.role, identity.slot) == (*role, *slot),
        Recipient::Agent(name) => is_named(member, name.as_deref()),
        Recipient::Workers | Recipient::AnyWorker => identity.role == Role::Worker,
        Recipient::Everyone | Recipient::Others => true,
        Recipient::Master => false,
    }
}

/// Whether it may have more than one receiver.
pub(super) fn is_for_many(recipient: &Recipient) -> bool {
    matches!(
        recipient,
        Recipient::Workers | Recipient::Everyone | Recipient::Others
    )
}

/// Whether it is for an agent in particular.
pub(super) fn is_for_agent(recipient: &Recipient) -> bool {
    matches!(
        recipient,
        Recipient::Agent(_)
            | Recipient::Slot {
                role: Role::Agent,
                ..
            }
    )
}

/// The agent of that name; without a name the first.
fn is_named(member: &Member, name: Option<&str>) -> bool {
    let identity = &member.identity;
    identity.role == Role::Agent
        && match name {
            Some(name) => identity.name.as_deref() == Some(name),
            None => identity.slot == Slot(0),
        }
}
