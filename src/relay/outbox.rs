//! An outbox: what waits for one process, in the order in which it is for it.
//!
//! It has a bound in bytes, and lets out no more than the process has room for: what its program has
//! not taken counts against a window. So who does not read costs nobody else anything.

use std::collections::VecDeque;
use std::sync::Arc;

use worker_proto::frame::FromMaster;
use worker_proto::message::RECEIVE_WINDOW_BYTES;

use super::envelope::Envelope;

/// What waits for one process.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: VecDeque<Arc<Envelope>>,
    /// How many frames of the first one are sent.
    sent: usize,
    /// What all that waits counts for.
    charge: u64,
    bound: u64,
    /// What is sent and not taken yet.
    on_its_way: u64,
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
        }
    }

    /// Puts a message at the end, if there is room.
    pub(super) fn push(&mut self, envelope: Arc<Envelope>) -> Result<(), Arc<Envelope>> {
        let charge = envelope.charge();
        if !self.waiting.is_empty() && self.charge + charge > self.bound {
            return Err(envelope);
        }
        self.charge += charge;
        self.waiting.push_back(envelope);
        Ok(())
    }

    /// Whether a frame may be sent now.
    pub(super) fn is_sendable(&self) -> bool {
        let Some(first) = self.waiting.front() else {
            return false;
        };
        let has_room = self.on_its_way <= RECEIVE_WINDOW_BYTES / 4
            || self.on_its_way + first.charge() <= RECEIVE_WINDOW_BYTES;
        self.sent > 0 || has_room
    }

    /// The next frame, if one may be sent.
    pub(super) fn frame(&self) -> Option<FromMaster> {
        let first = self.waiting.front().filter(|_| self.is_sendable())?;
        Some(match self.sent {
            0 => FromMaster::Deliver(first.first()),
            index => FromMaster::DeliverMore(first.further(index)),
        })
    }

    /// The next frame is sent; answers with the message if it was its last.
    pub(super) fn note_sent(&mut self) -> Option<Arc<Envelope>> {
        let first = self.waiting.front()?;
        if self.sent == 0 {
            self.on_its_way += first.charge();
        }
        self.sent += 1;
        if self.sent < first.frames() {
            return None;
        }
        self.sent = 0;
        let first = self.waiting.pop_front()?;
        self.charge -= first.charge();
        Some(first)
    }

    /// The program has taken that much. What is too much is only of harm to itself.
    pub(super) fn note_taken(&mut self, bytes: u64) {
        self.on_its_way = self.on_its_way.saturating_sub(bytes);
    }

    /// Gives away everything that is not sent whole.
    pub(super) fn empty(&mut self) -> VecDeque<Arc<Envelope>> {
        self.sent = 0;
        self.charge = 0;
        std::mem::take(&mut self.waiting)
    }

    /// How many messages wait, and what they count for.
    pub(super) fn backlog(&self) -> (usize, u64) {
        (self.waiting.len(), self.charge)
    }
}
