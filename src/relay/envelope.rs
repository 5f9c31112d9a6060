//! An envelope: one message as the master carries it. Its payload is shared by all its receivers and
//! never looked into.

use bytes::Bytes;
use worker_proto::ids::WorkerId;
use worker_proto::message::{
    ContentType, Deliver, Kind, MAX_CHUNK_BYTES, MESSAGE_OVERHEAD_BYTES, MessageId, More, Sender,
};

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Who sent it, as the master knows it.
    pub from: Sender,
    /// The sender's number for it.
    pub message: MessageId,
    /// What it is.
    pub kind: Kind,
    /// Whether the sender wants to know what became of it.
    pub wants_receipt: bool,
    /// What it is about.
    pub action: String,
    /// How its receiver is to read it.
    pub content_type: ContentType,
    /// The payload, in the pieces in which it came; none of them is empty.
    pub pieces: Vec<Bytes>,
    /// How long the payload is.
    pub len_bytes: u64,
}

impl Envelope {
    /// One of the master's own, with its payload in one piece.
    pub fn of_the_master(
        kind: Kind,
        action: String,
        content_type: ContentType,
        mut payload: Bytes,
    ) -> Self {
        let len_bytes = payload.len() as u64;
        let mut pieces = Vec::new();
        while !payload.is_empty() {
            pieces.push(payload.split_to(payload.len().min(MAX_CHUNK_BYTES)));
        }
        Envelope {
            from: Sender::Master,
            message: MessageId(0),
            kind,
            wants_receipt: false,
            action,
            content_type,
            pieces,
            len_bytes,
        }
    }

    /// The process that sent it.
    pub(super) fn sender(&self) -> Option<WorkerId> {
        match self.from {
            Sender::Process { worker, .. } => Some(worker),
            Sender::Master => None,
        }
    }

    /// What it counts for in every bound.
    pub(super) fn charge(&self) -> u64 {
        self.len_bytes + MESSAGE_OVERHEAD_BYTES
    }

    /// In how many frames it travels.
    pub(super) fn frames(&self) -> usize {
        self.pieces.len().max(1)
    }

    /// The first of its frames.
    pub(super) fn first(&self) -> Deliver {
        Deliver {
            from: self.from,
            message: self.message,
            kind: self.kind,
            action: self.action.clone(),
            content_type: self.content_type,
            len_bytes: self.len_bytes,
            chunk: self.pieces.first().cloned().unwrap_or_default(),
        }
    }

    /// One of the others.
    pub(super) fn further(&self, index: usize) -> More {
        More {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            chunk: self.pieces[index].clone(),
        }
    }
}
