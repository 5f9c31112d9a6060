//! What a strategy remembers of each member, for as long as it is there.
//!
//! Kept in the order of the members: as long as nobody comes or goes, nothing is searched and
//! nothing allocated. Who leaves, or stands aside, is forgotten.

use worker_proto::ids::{Slot, WorkerId};

use crate::dispatch::strategy::Member;

/// One `T` per member.
#[derive(Debug, Default)]
pub(super) struct Memory<T> {
    entries: Vec<((Slot, WorkerId), T)>,
}

impl<T: Clone + Default> Memory<T> {
    /// What is remembered of each of these, by index; of who is new, nothing.
    pub(super) fn of(&mut self, members: &[Member]) -> &mut [((Slot, WorkerId), T)] {
        let keys = members.iter().map(Member::key);
        if !keys.eq(self.entries.iter().map(|(key, _)| *key)) {
            self.realign(members);
        }
        &mut self.entries
    }

    fn realign(&mut self, members: &[Member]) {
        let former = std::mem::take(&mut self.entries);
        let known = |member: &Member| {
            let found = former.binary_search_by_key(&member.key(), |(key, _)| *key);
            let known = found.map(|index| former[index].1.clone());
            (member.key(), known.unwrap_or_default())
        };
        self.entries = members.iter().map(known).collect();
    }
}
