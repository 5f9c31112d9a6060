//! The master's own messages: what processes tell it becomes an event, what operators send goes out,
//! and replies find whoever asked.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use worker_proto::message::{ContentType, Kind, MessageId, Receipt, Sender};

use super::waiting::Goal;
use super::{Reactor, clock};
use crate::control::denied::Denied;
use crate::control::event::Fact;
use crate::control::message::Message;
use crate::control::outcome::{Outcome, Reply};
use crate::control::protocol::When;
use crate::relay::Envelope;
use crate::supervisor::Who;

impl Reactor {
    /// Takes note of what processes have told the master, within a budget.
    pub(super) fn hear_own_messages(&mut self) {
        for _ in 0..OWN_PER_TURN {
            let Some(envelope) = self.relay.poll_own() else {
                break;
            };
            match envelope.kind {
                Kind::Reply { to } => {
                    let reply = reply(&envelope);
                    self.resolve_reply(to, &Ok(Outcome::Answered { reply }));
                }
                Kind::Message | Kind::Request | Kind::Value { .. } => self.publish(&envelope),
            }
        }
        while let Some((message, receipt)) = self.relay.poll_own_receipt() {
            self.resolve_reply(message, &Err(unanswered(receipt)));
        }
    }

    /// Takes note of all of it: nobody is told that a process is gone before its last words. It is
    /// bounded, as the relay keeps only so much for the master.
    pub(super) fn hear_out_own_messages(&mut self) {
        while self.has_own_messages() {
            self.hear_own_messages();
        }
    }

    /// Whether more is to be heard.
    pub(super) fn has_own_messages(&self) -> bool {
        self.relay.has_own()
    }

    /// Sends what an operator wants sent.
    pub(super) fn send_for_operator(
        &mut self,
        now: Instant,
        message: &Message,
        when: When,
    ) -> Result<(Outcome, Option<Goal>), Denied> {
        message.check().map_err(Denied::BadMessage)?;
        let kind = match when {
            When::Begun => Kind::Message,
            When::Done => Kind::Request,
        };
        let mut envelope = Envelope::of_the_master(
            kind,
            message.action.clone(),
            message.content.tag(),
            Bytes::from(message.payload.clone().into_bytes()),
        );
        envelope.message = self.next_message();
        let number = envelope.message;
        let recipient = &message.to.0;
        let receivers = self
            .relay
            .post(now, recipient, envelope, REPLY_WITHIN)
            .map_err(undelivered)?;
        let goal = match when {
            When::Begun => None,
            When::Done => Some(Goal::Answered(number)),
        };
        Ok((Outcome::Sent { receivers }, goal))
    }

    fn next_message(&mut self) -> MessageId {
        self.messages_sent += 1;
        MessageId(self.messages_sent)
    }

    /// An event for those who follow; it is not remembered, so that processes that talk much do not
    /// drive out what else has happened.
    fn publish(&mut self, envelope: &Envelope) {
        let Sender::Process {
            worker,
            slot,
            generation,
            role,
            pid,
        } = envelope.from
        else {
            return;
        };
        let who = Who {
            worker,
            slot,
            generation,
            role,
            pid: Some(pid),
        };
        let Envelope {
            action,
            content_type,
            len_bytes,
            ..
        } = envelope;
        let text = format!("{who} sends {action:?}: {len_bytes} bytes of {content_type}");
        let more = json!({
            "action": action,
            "content": content_type.to_string(),
            "len_bytes": len_bytes,
            "payload": payload(envelope),
        });
        let fact = Fact::of_process("message", who, text, more);
        let event = self.chronicle.pass(clock::wall(), fact);
        if let Some(server) = &mut self.server {
            server.publish(&event);
        }
    }

    fn resolve_reply(&mut self, to: MessageId, outcome: &Result<Outcome, Denied>) {
        self.resolve(|goal| {
            let is_it = matches!(goal, Goal::Answered(number) if *number == to);
            is_it.then(|| outcome.clone())
        });
    }
}

/// The payload of a short text, in full; of everything else it is left out.
fn payload(envelope: &Envelope) -> Option<String> {
    let is_text = [ContentType::TEXT, ContentType::JSON].contains(&envelope.content_type);
    if !is_text || envelope.len_bytes > LONGEST_SHOWN {
        return None;
    }
    String::from_utf8(envelope.pieces.concat()).ok()
}

fn reply(envelope: &Envelope) -> Reply {
    Reply {
        content: envelope.content_type.to_string(),
        len_bytes: envelope.len_bytes,
        payload: payload(envelope),
    }
}

/// Why nobody got it.
fn undelivered(why: Receipt) -> Denied {
    match why {
        Receipt::NoSuchPeer => Denied::NoReceiver("there is nobody like that"),
        Receipt::Draining => Denied::NoReceiver("it is leaving, and takes nothing new"),
        Receipt::Full => Denied::Failed("it does not read what it is sent".to_owned()),
        Receipt::TooLarge => Denied::Failed("it is longer than --max-message".to_owned()),
        Receipt::Delivered { .. }
        | Receipt::Expired
        | Receipt::UnknownContentType
        | Receipt::BadAction
        | Receipt::TooManyRequests => Denied::Failed(format!("it was refused: {why:?}")),
    }
}

/// Why nobody answers.
fn unanswered(why: Receipt) -> Denied {
    let what = if why == Receipt::Expired {
        "nobody has answered in time"
    } else {
        "who was asked is gone, without an answer"
    };
    Denied::Failed(what.to_owned())
}

/// How many messages are heard in one turn.
const OWN_PER_TURN: usize = 16;

/// What of a payload is worth showing.
const LONGEST_SHOWN: u64 = 16 * 1024;

/// How long an operator's question stays open.
const REPLY_WITHIN: Duration = Duration::from_secs(60);
