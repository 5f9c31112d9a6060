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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use socket2::SockRef;

    use super::*;
    use crate::scm::Wait;
    use crate::socket::{self, Inbox, MasterChannel, WorkerChannel};

    /// The channel holds less than this message, and nobody reads.
    #[test]
    fn a_message_that_was_cut_short_is_finished_before_the_next() {
        let (master, channel): (MasterChannel, WorkerChannel) = socket::pair().unwrap();
        let channel = Arc::new(channel);
        let waits = |patience| {
            let socket = SockRef::from(&*channel);
            socket.set_write_timeout(Some(patience)).unwrap();
        };
        let uplink = Uplink::over(Arc::clone(&channel));
        let mut outgoing = Outgoing::new();
        let long: Bytes = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();

        waits(Duration::from_millis(10));
        let failure = outgoing.send(&uplink, MessageId(1), draft(long.clone()));
        assert!(matches!(failure, Err(SendFailure::TimedOut)), "{failure:?}");
        let failure = outgoing.send(&uplink, MessageId(2), draft("unsent".into()));
        assert!(matches!(failure, Err(SendFailure::TimedOut)), "{failure:?}");

        waits(Duration::from_secs(5));
        let reader = std::thread::spawn(move || messages(&master));
        outgoing
            .send(&uplink, MessageId(3), draft("next".into()))
            .unwrap();
        uplink.end();
        let arrived = reader.join().unwrap();
        assert_eq!(arrived, [(1, long), (3, "next".into())]);
    }

    #[test]
    fn nothing_is_sent_after_leaving() {
        let (_master, channel): (MasterChannel, WorkerChannel) = socket::pair().unwrap();
        let mut outgoing = Outgoing::new();
        assert_eq!(outgoing.number().unwrap(), MessageId(1));
        outgoing.leave(&Uplink::over(Arc::new(channel)));
        assert!(matches!(outgoing.number(), Err(SendFailure::Left)));
    }

    #[test]
    fn no_time_is_a_millisecond_and_a_long_time_is_the_longest() {
        let within = |within| draft(Bytes::new()).with_receipt(within).within_ms;
        assert_eq!(within(Duration::ZERO), Some(1));
        assert_eq!(within(Duration::from_micros(1_001)), Some(2));
        assert_eq!(within(Duration::MAX), Some(u32::MAX));
    }

    /// Reads to the end; panics at a piece that belongs nowhere.
    fn messages(master: &MasterChannel) -> Vec<(u64, Bytes)> {
        let mut inbox = Inbox::new();
        let mut messages: Vec<(u64, Vec<u8>, u64)> = Vec::new();
        let mut next = 0;
        while let Ok(received) = master.receive(&mut inbox, Wait::AsSet) {
            if let ToMaster::SendMore(more) = received.frame {
                assert_eq!(more.index, next);
                next += 1;
                messages.last_mut().unwrap().1.extend(more.chunk);
            } else if let ToMaster::Send(send) = received.frame {
                messages.push((send.message.0, send.chunk.to_vec(), send.len_bytes));
                next = 1;
            }
        }
        let messages = messages.into_iter();
        messages
            .map(|(number, bytes, len)| {
                assert_eq!(bytes.len() as u64, len);
                (number, bytes.into())
            })
            .collect()
    }

    fn draft(bytes: Bytes) -> Draft {
        Draft::new(Recipient::Everyone, Kind::Message, "a", bytes.into())
    }
}
