//! The rotation of one listener: which workers may receive connections, and who is next.
//!
//! Members with room stand in a ring, the saturated ones aside: a pick never looks at a worker
//! that cannot take the connection. Nothing here knows how a worker is saturated or relieved.

use worker_proto::address::Address;
use worker_proto::ids::{Slot, WorkerId};

use super::strategy::{Member, Strategy};

/// The workers of one listener, and whose turn it is.
#[derive(Debug)]
pub struct Rotation {
    strategy: Box<dyn Strategy>,
    /// The members with room, by slot, then by id.
    ring: Vec<Member>,
    /// The members without, in no order.
    aside: Vec<Member>,
}

impl Rotation {
    /// A rotation without members.
    #[must_use]
    pub fn new(strategy: Box<dyn Strategy>) -> Rotation {
        Rotation {
            strategy,
            ring: Vec::new(),
            aside: Vec::new(),
        }
    }

    /// It may receive connections, and has room. Nothing changes if it is a member already.
    pub fn enter(&mut self, worker: WorkerId, slot: Slot) {
        if !self.contains(worker) {
            self.insert(Member {
                slot,
                worker,
                load: 0,
            });
        }
    }

    /// It receives no more connections.
    pub fn leave(&mut self, worker: WorkerId) {
        self.ring.retain(|member| member.worker != worker);
        self.aside.retain(|member| member.worker != worker);
    }

    /// It has no room until it is relieved.
    pub fn saturate(&mut self, worker: WorkerId) {
        if let Some(index) = position(&self.ring, worker) {
            self.aside.push(self.ring.remove(index));
        }
    }

    /// It has room again.
    pub fn relieve(&mut self, worker: WorkerId) {
        if let Some(index) = position(&self.aside, worker) {
            let member = self.aside.swap_remove(index);
            self.insert(member);
        }
    }

    /// How much it has to do, for strategies that care.
    pub fn report(&mut self, worker: WorkerId, load: u32) {
        let mut members = self.ring.iter_mut().chain(&mut self.aside);
        if let Some(member) = members.find(|member| member.worker == worker) {
            member.load = load;
        }
    }

    /// Whose turn it is; `None` if nobody has room. The turn is taken, whether or not the
    /// connection then is.
    pub fn pick(&mut self, peer: &Address) -> Option<WorkerId> {
        if self.ring.is_empty() {
            return None;
        }
        let index = self.strategy.choose(&self.ring, peer);
        self.ring.get(index).map(|member| member.worker)
    }

    /// Whether a pick would find somebody.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.ring.is_empty()
    }

    /// How many members there are, saturated ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len() + self.aside.len()
    }

    /// Whether there is no member at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is a member, saturated or not.
    #[must_use]
    pub fn contains(&self, worker: WorkerId) -> bool {
        position(&self.ring, worker).is_some() || position(&self.aside, worker).is_some()
    }

    fn insert(&mut self, member: Member) {
        let index = self
            .ring
            .partition_point(|other| other.key() < member.key());
        self.ring.insert(index, member);
    }
}

fn position(members: &[Member], worker: WorkerId) -> Option<usize> {
    members.iter().position(|member| member.worker == worker)
}
