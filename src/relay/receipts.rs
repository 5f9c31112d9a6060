//! What became of messages whose senders want to know: one receipt for each, when it is settled for
//! every receiver.

use std::collections::BTreeMap;

use worker_proto::ids::WorkerId;
use worker_proto::message::{Kind, MessageId, Receipt};

use super::envelope::Envelope;

/// Messages that are not settled yet.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    open: BTreeMap<(WorkerId, MessageId), Tally>,
}

#[derive(Debug)]
struct Tally {
    kind: Kind,
    wants_receipt: bool,
    /// For how many it is not settled; whoever may add receivers counts as one.
    pending: u32,
    delivered: u32,
    missed: u32,
    why: Receipt,
}

impl Receipts {
    /// From now on it counts what becomes of the message. [`settle`](Self::settle) what this counts
    /// for when all its receivers are known.
    pub(super) fn open(&mut self, envelope: &Envelope) {
        let is_request = envelope.kind == Kind::Request;
        if let Some(sender) = envelope.sender()
            && (envelope.wants_receipt || is_request)
        {
            let tally = Tally {
                kind: envelope.kind,
                wants_receipt: envelope.wants_receipt,
                pending: 1,
                delivered: 0,
                missed: 0,
                why: Receipt::NoSuchPeer,
            };
            self.open.insert((sender, envelope.message), tally);
        }
    }

    /// The message has one receiver more.
    pub(super) fn add(&mut self, envelope: &Envelope) {
        if let Some(tally) = self.tally(envelope) {
            tally.pending += 1;
        }
    }

    /// It is delivered to one of them.
    pub(super) fn deliver(&mut self, envelope: &Envelope) -> Option<Receipt> {
        self.tally(envelope)?.delivered += 1;
        self.settle(envelope)
    }

    /// One of them will not get it.
    pub(super) fn miss(&mut self, envelope: &Envelope, why: Receipt) -> Option<Receipt> {
        let tally = self.tally(envelope)?;
        tally.missed += 1;
        tally.why = why;
        self.settle(envelope)
    }

    /// There are no more receivers; answers with the receipt if it is due.
    pub(super) fn settle(&mut self, envelope: &Envelope) -> Option<Receipt> {
        let tally = self.tally(envelope)?;
        tally.pending = tally.pending.saturating_sub(1);
        if tally.pending > 0 {
            return None;
        }
        let key = (envelope.sender()?, envelope.message);
        let tally = self.open.remove(&key)?;
        match (tally.delivered, tally.kind) {
            (0, _) => Some(tally.why),
            // Who asked waits for the reply.
            (_, Kind::Request) if !tally.wants_receipt => None,
            (receivers, _) => Some(Receipt::Delivered {
                receivers,
                missed: tally.missed,
            }),
        }
    }

    /// Whether everything is settled.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn tally(&mut self, envelope: &Envelope) -> Option<&mut Tally> {
        if !envelope.wants_receipt && envelope.kind != Kind::Request {
            return None;
        }
        self.open.get_mut(&(envelope.sender()?, envelope.message))
    }
}
