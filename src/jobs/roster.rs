//! The roster: who can be given a run now, and whose turn it is.

use std::collections::BTreeMap;

use worker_proto::ids::{Role, Slot, WorkerId};

/// Somebody who serves: a worker in the rotation, or an agent that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its identity.
    pub worker: WorkerId,
    /// What it is for.
    pub role: Role,
    /// Its position.
    pub slot: Slot,
}

/// All who serve.
#[derive(Debug, Default)]
pub(super) struct Roster {
    members: BTreeMap<WorkerId, Entry>,
    turns: u64,
}

#[derive(Debug)]
struct Entry {
    member: Member,
    /// How many runs it has.
    busy: u32,
    /// Its last turn.
    turn: u64,
}

impl Roster {
    pub(super) fn join(&mut self, member: Member) {
        self.members.entry(member.worker).or_insert(Entry {
            member,
            busy: 0,
            turn: 0,
        });
    }

    pub(super) fn leave(&mut self, worker: WorkerId) {
        self.members.remove(&worker);
    }

    pub(super) fn has(&self, worker: WorkerId) -> bool {
        self.members.contains_key(&worker)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = WorkerId> + '_ {
        self.members.keys().copied()
    }

    pub(super) fn workers(&self) -> impl Iterator<Item = Member> + '_ {
        let members = self.members.values().map(|entry| entry.member);
        members.filter(|member| member.role == Role::Worker)
    }

    /// Whoever serves in the seat: the newest, while one takes over from another.
    pub(super) fn in_seat(&self, role: Role, slot: Slot) -> Option<Member> {
        let mut members = self.members.values().rev().map(|entry| entry.member);
        members.find(|member| (member.role, member.slot) == (role, slot))
    }

    /// The worker with the fewest runs, and among several the one whose last turn is longest ago.
    pub(super) fn next(&self, is_asked: impl Fn(&Member) -> bool) -> Option<Member> {
        let entries = self.members.values();
        let asked = entries.filter(|it| it.member.role == Role::Worker && is_asked(&it.member));
        let next = asked.min_by_key(|it| (it.busy, it.turn));
        next.map(|entry| entry.member)
    }

    /// It has a run more.
    pub(super) fn begin(&mut self, worker: WorkerId) {
        self.turns += 1;
        if let Some(entry) = self.members.get_mut(&worker) {
            entry.busy += 1;
            entry.turn = self.turns;
        }
    }

    /// It has a run less.
    pub(super) fn end(&mut self, worker: WorkerId) {
        if let Some(entry) = self.members.get_mut(&worker) {
            entry.busy = entry.busy.saturating_sub(1);
        }
    }
}
