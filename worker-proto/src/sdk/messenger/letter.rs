//! The letter: a message as it arrived, before anybody of the program has it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::payload::Payload;
use crate::message::{Kind, MessageId, Sender};

/// A message of whatever kind. The copies of a request share its reply.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) from: Sender,
    pub(crate) message: MessageId,
    pub(crate) kind: Kind,
    pub(crate) action: String,
    pub(crate) payload: Payload,
    /// Whether it was replied to; of a request.
    pub(crate) replied: Option<Arc<AtomicBool>>,
}

impl Letter {
    pub(crate) fn new(
        from: Sender,
        message: MessageId,
        kind: Kind,
        action: String,
        payload: Payload,
    ) -> Self {
        let replied = match kind {
            Kind::Request => Some(Arc::new(AtomicBool::new(false))),
            Kind::Message | Kind::Reply { .. } | Kind::Value { .. } => None,
        };
        Letter {
            from,
            message,
            kind,
            action,
            payload,
            replied,
        }
    }
}
