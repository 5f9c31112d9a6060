//! The sinks: where the reading thread leaves what is not the control's own.
//!
//! It is called by the one thread that reads the channel, and must not make it wait for the program.

use std::sync::Arc;

use super::config::Shelf;
use super::elections::Elections;
use super::messenger::{Letter, Post};
use crate::ids::WorkerId;
use crate::message::{Kind, MessageId, Peer, Receipt};

/// One sink for each sort of frame.
#[derive(Clone, Debug)]
pub(crate) struct Sinks {
    pub(crate) post: Arc<Post>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) elections: Arc<Elections>,
}

impl Sinks {
    /// A message is there as a whole. It counts as taken when its ticket is dropped.
    pub(crate) fn arrived(&self, letter: Letter) {
        let ticket = self.post.ticket(letter.payload.len());
        match letter.kind {
            Kind::Message | Kind::Request | Kind::Reply { .. } => self.post.arrived(letter, ticket),
            Kind::Value { version } => self.shelf.arrived(&letter.action, version, letter.payload),
        }
    }

    pub(crate) fn receipt(&self, message: MessageId, receipt: Receipt) {
        self.post.receipt(message, receipt);
    }

    pub(crate) fn no_value(&self, key: &str) {
        self.shelf.nothing(key);
    }

    pub(crate) fn leader(&self, name: &str, term: u64, leader: Option<WorkerId>) {
        self.elections.changed(name, term, leader);
    }

    pub(crate) fn not_leading(&self, name: &str, reason: &str) {
        self.elections.refused(name, reason);
    }

    /// This process has to finish.
    pub(crate) fn draining(&self) {
        self.elections.draining();
    }

    pub(crate) fn peers(&self, changed: Vec<Peer>) {
        self.post.peers_changed(changed);
    }

    /// The channel has ended: nobody waits for anything any more.
    pub(crate) fn ended(&self) {
        self.post.ended();
        self.shelf.ended();
        self.elections.ended();
    }
}
