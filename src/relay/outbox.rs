//! An outbox: what waits for one process, in the order in which it is for it.
//!
//! It has a bound in bytes, and lets out no more than the process has room for: what its program has
//! not taken counts against a window. So who does not read costs nobody else anything. What has waited as
//! long as its sender wants leaves it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use worker_proto::frame::FromMaster;
use worker_proto::message::RECEIVE_WINDOW_BYTES;

use super::envelope::Envelope;

/// What waits for one process.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: VecDeque<Waiting>,
    /// How many frames of the first one are sent.
    sent: usize,
    /// What all that waits counts for.
    charge: u64,
    bound: u64,
    /// What is sent and not taken yet.
    on_its_way: u64,
    /// None of them has waited long enough before that.
    earliest: Option<Instant>,
    /// They are not looked through before that.
    rests_until: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    envelope: Arc<Envelope>,
    /// No longer than this.
    until: Option<Instant>,
}

impl Outbox {
    /// One in which that much may wait; a single message may be as large.
    pub(super) fn new(bound: u64) -> Self {
        Outbox {
            waiting: VecDeque::new(),
            sent: 0,
            charge: 0,
            bound,
            on_its_way: 0,
            earliest: None,
            rests_until: None,
        }
    }

    /// Puts a message at the end, if there is room.
    pub(super) fn push(
        &mut self,
        envelope: Arc<Envelope>,
        until: Option<Instant>,
    ) -> Result<(), Arc<Envelope>> {
        let charge = envelope.charge();
        if !self.waiting.is_empty() && self.charge + charge > self.bound {
            return Err(envelope);
        }
        self.charge += charge;
        self.earliest = [self.earliest, until].into_iter().flatten().min();
        self.waiting.push_back(Waiting { envelope, until });
        Ok(())
    }

    /// Whether a frame may be sent now.
    pub(super) fn is_sendable(&self) -> bool {
        let Some(first) = self.first() else {
            return false;
        };
        let has_room = self.on_its_way <= RECEIVE_WINDOW_BYTES / 4
            || self.on_its_way + first.charge() <= RECEIVE_WINDOW_BYTES;
        self.sent > 0 || has_room
    }

    /// The next frame, if one may be sent.
    pub(super) fn frame(&self) -> Option<FromMaster> {
        let first = self.first().filter(|_| self.is_sendable())?;
        Some(match self.sent {
            0 => FromMaster::Deliver(first.first()),
            index => FromMaster::DeliverMore(first.further(index)),
        })
    }

    /// The next frame is sent; answers with the message if it was its last.
    pub(super) fn note_sent(&mut self) -> Option<Arc<Envelope>> {
        let (charge, frames) = self.first().map(|it| (it.charge(), it.frames()))?;
        if self.sent == 0 {
            self.on_its_way += charge;
        }
        self.sent += 1;
        if self.sent < frames {
            return None;
        }
        self.sent = 0;
        let first = self.waiting.pop_front()?.envelope;
        self.charge -= charge;
        Some(first)
    }

    /// The program has taken that much. What is too much is only of harm to itself.
    pub(super) fn note_taken(&mut self, bytes: u64) {
        self.on_its_way = self.on_its_way.saturating_sub(bytes);
    }

    /// Gives away everything that is not sent whole.
    pub(super) fn empty(&mut self) -> Vec<Arc<Envelope>> {
        self.sent = 0;
        self.charge = 0;
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        waiting.map(|waiting| waiting.envelope).collect()
    }

    /// Gives away what has waited long enough. What is sent in part is sent whole.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Arc<Envelope>> {
        let mut over = Vec::new();
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return over;
        }
        let mut is_begun = self.sent > 0;
        self.waiting.retain(|Waiting { envelope, until }| {
            let is_over = until.is_some_and(|until| until <= now);
            let goes = is_over && !std::mem::take(&mut is_begun);
            if goes {
                self.charge -= envelope.charge();
                over.push(Arc::clone(envelope));
            }
            !goes
        });
        let rest = self.waiting.iter().skip(usize::from(self.sent > 0));
        self.earliest = rest.filter_map(|waiting| waiting.until).min();
        self.rests_until = Some(now + REST);
        over
    }

    /// When [`expire`](Self::expire) may have something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let earliest = self.earliest?;
        let rests_until = self.rests_until.unwrap_or(earliest);
        Some(earliest.max(rests_until))
    }

    fn first(&self) -> Option<&Envelope> {
        Some(&self.waiting.front()?.envelope)
    }

    /// How many messages wait, and what they count for.
    pub(super) fn backlog(&self) -> (usize, u64) {
        (self.waiting.len(), self.charge)
    }
}

/// How long at least between two looks at all that waits: it may be very much, and each of it may
/// have a time of its own.
const REST: Duration = Duration::from_millis(50);
