//! A message on its way in: one process sends the pieces of one message after the other.
//!
//! Nothing is believed of the length that it announces: what counts is what has come.

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use worker_proto::message::{
    Kind, MAX_ACTION_BYTES, MAX_CHUNK_BYTES, MessageId, More, Receipt, Recipient, Send, Sender,
    is_the_masters,
};

use super::envelope::Envelope;

/// What one process is sending.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    last: Option<MessageId>,
    open: Option<Open>,
}

/// A message that came whole.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) recipient: Recipient,
    pub(super) within_ms: Option<u32>,
    /// The message; what it held of the memory is now the caller's.
    pub(super) envelope: Envelope,
    /// Why it goes no further.
    pub(super) refused: Option<Receipt>,
}

/// What no SDK sends. Its sender cannot be understood any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Nonsense {
    /// A message whose number is not greater than that of the one before.
    #[error("message {} after message {}", .0.0, .1.0)]
    Order(MessageId, MessageId),
    /// A message while pieces of another are missing.
    #[error("a message before the last one is complete")]
    Incomplete,
    /// A further piece, and no message that lacks one.
    #[error("a piece of no message")]
    NoMessage,
    /// A piece is missing, or came twice.
    #[error("piece {found} of a message instead of piece {expected}")]
    Piece {
        /// The one that was to come.
        expected: u32,
        /// The one that came.
        found: u32,
    },
    /// A piece without a byte, or with more than fit.
    #[error("a piece of {0} bytes")]
    PieceLength(usize),
    /// More than the message announced.
    #[error("more bytes than the message was to have")]
    Excess,
    /// A value, and the sender is not the master.
    #[error("a message of a kind that only the master sends")]
    Kind,
}

#[derive(Debug)]
struct Open {
    whole: Whole,
    next: u32,
    missing: u64,
}

impl Assembly {
    /// What of the message that is not complete counts against the master's memory.
    pub(super) fn held(&self) -> u64 {
        match &self.open {
            Some(open) if open.whole.refused.is_none() => {
                open.whole.envelope.charge() - open.missing
            }
            Some(_) | None => 0,
        }
    }

    /// Begins a message; answers with it if that is all of it.
    pub(super) fn begin(
        &mut self,
        from: Sender,
        send: Send,
        max_message: u64,
        room: u64,
    ) -> Result<Option<Whole>, Nonsense> {
        if self.open.is_some() {
            return Err(Nonsense::Incomplete);
        }
        if let Some(last) = self.last
            && send.message <= last
        {
            return Err(Nonsense::Order(send.message, last));
        }
        if let Kind::Value { .. } = send.kind {
            return Err(Nonsense::Kind);
        }
        self.last = Some(send.message);
        let refused = refusal(&send, max_message);
        let whole = Whole {
            recipient: send.recipient,
            within_ms: send.within_ms,
            refused,
            envelope: Envelope {
                from,
                message: send.message,
                kind: send.kind,
                wants_receipt: send.wants_receipt,
                action: send.action,
                content_type: send.content_type,
                pieces: Vec::new(),
                len_bytes: send.len_bytes,
            },
        };
        let missing = send.len_bytes;
        self.open = Some(Open {
            whole,
            next: 1,
            missing,
        });
        if missing == 0 && send.chunk.is_empty() {
            return Ok(self.complete(room));
        }
        self.add(send.chunk, room)
    }

    /// Takes a further piece; answers with the message if it was the last.
    pub(super) fn go_on(&mut self, more: More, room: u64) -> Result<Option<Whole>, Nonsense> {
        let Some(open) = &mut self.open else {
            return Err(Nonsense::NoMessage);
        };
        if more.index != open.next {
            return Err(Nonsense::Piece {
                expected: open.next,
                found: more.index,
            });
        }
        open.next += 1;
        self.add(more.chunk, room)
    }

    /// `room` is what the master's memory has left.
    fn add(&mut self, chunk: Bytes, room: u64) -> Result<Option<Whole>, Nonsense> {
        let open = self.open.as_mut().ok_or(Nonsense::NoMessage)?;
        let len = chunk.len();
        if len == 0 || len > MAX_CHUNK_BYTES {
            return Err(Nonsense::PieceLength(len));
        }
        let missing = open.missing.checked_sub(len as u64);
        open.missing = missing.ok_or(Nonsense::Excess)?;
        if open.whole.refused.is_none() {
            append(&mut open.whole.envelope.pieces, chunk);
        }
        Ok(self.complete(room))
    }

    fn complete(&mut self, room: u64) -> Option<Whole> {
        let held = self.held();
        let open = self.open.as_mut()?;
        if held > room && open.whole.refused.is_none() {
            open.whole.refused = Some(Receipt::Full);
            open.whole.envelope.pieces = Vec::new();
        }
        match open.missing {
            0 => self.open.take().map(|open| open.whole),
            _ => None,
        }
    }
}

/// Adds a piece. Small ones are put together: each costs memory of its own, and nothing but their
/// bytes is counted.
fn append(pieces: &mut Vec<Bytes>, chunk: Bytes) {
    match pieces.last_mut() {
        Some(last) if last.len() + chunk.len() <= MAX_CHUNK_BYTES => {
            let mut longer = BytesMut::from(std::mem::take(last));
            longer.extend_from_slice(&chunk);
            *last = longer.freeze();
        }
        Some(_) | None => pieces.push(chunk),
    }
}

/// What can be seen of a message before it has come.
fn refusal(send: &Send, max_message: u64) -> Option<Receipt> {
    let action = &send.action;
    let is_action = (1..=MAX_ACTION_BYTES).contains(&action.len());
    if !is_action || is_the_masters(action) {
        Some(Receipt::BadAction)
    } else if !send.content_type.is_known() {
        Some(Receipt::UnknownContentType)
    } else if send.len_bytes > max_message {
        Some(Receipt::TooLarge)
    } else {
        None
    }
}
