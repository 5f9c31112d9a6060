//! The outgoing messages: numbered, cut into pieces, one after the other.
//!
//! One lock of the process holds this while a message is sent, as nothing may come between its
//! pieces. A message that a stuck master cut short is not given up: the master waits for the rest
//! of it, which goes ahead of the next message.

use std::time::Duration;

use bytes::Bytes;

use super::failure::SendFailure;
use super::payload::Payload;
use crate::frame::ToMaster;
use crate::message::{Kind, MAX_CHUNK_BYTES, MessageId, More, Recipient, Send};
use crate::sdk::uplink::Uplink;
use crate::socket::SendError;

/// What has been sent, and what of it has not.
#[derive(Debug)]
pub(crate) struct Outgoing {
    last: u64,
    unfinished: Option<Rest>,
    /// What the frames are encoded into.
    scratch: Vec<u8>,
    has_left: bool,
}

/// A message of which the beginning is sent.
#[derive(Debug)]
struct Rest {
    bytes: Bytes,
    index: u32,
}

/// A message to be sent: all but its number.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) recipient: Recipient,
    pub(crate) kind: Kind,
    pub(crate) wants_receipt: bool,
    pub(crate) within_ms: Option<u32>,
    pub(crate) action: String,
    pub(crate) payload: Payload,
}

impl Draft {
    /// Without a receipt, and without a limit to how long it may wait.
    pub(crate) fn new(recipient: Recipient, kind: Kind, action: &str, payload: Payload) -> Self {
        Draft {
            recipient,
            kind,
            wants_receipt: false,
            within_ms: None,
            action: action.to_owned(),
            payload,
        }
    }

    /// With a receipt, after at most `within`.
    pub(crate) fn with_receipt(mut self, within: Duration) -> Self {
        self.wants_receipt = true;
        // What is less than a millisecond is not at once.
        let millis = within.as_nanos().div_ceil(1_000_000).max(1);
        self.within_ms = Some(u32::try_from(millis).unwrap_or(u32::MAX));
        self
    }
}

impl Outgoing {
    pub(crate) fn new() -> Self {
        Outgoing {
            last: 0,
            unfinished: None,
            scratch: Vec::new(),
            has_left: false,
        }
    }

    /// The number of the next message.
    pub(crate) fn number(&mut self) -> Result<MessageId, SendFailure> {
        if self.has_left {
            return Err(SendFailure::Left);
        }
        self.last += 1;
        Ok(MessageId(self.last))
    }

    pub(crate) fn send(
        &mut self,
        uplink: &Uplink,
        message: MessageId,
        draft: Draft,
    ) -> Result<(), SendFailure> {
        self.finish(uplink)?;
        let Draft {
            recipient,
            kind,
            wants_receipt,
            within_ms,
            action,
            payload,
        } = draft;
        let Payload {
            content_type,
            mut bytes,
        } = payload;
        let len_bytes = bytes.len() as u64;
        let chunk = bytes.split_to(bytes.len().min(MAX_CHUNK_BYTES));
        let first = ToMaster::Send(Send {
            message,
            recipient,
            kind,
            wants_receipt,
            within_ms,
            action,
            content_type,
            len_bytes,
            chunk,
        });
        uplink.send_with(&first, &mut self.scratch)?;
        if !bytes.is_empty() {
            self.unfinished = Some(Rest { bytes, index: 1 });
            self.finish(uplink)?;
        }
        Ok(())
    }

    /// Nothing is sent after this.
    pub(crate) fn leave(&mut self, uplink: &Uplink) {
        if !self.has_left {
            self.has_left = true;
            if let Err(err) = self.finish(uplink) {
                log::debug!("leaves with a message half sent: {err}");
            }
        }
    }

    /// Sends the rest of a message that was begun.
    fn finish(&mut self, uplink: &Uplink) -> Result<(), SendError> {
        while let Some(rest) = &mut self.unfinished {
            let piece = rest.bytes.len().min(MAX_CHUNK_BYTES);
            let more = ToMaster::SendMore(More {
                index: rest.index,
                chunk: rest.bytes.slice(..piece),
            });
            uplink.send_with(&more, &mut self.scratch)?;
            rest.index += 1;
            drop(rest.bytes.split_to(piece));
            if rest.bytes.is_empty() {
                self.unfinished = None;
            }
        }
        Ok(())
    }
}
