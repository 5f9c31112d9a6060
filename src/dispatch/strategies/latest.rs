//! Who was chosen latest, and so who comes next in order.
//!
//! It is remembered who it was, not where that one stood: whoever comes or goes, the next one in
//! order is the next one.

use worker_proto::ids::{Slot, WorkerId};

use crate::dispatch::strategy::Member;

/// The latest choice.
#[derive(Debug, Default)]
pub(super) struct Latest {
    key: Option<(Slot, WorkerId)>,
    /// Where that one stood, and most often still stands: spares a search.
    hint: usize,
}

impl Latest {
    /// The index of the one after the latest; `members` is not empty.
    pub(super) fn next(&self, members: &[Member]) -> usize {
        let stands = members.get(self.hint).map(Member::key);
        let after_latest = if stands.is_some() && stands == self.key {
            self.hint + 1
        } else {
            members.partition_point(|member| Some(member.key()) <= self.key)
        };
        if after_latest < members.len() {
            after_latest
        } else {
            0
        }
    }

    /// Every index once, in order, beginning after the latest.
    pub(super) fn order(&self, members: &[Member]) -> impl Iterator<Item = usize> + use<> {
        let next = self.next(members);
        (next..members.len()).chain(0..next)
    }

    /// This one is the latest now.
    pub(super) fn set(&mut self, members: &[Member], index: usize) {
        self.key = members.get(index).map(Member::key);
        self.hint = index;
    }
}
