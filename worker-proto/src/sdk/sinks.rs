//! The sinks: where the reading thread leaves what is not the control's own.
//!
//! It is called by the one thread that reads the channel, and must not make it wait for the program.

use std::sync::Arc;

use super::messenger::{Letter, Post};
use crate::message::{Kind, MessageId, Peer, Receipt};

/// One sink for each sort of frame.
#[derive(Clone, Debug)]
pub(crate) struct Sinks {
    pub(crate) post: Arc<Post>,
}

impl Sinks {
    /// A message is there as a whole. It counts as taken when its ticket is dropped.
    pub(crate) fn arrived(&self, letter: Letter) {
        let ticket = self.post.ticket(letter.payload.len());
        match letter.kind {
            Kind::Message | Kind::Request | Kind::Reply { .. } => self.post.arrived(letter, ticket),
            Kind::Value { .. } => {}
        }
    }

    pub(crate) fn receipt(&self, message: MessageId, receipt: Receipt) {
        self.post.receipt(message, receipt);
    }

    pub(crate) fn peers(&self, changed: Vec<Peer>) {
        self.post.peers_changed(changed);
    }

    /// The channel has ended: nobody waits for anything any more.
    pub(crate) fn ended(&self) {
        self.post.ended();
    }
}
