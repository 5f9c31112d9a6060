//! Requests without a reply: who waits for whom, and until when.
//!
//! A reply counts only if it comes from the one who was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use worker_proto::ids::WorkerId;
use worker_proto::message::MessageId;

/// All requests that are under way.
#[derive(Debug, Default)]
pub(super) struct Requests {
    open: BTreeMap<(WorkerId, MessageId), (WorkerId, Instant)>,
    by_deadline: BTreeSet<(Instant, WorkerId, MessageId)>,
    counts: BTreeMap<WorkerId, usize>,
}

impl Requests {
    /// Whether that process may ask one thing more.
    pub(super) fn has_room(&self, asker: WorkerId) -> bool {
        self.counts
            .get(&asker)
            .is_none_or(|count| *count < MOST_REQUESTS)
    }

    pub(super) fn open(
        &mut self,
        (asker, message): (WorkerId, MessageId),
        asked: WorkerId,
        until: Instant,
    ) {
        self.open.insert((asker, message), (asked, until));
        self.by_deadline.insert((until, asker, message));
        *self.counts.entry(asker).or_default() += 1;
    }

    /// The reply has come; answers whether anybody waits for it from there.
    pub(super) fn close(&mut self, (asker, message): (WorkerId, MessageId), by: WorkerId) -> bool {
        match self.open.get(&(asker, message)) {
            Some((asked, _)) if *asked == by => self.remove((asker, message)),
            Some(_) | None => false,
        }
    }

    /// Nobody will reply, since it never reached anybody.
    pub(super) fn drop(&mut self, asker: WorkerId, message: MessageId) {
        self.remove((asker, message));
    }

    /// That process is gone: answers with the requests to which it owed a reply.
    pub(super) fn part(&mut self, worker: WorkerId) -> Vec<(WorkerId, MessageId)> {
        let is_over = |(key, (asked, _)): (&(WorkerId, MessageId), &(WorkerId, Instant))| {
            (key.0 == worker || *asked == worker).then_some(*key)
        };
        let over: Vec<_> = self.open.iter().filter_map(is_over).collect();
        for key in &over {
            self.remove(*key);
        }
        let owed = over.into_iter().filter(|(asker, _)| *asker != worker);
        owed.collect()
    }

    /// Forgets those whose time is over, and answers with them.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(WorkerId, MessageId)> {
        let mut over = Vec::new();
        while let Some((until, asker, message)) = self.by_deadline.first().copied()
            && until <= now
        {
            self.remove((asker, message));
            over.push((asker, message));
        }
        over
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.by_deadline.first().map(|(until, ..)| *until)
    }

    fn remove(&mut self, (asker, message): (WorkerId, MessageId)) -> bool {
        let Some((_, until)) = self.open.remove(&(asker, message)) else {
            return false;
        };
        self.by_deadline.remove(&(until, asker, message));
        if let Some(count) = self.counts.get_mut(&asker) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&asker);
            }
        }
        true
    }
}

/// How many requests of one process may be without a reply.
const MOST_REQUESTS: usize = 16 * 1024;
