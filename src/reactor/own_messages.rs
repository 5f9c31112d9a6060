//! The master's own messages: what processes tell it becomes an event, what operators send goes out,
//! and replies find whoever asked.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use bytes::Bytes;
use worker_proto::message::{ContentType, Kind, MessageId, Receipt};

use super::waiting::Goal;
use super::{Reactor, clock};
use crate::control::denied::Denied;
use crate::control::event::Fact;
use crate::control::message::{Addressee, Message};
use crate::control::outcome::{Outcome, Reply};
use crate::control::protocol::When;
use crate::relay::Envelope;

impl Reactor {
    /// Takes note of what processes have told the master, before anything that happens later.
    pub(super) fn hear_own_messages(&mut self) {
        while let Some(envelope) = self.relay.poll_own() {
            match envelope.kind {
                Kind::Reply { to } => {
                    let reply = reply(&envelope);
                    self.resolve_reply(to, &Ok(Outcome::Answered { reply }));
                }
                Kind::Message | Kind::Request | Kind::Value { .. } => self.show(&envelope),
            }
        }
        while let Some((message, receipt)) = self.relay.poll_own_receipt() {
            self.resolve_reply(message, &Err(unanswered(receipt)));
        }
    }

    /// Sends what an operator wants sent.
    pub(super) fn send_for_operator(
        &mut self,
        now: Instant,
        message: &Message,
        when: When,
    ) -> Result<(Outcome, Option<Goal>), Denied> {
        message.check().map_err(Denied::BadMessage)?;
        if when == When::Done && message.to.is_several() {
            return Err(Denied::BadMessage(format!(
                "{} are several, and one answers: ask any, a slot such as 3, agent, agent:NAME, id:12 or pid:4711",
                message.to
            )));
        }
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
            .map_err(|why| undelivered(&message.to, why))?;
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

    fn show(&mut self, envelope: &Envelope) {
        let Some(who) = envelope.who() else {
            return;
        };
        let content = (envelope.content_type, envelope.len_bytes);
        let beginning = beginning(envelope);
        let fact = Fact::message(who, &envelope.action, content, beginning.as_deref());
        self.announce(clock::wall(), fact);
    }

    fn resolve_reply(&mut self, to: MessageId, outcome: &Result<Outcome, Denied>) {
        self.resolve(|goal| {
            let is_it = matches!(goal, Goal::Answered(number) if *number == to);
            is_it.then(|| outcome.clone())
        });
    }
}

/// How a text begins.
fn beginning(envelope: &Envelope) -> Option<Cow<'_, str>> {
    let first = envelope.pieces.first().map_or(&[][..], |piece| piece);
    let shown = &first[..first.len().min(SHOWN_BYTES)];
    is_text(envelope).then(|| String::from_utf8_lossy(shown))
}

fn is_text(envelope: &Envelope) -> bool {
    [ContentType::TEXT, ContentType::JSON].contains(&envelope.content_type)
}

/// The payload of a short text, in full; of everything else it is left out.
fn payload(envelope: &Envelope) -> Option<String> {
    if !is_text(envelope) || envelope.len_bytes > LONGEST_SHOWN {
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
fn undelivered(to: &Addressee, why: Receipt) -> Denied {
    match why {
        Receipt::NoSuchPeer => Denied::NoReceiver(format!(
            "send {to}: nobody is there: rr-ctl status shows who is"
        )),
        Receipt::Draining => {
            Denied::NoReceiver(format!("send {to}: it is leaving, and takes nothing new"))
        }
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
        "nobody has answered for a minute: perhaps nobody there has subscribed to this action"
    } else {
        "who was asked is gone, without an answer"
    };
    Denied::Failed(what.to_owned())
}

/// More than operators are shown of a text that nobody asked for.
const SHOWN_BYTES: usize = 4 * 1024;

/// The longest answer that is shown.
const LONGEST_SHOWN: u64 = 16 * 1024;

/// How long an operator's question stays open.
const REPLY_WITHIN: Duration = Duration::from_secs(60);
