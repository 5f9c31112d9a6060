//! Messages for those who are not there yet: until the cluster is ready for everybody, and at any
//! time for an agent, which comes back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use worker_proto::message::Recipient;

use super::envelope::Envelope;

/// What waits, in the order in which it was sent.
#[derive(Debug, Default)]
pub(super) struct Held {
    waiting: VecDeque<Item>,
    charge: u64,
    /// When the first of them has waited long enough.
    earliest: Option<Instant>,
}

/// One message that waits.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) recipient: Recipient,
    /// Without one: until the cluster is ready.
    pub(super) until: Option<Instant>,
    pub(super) envelope: Arc<Envelope>,
}

impl Held {
    /// Has it wait, if not too much does already.
    pub(super) fn push(&mut self, item: Item, bound: u64) -> Result<(), Item> {
        let charge = item.envelope.charge();
        if !self.waiting.is_empty() && self.charge + charge > bound {
            return Err(item);
        }
        self.charge += charge;
        self.earliest = [self.earliest, item.until].into_iter().flatten().min();
        self.waiting.push_back(item);
        Ok(())
    }

    /// Gives away those that are for a newcomer. Those for others as well stay where they are, too:
    /// what comes first goes first, whoever it is for.
    pub(super) fn hand_out(
        &mut self,
        is_for_it: impl Fn(&Item) -> bool,
        is_for_others: impl Fn(&Item) -> bool,
    ) -> Vec<Item> {
        let mut due = Vec::new();
        self.waiting.retain(|item| {
            let stays = !is_for_it(item) || is_for_others(item);
            if is_for_it(item) {
                due.push(item.clone());
            }
            if !stays {
                self.charge -= item.envelope.charge();
            }
            stays
        });
        self.note_earliest();
        due
    }

    /// Gives away those for which this is true.
    pub(super) fn take(&mut self, is_due: impl Fn(&Item) -> bool) -> Vec<Item> {
        let (due, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<VecDeque<_>, _>(is_due);
        self.waiting = rest;
        self.note_earliest();
        self.charge -= due.iter().map(|item| item.envelope.charge()).sum::<u64>();
        due.into()
    }

    fn note_earliest(&mut self) {
        self.earliest = self.waiting.iter().filter_map(|item| item.until).min();
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.earliest
    }
}
