//! The rotation of one listener: which workers may receive connections, and who is next.
//!
//! Members that can take a connection stand in a ring, the others aside, each with its reasons: a
//! pick never looks at a worker that cannot take the connection. Nothing here knows how a reason
//! comes or goes.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use worker_proto::address::Address;
use worker_proto::ids::{Slot, WorkerId};

use super::aside::{Reason, Reasons, Skipped};
use super::strategy::{Gauge, Member, Strategy};

/// The workers of one listener, and whose turn it is.
#[derive(Debug)]
pub struct Rotation {
    strategy: Box<dyn Strategy>,
    /// The members that can take a connection, by slot, then by id.
    ring: Vec<Member>,
    /// The others, in no order.
    aside: Vec<Aside>,
    /// Who was picked last, so that it shows whose turns were passed over.
    latest: Option<(Slot, WorkerId)>,
    /// The turns that each member missed, if any.
    skipped: BTreeMap<WorkerId, Skipped>,
    /// The turns that members missed, those of former members included.
    skipped_in_all: Skipped,
}

/// A member that stands aside.
#[derive(Debug)]
struct Aside {
    member: Member,
    /// Never empty.
    reasons: Reasons,
}

impl Rotation {
    /// A rotation without members.
    #[must_use]
    pub fn new(strategy: Box<dyn Strategy>) -> Rotation {
        Rotation {
            strategy,
            ring: Vec::new(),
            aside: Vec::new(),
            latest: None,
            skipped: BTreeMap::new(),
            skipped_in_all: Skipped::default(),
        }
    }

    /// From now on this strategy chooses. Members, their reasons and what was counted stay.
    pub fn change(&mut self, strategy: Box<dyn Strategy>) {
        self.strategy = strategy;
        self.latest = None;
    }

    /// It may receive connections, and can take them. Nothing changes if it is a member already.
    pub fn enter(&mut self, worker: WorkerId, slot: Slot) {
        if !self.contains(worker) {
            self.insert(Member {
                slot,
                worker,
                weight: NonZeroU32::MIN,
            });
        }
    }

    /// It receives no more connections.
    pub fn leave(&mut self, worker: WorkerId) {
        self.ring.retain(|member| member.worker != worker);
        self.aside.retain(|aside| aside.member.worker != worker);
        self.skipped.remove(&worker);
    }

    /// It stands aside until this reason, and every other that it may have, is gone.
    pub fn set_aside(&mut self, worker: WorkerId, reason: Reason) {
        if let Some(index) = position(&self.ring, worker) {
            self.aside.push(Aside {
                member: self.ring.remove(index),
                reasons: Reasons::from([reason]),
            });
        } else if let Some(aside) = self.aside_mut(worker) {
            aside.reasons.insert(reason);
        }
    }

    /// The reason is gone; without any other it takes its place in the ring again.
    pub fn restore(&mut self, worker: WorkerId, reason: Reason) {
        let Some(aside) = self.aside_mut(worker) else {
            return;
        };
        aside.reasons.remove(&reason);
        if aside.reasons.is_empty() {
            let member = aside.member;
            self.aside.retain(|other| other.member.worker != worker);
            self.insert(member);
        }
    }

    /// Why it stands aside; empty if it does not.
    #[must_use]
    pub fn reasons(&self, worker: WorkerId) -> Reasons {
        let aside = self
            .aside
            .iter()
            .find(|aside| aside.member.worker == worker);
        aside.map_or_else(Reasons::new, |aside| aside.reasons.clone())
    }

    /// Who stands aside for this reason.
    #[must_use]
    pub fn aside_for(&self, reason: Reason) -> Vec<WorkerId> {
        let aside = self.aside.iter();
        let aside = aside.filter(|aside| aside.reasons.contains(&reason));
        aside.map(|aside| aside.member.worker).collect()
    }

    /// Its share, for strategies that weigh; nothing changes for one that is no member.
    pub fn weigh(&mut self, worker: WorkerId, weight: NonZeroU32) {
        let aside = self.aside.iter_mut().map(|aside| &mut aside.member);
        let mut members = self.ring.iter_mut().chain(aside);
        if let Some(member) = members.find(|member| member.worker == worker) {
            member.weight = weight;
        }
    }

    /// The share of everybody.
    pub fn weigh_all(&mut self, weight: impl Fn(WorkerId, Slot) -> NonZeroU32) {
        let aside = self.aside.iter_mut().map(|aside| &mut aside.member);
        for member in self.ring.iter_mut().chain(aside) {
            member.weight = weight(member.worker, member.slot);
        }
    }

    /// Its share; 1 for one that is no member.
    #[must_use]
    pub fn weight(&self, worker: WorkerId) -> NonZeroU32 {
        let aside = self.aside.iter().map(|aside| &aside.member);
        let mut members = self.ring.iter().chain(aside);
        let member = members.find(|member| member.worker == worker);
        member.map_or(NonZeroU32::MIN, |member| member.weight)
    }

    /// Whose turn it is; `None` if nobody can take a connection. The turn is taken, whether or
    /// not the connection then is.
    ///
    /// Stalled members get a turn only if every member is stalled: then none is better.
    pub fn pick(&mut self, peer: &Address, gauge: &mut dyn Gauge) -> Option<WorkerId> {
        if self.ring.is_empty() {
            let stalled = self.last_resort();
            return self.choose(&stalled, peer, gauge);
        }
        let latest = self.latest;
        let ring = std::mem::take(&mut self.ring);
        let picked = self.choose(&ring, peer, gauge);
        self.ring = ring;
        if !self.aside.is_empty() && self.strategy.goes_in_order() {
            self.count_skipped(latest);
        }
        picked
    }

    /// As [`pick`](Self::pick), from the members in the ring that are suited.
    pub fn pick_suited(
        &mut self,
        peer: &Address,
        gauge: &mut dyn Gauge,
        is_suited: impl Fn(WorkerId) -> bool,
    ) -> Option<WorkerId> {
        let members = self.ring.iter().copied();
        let suited: Vec<Member> = members.filter(|member| is_suited(member.worker)).collect();
        self.choose(&suited, peer, gauge)
    }

    /// It was picked that often, and could not take what it was picked for.
    pub fn miss(&mut self, worker: WorkerId, reason: Reason, turns: u64) {
        self.skipped.entry(worker).or_default().add(reason, turns);
        self.skipped_in_all.add(reason, turns);
    }

    /// The turns that a member missed: those it was picked for and could not take, and, of a
    /// strategy that goes in order, those that were passed over while it stood aside.
    #[must_use]
    pub fn skipped(&self, worker: WorkerId) -> Skipped {
        self.skipped.get(&worker).copied().unwrap_or_default()
    }

    /// The turns that all members missed, those of former members included.
    #[must_use]
    pub fn skipped_in_all(&self) -> Skipped {
        self.skipped_in_all
    }

    /// Whether a pick would find somebody.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.ring.is_empty() || !self.last_resort().is_empty()
    }

    /// How many members there are, those aside included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len() + self.aside.len()
    }

    /// Whether there is no member at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is a member, aside or not.
    #[must_use]
    pub fn contains(&self, worker: WorkerId) -> bool {
        let mut aside = self.aside.iter();
        position(&self.ring, worker).is_some() || aside.any(|aside| aside.member.worker == worker)
    }

    fn choose(
        &mut self,
        members: &[Member],
        peer: &Address,
        gauge: &mut dyn Gauge,
    ) -> Option<WorkerId> {
        if members.is_empty() {
            return None;
        }
        let chosen = members.get(self.strategy.choose(members, peer, gauge))?;
        self.latest = Some(chosen.key());
        Some(chosen.worker)
    }

    /// Counts a turn of each who stands aside between the pick before the latest and the latest.
    fn count_skipped(&mut self, before: Option<(Slot, WorkerId)>) {
        let passed_over = |aside: &Aside| {
            let lies_between = is_between(before, aside.member.key(), self.latest?);
            let reason = aside.reasons.first().filter(|_| lies_between)?;
            Some((aside.member.worker, *reason))
        };
        let missed: Vec<_> = self.aside.iter().filter_map(passed_over).collect();
        for (worker, reason) in missed {
            self.miss(worker, reason, 1);
        }
    }

    /// Whom to pick when the ring is empty: those who are nothing but stalled, if everybody is.
    fn last_resort(&self) -> Vec<Member> {
        let is_stalled = |aside: &Aside| aside.reasons.contains(&Reason::Stalled);
        if !self.aside.iter().all(is_stalled) {
            return Vec::new();
        }
        let only_stalled = self.aside.iter().filter(|aside| aside.reasons.len() == 1);
        let mut members: Vec<Member> = only_stalled.map(|aside| aside.member).collect();
        members.sort();
        members
    }

    fn aside_mut(&mut self, worker: WorkerId) -> Option<&mut Aside> {
        self.aside
            .iter_mut()
            .find(|aside| aside.member.worker == worker)
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

/// Whether a turn of `key` lies between two picks.
fn is_between(
    latest: Option<(Slot, WorkerId)>,
    key: (Slot, WorkerId),
    picked: (Slot, WorkerId),
) -> bool {
    match latest {
        None => key < picked,
        Some(latest) if latest < picked => latest < key && key < picked,
        Some(latest) => key > latest || key < picked,
    }
}
